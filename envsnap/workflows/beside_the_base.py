"""What is put beside a base's own packages must not lie where one of these has a file, and must have been built for its torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from envsnap.errors import InputError, PlanError
from envsnap.layers import zip  # noqa: A004  (a module of the room)
from envsnap.layers.record import Row, places, read_rows
from envsnap.layers.symbols import wheel_symbols
from envsnap.model.abi import TorchLibraries
from envsnap.model.plan import BuildPlan, ExtendBase, InstallPacked, InstallWheels, RemovePackages
from envsnap.plan.abi import described, missing_symbols
from envsnap.probes.wheel_ends import WheelEnds
from envsnap.probes.wheels import Wheels

_FEW = 4
_RECORD_BYTES = 64 << 20


def require_apart(made: BuildPlan, records: Mapping[str, Mapping[str, str]], wheels: Wheels, cache: Path) -> None:
    """Refuse a wheel that would change a file of a package of the base that stays. What both have with the same content is both's.

    Args:
        records: package of the base -> path -> SHA-256.

    Raises:
        PlanError: one would. InputError: a wheel's RECORD is refused.
    """
    extend = next((step for step in made.steps if isinstance(step, ExtendBase)), None)
    if extend is None:
        return
    gone = {package.name for step in made.steps if isinstance(step, RemovePackages) for package in step.packages}
    owned = {path: (name, sha256) for name, paths in records.items() if name not in gone for path, sha256 in paths.items()}
    for name, file, sha256 in _installed(made):
        hit: dict[str, list[str]] = {}
        for path, content in places(_rows(file, sha256, wheels, cache), extend.site.lstrip("/"), extend.prefix.lstrip("/")):
            owner, theirs = owned.get(path, ("", content))
            if theirs != content:
                hit.setdefault(owner, []).append(path)
        if hit:
            owner, paths = min(hit.items())
            more = f" and {len(paths) - _FEW} more" if len(paths) > _FEW else ""
            raise PlanError(
                f"{name} would change {owner}, which is the base's and stays as it is",
                why=f"both have {', '.join(sorted(paths)[:_FEW])}{more}, with other content",
                hint=f"--allow-replace {owner} where the base has it as its own build; or an isolated environment",
            )


def require_built_for(made: BuildPlan, torch: TorchLibraries | None, wheels: Wheels) -> None:
    """Refuse a wheel whose extensions ask the base's torch for what it has not: they would not load.

    Args:
        torch: of the base; None where it is not known, and nothing is asked. Nor is it of wheels that are not at hand.

    Raises:
        PlanError: one does. InputError: a wheel is refused.
    """
    gone = {package.name for step in made.steps if isinstance(step, RemovePackages) for package in step.packages}
    if torch is None or "torch" in gone or not any(isinstance(step, ExtendBase) for step in made.steps):
        return
    for name, file, sha256 in _installed(made):
        if (path := wheels.path(sha256)) is None:
            continue
        with path.open("rb") as opened:
            objects = [found for _, found in wheel_symbols(opened, file=file) if found is not None]
        if missing := missing_symbols(objects, torch):
            raise PlanError(
                f"{name} was built for another torch than the base's",
                why=described(missing[0]),
                hint=f"build {name} against the base's torch where the environment is, and capture again; or an isolated environment",
            )


def _installed(made: BuildPlan) -> list[tuple[str, str, str]]:
    wheels = [(one.name, one.file, one.sha256) for step in made.steps if isinstance(step, InstallWheels) for one in step.wheels]
    packed = [(one.name, one.file, one.blob) for step in made.steps if isinstance(step, InstallPacked) for one in step.packages]
    return [(name, file, digest.removeprefix("sha256:")) for name, file, digest in (*wheels, *packed)]


def _rows(file: str, sha256: str, wheels: Wheels, cache: Path) -> Mapping[str, Row]:
    """RECORD, by the path in the wheel: of the file where it is at hand, else as a capture read it; nothing where neither is."""
    path = wheels.path(sha256)
    try:
        if path is not None:
            with path.open("rb") as opened:
                archive = zip.read_archive(opened, file)
                member = next((one for one in archive.members if one.name.endswith(".dist-info/RECORD")), None)
                return read_rows(zip.read_member(opened, archive, member, _RECORD_BYTES)) if member is not None else {}
        end = WheelEnds(cache).find(sha256)
        return read_rows(end.record) if end is not None else {}
    except ValueError as error:
        raise InputError(f"refused {file}", why=str(error)) from error
