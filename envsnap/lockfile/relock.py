"""A lock with some packages changed on purpose: what stays true of it, and whether its packages still want each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace
from packaging import tags
from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envsnap.lockfile.digest import seal
from envsnap.model.facts import Problem
from envsnap.model.frameworks import frameworks_of
from envsnap.model.lock import EnvLock, LockedCuda, LockedPackage
from envsnap.model.origins import IndexOrigin

_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST_GLIBC = 5


class Replacement(Struct, frozen=True, kw_only=True):
    """Another version of a package, as an index has it. Attributes: as in `LockedPackage`; index, yanked: as in `IndexOrigin`."""

    version: str
    file: str
    sha256: str
    tags: tuple[str, ...]
    files: str
    index: str | None = None
    yanked: bool = False


class Conflict(Struct, frozen=True, kw_only=True, order=True):
    """A requirement that the packages do not meet.

    Attributes:
        package, version: who requires.
        requirement: as its metadata says it.
        found: version that is there; None for none.
    """

    package: str
    version: str
    requirement: str
    found: str | None

    def __str__(self) -> str:
        name = canonicalize_name(Requirement(self.requirement).name)
        have = f"would have {name} {self.found}" if self.found else "has none"
        return f"{self.package} {self.version} requires {self.requirement}, and the lock {have}"


def relocked(lock: EnvLock, changes: Mapping[str, Replacement], *, day: str) -> EnvLock:
    """The lock with these packages in the place of theirs, everything else as it was.

    Nobody has seen that environment: what was observed of the changed packages, and what they computed, is left out.

    Args:
        changes: by name, each in the lock.
        day: "2026-11-21".
    """
    packages = [_replaced(package, changes[package.name]) if package.name in changes else package for package in lock.packages]
    places = {f"packages.{name}" for name in changes}
    kept = [problem for problem in lock.capture.problems if problem.where not in places and not problem.where.startswith("relock.")]
    said = [
        Problem(where=f"relock.{new.name}", what=f"{new.version} was put in the place of what was captured, on {day}{_unread(old)}")
        for old, new in zip(lock.packages, packages, strict=True)
        if old.name in changes
    ]
    earlier = [problem for problem in lock.capture.problems if problem.where.startswith("relock.") and problem.where[7:] not in changes]
    observed = replace(lock.observed, cuda=_without(lock.observed.cuda, frozenset(changes)), reference=None)
    capture = replace(lock.capture, problems=(*kept, *earlier, *said))
    return seal(replace(lock, packages=tuple(packages), observed=observed, capture=capture))


def _unread(package: LockedPackage) -> str:
    """A wheel is read at its ends alone, and its code lies in the middle."""
    return "; which GPUs its code is for is not known" if package.device_code is not None else ""


def _replaced(package: LockedPackage, new: Replacement) -> LockedPackage:
    return replace(
        package,
        version=new.version,
        origin=IndexOrigin(index=new.index, yanked=new.yanked),
        file=new.file,
        sha256=new.sha256,
        tags=new.tags,
        files=new.files,
        blob=None,
        modified=(),
        device_code=None,
        provenance="index",
    )


def _without(cuda: LockedCuda, names: frozenset[str]) -> LockedCuda:
    """What was loaded of other packages."""
    gone = {library.soname for library in cuda.loaded if library.owner in names}

    def kept(value: str | None, library: str) -> str | None:
        return None if any(soname.startswith(library) for soname in gone) else value

    return replace(
        cuda,
        loaded=tuple(library for library in cuda.loaded if library.owner not in names),
        runtime=kept(cuda.runtime, "libcudart."),
        cudnn=kept(cuda.cudnn, "libcudnn."),
        nccl=kept(cuda.nccl, "libnccl."),
        cublas=kept(cuda.cublas, "libcublas."),
        **dict.fromkeys(frameworks_of(names), None),
    )


def supported_tags(lock: EnvLock) -> tuple[str, ...]:
    """Tags of wheels that the lock's interpreter takes on the machine where it was captured, best first."""
    python, platforms = lock.python, _platforms(lock)
    release = Version(python.version).release[:2]
    interpreter = f"{'cp' if python.implementation == 'cpython' else 'pp'}{release[0]}{release[1]}"
    if python.implementation == "cpython":
        own = list(tags.cpython_tags(release, [python.abi], platforms))
    else:
        own = list(tags.generic_tags(interpreter, [python.interpreter.soabi.replace("-", "_")], platforms))
    return tuple(dict.fromkeys(str(tag) for tag in (*own, *tags.compatible_tags(release, interpreter, platforms))))


def _platforms(lock: EnvLock) -> list[str]:
    machine = lock.python.interpreter.machine
    libc, _, version = lock.observed.platform.libc.partition(" ")
    numbers = version.split(".")
    if libc == "musl":
        newest = int(numbers[1]) if len(numbers) > 1 and numbers[1].isdigit() else 2
        return [*(f"musllinux_1_{minor}_{machine}" for minor in range(newest, -1, -1)), f"linux_{machine}"]
    newest = int(numbers[1]) if len(numbers) > 1 and numbers[1].isdigit() else 17
    names: list[str] = []
    for minor in range(newest, _OLDEST_GLIBC - 1, -1):
        names.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY:
            names.append(f"{_LEGACY[minor]}_{machine}")
    return [*names, f"linux_{machine}"]


def conflicts(lock: EnvLock, requires: Mapping[str, Sequence[str]]) -> frozenset[Conflict]:
    """Every requirement that holds in the lock's environment and is not met by its packages.

    Args:
        requires: Requires-Dist lines by name; a package that is left out requires nothing that is known.
    """
    versions = {package.name: package.version for package in lock.packages}
    environment = _markers(lock)
    found: set[Conflict] = set()
    asked: dict[str, frozenset[str]] = {name: frozenset({""}) for name in versions}
    todo = list(versions)
    while todo:  # an extra that somebody asks for brings requirements of its own
        name = todo.pop()
        for requirement in _requirements(requires.get(name, ()), asked[name], environment):
            wanted = canonicalize_name(requirement.name)
            have = versions.get(wanted)
            if have is None or not _meets(have, requirement):
                found.add(Conflict(package=name, version=versions[name], requirement=_without_marker(requirement), found=have))
            elif not requirement.extras <= asked[wanted]:
                asked[wanted] |= requirement.extras
                todo.append(wanted)
    return frozenset(found)


def _requirements(lines: Sequence[str], extras: frozenset[str], environment: Mapping[str, str]) -> Iterator[Requirement]:
    """Those that hold. Lines that are no requirement say nothing."""
    for line in lines:
        try:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in sorted(extras)):
                yield requirement
        except (InvalidRequirement, UndefinedEnvironmentName, InvalidVersion):
            continue


def _meets(version: str, requirement: Requirement) -> bool:
    try:
        return requirement.url is not None or requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True  # it cannot be compared


def _without_marker(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def _markers(lock: EnvLock) -> dict[str, str]:
    """The variables of environment markers (PEP 508) where the lock was captured."""
    python = lock.python
    return {
        "implementation_name": python.implementation,
        "implementation_version": python.version,
        "os_name": "posix",
        "platform_machine": python.interpreter.machine,
        "platform_python_implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(python.implementation, python.implementation),
        "platform_release": lock.observed.platform.kernel,
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": python.version,
        "python_version": ".".join(python.version.split(".")[:2]),
        "sys_platform": "linux",
    }
