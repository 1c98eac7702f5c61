"""Versions of Debian packages, compared as dpkg does (Debian Policy 5.6.12)."""

from __future__ import annotations

import functools
import re
from itertools import zip_longest

_PARTS = re.compile(r"(\D*)(\d*)")
_END = 0
_Run = tuple[tuple[int, ...], int]
_NOTHING: _Run = ((_END,), 0)
"""What a version goes on with after its end, for ever."""


def compare(left: str, right: str) -> int:
    """Below 0 where `left` is the older version, 0 where both are the same, above 0 where it is the newer one."""
    (epoch, *parts), (other_epoch, *other_parts) = _parsed(left), _parsed(right)
    if epoch != other_epoch:
        return -1 if epoch < other_epoch else 1
    for part, other in zip(parts, other_parts, strict=True):
        for run, other_run in zip_longest(_runs(part), _runs(other), fillvalue=_NOTHING):
            if run != other_run:
                return -1 if run < other_run else 1
    return 0


key = functools.cmp_to_key(compare)
"""What sorts as the version does: "[epoch:]upstream[-revision]"."""


def satisfies(version: str, relation: str, wanted: str) -> bool:
    """Whether a version stands in a relation ("<<", "<=", "=", ">=", ">>") to another; with "" it always does."""
    order = compare(version, wanted)
    match relation:
        case "":
            return True
        case "<<":
            return order < 0
        case "<=" | "<":  # the old form "<" means "<=", as ">" means ">="
            return order <= 0
        case "=":
            return order == 0
        case ">=" | ">":
            return order >= 0
        case _:
            return order > 0


def _parsed(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdecimal():
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch), upstream, revision


@functools.cache
def _runs(text: str) -> tuple[_Run, ...]:
    """Text and number in turn. Text ends as if by a weight between "~" and all else: "1~" comes before "1"."""
    return tuple(((*map(_weight, chars), _END), int(digits or 0)) for chars, digits in _PARTS.findall(text))


def _weight(char: str) -> int:
    """Order of one character: "~" before the end (`_END`), then letters, then all else."""
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256
