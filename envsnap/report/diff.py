"""Differences of two locks, grouped by what they can do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from envsnap.model.parity import Difference
from envsnap.report import text

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MEANING = {
    "breaking": "may not run, or is not the same code",
    "numeric": "may change numbers",
    "cosmetic": "should change nothing",
}


def screen(differences: Sequence[Difference], left: str, right: str) -> str:
    if not differences:
        return f"equal: {left} and {right} describe the same environment"
    lines: list[str] = []
    for grade, meaning in _MEANING.items():
        group = [d for d in differences if d.grade == grade]
        if group:
            rows = [(d.field, _shown(d.left), "→", _shown(d.right), d.why) for d in group]
            lines += [f"{grade}: {meaning}", *text.columns(rows), ""]
    counted = ", ".join(f"{sum(d.grade == grade for d in differences)} {grade}" for grade in _MEANING)
    return "\n".join([*lines, f"differ: {left} → {right}: {counted}"])


def _shown(value: str | None) -> str:
    """Digests are recognised by their ends; the document has them whole."""
    return "-" if value is None else _DIGEST.sub(lambda match: text.short(match.group()), value)


def document(differences: Sequence[Difference]) -> dict[str, Any]:
    keys = ("field", "left", "right", "grade", "why")
    return {"equal": not differences, "differences": [{key: msgspec.to_builtins(getattr(d, key)) for key in keys} for d in differences]}
