"""A change of the catalogue, proposed: rows with what their images say, and the change of their files as a diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from envsnap.catalog import rows
from envsnap.model.base import Family, Release, Statement
from envsnap.model.catalog import numbers


def proposed(row: Release, statements: Sequence[Statement], *, source: str, day: str) -> Release:
    """The row with what fills or contradicts it; what it has and the image says, too, stays as it is. Its name is nothing to change.

    Args:
        source: "image config of REF@sha256:…". day: "2026-11-29", on which that was read.
    """
    news = [one for one in statements if one.standing != "as catalogued" and one.field != "release"]
    if not news:
        return row
    evidence = _without(row.evidence.items(), {one.field for one in news})
    for one in news:
        text = f"{source}, {day}"
        if one.standing == "contradicts":
            text += f"; {_text(one.catalogued)} before ({row.evidence_for(one.field) or 'no evidence'})"
        same = next((names for names, known in evidence.items() if known == text), None)
        named = [*(same.split(",") if same is not None else []), one.field]
        if same is not None:
            del evidence[same]
        evidence[",".join(named)] = text
    sources = row.sources if source in row.sources else (*row.sources, source)
    return replace(row, **{one.field: one.value for one in news}, sources=sources, evidence=evidence)


def diff(changed: Iterable[Release]) -> str:
    """The change of the catalogue's files, as `git apply` takes it; "" for none. Rows whose reference is new are put in their place."""
    by_reference = {row.reference: row for row in changed}
    return "".join(_diff_of(family, [row for row in by_reference.values() if row.family == family]) for family in rows.FAMILIES)


def _diff_of(family: Family, changed: Sequence[Release]) -> str:
    before = rows.text(family)
    after = {row.reference: row for row in (*rows.read(family), *changed)}
    ordered = sorted(after.values(), key=lambda row: (numbers(row.release), row.reference), reverse=True)
    path = rows.path(family)
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        rows.with_rows(before, ordered).splitlines(keepends=True),
        fromfile=f"a/{path}",
        tofile=f"b/{path}",
    )
    return "".join(lines)


def _without(evidence: Iterable[tuple[str, str]], fields: set[str]) -> dict[str, str]:
    """Evidence that names none of the fields."""
    left = ((",".join(name for name in names.split(",") if name not in fields), text) for names, text in evidence)
    return {names: text for names, text in left if names}


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
