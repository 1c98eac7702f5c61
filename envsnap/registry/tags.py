"""The tags of a repository."""

from __future__ import annotations

from envsnap.errors import EngineError
from envsnap.oci.documents import parse_object
from envsnap.oci.reference import TAG
from envsnap.registry.host import Place
from envsnap.registry.paging import pages

_PAGE = 1000
_MAX_TAGS = 20_000
"""Docker Hub's oldest repositories have some thousands."""


def tags(place: Place, *, what: str) -> tuple[str, ...]:
    """In the registry's order.

    Raises:
        EngineError: there is no such repository, the registry does not tell, or what it tells is no list of tags.
    """
    found: list[str] = []
    for page in pages(place, f"tags/list?n={_PAGE}", of="tags", what=what):
        listed = parse_object(page.raw, what=what).get("tags") or []  # null, where all were deleted
        if not isinstance(listed, list) or not all(isinstance(one, str) and TAG.match(one) for one in listed):
            raise EngineError(what, why=f"{place.host.registry} answered with no list of tags")
        found += listed
        if len(found) > _MAX_TAGS:
            raise EngineError(what, why=f"{place.host.registry} lists more than {_MAX_TAGS} tags")
    return tuple(found)
