"""relock: the same environment with some packages changed on purpose."""

from __future__ import annotations

import datetime as dt
import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envsnap import lockfile, parity
from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError, PlanError, UsageError
from envsnap.model.lock import EnvLock, LockedPackage
from envsnap.model.origins import BaseOrigin, CondaOrigin, IndexOrigin
from envsnap.model.parity import Difference
from envsnap.probes import interpreter
from envsnap.probes.index import PipConfig
from envsnap.probes.local import LocalPython
from envsnap.probes.releases import Known, NotAnswered, NotThere, Release, Releases, read_requires
from envsnap.probes.wheel_record import Unreadable
from envsnap.progress import Progress
from envsnap.workflows import places


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Attributes: name: normalised; version: exactly that, a local part included."""

    name: str
    version: str

    @staticmethod
    def of(text: str) -> Wish:
        """Raises UsageError for anything but NAME==VERSION."""
        try:
            wanted = Requirement(text)
            (specifier,) = wanted.specifier
        except (InvalidRequirement, ValueError):
            raise UsageError(f"{text!r} is not NAME==VERSION", hint="for example numpy==2.2.6") from None
        if specifier.operator != "==" or specifier.version.endswith(".*") or wanted.extras or wanted.marker or wanted.url:
            why = "a lock has exactly one version of a package"
            raise UsageError(f"{text!r} is not NAME==VERSION", why=why, hint="for example numpy==2.2.6")
        return Wish(name=canonicalize_name(wanted.name), version=specifier.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocked:
    """Attributes:
    path: of the new lock, whether or not it was written.
    conflicts: requirements that the change broke, allowed.
    unknown: packages of which nobody knows what they require.
    """

    before: EnvLock
    lock: EnvLock
    path: Path
    differences: tuple[Difference, ...]
    conflicts: tuple[lockfile.Conflict, ...]
    unknown: tuple[str, ...]


def relock(
    path: Path,
    wishes: Sequence[Wish],
    *,
    output: Path | None,
    dry_run: bool,
    allow_conflict: bool,
    offline: bool,
    cache: Path,
    progress: Progress,
) -> Relocked:
    """Find the wheels, hold the new set together, and write the lock with its blobs.

    Args:
        output: None to replace the lock itself.
        allow_conflict: go on where packages require what the new set has not.

    Raises:
        UsageError, InputError: the lock has no such package, or it is not pip's to change.
        PlanError: no index has the version, or the change breaks a requirement.
        EngineError: an index does not answer.
    """
    before = places.read_lock(path)
    packages = {package.name: package for package in before.packages}
    _require_each_once(wishes)
    for wish in wishes:
        _require_changeable(wish, packages)
    # The indexes that pip asks for whoever runs this: where the lock was captured nobody can be asked.
    facts = interpreter.collect(LocalPython(Path(sys.executable)), framework=False, imports=False, integrity=False, progress=progress)
    releases = Releases(PipConfig.from_facts(facts.pip_config), offline=offline, cache=cache)
    found = {wish.name: _find(wish, packages[wish.name], before, releases, offline=offline) for wish in wishes}
    changes = {name: _replacement(release) for name, release in found.items()}
    after = lockfile.relocked(before, changes, day=dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d"))
    blobs = places.blobs_of(path)
    requires, unknown = _requires(before, releases, blobs, progress)
    met_before = lockfile.conflicts(before, requires)
    broken = lockfile.conflicts(after, {**requires, **{name: release.requires for name, release in found.items()}})
    new = tuple(sorted(conflict for conflict in broken if not _was_there(conflict, met_before)))
    if new and not allow_conflict:
        raise PlanError(
            f"that does not fit together: {new[0]}",
            why="; ".join(str(conflict) for conflict in new[1:4]) + (f"; and {len(new) - 4} more" if len(new) > 4 else ""),
            hint=_way_out(new, wishes),
        )
    target = output or path
    if not dry_run:
        places.write_whole(after, target, blobs)
    return Relocked(
        before=before,
        lock=after,
        path=target,
        differences=parity.diff(before, after),
        conflicts=new,
        unknown=tuple(sorted(unknown - found.keys())),
    )


def _require_each_once(wishes: Sequence[Wish]) -> None:
    names = [wish.name for wish in wishes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{twice[0]} is named twice", why="a lock has exactly one version of a package", hint="leave one of them out")


def _require_changeable(wish: Wish, packages: Mapping[str, LockedPackage]) -> None:
    package = packages.get(wish.name)
    if package is None:
        near = difflib.get_close_matches(wish.name, packages, n=3)
        raise InputError(
            f"the lock has no package {wish.name}",
            hint=f"did you mean {' or '.join(near)}?" if near else "install it, and capture again: relock changes what is there",
        )
    if package.provenance == "index" and _same(package.version, wish.version):
        raise UsageError(f"{wish.name} is {package.version} already", hint="name another version, or leave it out")
    if isinstance(package.origin, CondaOrigin):
        raise InputError(f"{wish.name} is of a package of conda", hint="change it with conda, and capture again")
    if isinstance(package.origin, BaseOrigin) or package.provenance == "system":
        of_base = isinstance(package.origin, BaseOrigin)
        raise InputError(
            f"{wish.name} {package.version} is part of {'the base' if of_base else 'the operating system'}",
            hint="build on another base (--base)"
            if of_base
            else f"capture with --rescue {wish.name}: what is kept as a wheel can be changed",
        )


def _same(version: str, wanted: str) -> bool:
    """2.0 is 2.0.0, and is not 2.0+cu1."""
    try:
        return Version(version) == Version(wanted)
    except InvalidVersion:
        return False  # what is installed may call itself anything


def _find(wish: Wish, package: LockedPackage, lock: EnvLock, releases: Releases, *, offline: bool) -> Release:
    index = package.origin.index if isinstance(package.origin, IndexOrigin) else None
    minor = ".".join(lock.python.version.split(".")[:2])
    answer = releases.find(wish.name, wish.version, lockfile.supported_tags(lock), index=index, python=minor)
    if isinstance(answer, NotAnswered):
        hint = (
            "without --offline the index is asked, where pip's configuration names it" if offline else "PIP_INDEX_URL names another index"
        )
        raise EngineError(f"cannot ask for {wish.name} {wish.version}", why=answer.reason, hint=hint)
    if isinstance(answer, NotThere):
        hint = f"there are {', '.join(answer.near)}" if answer.near else "PIP_EXTRA_INDEX_URL names a further index"
        raise PlanError(f"there is no {wish.name} {wish.version}", why=answer.reason, hint=hint)
    if not _takes(answer.requires_python, lock.python.version):
        raise PlanError(
            f"{wish.name} {wish.version} is not for Python {lock.python.version}",
            why=f"{answer.file} requires Python {answer.requires_python}",
            hint="another version of it; or another Python, which is another environment: make it, and capture that",
        )
    return answer


def _takes(requires_python: str, python: str) -> bool:
    """As pip sees it: what is no specifier asks for nothing."""
    try:
        return SpecifierSet(requires_python).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True


def _replacement(release: Release) -> lockfile.Replacement:
    return lockfile.Replacement(
        version=release.version,
        file=release.file,
        sha256=release.sha256,
        tags=release.tags,
        files=release.files,
        index=release.index,
        yanked=release.yanked,
    )


def _requires(lock: EnvLock, releases: Releases, blobs: BlobStore, progress: Progress) -> tuple[dict[str, tuple[str, ...]], set[str]]:
    """What the lock's packages require, from their wheels; and those of which it is not known."""
    known = [
        Known(name=package.name, file=package.file, sha256=package.sha256, index=package.origin.index)
        for package in lock.packages
        if isinstance(package.origin, IndexOrigin) and package.file is not None and package.sha256 is not None and package.blob is None
    ]
    requires = releases.requires(known, progress)
    for package in lock.packages:
        if package.blob is not None and package.file is not None:
            try:
                with blobs.path(package.blob).open("rb") as wheel:
                    requires[package.name] = read_requires(wheel)
            except (OSError, Unreadable):
                continue
    return requires, {package.name for package in lock.packages} - requires.keys()


def _was_there(conflict: lockfile.Conflict, before: frozenset[lockfile.Conflict]) -> bool:
    return any((one.package, one.requirement) == (conflict.package, conflict.requirement) for one in before)


def _way_out(conflicts: Sequence[lockfile.Conflict], wishes: Sequence[Wish]) -> str:
    """The command line that would change all that is concerned; versions where the requirements leave no choice.

    No command line helps where something is required that the lock has not: what is added is installed and captured.
    """
    missing = sorted({canonicalize_name(Requirement(one.requirement).name) for one in conflicts if one.found is None})
    if missing:
        few = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        return f"relock adds no package: install {few} along with it, and capture that;   or   --allow-conflict"
    asked = {wish.name: wish.version for wish in wishes}
    more: dict[str, str] = {}
    for conflict in conflicts:
        if conflict.package not in asked:
            more.setdefault(conflict.package, "VERSION")
        elif conflict.found is not None:
            required = Requirement(conflict.requirement)
            exact = [one.version for one in required.specifier if one.operator == "==" and not one.version.endswith(".*")]
            more[canonicalize_name(required.name)] = exact[0] if exact else "VERSION"
    words = [
        f"{name}=={version}" for name, version in {**asked, **{name: more[name] for name in sorted(more) if name not in asked}}.items()
    ]
    return f"envsnap relock … {' '.join(words)}   or   --allow-conflict"
