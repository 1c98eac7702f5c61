"""bases: what is known of base images, making it known, and handing it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envsnap import catalog, plan
from envsnap.catalog import images
from envsnap.errors import EngineError, UsageError
from envsnap.inventory import remembered
from envsnap.model.base import BaseInventory, Family, ImageConfig, Inspected, Release, Remembered
from envsnap.model.catalog import TorchWheel
from envsnap.model.kinds import Digest
from envsnap.oci.digest import DIGEST
from envsnap.oci.image import BaseImage, Image
from envsnap.oci.reference import is_id, parse_reference, with_digest
from envsnap.progress import Progress
from envsnap.registry.client import image_config
from envsnap.workflows import bases, inventories, local
from envsnap.workflows.transfer import Places, source_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Attributes:
    releases, torch_wheels: of the catalogue.
    inventories: all that are remembered here.
    floors: reference of a release -> the oldest driver for it, as a plan has it.
    """

    releases: tuple[Release, ...]
    torch_wheels: tuple[TorchWheel, ...]
    inventories: tuple[Remembered, ...]
    floors: Mapping[str, str]


def listed(cache: Path, family: Family | None = None) -> Listed:
    """What is known without asking anybody; torch's wheels go with the family of PyTorch."""
    known = catalog.load()
    releases = known.of_family(family) if family is not None else known.releases
    return Listed(
        releases=releases,
        torch_wheels=known.torch_wheels.wheels if family in (None, "pytorch") else (),
        inventories=tuple(remembered.all_of(cache)),
        floors={one.reference: floor for one in releases if (floor := plan.release_floor(one, known)) is not None},
    )


def rows(word: str, family: Family | None = None) -> tuple[Release, ...]:
    """The catalogue's rows that a reference, a tag or a release names.

    Raises:
        UsageError: none is called so.
    """
    found = tuple(row for row in catalog.load().named(word) if family in (None, row.family))
    if not found:
        raise UsageError(f"the catalogue has no {word}", hint=f"envsnap bases list   shows what it has;   envsnap bases inspect {word}")
    return found


def inspect(reference: str, places: Places, progress: Progress, *, deep: bool) -> Inspected:
    """What is known of an image.

    A base that is made here is told as it was made here. Of others the engine is asked first, for what it has is here, then envsnap's own
    store (`local.here`), and then a registry.

    Args:
        deep: read all that is in it, unless that was done before.

    Raises:
        EngineError: nobody has it, or it is a base that was never made here. InputError: a layer is refused. UsageError: it is no name.
    """
    if not is_id(reference):
        parse_reference(reference)
    if (made := _base_made_here(reference, places.cache)) is not None:
        return _stored(made, reference, places, progress, deep=deep)
    image = places.engine.image(reference) if places.engine.is_there() else None
    if image is not None:
        there = inventories.enough(reference, image, engine=places.engine, cache=places.cache)
        if deep and not there.complete:
            there = inventories.of_engine(reference, engine=places.engine, cache=places.cache, progress=progress)
        return _inspected(
            reference,
            digest=bases.digest_at(image, reference),
            config_digest=image.config_digest,
            config=image.config,
            inventory=there,
        )
    if (stored := local.here(reference, places.registry, places.cache)) is not None:
        return _stored(stored, reference, places, progress, deep=deep)
    found = places.registry.resolve(reference, machine=places.machine)
    inventory = inventories.recall(found.config_digest, places.cache)
    if deep and (inventory is None or not inventory.complete):
        manifest, config = places.registry.image(with_digest(reference, found.manifest_digest), machine=places.machine)
        whole = BaseImage(config=config, manifest=manifest, reference=reference)
        inventory = inventories.of_registry(whole, registry=places.registry, cache=places.cache, progress=progress)
    return _inspected(
        reference,
        digest=found.digest,
        config_digest=found.config_digest,
        config=found.config,
        inventory=inventory,
        machines=found.machines,
    )


def _inspected(
    reference: str,
    *,
    digest: Digest | None,
    config_digest: Digest,
    config: ImageConfig,
    inventory: BaseInventory | None,
    machines: tuple[str, ...] | None = None,
) -> Inspected:
    """With the catalogue's row. Args: machines: as of `images.statements`."""
    row = images.row_of(reference.partition("@")[0], config, catalog.load())
    is_nvidias = row is not None or images.called(config) is not None
    return Inspected(
        reference=reference,
        digest=digest,
        config_digest=config_digest,
        config=config,
        release=row,
        statements=images.statements(config, machines, row) if is_nvidias else (),
        inventory=inventory,
    )


def _base_made_here(name: str, cache: Path) -> Image | None:
    """The base of that name that was last made of its distribution's packages; None where no such base is called so ("debian:bookworm" is).

    Raises:
        EngineError: it was never made here.
    """
    if name not in catalog.load().assembled:
        return None
    found = local.latest(f"envsnap/{name}-", cache)  # as `system.Packages` names them
    if found is None:
        raise EngineError(
            f"the base {name} was never made here",
            why="it is put together of its distribution's packages: no registry is asked for it",
            hint=f"envsnap plan LOCK --base {name} --fetch   makes it",
        )
    return found


def _stored(image: Image, reference: str, places: Places, progress: Progress, *, deep: bool) -> Inspected:
    """Of what envsnap's own store has."""
    manifest, config = image.manifest, image.config
    inventory = inventories.recall(config.digest, places.cache)
    if deep and manifest is not None and (inventory is None or not inventory.complete):
        whole = BaseImage(config=config, manifest=manifest, reference=reference)
        source = source_of(image, places.cache, places.registry)
        inventory = inventories.of_layers(whole, source.open, cache=places.cache, progress=progress)
    return _inspected(
        reference,
        digest=manifest.digest if manifest is not None else None,
        config_digest=config.digest,
        config=image_config(config, sum(layer.size for layer in manifest.layers) if manifest is not None else None),
        inventory=inventory,
    )


def export(reference: str, file: Path, places: Places, progress: Progress) -> Remembered:
    """Write all that is in an image to a file that others can import; it is read first where it is not known.

    Args:
        reference: or the digest of a config, for what is remembered here.

    Raises:
        as `inspect`; TargetError: the disk is full.
    """
    config = reference
    if not DIGEST.match(reference):
        config = inspect(reference, places, progress, deep=True).config_digest
    found = remembered.recall(config, places.cache)
    if found is None or not found.inventory.complete:
        raise EngineError(f"nothing is known of {reference}", hint="envsnap bases export REF FILE reads an image by its name")
    remembered.export(found, places.cache, file)
    return found


def load(file: Path, cache: Path) -> Remembered:
    """Take over what `export` wrote; raises as `remembered.load`."""
    return remembered.load(file, cache)
