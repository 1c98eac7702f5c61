"""Differences of one grade as a person thinks of them: things that changed, from what to what, and why that matters.

What belongs together is one change: an edited package has other files and a list of the edited ones, a project's commit, patch and
new files are its state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, get_args

from envsnap.model.frameworks import Framework
from envsnap.model.parity import Difference
from envsnap.report import text

ABSENT = "-"


class Change(NamedTuple):
    """Attributes:
    thing: what changed, "numpy", "cuDNN loaded", "GPU 0 name".
    left, right: ABSENT where that side has none.
    note: a word beside it, "removed".
    why: the sentence of the difference, shared by those that stand together.
    """

    thing: str
    left: str
    right: str
    note: str
    why: str


def changes(differences: Sequence[Difference]) -> list[Change]:
    """Those of one grade, what shares a reason side by side, in the order in which the reasons first come."""
    merged = list(_merged(differences))
    order = list(dict.fromkeys(change.why for change in merged))
    return sorted(merged, key=lambda change: order.index(change.why))


def _merged(differences: Sequence[Difference]) -> Iterator[Change]:
    for owner, group in groupby(differences, key=lambda difference: _owner(difference.field)):
        members = list(group)
        if owner == "project":
            yield _project(members)
        elif owner and {difference.field.rpartition(".")[2] for difference in members} >= {"files", "modified"}:
            kept = (difference for difference in members if not difference.field.endswith(".files"))
            yield from map(_change, kept)
        else:
            yield from map(_change, members)


def _owner(field: str) -> str:
    """What the differences that may be merged have in common: a package, or the project's files; "" for what stands alone."""
    if re.fullmatch(r"source\.(?:files|patch|(?:untracked|submodules|lfs)\..+)", field):
        return "project"
    package = re.fullmatch(r"((?:python\.conda\.)?packages\..+)\.[^.]+", field)
    return package[1] if package else ""


def _project(differences: Sequence[Difference]) -> Change:
    """The project's files in one line: what of it changed, by name."""
    parts = {difference.field.removeprefix("source."): difference for difference in differences}
    named = ["uncommitted changes"] if "patch" in parts else []
    for kind, words in (("untracked", "not in git"), ("submodules", "submodule"), ("lfs", "git-lfs")):
        names = sorted({name.removeprefix(f"{kind}.").partition(".blob")[0] for name in parts if name.startswith(f"{kind}.")})
        named += [f"{words}: {text.listed(names)}"] if names else []
    files = parts.get("files", differences[0])
    if named:
        return Change("project files", "", "", "; ".join(named), files.why)
    return Change("project files", shown(files.left), shown(files.right), "", files.why)


def _change(difference: Difference) -> Change:
    field = difference.field
    left, right, note = shown(difference.left), shown(difference.right), ""
    if field.endswith(".modified"):
        left, right, note = "", "", _exchange(difference, "edited:", "no longer edited:")
    elif field.endswith((".instruction_sets", ".sonames", ".needed_by", ".tags")):
        left, right, note = "", "", _exchange(difference, "with", "without")
    elif re.fullmatch(r"(?:python\.conda\.)?packages\.[^.]+", field):
        note = "removed" if difference.right is None else "added"
    return Change(_thing(field), left, right, note, difference.why)


def _exchange(difference: Difference, new_word: str, gone_word: str) -> str:
    """Of two lists only what is not in both."""
    before, after = _listed(difference.left), _listed(difference.right)
    gone, new = [name for name in before if name not in after], [name for name in after if name not in before]
    said = [f"{gone_word} {text.listed(gone, 16)}"] if gone else []
    said += [f"{new_word} {text.listed(new, 16)}"] if new else []
    return "; ".join(said) or "in another order"


def _listed(value: str | None) -> list[str]:
    return value.split(", ") if value else []


_HEX = re.compile(r"(?:(?P<kind>sha256:))?(?P<hex>[0-9a-f]{40,64})(?![0-9a-f])")


def shown(value: str | None) -> str:
    """A value for the screen: digests and commits are recognised by their ends; the document has them whole."""
    return ABSENT if value is None else _HEX.sub(_shortened, value)


def _shortened(match: re.Match[str]) -> str:
    if match["kind"]:
        return text.short(match.group())
    return match["hex"][:7] if len(match["hex"]) == 40 else f"{match['hex'][:4]}…{match['hex'][-4:]}"


_PART = r"(?:\.(?P<part>.+))?"
_NAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (rf"packages\.(?P<name>[^.]+){_PART}", "{name}{part}"),
        (
            r"python\.conda\.packages\.(?P<name>.+?)(?:\.(?P<part>version|build|url|sha256|md5|files|requested|modified))?",
            "conda's {name}{part}",
        ),
        (rf"python\.conda{_PART}", "conda's{part}"),
        (r"system_packages\.(?P<name>.+?)(?:\.(?P<part>version|arch|sonames|needed_by|name))?", "system's {name}{part}"),
        (r"env\.(?P<name>.+)", "{name}"),
        (rf"source{_PART}", "project{part}"),
        (rf"observed\.platform{_PART}", "host{part}"),
        (rf"observed\.gpu\.devices\[(?P<name>\d+)\]{_PART}", "GPU {name}{part}"),
        (rf"observed\.gpu{_PART}", "GPU{part}"),
        (r"observed\.cuda\.runtime", "CUDA runtime loaded"),
        (r"observed\.cuda\.cudnn", "cuDNN loaded"),
        (r"observed\.cuda\.cublas", "cuBLAS loaded"),
        (r"observed\.cuda\.nccl", "NCCL loaded"),
        (r"observed\.cuda\.loaded\.(?P<name>.+?)(?:\.(?P<part>version|sha256|owner|path|injected))?", "{name}{part}"),
        *((rf"observed\.cuda\.{framework}\.flags\.(?P<name>.+)", f"{framework}.{{name}}") for framework in get_args(Framework)),
        (rf"observed\.cuda\.(?P<name>torch|tensorflow|paddle){_PART}", "{name} loaded{part}"),
        (r"observed\.imports\.(?P<name>.+)", "import {name}"),
        (r"observed\.imports_failed\.(?P<name>.+)", "import {name} fails"),
        (rf"observed\.reference(?:\.smoke)?{_PART}", "smoke-train{part}"),
    )
)
_UNSAID = ("version", "modified")
"""Parts that the values or the note name well enough."""


def _thing(field: str) -> str:
    """What a field is about: "packages.numpy.version" is numpy."""
    for pattern, name in _NAMES:
        if match := pattern.fullmatch(field):
            words = match.groupdict()
            part = words.get("part") or ""
            return name.format(name=words.get("name"), part="" if part in ("", *_UNSAID) else f" {part.replace('_', ' ')}")
    return field
