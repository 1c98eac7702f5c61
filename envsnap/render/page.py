"""A verdict as one self-contained HTML page."""

from __future__ import annotations

from envsnap.model.parity import Verdict
from envsnap.render.templates import template


def verdict_page(verdict: Verdict, *, name: str, image_digest: str, lock_digest: str) -> str:
    """The page of `envsnap verify --report`. Attributes of foreign origin are escaped."""
    page: str = template("verdict.html.j2").render(verdict=verdict, name=name, image_digest=image_digest, lock_digest=lock_digest)
    return page
