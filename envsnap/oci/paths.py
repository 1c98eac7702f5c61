"""Paths in layers: names with "/" between them, and none before the first."""

from __future__ import annotations

from collections.abc import Iterator


def parents(path: str) -> Iterator[str]:
    """The directories that a path lies in, innermost first: "a/b" and "a" of "a/b/c". The root, "", is none of them."""
    while path := path.rpartition("/")[0]:
        yield path
