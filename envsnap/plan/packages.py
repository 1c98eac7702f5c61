"""What is installed: wheels by hash, packages that were packed at capture, and system packages by soname."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from envsnap.errors import PlanError
from envsnap.model.base import Base
from envsnap.model.catalog import Catalog
from envsnap.model.lock import EnvLock, LockedConda, LockedPackage, LockedSystemPackage
from envsnap.model.origins import CondaOrigin, EditableOrigin, IndexOrigin
from envsnap.model.plan import WORKSPACE, AptInstall, InstallPacked, InstallWheels, MakeCondaEnvironment, PackedInstall, PinnedWheel
from envsnap.plan.bases import carries, distribution_of, unknown

_FEW = 4


class Installs(NamedTuple):
    wheels: InstallWheels | None
    packed: InstallPacked | None
    notes: tuple[str, ...]


class SystemInstall(NamedTuple):
    step: AptInstall | None
    notes: tuple[str, ...]


def installs(lock: EnvLock, *, source: bool, pyc: bool, kept: Collection[str] = ()) -> Installs:
    """The steps that fill the environment.

    Args:
        source: the project's files travel.
        kept: names of packages that the base has.

    Raises:
        PlanError: a package has nothing that could be installed, or an editable's project does not travel.
    """
    wanted = [package for package in lock.packages if package.name not in kept and not isinstance(package.origin, CondaOrigin)]
    mine = (package for package in wanted if not _is_lost(package))
    lost = [f"{package.name} {package.version}" for package in wanted if _is_lost(package)]
    packages = sorted(mine, key=lambda package: package.name)
    packed = tuple(_packed(package, lock, source=source) for package in packages if package.blob is not None)
    wheels = tuple(_wheel(package) for package in packages if package.blob is None)
    elsewhere = sorted({wheel.index for wheel in wheels if wheel.index})
    notes = (
        *(
            f"{_count(wheels, index)} of {index}: if the default index lacks them, give the build a pip configuration"
            for index in elsewhere
        ),
        *([f"left out, as nothing can be installed for them: {', '.join(lost)}; verify will name them"] if lost else []),
        *_allowed_note([f"{package.name} {package.version}" for package in packages if _allowed(package)]),
    )
    return Installs(
        wheels=InstallWheels(
            wheels=wheels, compile=pyc, reason="exactly the captured wheel files, by hash; nothing is resolved and nothing else comes in"
        )
        if wheels
        else None,
        packed=InstallPacked(packages=packed, reason="of no index, or edited: their installed files were packed as wheels at capture")
        if packed
        else None,
        notes=notes,
    )


def _is_lost(package: LockedPackage) -> bool:
    """Allowed to be left out (else the plan stops): unproven and of no index, or the operating system's."""
    return package.provenance in ("unproven", "system") and not package.is_to_be_had


def _allowed_note(names: list[str]) -> list[str]:
    if not names:
        return []
    if len(names) <= _FEW:
        return [f"{name} is unproven and goes in because it was allowed" for name in names]
    return [f"{len(names)} packages are unproven and go in because it was allowed ({', '.join(names[:_FEW])} and {len(names) - _FEW} more)"]


def conda_install(conda: LockedConda, *, pyc: bool) -> MakeCondaEnvironment:
    """Conda's packages: unpacked where they were kept, else fetched by URL and hash."""
    if conda.tree is not None:
        reason = "conda's packages as installed, Python among them: some are edited or in no channel, or it was asked for"
        return MakeCondaEnvironment(tree=conda.tree, compile=pyc, reason=reason)
    lines = tuple(f"{package.url}#{package.md5 or f'sha256:{package.sha256}'}" for package in conda.packages)
    return MakeCondaEnvironment(
        explicit=lines, reason="exactly the captured packages of conda, Python among them, by URL and hash; nothing is solved"
    )


def system_install(lock: EnvLock, base: Base, catalog: Catalog, *, there: Collection[str] | None = None) -> SystemInstall:
    """The base distribution's packages for the libraries that the environment needs from outside itself.

    All of them, whether or not the base has them already: the list must not depend on somebody having looked inside. Nor may it
    on the captured distribution, which is observed: what the catalogue does not know goes by its captured name where the base's
    distribution has that name.

    Args:
        there: libraries that the loader finds in the base, where the environment is the base's own. What no package of the
            distribution owned is the base's, too.

    Raises:
        PlanError: libraries are needed and the base's distribution is not known.
    """
    entries = [*lock.system_packages, *_of_interpreter(lock, base, catalog)]
    if there is not None:
        entries = [entry for entry in entries if entry.name is not None and not set(entry.sonames) <= {*there}]
    needed = [(entry, soname) for entry in entries for soname in entry.sonames if _must_come(entry, soname, catalog)]
    if not needed:
        return SystemInstall(None, ())
    distribution = distribution_of(base, catalog)
    if distribution is None:
        raise unknown(base, "the distribution")
    known: dict[str, list[tuple[LockedSystemPackage, str]]] = {}
    captured: set[str] = set()
    notes = []
    for entry, soname in needed:
        if name := catalog.package_for(soname, distribution):
            known.setdefault(name, []).append((entry, soname))
            continue
        unknown_to_us = f"{soname}{_needed_by([entry])}: nobody is known to package it in {distribution}; "
        if entry.name is not None and not entry.name.endswith("-"):  # apt reads a trailing "-" as "remove"
            captured.add(entry.name)
            notes.append(f"{unknown_to_us}its captured package, {entry.name}, is installed if there is one of that name")
        else:
            notes.append(f"{unknown_to_us}the check of the imports decides")
    by_name = [f"{name} for {_sonames(known[name])}" for name in sorted(known)]
    step = AptInstall(
        packages=tuple(sorted(known)),
        captured=tuple(sorted(captured - known.keys())),
        reason="libraries that the packages load from outside the environment"
        + (f", by the names of {distribution}: {'; '.join(by_name)}" if by_name else ""),
    )
    return SystemInstall(step if known or captured else None, tuple(notes))


def _of_interpreter(lock: EnvLock, base: Base, catalog: Catalog) -> list[LockedSystemPackage]:
    """What a carried interpreter needs; the base's own has it already."""
    if lock.python.tree is None or not carries(base, lock, catalog):
        return []
    known = {soname: entry.name for entry in lock.system_packages for soname in entry.sonames}
    return [LockedSystemPackage(name=known.get(soname), sonames=(soname,), needed_by=("python",)) for soname in lock.python.tree.sonames]


def _wheel(package: LockedPackage) -> PinnedWheel:
    if package.file is None or package.sha256 is None:
        raise PlanError(
            f"{package.name} {package.version} cannot be installed",
            why="the lock holds neither a wheel file with its hash nor a packed wheel for it",
            hint="install it from an index or a directory and capture again",
        )
    index = package.origin.index if isinstance(package.origin, IndexOrigin) else None
    return PinnedWheel(name=package.name, version=package.version, file=package.file, sha256=package.sha256, index=index)


def _packed(package: LockedPackage, lock: EnvLock, *, source: bool) -> PackedInstall:
    assert package.blob is not None and package.file is not None  # a lock that lacks either is refused when it is read
    in_place = package.origin if isinstance(package.origin, EditableOrigin) and package.provenance == "source" else None
    return PackedInstall(
        name=package.name,
        version=package.version,
        file=package.file,
        blob=package.blob,
        import_paths=_import_paths(package, in_place, lock, source=source) if in_place is not None else (),
    )


def _import_paths(package: LockedPackage, origin: EditableOrigin, lock: EnvLock, *, source: bool) -> tuple[str, ...]:
    if lock.source is None or origin.path is None:
        raise PlanError(
            f"{package.name} is installed in place, and its project was not captured",
            why="its directory lies outside the project that was captured",
            hint="capture with --project naming the directory that holds it, or install it without -e",
        )
    if not source:
        raise PlanError(
            f"{package.name} is installed in place: without the source it would be empty",
            why="--no-source leaves out the files that it consists of",
            hint="build with the source, or install it without -e and capture again",
        )
    return tuple(f"{WORKSPACE}/{lock.source.name}/{path}".rstrip("/") for path in origin.import_paths)


def _must_come(entry: LockedSystemPackage, soname: str, catalog: Catalog) -> bool:
    brought = soname in catalog.libraries.libc or soname in catalog.libraries.driver
    # Mapped by the captured interpreter itself; the base's interpreter has its own.
    own = soname.startswith("libpython") and not entry.needed_by
    return not brought and not own


def _sonames(needs: list[tuple[LockedSystemPackage, str]]) -> str:
    return ", ".join(sorted({soname for _, soname in needs})) + _needed_by([entry for entry, _ in needs])


def _needed_by(entries: Iterable[LockedSystemPackage]) -> str:
    """Three of them: who wants libstdc++ is half of what is installed, and the lock has all names."""
    names = sorted({name for entry in entries for name in entry.needed_by})
    others = f" and {len(names) - 3} others" if len(names) > 3 else ""
    return f" ({', '.join(names[:3])}{others})" if names else ""


def _allowed(package: LockedPackage) -> bool:
    return package.provenance == "unproven"


def _count(wheels: tuple[PinnedWheel, ...], index: str) -> str:
    number = sum(wheel.index == index for wheel in wheels)
    return f"{number} wheel{'s' if number > 1 else ''}"
