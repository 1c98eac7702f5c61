"""From a build plan to everything that decides an assembled image, and to the image itself as far as it can be told without making it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from envsnap import render
from envsnap.model.base import BaseInventory
from envsnap.model.debian import DebFile
from envsnap.model.kinds import plain
from envsnap.model.layers import LayerPlan, PlannedWheel, WheelsLayer
from envsnap.model.lock import EnvLock
from envsnap.model.plan import BuildPlan, InstallPacked, InstallWheels, PackedInstall, PinnedWheel, SetEnv
from envsnap.oci.documents import digest_of
from envsnap.oci.image import BaseImage, Image, Layer, RunConfig, put_together
from envsnap.plan.layers import FORMAT, Ingredients, lay_out
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
    records: Mapping[str, Mapping[str, str]] = {},
    below: Sequence[Layer] = (),
) -> Prepared:
    """Put together what decides the image.

    Args:
        inventory, wheels, system, records: as in `Ingredients`; the wheels for all of the plan's.
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
        records=records,
        beside=render.beside(packed_installs(made), lock),
    )
    change = RunConfig(
        env={step.name: step.value for step in made.steps if isinstance(step, SetEnv)}, labels=made.labels, workdir=made.workdir
    )
    layers = lay_out(made, lock, ingredients)
    identity = _identity(made, ingredients, layers, base, below)
    return Prepared(identity=identity, base=base, layers=layers, change=change, below=tuple(below))


def _onto(base: BaseImage, below: Sequence[Layer]) -> str:
    """What names the base with the layers that an engine made on it, whoever has them: what its config was there is in no image."""
    return digest_of("\n".join((base.config.digest, *(layer.diff_id for layer in below))).encode()) if below else base.config.digest


def _identity(made: BuildPlan, ingredients: Ingredients, layers: LayerPlan, base: BaseImage, below: Sequence[Layer]) -> str:
    document = {
        "format": FORMAT,
        "steps": [plain(msgspec.structs.replace(step, reason="")) for step in made.steps],
        "run": [dict(made.labels), made.workdir],
        "base": [base.config.digest, ingredients.base, [layer.diff_id for layer in below]],
        "inventory": [ingredients.inventory.python, ingredients.inventory.python_path, plain(layers.layout)],
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


def remembered_wheels(plan: LayerPlan, cache: Path) -> set[str]:
    """Hashes of the wheels of which layers were made before: of those alone nobody will."""
    layers = zip(plan.layers, recall(plan, cache), strict=True)
    return {wheel.sha256 for layer, known in layers if known is not None and isinstance(layer, WheelsLayer) for wheel in layer.wheels}


def pinned_wheels(made: BuildPlan) -> tuple[PinnedWheel, ...]:
    return tuple(wheel for step in made.steps if isinstance(step, InstallWheels) for wheel in step.wheels)


def packed_installs(made: BuildPlan) -> tuple[PackedInstall, ...]:
    return tuple(package for step in made.steps if isinstance(step, InstallPacked) for package in step.packages)


def all_hashes(made: BuildPlan) -> tuple[str, ...]:
    """Of the wheels that the image is made of."""
    packed = (package.blob.removeprefix("sha256:") for package in packed_installs(made))
    return (*(wheel.sha256 for wheel in pinned_wheels(made)), *packed)
