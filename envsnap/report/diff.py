"""Differences of two locks, grouped by what they can do, each group with why it could."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from envsnap.model.lock import EnvLock
from envsnap.model.parity import Difference, Grade
from envsnap.report import text
from envsnap.report.changes import Change, changes

_MEANING: dict[Grade, str] = {
    "breaking": "may not run, or is not the same code",
    "numeric": "may change numbers",
    "cosmetic": "should change nothing",
}
_MOST = 12
"""Changes with one reason that are shown line by line; of more, only as many names."""
_WIDEST = 44
"""Of a column; a longer value stands on a line of its own."""


def screen(
    differences: Sequence[Difference],
    left: str,
    right: str,
    *,
    locks: tuple[EnvLock, EnvLock] | None = None,
    not_compared: Sequence[str] = (),
    width: int = text.WIDTH,
    full: bool = False,
) -> str:
    """Args:
    left, right: what the sides are called.
    locks: for the lines that say what each side is; None to leave them out.
    full: list what is folded otherwise.
    """
    lines = [*_sides(locks, (left, right), width), ""] if locks is not None else []
    groups = {grade: changes([difference for difference in differences if difference.grade == grade]) for grade in _MEANING}
    for grade, meaning in _MEANING.items():
        if group := groups[grade]:
            lines += [f"{grade}: {meaning}", *_group(group, width, full=full), ""]
    lines += [f"not compared: {sentence}" for sentence in not_compared]
    if not differences:
        return "\n".join([*lines, f"equal: {left} and {right} describe the same environment"])
    counted = ", ".join(f"{len(group)} {grade}" for grade, group in groups.items())
    return "\n".join([*lines, f"differ: {left} → {right}: {counted}"])


def _sides(locks: tuple[EnvLock, EnvLock], names: tuple[str, str], width: int) -> list[str]:
    """What each side is, when and where it was; on two lines each where one has no room."""
    whats, wheres = [], []
    for mark, name, lock in zip("AB", names, locks, strict=True):
        where = f"{lock.capture.target} on {lock.capture.host}" if lock.capture.host else lock.capture.target
        whats.append((mark, name if name != lock.capture.target else "live", text.short(lock.digest)))
        wheres.append(f"{lock.capture.at.replace('T', ' ')}  {where}")
    pairs = list(zip(text.columns(whats), wheres, strict=True))
    if all(len(what) + len(where) + 2 <= width for what, where in pairs):
        return [f"{what}  {where}" for what, where in pairs]
    return [line for what, where in pairs for line in (what, f"     {where}")]


def _group(group: Sequence[Change], width: int, *, full: bool) -> Iterator[str]:
    """The changes of one grade, aligned; below those that share a reason, the reason."""
    columns = [min(_WIDEST, max(len(change[i]) for change in group)) for i in range(3)]
    for why, sharing in groupby(group, key=lambda change: change.why):
        alike = list(sharing)
        if len(alike) > _MOST and not full:
            yield from _folded(alike, width)
        else:
            for change in alike:
                yield from _change(change, columns, width)
        if why:
            yield from text.wrapped(why, width, first="      why  ", rest="           ")


def _change(change: Change, columns: Sequence[int], width: int) -> Iterator[str]:
    """One line where it fits, else the values below the name."""
    values = f"{change.left.ljust(columns[1])} → {change.right.ljust(columns[2])}" if change.left or change.right else ""
    line = "  ".join(part for part in (f"  {change.thing.ljust(columns[0])}", values, change.note) if part).rstrip()
    fits = all(len(part) <= limit for part, limit in zip(change, columns, strict=False)) and len(line) <= width
    if fits:
        yield line
        return
    yield f"  {change.thing}"
    if values:
        yield from text.wrapped(change.left, width, first="      ", rest="      ")
        yield from text.wrapped(change.right, width, first="    → ", rest="      ")
    if change.note:
        yield from text.wrapped(change.note, width, first="      ", rest="      ")


def _folded(alike: Sequence[Change], width: int) -> Iterator[str]:
    named = [_inline(change) for change in alike[:_MOST]]
    yield from text.wrapped(
        f"{len(alike)} things: {', '.join(named)} and {len(alike) - _MOST} more; -v lists them", width, first="  ", rest="    "
    )


def _inline(change: Change) -> str:
    if change.note in ("added", "removed"):
        return f"{change.thing} {change.right if change.note == 'added' else change.left} {change.note}"
    return f"{change.thing} {change.left} → {change.right}" if change.left or change.right else f"{change.thing} ({change.note})"


def document(differences: Sequence[Difference]) -> dict[str, Any]:
    keys = ("field", "left", "right", "grade", "why")
    return {"equal": not differences, "differences": [{key: msgspec.to_builtins(getattr(d, key)) for key in keys} for d in differences]}
