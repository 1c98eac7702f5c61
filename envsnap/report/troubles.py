"""What a person should know after a capture, and what to do about each: gravest first, what belongs together in one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from envsnap.model.facts import Problem
from envsnap.model.lock import EnvLock, LockedPackage
from envsnap.model.origins import UnknownOrigin
from envsnap.report import text

_MOST = 14
"""Lines of the screen for troubles; of more the first."""
_MOST_REASONS = 3
"""Packages that are told one by one; of more, each with a reason of its own, the rest share a line."""
_NAMES = 5


class Trouble(NamedTuple):
    """Attributes: do: what to do about it, or what was done; "" where there is nothing honest to say."""

    what: str
    do: str = ""


class _Kind(NamedTuple):
    """Attributes:
    where: of the problems of this kind.
    weight: the lighter, the graver.
    do: unless the problem has a hint of its own.
    said: the place is worth naming before the sentence.
    what: that their sentences have somewhere.
    """

    where: re.Pattern[str]
    weight: int
    do: str = ""
    said: bool = True
    what: re.Pattern[str] = re.compile("")


_UNPROVEN, _SYSTEM, _FAILED, _REBUILT = 0, 1, 30, 50
_METADATA = re.compile(r"(?:.*/)?[^/]+\.(?:dist|egg)-info(?:/.*)?")
_HIDDEN = re.compile(" is hidden by ")
_KINDS = (
    _Kind(re.compile(r"cuda"), 10, said=False),
    _Kind(re.compile(r"torch|tensorflow|paddle"), 20, "what it loads and its flags are not known without that: mend it, and capture again"),
    _Kind(re.compile(r"smoke"), 21, "verify judges identity alone without a reference: mend that, and capture --smoke again"),
    _Kind(re.compile(r"source|git"), 40),
    _Kind(re.compile(r"packages\..+|conda.*|env.*|system_packages\..+"), 41),
    _Kind(re.compile(r"(?:.*/)?~[^/]*"), 60, "delete it: no package needs it"),
    _Kind(_METADATA, 61, "uninstall the one that is not meant, and capture again", said=False, what=_HIDDEN),
    _Kind(_METADATA, 61, "reinstall that package, and capture again"),
    _Kind(re.compile(r"path"), 70, said=False),
    _Kind(re.compile(r"nvml.*"), 80),
    _Kind(re.compile(r".*", re.DOTALL), 62),
)
"""Of problems that are not of one package's provenance; the first that fits."""


def troubles(lock: EnvLock, *, full: bool = True) -> list[Trouble]:
    """What stops a build, what does not compute or run, what is left out, what had to be rebuilt, the rest.

    Args:
        full: tell every package's own reason, however many there are.
    """
    said: dict[str, list[str]] = {}
    for problem in lock.capture.problems:
        said.setdefault(problem.where, []).append(problem.what)
    graded = {grade: [p for p in lock.packages if p.provenance == grade] for grade in ("unproven", "rebuilt", "system")}
    told = {f"packages.{p.name}" for grade in ("unproven", "rebuilt") for p in graded[grade]}
    weighed = [
        *((_UNPROVEN, trouble) for trouble in _unproven(graded["unproven"], said, full=full, kept=not lock.capture.is_of_a_run)),
        *((_SYSTEM, trouble) for trouble in _of_system(graded["system"])),
        *((_FAILED, trouble) for trouble in _failed(lock.observed.imports_failed)),
        *((_REBUILT, trouble) for trouble in _rebuilt(graded["rebuilt"], said, full=full)),
        *(_weighed(problem) for problem in lock.capture.problems if problem.where not in told),
    ]
    return [trouble for _, trouble in sorted(weighed, key=lambda pair: pair[0])]


def lines(found: Sequence[Trouble], width: int = text.WIDTH, *, full: bool = False) -> list[str]:
    """For the screen: what to do beside what is wrong where both fit, else below it; of very many the first."""
    shown = found if full else found[:_MOST]
    beside = [trouble for trouble in shown if trouble.do and len(trouble.what) + len(trouble.do) + 8 <= width]
    column = max((len(trouble.what) for trouble in beside), default=0)
    rows: list[str] = []
    for trouble in shown:
        if trouble.do and len(trouble.what) <= column and column + len(trouble.do) + 8 <= width:
            rows.append(f"  ! {trouble.what.ljust(column)}    {trouble.do}")
        else:
            rows += text.wrapped(trouble.what, width, first="  ! ", rest="    ")
            rows += text.wrapped(trouble.do, width, first="      ", rest="      ")
    return rows + ([f"  and {len(found) - len(shown)} more: -v lists all of them"] if len(found) > len(shown) else [])


def _weighed(problem: Problem) -> tuple[int, Trouble]:
    kind = next(kind for kind in _KINDS if kind.where.fullmatch(problem.where) and kind.what.search(problem.what))
    return kind.weight, Trouble(f"{problem.where}: {problem.what}" if kind.said else problem.what, problem.hint or kind.do)


def _unproven(packages: Iterable[LockedPackage], said: Mapping[str, Sequence[str]], *, full: bool, kept: bool) -> Iterator[Trouble]:
    """Args: kept: there is something installed that can be."""
    groups = _grouped(packages, lambda package: doubt(package, said))
    for reason, group in groups if full else groups[:_MOST_REASONS]:
        yield Trouble(f"{_names(group)} {'is' if len(group) == 1 else 'are'} unproven: {reason}", _way_out(group, said, kept=kept))
    if not full and (rest := [package for _, group in groups[_MOST_REASONS:] for package in group]):
        yield Trouble(f"{_more(rest)} unproven, each for a reason of its own, which -v tells", _way_out(rest, said, kept=kept))


def _of_system(packages: Sequence[LockedPackage]) -> Iterator[Trouble]:
    if packages:
        one, names = len(packages) == 1, [package.name for package in packages] if len(packages) <= _NAMES else ["all"]
        keep, leave = (" ".join(f"{option} {name}" for name in names) for option in ("--rescue", "--allow-unproven"))
        yield Trouble(
            f"{_names(packages)} {'is' if one else 'are'} the operating system's, of which no wheel is to be had",
            f"capture … {keep} keeps what is installed;   or build … {leave} leaves {'it' if one else 'them'} out",
        )


def _way_out(packages: Sequence[LockedPackage], said: Mapping[str, Sequence[str]], *, kept: bool) -> str:
    name = packages[0].name if len(packages) == 1 else "all"
    allow = f"build … --allow-unproven {name}"
    if not kept or any(package.files is None or _also(package, said) for package in packages):  # no wheel can be made of it
        return allow
    return f"capture … --rescue {name} keeps what is installed;   or {allow}"


def _rebuilt(packages: Iterable[LockedPackage], said: Mapping[str, Sequence[str]], *, full: bool) -> Iterator[Trouble]:
    reasons = {p.name: [*said[place][:-1], said[place][-1].partition(": ")[2]] for p in packages if (place := f"packages.{p.name}") in said}
    groups = _grouped((p for p in packages if p.name in reasons), lambda package: "; ".join(reversed(reasons[package.name])))
    for reason, group in groups if full else groups[:_MOST_REASONS]:
        yield Trouble(f"{_names(group)}: {reason}", _done(group))
    if not full and (rest := [package for _, group in groups[_MOST_REASONS:] for package in group]):
        yield Trouble(f"{_more(rest)} not what an index has, each for a reason of its own, which -v tells", _done(rest))


def _done(packages: Sequence[LockedPackage]) -> str:
    edits = ", edits included" if any(package.modified for package in packages) else ""
    return f"rebuilt as {'a wheel' if len(packages) == 1 else 'wheels'}{edits}"


def _failed(failures: Mapping[str, str]) -> Iterator[Trouble]:
    for error, modules in _by_value(failures).items():
        verb = "does not import" if len(modules) == 1 else "do not import"
        yield Trouble(f"{text.listed(modules)} {verb} here: {error}", "an image is not asked to import it either")


def doubt(package: LockedPackage, said: Mapping[str, Sequence[str]]) -> str:
    """Why nothing vouches for a package.

    Args:
        said: place -> what was said of it, the doubt last.
    """
    return "; ".join((_reason(package, said), *_also(package, said)))


def _also(package: LockedPackage, said: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """What else was said of an unproven one: a wheel of it could not be made, another one is hidden by it."""
    sentences = said.get(f"packages.{package.name}", ())
    return sentences if isinstance(package.origin, UnknownOrigin) else sentences[:-1]


def _reason(package: LockedPackage, said: Mapping[str, Sequence[str]]) -> str:
    if isinstance(package.origin, UnknownOrigin):
        return package.origin.reason
    if sentences := said.get(f"packages.{package.name}"):
        return sentences[-1].removeprefix("unproven: ")
    return package.doubt


def _grouped(packages: Iterable[LockedPackage], reason: Callable[[LockedPackage], str]) -> list[tuple[str, list[LockedPackage]]]:
    groups: dict[str, list[LockedPackage]] = {}
    for package in packages:
        groups.setdefault(reason(package), []).append(package)
    return list(groups.items())


def _by_value(table: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, value in sorted(table.items()):
        groups.setdefault(value, []).append(name)
    return groups


def _names(packages: Sequence[LockedPackage]) -> str:
    named = [f"{package.name} {package.version}" for package in packages]
    return named[0] if len(named) == 1 else f"{len(named)} packages ({text.listed(named, _NAMES)})"


def _more(packages: Sequence[LockedPackage]) -> str:
    named = [f"{package.name} {package.version}" for package in packages]
    return f"{len(named)} more ({text.listed(named, _NAMES)}) {'is' if len(named) == 1 else 'are'}"
