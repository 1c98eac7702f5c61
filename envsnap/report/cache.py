"""What the cache keeps, as a screen and as a document."""

from __future__ import annotations

from typing import Any

from envsnap.model.cache import CacheState
from envsnap.report.text import columns, plural, size


def screen(state: CacheState, limit: int | None) -> str:
    """What is kept. Args: limit: bytes that the cache is held to; None for no bound."""
    if not state.kinds:
        return f"{state.directory}\n  nothing is kept"
    rows = [(kept.kind, f"{kept.entries:,}", size(kept.bytes)) for kept in state.kinds]
    rows += [("all", "", size(state.bytes)), ("held to", "", size(limit) if limit is not None else "no size")]
    return "\n".join([state.directory, *columns(rows, right=frozenset({1, 2}))])


def pruned_screen(freed: CacheState, left: CacheState) -> str:
    what = [f"{plural(kept.entries, 'entry').replace('entrys', 'entries')} of {kept.kind}" for kept in freed.kinds]
    lines = [f"  {line}" for line in what]
    return "\n".join([*lines, f"freed {size(freed.bytes)}; {size(left.bytes)} are kept in {left.directory}"])


def document(state: CacheState) -> dict[str, Any]:
    kinds = [{"kind": kept.kind, "entries": kept.entries, "bytes": kept.bytes} for kept in state.kinds]
    return {"directory": state.directory, "bytes": state.bytes, "kinds": kinds}


def pruned_document(freed: CacheState, left: CacheState) -> dict[str, Any]:
    return document(left) | {"freed_bytes": freed.bytes, "freed": document(freed)["kinds"]}
