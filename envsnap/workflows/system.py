"""The distribution's packages: what a plan's libraries come down to, and what a base is made of where it is made of nothing else.

Archives move, an image does not: what was resolved once is kept as `images/NAME/packages.yaml`, until `--refresh-base`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from envsnap.blobs import BlobStore
from envsnap.debian import base as minimal
from envsnap.debian import layer as packages
from envsnap.debian import order, system
from envsnap.debian.archive import Archive, Settings
from envsnap.errors import EngineError, InputError
from envsnap.inventory.read import LayerSource, read_inventory
from envsnap.inventory.remembered import blobs_of, remember
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import Base, BaseInventory, ImageConfig
from envsnap.model.debian import DebFile, SystemPlan
from envsnap.model.kinds import ARCHITECTURES
from envsnap.model.layers import SystemLayer, SystemPins
from envsnap.model.plan import AptInstall, BuildPlan
from envsnap.oci.image import Image, scratch
from envsnap.progress import Progress
from envsnap.registry.client import image_config
from envsnap.storage import write_file
from envsnap.workflows import base_images, inventories, local, places
from envsnap.workflows.unknown import Unknown

PINS = "packages.yaml"
_INVENTORY = "the base's inventory"


def kept(directory: Path) -> SystemPins:
    """What was resolved for an image before; nothing where there is no such file.

    Raises:
        InputError: it cannot be read: what it pins must not move unseen.
    """
    place = directory / PINS
    try:
        return places.read_kept(place, SystemPins)
    except FileNotFoundError:
        return SystemPins()
    except (OSError, ValueError) as error:
        hint = "restore it; or remove it, and the packages are resolved anew"
        raise InputError(f"cannot read {place}", why=str(error), hint=hint) from error


def kept_for(made: BuildPlan, directory: Path) -> SystemPins:
    """Of what is kept, what is in the image of this plan: what an earlier one came down to, on another base, may lie there, too."""
    pins = kept(directory)
    installs = any(isinstance(step, AptInstall) for step in made.steps)
    return replace(pins, plan=pins.plan if installs else None, base=pins.base if made.base.is_made_here else None)


def keep(directory: Path, pins: SystemPins) -> None:
    """Keep what was resolved. Raises TargetError: the place cannot be written."""
    if pins != kept(directory):
        write_file(directory / PINS, msgspec.yaml.encode(pins))


def resolved(step: AptInstall, base: BaseInventory | None, directory: Path) -> SystemPlan | None:
    """What system packages came down to on a base before; None where that was never looked up. Raises as `kept`."""
    pins = kept(directory)
    same = base is not None and (pins.wanted, pins.captured, pins.onto) == (step.packages, step.captured, base.dpkg_status)
    return pins.plan if same else None


class Packages:
    """The packages of a distribution as they are asked for.

    Args:
        settings: where archives are. fetch: ask them; without it only what is kept is known.
        refresh: what was resolved before does not count.
        vendored: packages that are kept beside the lock, for when no mirror has them any more.
    """

    def __init__(
        self, settings: Settings, cache: Path, *, fetch: bool, refresh: bool, progress: Progress, vendored: BlobStore | None = None
    ) -> None:
        self._settings = settings
        self._vendored = vendored
        self._cache = cache
        self._store = BlobStore(cache / "blobs")
        self._fetch = fetch
        self._refresh = refresh
        self._progress = progress

    def _archive(self, distribution: str, machine: str) -> Archive:
        return Archive(distribution, ARCHITECTURES[machine], self._cache, self._settings, self._progress)

    # Those on top of a base

    def resolve(self, made: BuildPlan, inventory: BaseInventory, machine: str, directory: Path) -> SystemPlan | Unknown | None:
        """What the plan's system packages come down to on its base; None where it has none.

        Raises:
            PlanError: one cannot be had. EngineError, InputError: an archive fails, or sends what is not signed.
        """
        step = next((step for step in made.steps if isinstance(step, AptInstall)), None)
        if step is None:
            return None
        if inventory.dpkg_status is None:
            return Unknown(because="the base has no dpkg, and its packages are another system's", hint="--engine docker", for_good=True)
        plan = resolved(step, inventory, directory)
        if plan is not None and not self._refresh:
            return plan
        if not self._fetch:
            return Unknown(because="what its system packages come down to was never looked up", hint="--fetch-base asks the distribution")
        archive = self._archive(inventory.distribution, machine)
        with self._store.mending(blobs_of(inventory), _INVENTORY):
            status = self._store.read(inventory.dpkg_status)
        plan = system.plan(archive, step.packages, step.captured, status)
        keep(directory, replace(kept(directory), wanted=step.packages, captured=step.captured, onto=inventory.dpkg_status, plan=plan))
        return plan

    def write(self, layer: SystemLayer, inventory: BaseInventory, machine: str, writer: LayerWriter) -> None:
        """Write packages into a layer. Raises as `debian.layer.write`, and EngineError: one cannot be fetched any more."""
        archive = self._archive(inventory.distribution, machine)
        self._have(layer.packages, archive)
        with self._store.mending(blobs_of(inventory), _INVENTORY):
            packages.write(layer.packages, archive.open, inventory, self._store, writer, arch=archive.arch)

    def lay_out(self, plan: SystemPlan, machine: str, directory: Path) -> int:
        """Put packages below a directory as an engine installs them: `dpkg --install` of all in "1", then of all in "2", …; returns how
        many such turns there are. Raises as `write`.
        """
        archive = self._archive(plan.distribution, machine)
        self._have(plan.packages, archive)
        turns = order.turns(plan.packages, archive.open)
        for number, files in enumerate(turns, 1):
            for file in files:
                self._store.copy_to(file.digest, directory / str(number) / f"{file.name}_{file.arch}.deb")
        return len(turns)

    # Those that a base is made of

    def base(self, base: Base, machine: str, directory: Path) -> Base:
        """A base that is made of packages alone: made, where that was not done before, and known in full.

        Raises:
            as `resolve`; EngineError: its packages give another base than the one that the plan names.
        """
        pins = kept(directory)
        plan = pins.base if not self._refresh else None
        archive = self._archive(base.reference, machine)
        if plan is None or (plan.distribution, plan.arch) != (archive.distribution.name, archive.arch):
            if not self._fetch:
                return replace(base, unknown_because="its packages were never looked up")
            plan = minimal.resolve_now(archive)
            keep(directory, replace(pins, base=plan))
        image = self._base_image(plan, archive)
        if image is None:
            return replace(base, unknown_because="it was never made from its packages here")
        assert image.manifest is not None
        if base.digest not in (None, image.manifest.digest) and not self._refresh:
            raise EngineError(
                f"the packages of {base.reference} make another base than the plan's",
                why=f"{image.manifest.digest[:19]}, and the plan in {directory} names {str(base.digest)[:19]}",
                hint="--refresh-base takes it as it is now",
            )
        config = image_config(image.config, sum(layer.size for layer in image.manifest.layers))
        base_images.remember(image.manifest, image.config, machine, self._store, self._cache)
        return replace(base, digest=image.manifest.digest, config=config, inventory=self._inventory(base.reference, image, config))

    def _base_image(self, plan: SystemPlan, archive: Archive) -> Image | None:
        """The base, as it was made before or made now; None where it was not, and nothing may be fetched."""
        pinned = hashlib.sha256(msgspec.json.encode(plan)).hexdigest()
        name = f"envsnap/debian:{archive.distribution.codename}-{pinned[:12]}"
        known = local.find(name, self._cache)
        # Whoever takes their bytes finds out whether they are damaged otherwise than cut off: that drops them.
        if known is not None and all(self._store.size(layer.digest) == layer.size_bytes for layer in known.layers):
            return known
        if not self._fetch and not all(self._is_at_hand(file) for file in plan.packages):
            return None
        self._have(plan.packages, archive)
        with self._progress.task(f"put {archive.distribution.name}'s packages together"):
            made = minimal.build(plan, archive.open, self._store)
        image = Image(
            config=made.image.config, manifest=made.image.manifest, base=scratch(made.image.config.architecture), layers=(made.layer,)
        )
        if known is not None and known.config.digest != image.config.digest:
            raise EngineError(f"{name} is not what it was", why="the same packages gave another base", hint="please report it")
        local.remember(image, [name], self._cache, place="here")
        return image

    def _is_at_hand(self, file: DebFile) -> bool:
        return self._store.has_whole(file.digest) or self._is_vendored(file)

    def _is_vendored(self, file: DebFile) -> bool:
        return self._vendored is not None and self._vendored.has(file.digest)

    def _have(self, files: Sequence[DebFile], archive: Archive) -> None:
        for file in files:
            if self._vendored is not None and self._is_vendored(file) and not self._store.has_whole(file.digest):
                self._store.adopt(self._vendored, file.digest)
        archive.fetch(files)

    def vendor(self, made: BuildPlan, directory: Path, machine: str) -> int:
        """Keep the packages that an image was resolved to beside its lock; returns how many they are.

        Raises:
            EngineError: one cannot be fetched any more. TargetError: the place cannot be written.
        """
        pins = kept_for(made, directory)
        plans = [plan for plan in (pins.base, pins.plan) if plan is not None]
        for plan in plans:
            self._have(plan.packages, self._archive(plan.distribution, machine))
            for file in plan.packages:
                assert self._vendored is not None
                self._vendored.adopt(self._store, file.digest)
        return sum(len(plan.packages) for plan in plans)

    def _inventory(self, reference: str, image: Image, config: ImageConfig) -> BaseInventory:
        """Read from the base itself, which is at hand: its interpreter is run, and anybody can name the digest of its config."""
        if (known := inventories.recall(image.config.digest, self._cache, read_here=True)) is not None and known.complete:
            return known
        layer = image.layers[0]
        source = LayerSource(name=f"the layer of {reference}", diff_id=layer.diff_id, open=lambda: self._store.pieces(layer.digest))
        with self._store.mending([layer.digest], reference):
            read = read_inventory(reference, [source], config, blobs=self._store, scratch=self._cache, progress=self._progress)
        return remember(read, config=image.config.digest, reference=reference, cache=self._cache).inventory
