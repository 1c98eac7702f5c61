"""`BuildPlan` -> the text files of a build context, `Verdict` -> a page: same input, same bytes. The only room that knows templates."""

from envsnap.render.context import render
from envsnap.render.page import verdict_page

__all__ = ["render", "verdict_page"]
