"""From a build plan to everything that decides an assembled image, and to the image itself as far as it can be told without making it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from envsnap import render
from envsnap.errors import InputError
from envsnap.layers.installed import sizes
from envsnap.layers.zip import read_archive
from envsnap.model.base import BaseInventory
from envsnap.model.debian import DebFile
from envsnap.model.kinds import plain
from envsnap.model.layers import LayerPlan, PlannedWheel, WheelsLayer
from envsnap.model.lock import EnvLock
from envsnap.model.plan import BuildPlan, InstallPacked, InstallWheels, PackedInstall, PinnedWheel, SetEnv
from envsnap.oci.documents import digest_of
from envsnap.oci.image import BaseImage, Image, Layer, RunConfig, put_together
from envsnap.plan.layers import FORMAT, Ingredients, lay_out
from envsnap.probes.wheel_ends import WheelEnds
from envsnap.probes.wheels import Wheels
from envsnap.storage import read_note, write_note
from envsnap.workflows.assemble import recall
from envsnap.workflows.unknown import Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All that decides an image.

    Attributes:
        identity: names it by all that is known without looking into a wheel: two images of one identity are the same.
        below: what an engine made on the base, under the layers of the plan.
    """

    identity: str
    base: BaseImage
    layers: LayerPlan
    change: RunConfig
    below: tuple[Layer, ...] = ()


def prepare(
    made: BuildPlan,
    lock: EnvLock,
    lock_bytes: bytes,
    *,
    base: BaseImage,
    inventory: BaseInventory,
    wheels: Mapping[str, tuple[int, int]],
    system: Sequence[DebFile] = (),
    below: Sequence[Layer] = (),
) -> Prepared:
    """Put together what decides the image.

    Args:
        inventory, wheels, system: as in `Ingredients`; the wheels for all of the plan's.
        below: as in `Prepared`.

    Raises:
        PlanError: the base leaves no room for the layers.
    """
    ingredients = Ingredients(
        wheels=wheels,
        inventory=inventory,
        base=_onto(base, below),
        base_layers=len(base.config.diff_ids) + len(below),
        lock=digest_of(lock_bytes),
        system=system,
        beside=render.beside(packed_installs(made), lock),
    )
    change = RunConfig(
        env={step.name: step.value for step in made.steps if isinstance(step, SetEnv)}, labels=made.labels, workdir=made.workdir
    )
    identity = _identity(made, ingredients, base, below)
    return Prepared(identity=identity, base=base, layers=lay_out(made, lock, ingredients), change=change, below=tuple(below))


def _onto(base: BaseImage, below: Sequence[Layer]) -> str:
    """What names the base with the layers that an engine made on it, whoever has them: what its config was there is in no image."""
    return digest_of("\n".join((base.config.digest, *(layer.diff_id for layer in below))).encode()) if below else base.config.digest


def _identity(made: BuildPlan, ingredients: Ingredients, base: BaseImage, below: Sequence[Layer]) -> str:
    document = {
        "format": FORMAT,
        "steps": [plain(msgspec.structs.replace(step, reason="")) for step in made.steps],
        "run": [dict(made.labels), made.workdir],
        "base": [base.config.digest, ingredients.base, [layer.diff_id for layer in below]],
        "inventory": [ingredients.inventory.python, ingredients.inventory.python_path, plain(ingredients.inventory.directories.get("opt"))],
        "lock": ingredients.lock,
        "system": [plain(one) for one in ingredients.system],
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def wheels_of(plan: LayerPlan) -> tuple[PlannedWheel, ...]:
    return tuple(wheel for layer in plan.layers if isinstance(layer, WheelsLayer) for wheel in layer.wheels)


def predict(prepared: Prepared, cache: Path) -> Image | Unknown:
    """The image, if every layer of it was made before, here or where the cache came from."""
    layers = recall(prepared.layers, cache)
    remembered = [layer for layer in layers if layer is not None]
    if len(remembered) < len(layers):
        missing = len(layers) - len(remembered)
        return Unknown(because=f"{missing} of {len(layers)} layers were never made", hint="plan --fetch makes them")
    return put_together(prepared.base, (*prepared.below, *remembered), prepared.change)


class _WheelFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    size_bytes: int
    source_bytes: int


def wheel_facts(hashes: Iterable[str], wheels: Wheels, cache: Path) -> dict[str, tuple[int, int]]:
    """Size and sources of wheels by their hash: remembered, or read from the files at hand; those that are neither are left out.

    Raises:
        InputError: a file is no wheel.
    """
    return {sha256: facts for sha256 in hashes if (facts := _facts(sha256, wheels, cache)) is not None}


def unhashed_facts(hashes: Iterable[str], wheels: Wheels, cache: Path) -> dict[str, tuple[int, int]]:
    """As `wheel_facts`, of wheels at hand that nothing is remembered of, and without hashing them: right only if the files are.

    Whoever makes a layer of them hashes them; then `remember_facts` may have them.
    """
    facts: dict[str, tuple[int, int]] = {}
    for sha256 in hashes:
        if read_note(_place(sha256, cache), _WheelFacts) is None and (path := wheels.path(sha256)) is not None:
            with contextlib.suppress(InputError, OSError):  # damaged, it seems: `wheel_facts` says
                facts[sha256] = _read_facts(path)
    return facts


def remember_facts(facts: Mapping[str, tuple[int, int]], cache: Path) -> None:
    """Raises TargetError: the cache cannot be written."""
    for sha256, (size_bytes, source_bytes) in facts.items():
        write_note(_place(sha256, cache), _WheelFacts(size_bytes=size_bytes, source_bytes=source_bytes))


def remembered_wheels(plan: LayerPlan, cache: Path) -> set[str]:
    """Hashes of the wheels of which layers were made before: of those alone nobody will."""
    layers = zip(plan.layers, recall(plan, cache), strict=True)
    return {wheel.sha256 for layer, known in layers if known is not None and isinstance(layer, WheelsLayer) for wheel in layer.wheels}


def _facts(sha256: str, wheels: Wheels, cache: Path) -> tuple[int, int] | None:
    facts = read_note(_place(sha256, cache), _WheelFacts)
    if facts is not None:
        return facts.size_bytes, facts.source_bytes
    path = wheels.checked(sha256)
    if path is None:
        return None
    found = _read_facts(path)
    remember_facts({sha256: found}, cache)
    return found


def _read_facts(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        members = read_archive(file, path.name).members
        return os.fstat(file.fileno()).st_size, sum(member.size for member in members if member.name.endswith(".py"))


def _place(sha256: str, cache: Path) -> Path:
    return cache / "wheels" / f"{sha256}.json"


def said_facts(hashes: Iterable[str], ends: WheelEnds) -> dict[str, tuple[int, int]]:
    """As `wheel_facts`, by what an index said of wheels that were never here: something can be foretold from it, and nothing made."""
    facts: dict[str, tuple[int, int]] = {}
    for sha256 in hashes:
        if (end := ends.find(sha256)) is not None:
            with contextlib.suppress(InputError):
                facts[sha256] = (end.size_bytes, sizes(end.directory, end.size_bytes, end.stem)[1])
    return facts


def pinned_wheels(made: BuildPlan) -> tuple[PinnedWheel, ...]:
    return tuple(wheel for step in made.steps if isinstance(step, InstallWheels) for wheel in step.wheels)


def packed_installs(made: BuildPlan) -> tuple[PackedInstall, ...]:
    return tuple(package for step in made.steps if isinstance(step, InstallPacked) for package in step.packages)


def all_hashes(made: BuildPlan) -> tuple[str, ...]:
    """Of the wheels that the image is made of."""
    packed = (package.blob.removeprefix("sha256:") for package in packed_installs(made))
    return (*(wheel.sha256 for wheel in pinned_wheels(made)), *packed)
