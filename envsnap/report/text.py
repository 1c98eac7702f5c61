"""How values become words: numbers with units, short digests, aligned columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 120
"""Of a screen where nobody says how wide it is."""


def short(digest: str) -> str:
    """A digest as sha256:7c1e…9ab2: enough to recognise, not to type."""
    kind, _, rest = digest.partition(":")
    return f"{kind}:{rest[:4]}…{rest[-4:]}" if len(rest) > 12 else digest


def size(number: float | None) -> str:
    """Bytes as "9.8 GB"; "?" when unknown."""
    if number is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names as "a, b, c and 7 more"."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def wrapped(sentence: str, width: int, *, first: str, rest: str) -> list[str]:
    """A sentence on lines of at most `width`, but for a word that is longer; none for none."""
    return textwrap.wrap(sentence, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=False)


def labelled(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Rows of a label and what it labels, which goes on below itself where the line ends."""
    table = [tuple(row) for row in rows]
    column = max((len(label) for label, _ in table), default=0) + 4
    lines: list[str] = []
    for label, value in table:
        head = f"  {label}".ljust(column)
        whole = f"{head}{value}"  # as it is where it fits: more than one space has its meaning
        lines += [whole] if len(whole) <= width else wrapped(value, width, first=head, rest=" " * column)
    return lines


def columns(rows: Iterable[Sequence[str]], *, indent: str = "  ", right: frozenset[int] = frozenset()) -> list[str]:
    """Rows as aligned lines, two spaces between columns; `right` names the columns that are flushed right."""
    table = [tuple(row) for row in rows]
    if not table:
        return []
    widths = [max(len(row[i]) for row in table if i < len(row)) for i in range(max(map(len, table)))]
    return [
        (indent + "  ".join(cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row))).rstrip()
        for row in table
    ]
