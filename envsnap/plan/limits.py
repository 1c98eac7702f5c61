"""What must not become an image: said before anything else is planned."""

from __future__ import annotations

from collections.abc import Collection

from envsnap.errors import PlanError
from envsnap.model import torch_version
from envsnap.model.lock import EnvLock, LockedConda, LockedPackage
from envsnap.model.origins import BaseOrigin, UnknownOrigin

_FEW = 8


def refuse(lock: EnvLock, allow_unproven: frozenset[str], kept: Collection[str] = ()) -> None:
    """Raises PlanError for the first thing that stops an image of this lock, with all of its packages named.

    Args:
        kept: names of packages that the base has, and that stay as they are there: nothing need be known of where these came from.
    """
    if lock.python.kind == "conda":
        _refuse_conda(lock.python.conda)
    if of_base := [package for package in lock.packages if package.name not in kept and not package.modified and _of_ngc(package)]:
        raise PlanError(
            f"{_names(of_base)}: NVIDIA's own build",
            why="no index has it; only the image that it was built for does",
            hint=f"--base {_home(of_base)}; or a virtual environment with torch from an index, captured",
        )
    allowed = {*kept, *allow_unproven}
    if system := [package for package in _with(lock, "system") if not allowed & {package.name, "all"}]:
        one, few = len(system) == 1, len(system) <= _FEW
        rescue = " ".join(f"--rescue {package.name}" for package in system) if few else "--rescue all"
        leave = " ".join(f"--allow-unproven {package.name}" for package in system) if few else "--allow-unproven all"
        raise PlanError(
            f"{'1 package is' if one else f'{len(system)} packages are'} the operating system's, not {'a wheel' if one else 'wheels'}",
            why=_names(system),
            hint=f"capture an environment made without --system-site-packages;   or again with {rescue} to keep what is installed;   "
            f"or {leave} to leave {'it' if one else 'them'} out",
        )
    unproven = [package for package in _with(lock, "unproven") if not allowed & {package.name, "all"}]
    if unproven:
        flags = "   ".join(f"--allow-unproven {package.name}" for package in unproven) if len(unproven) <= _FEW else "--allow-unproven all"
        raise PlanError(
            f"nothing vouches for {_names(unproven)}",
            why="; ".join(f"{package.name}: {_doubt(package, lock)}" for package in unproven[:_FEW])
            + (f"; and {len(unproven) - _FEW} more" if len(unproven) > _FEW else ""),
            hint=flags
            if lock.capture.is_of_a_run
            else f"capture again with --rescue NAME to keep what is installed as a wheel;   or   {flags}",
        )


def _refuse_conda(conda: LockedConda | None) -> None:
    if conda is None:
        raise PlanError("the lock does not say what conda installed", why="python.conda is missing", hint="capture the environment again")
    lost = [package.name for package in conda.packages if not package.is_to_be_had]
    if lost and conda.tree is None:
        raise PlanError(
            "some of conda's packages cannot be had again",
            why=f"in no channel, without a hash, or edited: {', '.join(lost)}",
            hint="capture again with --rescue conda to keep what is installed",
        )


def _with(lock: EnvLock, provenance: str) -> list[LockedPackage]:
    return [package for package in lock.packages if package.provenance == provenance]


def _of_ngc(package: LockedPackage) -> bool:
    return isinstance(package.origin, BaseOrigin) or (package.blob is None and torch_version.read(package.version).ngc is not None)


def _home(packages: list[LockedPackage]) -> str:
    """The image that they were built for, as far as it is known."""
    return next((package.origin.reference for package in packages if isinstance(package.origin, BaseOrigin)), "REF")


def _doubt(package: LockedPackage, lock: EnvLock) -> str:
    """As the capture told it: the last of what it said of the package, unless the origin says it."""
    said = [problem.what for problem in lock.capture.problems if problem.where == f"packages.{package.name}"]
    return said[-1].removeprefix("unproven: ") if said and not isinstance(package.origin, UnknownOrigin) else package.doubt


def _names(packages: list[LockedPackage]) -> str:
    more = f" and {len(packages) - _FEW} more" if len(packages) > _FEW else ""
    return ", ".join(f"{package.name} {package.version}" for package in packages[:_FEW]) + more
