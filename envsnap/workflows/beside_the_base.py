"""What is put beside a base's own packages must not lie where one of these has a file, and must have been built for its torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from envsnap.errors import PlanError
from envsnap.layers.record import places
from envsnap.layers.symbols import wheel_symbols
from envsnap.model.abi import TorchLibraries
from envsnap.model.layers import LayerPlan, Layout, RemovalLayer
from envsnap.model.plan import BuildPlan, ExtendBase, InstallPacked, InstallWheels, RemovePackages
from envsnap.oci.paths import parents
from envsnap.plan.abi import described, missing_symbols
from envsnap.probes.wheels import Wheels
from envsnap.workflows.wheel_files import wheel_record

_FEW = 4


def require_apart(made: BuildPlan, layout: Layout, records: Mapping[str, Mapping[str, str]], wheels: Wheels, cache: Path) -> None:
    """Refuse a wheel that would change a file of a package of the base that stays. What both have with the same content is both's.

    Args:
        records: package of the base -> path -> SHA-256.

    Raises:
        PlanError: one would. InputError: a wheel's RECORD is refused.
    """
    if not _extends(made):
        return
    gone = {package.name for step in made.steps if isinstance(step, RemovePackages) for package in step.packages}
    owned = {path: (name, sha256) for name, paths in records.items() if name not in gone for path, sha256 in paths.items()}
    for name, file, sha256 in _installed(made):
        hit: dict[str, list[str]] = {}
        rows = wheel_record(file, sha256, wheels.path, cache).rows
        for path, member in places(rows, layout):
            content = rows[member].sha256
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


def link_in_the_way(made: BuildPlan, layers: LayerPlan, links: Mapping[str, str], wheels: Wheels, cache: Path) -> str | None:
    """A link of the base that files of the wheels lie behind, or files that are taken away (see `plan.layers.link_in_the_way`).

    Args:
        links: of the base; those that are taken away are none.

    Raises:
        InputError: a wheel's RECORD is refused.
    """
    gone = {path for layer in layers.layers if isinstance(layer, RemovalLayer) for path in layer.paths}
    below = f"{layers.layout.prefix}/"
    left = {link for link in links if link.startswith(below) and gone.isdisjoint((link, *parents(link)))}
    if not left or not _extends(made):
        return None

    def paths() -> Iterator[str]:
        yield from sorted(gone)
        for _, file, sha256 in _installed(made):
            for path, _ in places(wheel_record(file, sha256, wheels.path, cache).rows, layers.layout):
                yield path

    return next((above for path in paths() for above in parents(path) if above in left), None)


def require_built_for(made: BuildPlan, torch: TorchLibraries | None, wheels: Wheels) -> None:
    """Refuse a wheel whose extensions ask the base's torch for what it has not: they would not load.

    Args:
        torch: of the base; None where it is not known, and nothing is asked. Nor is it of wheels that are not at hand.

    Raises:
        PlanError: one does. InputError: a wheel is refused.
    """
    gone = {package.name for step in made.steps if isinstance(step, RemovePackages) for package in step.packages}
    if torch is None or "torch" in gone or not _extends(made):
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


def _extends(made: BuildPlan) -> bool:
    return any(isinstance(step, ExtendBase) for step in made.steps)


def _installed(made: BuildPlan) -> list[tuple[str, str, str]]:
    wheels = [(one.name, one.file, one.sha256) for step in made.steps if isinstance(step, InstallWheels) for one in step.wheels]
    packed = [(one.name, one.file, one.blob) for step in made.steps if isinstance(step, InstallPacked) for one in step.packages]
    return [(name, file, digest.removeprefix("sha256:")) for name, file, digest in (*wheels, *packed)]
