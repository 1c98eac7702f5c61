"""What is known of a base image: asked of the engine that has it, else of its registry; remembered by digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from envsnap.blobs import BlobStore
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import EngineImage
from envsnap.errors import EngineError, InputError
from envsnap.model.base import Base, BaseInventory, Release
from envsnap.model.plan import BuildPlan
from envsnap.oci.reference import parse_reference, same_repository, with_digest
from envsnap.progress import Progress
from envsnap.registry.client import Registry, image_config
from envsnap.workflows import base_images, inventories, places
from envsnap.workflows.system import Packages
from envsnap.workflows.unknown import Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where knowledge of bases comes from.

    Attributes:
        engine: None when none answers; then only registries and remembered inventories speak.
        registry: asked for digests and configs; never for layers.
        cache: inventories are kept below it, by digest.
        pinned: reference -> digest that an earlier plan resolved it to.
        pull: bring the base into the engine when it is not there: a build needs it anyway.
        refresh: what the tag names now, whatever an earlier plan or the engine's copy says.
        offline: no registry is asked; what is remembered of an image speaks for it.
        fetch: read what is in the base that is best, layers and all, where that was never done.
        packages: of distributions, for bases that are made of them; pins: directory where what they came down to is kept.
    """

    engine: DockerEngine | None
    registry: Registry
    cache: Path
    pinned: dict[str, str]
    machine: str
    pull: bool = False
    refresh: bool = False
    offline: bool = False
    fetch: bool = False
    packages: Packages
    pins: Path


def know(reference: str, family: str, release: Release | None, sources: Sources, progress: Progress) -> Base:
    """All that can be known of one base without guessing; what cannot is said in `unknown_because`.

    Raises:
        EngineError: a base of which the catalogue knows nothing cannot be had, or one that was to be refreshed cannot be looked up.
    """
    digest = sources.pinned.get(reference) or parse_reference(reference).digest or None
    if family == "debian":
        return sources.packages.base(Base(reference=reference, family=family, digest=digest), sources.machine, sources.pins)
    if sources.refresh:
        digest = sources.registry.resolve(reference, machine=sources.machine).digest
    named = with_digest(reference, digest) if digest else reference
    image = _in_engine(named, reference, sources, progress)
    if image is not None:
        repo_digest = digest_at(image, reference)
        return Base(
            reference=reference,
            family=family,
            digest=digest or repo_digest,
            image_id=None if digest or repo_digest else image.image_id,
            release=release,
            config=image.config,
            in_engine=True,
            inventory=_inventory(image, named, sources),
        )
    base = Base(reference=reference, family=family, digest=digest, release=release)
    remembered = _recall(base, sources)
    if isinstance(remembered, Base):
        return remembered
    if sources.offline:
        if family == "other":
            hint = "once without --offline, then it is kept; what is kept can be named by its digest: --base NAME@sha256:…"
            raise EngineError(f"cannot look up {reference} offline", why=remembered.because, hint=hint)
        return replace(base, unknown_because=f"offline, and {remembered.because}")
    try:
        found = sources.registry.resolve(named, machine=sources.machine)
    except EngineError as error:
        if family == "other":  # nobody but its registry knows it: that it cannot be had is the answer, not a gap in what is known
            raise
        why = f"{error.what}: {error.why}" if error.why else error.what
        return replace(base, unknown_because=why)
    inventory = inventories.recall(found.config_digest, sources.cache)
    return replace(base, digest=digest or found.digest, config=found.config, inventory=inventory)


def _recall(base: Base, sources: Sources) -> Base | Unknown:
    """What is remembered of a base from earlier builds: what has its digest is what it was."""
    if base.digest is None:
        return Unknown(because="which image that names was never pinned here")
    found = base_images.find(base, sources.machine, None, BlobStore(sources.cache / "blobs"), sources.cache)
    if isinstance(found, Unknown):
        return found
    size = sum(layer.size for layer in found.manifest.layers) if found.manifest is not None else None
    inventory = inventories.recall(found.config.digest, sources.cache)
    return replace(base, config=image_config(found.config, size), inventory=inventory)


def pins(place: Path) -> dict[str, str]:
    """The digests that the plan kept in `place` resolved its base to; empty without one.

    Raises:
        InputError: it cannot be read: what it pins must not move unseen.
    """
    path = place / "plan.yaml"
    try:
        kept = places.read_kept(path, BuildPlan)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        hint = "restore it from version control; or --refresh-base --base REF, which pins anew"
        raise InputError(f"cannot read {path}", why=str(error).partition("\n")[0], hint=hint) from error
    return {kept.base.reference: kept.base.digest} if kept.base.digest else {}


def _in_engine(named: str, reference: str, sources: Sources, progress: Progress) -> EngineImage | None:
    engine = sources.engine
    if engine is None:
        return None
    image = engine.image(named)
    if image is None and sources.pull:
        # An image that only this engine has cannot be pulled, and need not be.
        image = engine.image(reference) if named == reference else None
        return image or engine.pull(named, progress)
    return image


def digest_at(image: EngineImage, reference: str) -> str | None:
    """The digest under which the registry of `reference` knows it, not another one's."""
    known = (one.partition("@") for one in image.repo_digests)
    return next((digest for name, _, digest in known if same_repository(name, reference)), None)


def _inventory(image: EngineImage, named: str, sources: Sources) -> BaseInventory | None:
    if sources.engine is None:
        return inventories.recall(image.config_digest, sources.cache)
    return inventories.enough(named, image, engine=sources.engine, cache=sources.cache)
