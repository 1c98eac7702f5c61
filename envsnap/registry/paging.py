"""Lists that a registry gives in pages, each with a Link to the next: what is attached to an image, the tags of a repository."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from urllib.parse import urlsplit

from envsnap.errors import EngineError
from envsnap.registry import manifests
from envsnap.registry.host import Document, Place

_MAX_PAGES = 50
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?', re.IGNORECASE)


def pages(
    place: Place, path: str, *, of: str, what: str, good: Collection[int] = (200,), headers: Mapping[str, str] | None = None
) -> Iterator[Document]:
    """The pages of a list, as they are asked for.

    Args:
        of: what is listed, for sentences: "tags".

    Raises:
        EngineError: as `Place.read`; it leads to another place, or on without end.
    """
    for _ in range(_MAX_PAGES):
        answer = place.read(path, limit=manifests.LIMIT_BYTES, what=what, good=good, headers=headers)
        yield answer
        following = _NEXT.search(answer.headers.get("Link", ""))
        if following is None:
            return
        path = place.host.address(following[1], what, base=answer.url)
        if urlsplit(path).netloc != urlsplit(answer.url).netloc:
            raise EngineError(what, why=f"{place.host.registry} leads to another place for more {of}")
    raise EngineError(what, why=f"{place.host.registry} lists {of} without end")
