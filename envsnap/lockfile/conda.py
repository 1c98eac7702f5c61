"""What conda installed -> the lock's list of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from envsnap.lockfile.explain import misfit
from envsnap.model.facts import CondaPackage, Problem
from envsnap.model.kinds import CondaUrl
from envsnap.model.lock import EnvLock, LockedConda, LockedCondaPackage

ASKED_FOR = frozenset({"conda", "all"})


class PackedTree(Struct, frozen=True, kw_only=True):
    """Attributes: blob: the archive; files: of each package in it, as in `LockedCondaPackage.files`."""

    blob: str
    files: Mapping[str, str]


def needs_tree(packages: Sequence[CondaPackage], rescue: frozenset[str]) -> bool:
    """Some of it was edited or is in no channel that others can reach, or keeping it is asked for."""
    return bool(packages) and (bool(rescue & ASKED_FOR) or any(not locked.is_to_be_had for locked in map(_locked, packages)))


def kept_tree(packages: Sequence[CondaPackage], lock: EnvLock | None) -> PackedTree | None:
    """The tree that a lock of this environment has, where nothing of it was edited or changed since; None where that is not so."""
    known = lock.python.conda if lock is not None else None
    if known is None or known.tree is None or any(package.modified for package in packages):
        return None
    found = {package.name: replace(_locked(package), files=None) for package in packages}
    if found != {package.name: replace(package, files=None) for package in known.packages}:
        return None
    return PackedTree(blob=known.tree, files={package.name: package.files for package in known.packages if package.files is not None})


def conda(packages: Sequence[CondaPackage], tree: PackedTree | None) -> tuple[LockedConda | None, list[Problem]]:
    """The lock's part; None where conda installed nothing."""
    kept, problems = [], []
    for package in packages:
        locked = _locked(package)
        if refused := misfit(locked, LockedCondaPackage):
            problems.append(Problem(where=f"conda.{package.name}", what=f"left out: {refused}"))
            continue
        if tree is not None:
            locked = replace(locked, files=tree.files.get(package.name, locked.files))
        kept.append(locked)
    fate = "kept as installed" if tree is not None else "unproven"
    for reason, names in _reasons(kept).items():
        problems.append(Problem(where="conda", what=f"{fate}: {_few(names)}: {reason}"))
    if not kept:
        return None, problems
    return LockedConda(
        packages=tuple(sorted(kept, key=lambda package: package.name)), tree=tree.blob if tree is not None else None
    ), problems


def _locked(package: CondaPackage) -> LockedCondaPackage:
    return LockedCondaPackage(
        name=package.name,
        version=package.version,
        build=package.build,
        url=package.url if package.url is not None and not misfit(package.url, CondaUrl) else None,
        sha256=package.sha256,
        md5=package.md5,
        files=package.files,
        requested=package.requested,
        modified=package.modified or (),
    )


def _reasons(packages: Sequence[LockedCondaPackage]) -> dict[str, list[str]]:
    """Why some of them are not to be had, with the names of those that share a reason."""
    found: dict[str, list[str]] = {}
    for package in packages:
        if not package.is_to_be_had:
            found.setdefault(_reason(package), []).append(f"{package.name} {package.version}")
    return found


def _reason(package: LockedCondaPackage) -> str:
    if package.modified:
        return f"edited after it was installed: {_few(package.modified)}"
    return "in no channel that others can reach" if package.url is None else "conda recorded no hash"


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
