"""What a person should know after a capture, and what to do about each: gravest first, what belongs together in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from envsnap.model.lock import EnvLock, LockedPackage, UnknownOrigin
from envsnap.report import text

_WIDTH = 118
_MOST = 14


class Trouble(NamedTuple):
    """Attributes: do: what to do about it, or what was done; "" where there is nothing to say."""

    what: str
    do: str = ""


def troubles(lock: EnvLock) -> list[Trouble]:
    """What stops a build, what does not compute or run, what had to be rebuilt, the rest."""
    said = {problem.where: problem for problem in lock.capture.problems}
    graded = {grade: [p for p in lock.packages if p.provenance == grade] for grade in ("unproven", "rebuilt")}
    told = {f"packages.{p.name}" for packages in graded.values() for p in packages}
    rest = [problem for problem in lock.capture.problems if problem.where not in told]
    return [
        *_unproven(graded["unproven"], {where: problem.what for where, problem in said.items()}),
        *(Trouble(problem.what, problem.hint) for problem in rest if problem.where == "cuda"),
        *_failed(lock.observed.imports_failed),
        *_rebuilt(graded["rebuilt"], {where: problem.what for where, problem in said.items()}),
        *(Trouble(f"{problem.where}: {problem.what}", problem.hint) for problem in rest if problem.where != "cuda"),
    ]


def lines(found: Sequence[Trouble]) -> list[str]:
    """For the screen: what to do beside what is wrong where both fit, else below it; of very many the first."""
    shown = found[:_MOST]
    beside = [trouble for trouble in shown if trouble.do and len(trouble.what) + len(trouble.do) + 8 <= _WIDTH]
    width = max((len(trouble.what) for trouble in beside), default=0)
    rows: list[str] = []
    for trouble in shown:
        if trouble.do and width + len(trouble.do) + 8 <= _WIDTH and len(trouble.what) <= width:
            rows.append(f"  ! {trouble.what.ljust(width)}    {trouble.do}")
        else:
            rows += [f"  ! {trouble.what}", *([f"      {trouble.do}"] if trouble.do else [])]
    return rows + ([f"  and {len(found) - _MOST} more: --json lists all of them"] if len(found) > _MOST else [])


def _unproven(packages: Iterable[LockedPackage], said: Mapping[str, str]) -> Iterator[Trouble]:
    for reason, group in _grouped(packages, lambda package: doubt(package, said)):
        flag = group[0].name if len(group) == 1 else "all"
        yield Trouble(f"{_names(group)} {'is' if len(group) == 1 else 'are'} unproven: {reason}", f"build … --allow-unproven {flag}")


def _rebuilt(packages: Iterable[LockedPackage], said: Mapping[str, str]) -> Iterator[Trouble]:
    reasons = {p.name: said.get(f"packages.{p.name}", "").partition(": ")[2] for p in packages}
    for reason, group in _grouped((p for p in packages if reasons[p.name]), lambda package: reasons[package.name]):
        edited = any(package.modified for package in group)
        done = f"rebuilt as {'a wheel' if len(group) == 1 else 'wheels'} from what is installed{', edits included' if edited else ''}"
        yield Trouble(f"{_names(group)}: {reason}", done)


def _failed(failures: Mapping[str, str]) -> Iterator[Trouble]:
    for error, modules in _by_value(failures).items():
        verb = "does not import" if len(modules) == 1 else "do not import"
        yield Trouble(f"{text.listed(modules)} {verb} here: {error}", "an image is not asked to import it either")


def doubt(package: LockedPackage, said: Mapping[str, str]) -> str:
    """Why nothing vouches for a package."""
    if isinstance(package.origin, UnknownOrigin):
        return package.origin.reason
    if (what := said.get(f"packages.{package.name}")) is not None:
        return what.removeprefix("unproven: ")
    if package.file is not None and package.sha256 is not None:
        return "an index has a file that fits, and nobody knows whether it is the one that was installed"
    return "nothing vouches for its files"


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
    return named[0] if len(named) == 1 else f"{len(named)} packages ({text.listed(named, 3)})"
