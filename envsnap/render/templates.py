"""The templates, wherever they lie: inside the package in a wheel, beside it in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

from envsnap.render.quoting import comment, quoted

_PACKAGE = Path(__file__).parent.parent
_PLACES = (_PACKAGE / "templates", _PACKAGE.parent / "templates")


@cache
def template(name: str) -> jinja2.Template:
    """A template by file name: undefined names are errors, and pages (*.html.j2) escape what they are given.

    A Dockerfile is plain text that HTML escaping would corrupt: its values pass the filters `quoted` and `comment`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PLACES),
        undefined=jinja2.StrictUndefined,
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"quoted": quoted, "comment": comment}
    return environment.get_template(name)
