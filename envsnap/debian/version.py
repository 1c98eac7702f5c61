"""Versions of Debian packages, compared as dpkg does (Debian Policy 5.6.12)."""

from __future__ import annotations

import functools
import re

_PARTS = re.compile(r"(\D*)(\d*)")
_END = 0
Key = tuple[int, tuple[tuple[tuple[int, ...], int], ...], tuple[tuple[tuple[int, ...], int], ...]]


@functools.cache
def key(version: str) -> Key:
    """What sorts as the version does: "[epoch:]upstream[-revision]"."""
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdigit():
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch), _runs(upstream), _runs(revision)


def satisfies(version: str, relation: str, wanted: str) -> bool:
    """Whether a version stands in a relation ("<<", "<=", "=", ">=", ">>") to another; with "" it always does."""
    left, right = key(version), key(wanted)
    match relation:
        case "":
            return True
        case "<<":
            return left < right
        case "<=" | "<":  # the old form "<" means "<=", as ">" means ">="
            return left <= right
        case "=":
            return left == right
        case ">=" | ">":
            return left >= right
        case _:
            return left > right


def _runs(text: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Text and number in turn. Text ends as if by a weight between "~" and all else, and so does the whole: "1~" comes before "1"."""
    runs = [((*map(_weight, chars), _END), int(digits or 0)) for chars, digits in _PARTS.findall(text)]
    while runs and runs[-1] == ((_END,), 0):
        runs.pop()
    return (*runs, ((_END,), 0))


def _weight(char: str) -> int:
    """Order of one character: "~" before the end (`_END`), then letters, then all else."""
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256
