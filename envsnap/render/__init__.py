"""`BuildPlan` -> the files of a build context, `EnvLock` -> files that others install from, `Verdict` -> a page: same input, same bytes.

The only room that knows templates.
"""

from envsnap.render.context import render, render_shell
from envsnap.render.files import beside, manifest_document
from envsnap.render.page import verdict_page

__all__ = ["beside", "manifest_document", "render", "render_shell", "verdict_page"]
