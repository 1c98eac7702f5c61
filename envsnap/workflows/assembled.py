"""build without an engine: what the plan's wheels, packages and files come down to is put on the base, and sent where it was asked for."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from envsnap.blobs import BlobStore
from envsnap.engines.docker import DockerEngine
from envsnap.errors import EngineError, InputError, PlanError
from envsnap.inventory import torch
from envsnap.inventory.records import files_of_packages
from envsnap.inventory.remembered import blobs_of as blobs_of_inventory
from envsnap.model.base import BaseInventory
from envsnap.model.debian import SystemPlan
from envsnap.model.image import Foretold
from envsnap.model.layers import ShellSteps, TreeLayer
from envsnap.model.lock import EnvLock
from envsnap.model.plan import BuildPlan, ExtendBase, PinnedWheel, RemovePackages
from envsnap.oci.documents import Descriptor
from envsnap.oci.image import BaseImage, Image, Layer, put_together
from envsnap.oci.reference import with_digest
from envsnap.plan.layers import link_in_the_way
from envsnap.plan.shell import reasons, shell_steps
from envsnap.probes.wheel_ends import WheelEnds
from envsnap.probes.wheels import Wheels, pip_config
from envsnap.progress import Progress
from envsnap.publish.content import BlobSource, FirstOf, Missing, Stored
from envsnap.registry.client import Registry
from envsnap.workflows import base_images, beside_the_base, content, foretelling, inventories, places, prepare, shell, wheel_facts
from envsnap.workflows.assemble import OnLayer, Wanted, Workshop, make_layers, recall
from envsnap.workflows.byte_code import byte_code
from envsnap.workflows.plan import PlanRequest, write_context
from envsnap.workflows.prepare import Prepared
from envsnap.workflows.shell import Done
from envsnap.workflows.system import Packages
from envsnap.workflows.unknown import Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where an assembled image's parts come from.

    Attributes:
        engine: None where none answers.
        fetch: ask indexes, registries and archives for what is not at hand; without it what is missing stays unknown.
        wheels: fetch wheels, too, and make layers of them.
        offline: nobody is asked, not even for what the base's tag names.
        packages: of distributions.
        pip_conf, ca_bundle: as the options say.
    """

    registry: Registry
    engine: DockerEngine | None
    env: Mapping[str, str]
    cache: Path
    packages: Packages
    fetch: bool
    wheels: bool = True
    offline: bool = False
    pip_conf: Path | None = None
    ca_bundle: Path | None = None

    @property
    def store(self) -> BlobStore:
        """Of layers, wheels and packages."""
        return BlobStore(self.cache / "blobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the layers of a plan lie on.

    Attributes:
        machine: as the lock names it.
        base_inventory: of the base alone.
        system: what the plan's system packages come down to; None where it has none.
        shell: steps that an engine does; None where none is needed.
        done: what it made of them; None where there are none, or they are `pending`.
    """

    machine: str
    base: BaseImage
    base_inventory: BaseInventory
    system: SystemPlan | None
    shell: ShellSteps | None = None
    done: Done | None = None

    @property
    def pending(self) -> bool:
        """An engine has yet to do its steps."""
        return self.shell is not None and self.done is None

    @property
    def inventory(self) -> BaseInventory:
        """Of the base, with what an engine made on it."""
        return self.base_inventory if self.done is None else self.done.inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All that an image is made from. Attributes: pinned: those of `wheels` that indexes have."""

    ground: Ground
    prepared: Prepared
    wheels: Wheels
    pinned: tuple[PinnedWheel, ...]


def find_ground(made: BuildPlan, lock: EnvLock, sources: Sources, progress: Progress) -> Ground | Unknown:
    """What a plan's layers lie on, and which of its steps an engine does; with what that made of them, where it did them before.

    Raises:
        EngineError: something cannot be had. PlanError: the base lacks what is needed.
    """
    machine = lock.python.interpreter.machine
    base = base_images.find(made.base, machine, sources.registry if not sources.offline else None, sources.store, sources.cache)
    if isinstance(base, Unknown):
        return base
    if base.config.on_build:
        return Unknown(
            because="the base has instructions for whoever builds upon it (ONBUILD), and assembling carries none out",
            hint="--engine docker",
            for_good=True,
        )
    inventory = inventories.complete(made.base, base, sources, progress)
    if isinstance(inventory, Unknown):
        return inventory
    if (link := link_in_the_way(made, inventory)) is not None:
        return _linked(link, inventory)
    system = sources.packages.resolve(made, inventory, machine, places.image_directory(lock.name))
    if isinstance(system, Unknown):
        return system
    steps = shell_steps(made, system, base.config.digest)
    done = shell.recall(steps, sources.cache) if steps is not None else None
    return Ground(machine=machine, base=base, base_inventory=inventory, system=system, shell=steps, done=done)


def _linked(link: str, inventory: BaseInventory) -> Unknown:
    why = f"the base has /{link} as a link to /{inventory.links[link]}, and a layer would put a directory in its place"
    return Unknown(because=why, hint="--engine docker writes through it", for_good=True)


def gather(
    ground: Ground,
    made: BuildPlan,
    lock: EnvLock,
    lock_file: Path,
    sources: Sources,
    progress: Progress,
    *,
    ends: WheelEnds | None = None,
) -> Gathered | Unknown:
    """All that decides the image; wheels that were never seen here are fetched where that was asked for.

    Args:
        ground: where steps are pending, what comes of this is as if they changed nothing: good for counting, and for no image.
        ends: what was said of other wheels will do for them: something is foretold from it, and nothing may be made.

    Raises:
        EngineError: something cannot be had. PlanError: the base leaves no room.
    """
    steps, done, system = ground.shell, ground.done, ground.system
    blobs = places.blobs_of(lock_file)
    config = partial(pip_config, sys.executable, sources.pip_conf, sources.env)
    wheels = Wheels(sources.store, config, also=blobs, cache=sources.cache, offline=sources.offline, ca_bundle=sources.ca_bundle)
    pinned, hashes = prepare.pinned_wheels(made), prepare.all_hashes(made)
    unhashed = wheel_facts.unhashed(hashes, wheels, sources.cache)
    facts = unhashed | wheel_facts.find([one for one in hashes if one not in unhashed], wheels, sources.cache)
    if sources.fetch and sources.wheels and (unknown := [wheel for wheel in pinned if wheel.sha256 not in facts]):
        wheels.fetch(unknown, progress)
        facts |= wheel_facts.find([wheel.sha256 for wheel in unknown], wheels, sources.cache)
    if ends is not None:
        facts |= wheel_facts.said([one for one in hashes if one not in facts], ends)
    if missing := [one for one in hashes if one not in facts]:
        return Unknown(because=f"{len(missing)} of {len(hashes)} wheels were never seen here", hint="--fetch fetches them")
    with sources.store.mending(blobs_of_inventory(ground.inventory), "the base's inventory"):
        records = _records(made, ground, sources)
        libraries = torch.recall(ground.inventory, sources.store)
    beside_the_base.require_built_for(made, libraries, wheels)
    prepared = prepare.prepare(
        made,
        lock,
        places.copy_for_image(lock, lock_file),
        base=ground.base,
        inventory=ground.inventory,
        wheels=facts,
        system=system.packages if system is not None and (steps is None or steps.system is None) else (),
        records=records,
        below=done.layers if done is not None else (),
    )
    beside_the_base.require_apart(made, prepared.layers.layout, records, wheels, sources.cache)
    links = ground.base_inventory.links
    if (link := beside_the_base.link_in_the_way(made, prepared.layers, links, wheels, sources.cache)) is not None:
        return _linked(link, ground.base_inventory)
    if told := unhashed.keys() & prepare.remembered_wheels(prepared.layers, sources.cache):
        wheel_facts.find(told, wheels, sources.cache)
        return gather(ground, made, lock, lock_file, sources, progress, ends=ends)  # a damaged copy is gone
    return Gathered(ground=ground, prepared=prepared, wheels=wheels, pinned=pinned)


def _records(made: BuildPlan, ground: Ground, sources: Sources) -> dict[str, dict[str, str]]:
    """Whose the files of the base are, where packages are put beside its own.

    Raises:
        PlanError: one that is taken away does not say what is its.
    """
    if not any(isinstance(step, ExtendBase) for step in made.steps):
        return {}
    found = files_of_packages(ground.inventory, sources.store)
    for step in made.steps:
        for package in step.packages if isinstance(step, RemovePackages) else ():
            if not found.get(package.name):
                why = f"it has no RECORD in {made.base.name}, so that nobody knows which files are its"
                raise PlanError(f"{package.name} cannot be taken away", why=why, hint="keep it as the image has it, and capture again")
    return found


def predicted(gathered: Gathered, sources: Sources) -> Image | None:
    """The image, if all of its layers were made before."""
    found = prepare.predict(gathered.prepared, sources.cache)
    return found if isinstance(found, Image) else None


def foretell(
    ground: Ground, made: BuildPlan, lock: EnvLock, lock_file: Path, request: PlanRequest, sources: Sources, progress: Progress
) -> Image | Unknown:
    """The image of a plan, if it is known; with `sources.fetch`, the layers that nobody has made are made so that it is.

    Raises:
        as `gather` and `assemble`.
    """
    gathered = gather(ground, made, lock, lock_file, sources, progress)
    return gathered if isinstance(gathered, Unknown) else _foretell(gathered, made, lock, lock_file, request, sources, progress)


def tell(
    made: BuildPlan,
    lock: EnvLock,
    lock_file: Path,
    request: PlanRequest,
    sources: Sources,
    progress: Progress,
    *,
    otherwise: Callable[[Gathered], Foretold] | None = None,
) -> Foretold:
    """What is told of an image before it is built: as far as it is known, and which of its steps an engine does. The build is held to it.

    Args:
        otherwise: tells it where not all of its layers were made.

    Raises:
        as `find_ground` and `foretell`.
    """
    ground = find_ground(made, lock, sources, progress)
    if isinstance(ground, Unknown):
        return replace(foretold(ground), by_docker=reasons(made, None))  # those that need it whatever the rest comes down to
    by_docker = ground.shell.steps if ground.shell is not None else ()
    gathered = gather(ground, made, lock, lock_file, sources, progress, ends=WheelEnds(sources.cache))
    if isinstance(gathered, Unknown):
        return replace(foretold(gathered), by_docker=by_docker)
    if ground.pending:
        return replace(foretold(_not_before_it_is_done(gathered, sources)), by_docker=by_docker)
    told = foretold(_foretell(gathered, made, lock, lock_file, request, sources, progress))
    if told.config_digest is None and otherwise is not None:
        told = otherwise(gathered)
    if told.config_digest is not None and told.told_from:
        foretelling.keep(gathered.prepared, told.config_digest, told.told_from, sources.cache)
    return replace(told, by_docker=by_docker)


def _not_before_it_is_done(gathered: Gathered, sources: Sources) -> Unknown:
    above = recall(gathered.prepared.layers, sources.cache)
    told = f"{sum(layer is not None for layer in above)} of the {len(above)} above them are known"
    return Unknown(because=f"Docker makes its lowest layers, and no two such are the same; {told}")


def _foretell(
    gathered: Gathered, made: BuildPlan, lock: EnvLock, lock_file: Path, request: PlanRequest, sources: Sources, progress: Progress
) -> Image | Unknown:
    image = prepare.predict(gathered.prepared, sources.cache)
    if isinstance(image, Image) or not (sources.fetch and sources.wheels):
        return image
    with tempfile.TemporaryDirectory(prefix="envsnap-plan-") as scratch:
        place = Path(scratch, "context")
        context = write_context(
            lock, lock_file, made, request, cache=sources.cache, progress=progress, directory=place, offline=sources.offline
        )
        wanted: Wanted = lambda layer: "no"  # noqa: E731, ARG005
        return assemble(gathered, context.directory, lock_file, sources, wanted=wanted, on_layer=_nobody, progress=progress)


def _nobody(layer: Layer, *, made: bool) -> None:
    """Told of layers that are not sent anywhere."""


def foretold(image: Image | Unknown) -> Foretold:
    """What is told of an image before it is built."""
    if isinstance(image, Unknown):
        return Foretold(unknown_because=image.because, hint=image.hint)
    return Foretold(
        config_digest=image.config.digest,
        manifest_digest=image.manifest.digest if image.manifest is not None else None,
        told_from="layers",
        added_bytes=sum(layer.size_bytes for layer in image.layers),
        unknown_because="" if image.manifest is not None else "what the base's layers are in a registry is not known",
    )


def assemble(
    gathered: Gathered, context: Path, lock_file: Path, sources: Sources, *, wanted: Wanted, on_layer: OnLayer, progress: Progress
) -> Image:
    """The image.

    Args:
        context: the rendered files. wanted, on_layer: as `make_layers`.

    Raises:
        EngineError: it is not the image that was foretold. InputError: a wheel is not what the lock says.
    """
    prepared, ground = gathered.prepared, gathered.ground
    for layer in prepared.below:
        if wanted(layer) == "elsewhere" and sources.store.drop_damaged(layer.digest):
            what = "what the cache kept of the layers that Docker made was damaged"
            raise InputError(what, why=layer.digest[:19], hint="run it again: Docker does those steps anew")
        on_layer(layer, made=False)
    wheel = gathered.wheels.path
    kept = places.blobs_of(lock_file)
    trusted = is_trusted(gathered, sources.cache)
    with byte_code(prepared.layers, ground.inventory, wheel, sources.cache, sources.env, kept, trusted=trusted) as compiled:
        parts = content.Parts(
            context=context,
            blobs=kept,
            system=lambda layer, writer: sources.packages.write(layer, ground.inventory, ground.machine, writer),
            byte_code=compiled.write,
        )
        shop = Workshop(
            store=sources.store,
            cache=sources.cache,
            wheel=wheel,
            fetch=partial(_fetch, gathered, sources, progress),
            others=content.writers(prepared.layers, parts),
        )
        layers = make_layers(prepared.layers, shop, wanted=wanted, on_layer=on_layer, progress=progress)
    image = put_together(prepared.base, (*prepared.below, *layers), prepared.change)
    foretelling.hold(prepared, image, sources.cache)
    return image


def is_trusted(gathered: Gathered, cache: Path) -> bool:
    """Whether the image's own interpreter may be run as this user could run anything: a base without a registry is made of packages that
    its distribution signed, and the interpreter is its own where this machine took it from there itself.
    """
    prepared, ground = gathered.prepared, gathered.ground
    foreign = any(isinstance(layer, TreeLayer) for layer in prepared.layers.layers) or (ground.shell and ground.shell.explicit)
    if prepared.base.reference or foreign:
        return False
    config = ground.base.config.digest if ground.done is None else ground.done.config
    return inventories.recall(config, cache, read_here=True) == ground.inventory


def _fetch(gathered: Gathered, sources: Sources, progress: Progress, hashes: Collection[str]) -> None:
    if sources.fetch:
        gathered.wheels.fetch([wheel for wheel in gathered.pinned if wheel.sha256 in hashes], progress)


class _OfBase:
    """See `publish.content.BlobSource`: the base's layers, from its registry."""

    def __init__(self, base: BaseImage, registry: Registry) -> None:
        self._base = base
        self._registry = registry

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        return self._registry.open_blob(self._base.reference, descriptor)


class _Offline:
    """See `publish.content.BlobSource`: what is stored. Of the base's layers that are not it says how an engine gets them."""

    def __init__(self, base: BaseImage, stored: Stored) -> None:
        self._base = base
        self._stored = stored

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        try:
            yield from self._stored.open(descriptor)
        except Missing as error:
            manifest = self._base.manifest
            if manifest is None or descriptor.digest not in {layer.digest for layer in manifest.layers}:
                raise
            base = with_digest(self._base.reference, manifest.digest)
            why, hint = "offline, and its registry would be asked", f"docker pull {base}; or build without --offline"
            raise EngineError(f"the base {base} is not in the engine", why=why, hint=hint) from error


def blobs_of(base: BaseImage, sources: Sources) -> BlobSource:
    """Where an image's layers are to be had: ours are in the store; the base's in its registry, where it has one that may be asked."""
    stored = Stored(sources.store)
    if not base.reference:
        return stored
    return _Offline(base, stored) if sources.offline else FirstOf(stored, _OfBase(base, sources.registry))
