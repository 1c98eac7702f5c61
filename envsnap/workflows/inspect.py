"""bases: what is known of base images, making it known, and handing it on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from envsnap import catalog
from envsnap.errors import EngineError
from envsnap.inventory import remembered
from envsnap.model.base import Inspected, Release, Remembered
from envsnap.oci.documents import DIGEST
from envsnap.oci.image import BaseImage
from envsnap.oci.reference import with_digest
from envsnap.progress import Progress
from envsnap.workflows import bases, inventories
from envsnap.workflows.transfer import Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Attributes: releases: of the catalogue. inventories: all that are remembered here."""

    releases: tuple[Release, ...]
    inventories: tuple[Remembered, ...]


def listed(cache: Path) -> Listed:
    """What is known without asking anybody."""
    return Listed(releases=catalog.load().releases, inventories=tuple(remembered.all_of(cache)))


def inspect(reference: str, places: Places, progress: Progress, *, deep: bool) -> Inspected:
    """What is known of an image; the engine is asked first, for what it has is here.

    Args:
        deep: read all that is in it, unless that was done before.

    Raises:
        EngineError: neither the engine nor a registry has it. InputError: a layer is refused.
    """
    release = catalog.load().release_of(reference.partition("@")[0])
    image = places.engine.image(reference) if places.engine.abilities()[0].state == "ok" else None
    if image is not None:
        there = inventories.enough(reference, image, engine=places.engine, cache=places.cache)
        if deep and not there.complete:
            there = inventories.of_engine(reference, engine=places.engine, cache=places.cache, progress=progress)
        return Inspected(
            reference=reference,
            digest=bases.digest_at(image, reference),
            config_digest=image.config_digest,
            config=image.config,
            release=release,
            inventory=there,
        )
    found = places.registry.resolve(reference, machine=places.machine)
    inventory = inventories.known(found.config_digest, places.cache)
    if deep and (inventory is None or not inventory.complete):
        manifest, config = places.registry.image(with_digest(reference, found.manifest_digest), machine=places.machine)
        whole = BaseImage(config=config, manifest=manifest, reference=reference)
        inventory = inventories.of_registry(whole, registry=places.registry, cache=places.cache, progress=progress)
    return Inspected(
        reference=reference,
        digest=found.digest,
        config_digest=found.config_digest,
        config=found.config,
        release=release,
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
