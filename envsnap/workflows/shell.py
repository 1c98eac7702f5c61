"""The steps of a plan that only a shell can do: an engine does exactly these on the base. What it makes of them is layers like any other,
and what is assembled lies on them.

Such layers are never the same twice: scripts run, and files get the time. So they are made once, and kept by what they were made from.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import msgspec

from envsnap import render
from envsnap.blobs import BlobStore
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import BuildInputs, EngineImage
from envsnap.errors import EngineError
from envsnap.model.base import BaseInventory
from envsnap.model.kinds import Digest
from envsnap.model.layers import ShellSteps
from envsnap.model.lock import EnvLock
from envsnap.model.plan import BuildPlan
from envsnap.notes import read_note, write_note
from envsnap.oci.image import BaseImage, Layer
from envsnap.plan.shell import recipe, title
from envsnap.progress import Progress
from envsnap.storage import touch
from envsnap.workflows import by_docker, inventories
from envsnap.workflows.engine_layers import take_layers
from envsnap.workflows.system import Packages

_TAG_BYTES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an engine made of steps.

    Attributes:
        layers: those on the base, from below.
        inventory: of the base with them. config: digest by which it is remembered.
    """

    layers: tuple[Layer, ...]
    inventory: BaseInventory
    config: Digest


class _Layer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    digest: Digest
    diff_id: Digest
    size_bytes: int


class _Remembered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What steps came down to. Attributes: config: digest of the engine's image, by which its inventory is remembered."""

    config: Digest
    layers: tuple[_Layer, ...]


def recall(steps: ShellSteps, cache: Path) -> Done | None:
    """What an engine made of these steps before, with the layers' bytes in the store; None where that is not remembered, or not whole."""
    place, store = _place(steps, cache), BlobStore(cache / "blobs")
    remembered = read_note(place, _Remembered)
    for layer in remembered.layers if remembered is not None else ():
        store.touch(layer.digest)  # before it is looked for: nobody is to free it from here on
    if remembered is None or any(store.size(layer.digest) != layer.size_bytes for layer in remembered.layers):
        return None
    inventory = inventories.recall(remembered.config, cache)
    if inventory is None or not inventory.complete:
        return None
    touch(place)  # it cannot be made again as it was
    made_by = title(steps)
    layers = (Layer(digest=one.digest, diff_id=one.diff_id, size_bytes=one.size_bytes, made_by=made_by) for one in remembered.layers)
    return Done(layers=tuple(layers), inventory=inventory, config=remembered.config)


def do(
    steps: ShellSteps,
    made: BuildPlan,
    lock: EnvLock,
    base: BaseImage,
    secrets: Mapping[str, Path],
    engine: DockerEngine,
    packages: Packages,
    cache: Path,
    progress: Progress,
    *,
    tag: str,
) -> Done:
    """Have the engine do the steps, and take over what it made; `recall` has it afterwards.

    Args:
        base: of the plan. secrets: as `BuildInputs.secrets`.
        engine: one that can build. packages: those of the steps are fetched where they are not at hand.
        tag: as `named` gives it.

    Raises:
        EngineError: the engine or a step fails, or what comes out does not lie on the base.
        InputError: a package is not what its digest says. TargetError: the disk is full.
    """
    if made.base.is_made_here:
        by_docker.have_base(made.base, engine, cache, progress)
    with tempfile.TemporaryDirectory(prefix="envsnap-steps-") as scratch:
        context = Path(scratch, f"{lock.name}-steps")
        context.mkdir()
        turns = 0
        if steps.system is not None:
            turns = packages.lay_out(steps.system, lock.python.interpreter.machine, context / "debs")
        for name, data in render.render_shell(made, turns=turns, conda=bool(steps.explicit)).items():
            (context / name).write_bytes(data)
        # A package's scripts could fetch more than was planned; a client of conda has to fetch.
        network = bool(steps.explicit)
        inputs = BuildInputs(tags=(tag,), secrets=secrets, platform=by_docker.platform(lock), network=network)
        image = engine.build(context, inputs, progress)
    layers = _layers(steps, image, base, engine, cache, progress)
    name = f"{made.base.name} with what Docker made on it"
    inventory = inventories.of_engine(image.image_id, engine=engine, cache=cache, progress=progress, name=name)
    found = tuple(_Layer(digest=layer.digest, diff_id=layer.diff_id, size_bytes=layer.size_bytes) for layer in layers)
    write_note(_place(steps, cache), _Remembered(config=image.config_digest, layers=found))
    return Done(layers=layers, inventory=inventory, config=image.config_digest)


@contextlib.contextmanager
def named(lock: EnvLock, engine: DockerEngine) -> Iterator[str]:
    """A name under which the engine keeps what it makes of steps while this lasts: what is put on them lands without them being sent.

    No other build has the same name: what one lets go, the other may be reading.
    """
    tag = f"envsnap/{lock.name}:steps-{token_hex(_TAG_BYTES)}"
    try:
        yield tag
    finally:
        with contextlib.suppress(EngineError):
            engine.untag(tag)


def _layers(
    steps: ShellSteps, image: EngineImage, base: BaseImage, engine: DockerEngine, cache: Path, progress: Progress
) -> tuple[Layer, ...]:
    below = base.config.diff_ids
    if image.diff_ids[: len(below)] != below:
        why = "its lowest layers are not the base's: the engine has another image under the base's digest"
        raise EngineError("cannot assemble upon what the engine made", why=why, hint="--engine docker builds the whole image")
    wanted = image.diff_ids[len(below) :]
    others = (*below, *(layer.digest for layer in base.manifest.layers)) if base.manifest is not None else below
    with progress.task("take over what the engine made", total=image.size_bytes, unit="bytes") as task:
        saved = engine.save(image.image_id)
        store = BlobStore(cache / "blobs")
        found = take_layers(saved, wanted, others, made_by=title(steps), store=store, scratch=cache, task=task)
    return tuple(found[diff_id] for diff_id in wanted)


def _place(steps: ShellSteps, cache: Path) -> Path:
    """Beside what is remembered of other layers, so that it is forgotten with them."""
    return cache / "layers" / f"{recipe(steps)}.json"
