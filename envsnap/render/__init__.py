"""`BuildPlan` -> the text files of a build context, `Verdict` -> a page: same input, same bytes. The only room that knows templates."""

from envsnap.render.context import render
from envsnap.render.files import beside, manifest_document
from envsnap.render.page import verdict_page

__all__ = ["beside", "manifest_document", "render", "verdict_page"]
