"""What is in a base image: remembered by its config's digest, else read from the engine that has it or from its registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from envsnap.blobs import BlobStore
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import Engine, EngineImage
from envsnap.errors import EngineError
from envsnap.inventory import remembered
from envsnap.inventory.read import LayerSource, read_inventory
from envsnap.lockfile.explain import misfit
from envsnap.model.base import Base, BaseInventory, ImageConfig, InstalledDistribution
from envsnap.model.facts import Distribution
from envsnap.model.kinds import PackageName, RelativePath, Version
from envsnap.oci.documents import Descriptor
from envsnap.oci.image import BaseImage
from envsnap.probes import interpreter
from envsnap.progress import Progress, counted
from envsnap.registry.client import Registry, image_config
from envsnap.workflows.unknown import Unknown


class Sources(Protocol):
    """Where an inventory may come from. Attributes: engine: None where none answers; fetch, offline: as of `assembled.Sources`."""

    @property
    def engine(self) -> Engine | None: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def cache(self) -> Path: ...
    @property
    def fetch(self) -> bool: ...
    @property
    def offline(self) -> bool: ...


def recall(config: str, cache: Path, *, read_here: bool = False) -> BaseInventory | None:
    """What is remembered of the image with that config; it may not be complete. Its blobs count as used just now.

    Args:
        read_here: what was imported does not count.
    """
    found = remembered.recall(config, cache)
    if found is None or (read_here and not found.read_here):
        return None
    for digest in remembered.blobs_of(found.inventory):
        BlobStore(cache / "blobs").touch(digest)
    return found.inventory


def enough(reference: str, image: EngineImage, *, engine: Engine, cache: Path) -> BaseInventory:
    """What a plan needs to know of an image that the engine has.

    A shell in it tells that in a second; reading all files of 20 GB is for when an image is put together from layers (`complete`).

    Raises:
        EngineError: it has no shell, or the engine fails.
    """
    found = recall(image.config_digest, cache)
    if found is None:
        made = engine.inventory(reference)
        found = remembered.remember(made, config=image.config_digest, reference=reference, cache=cache).inventory
    return found


def with_packages(image: EngineImage, *, engine: DockerEngine, cache: Path, progress: Progress) -> BaseInventory:
    """`enough`, and the Python packages that an image of the engine has, as the collector of a capture finds them there.

    Raises:
        EngineError: it has no shell, or the engine fails. TargetError: it has no Python that can be run.
    """
    name = next(iter(image.tags), image.image_id)
    found = enough(image.image_id, image, engine=engine, cache=cache)
    if found.packages or found.complete:
        return found
    target = engine.target(image.image_id, python="python3")
    facts = interpreter.collect(target, framework=False, imports=False, integrity=False, progress=progress)
    packages, unowned = tuple(_installed(facts.distributions)), tuple(path.lstrip("/") for path in facts.unowned)
    made = msgspec.structs.replace(found, packages=packages, unowned=tuple(path for path in unowned if not misfit(path, RelativePath)))
    return remembered.remember(made, config=image.config_digest, reference=name, cache=cache).inventory


def _installed(distributions: Iterable[Distribution]) -> Iterator[InstalledDistribution]:
    """The first of each name, sorted; what no lock can hold is left out there, too."""
    first: dict[str, Distribution] = {}
    for one in distributions:
        if one.name not in first and not misfit(one.name, PackageName) and not misfit(one.version, Version):
            first[one.name] = one
    for name in sorted(first):
        yield InstalledDistribution(name=name, version=first[name].version, site=first[name].location.lstrip("/"), files=first[name].files)


def complete(base: Base, image: BaseImage, sources: Sources, progress: Progress) -> BaseInventory | Unknown:
    """All that is in a base. It is read once: from the engine where that has it, for it is here, else from its registry.

    Raises:
        EngineError: the engine or the registry fails, or has other layers than the config says. InputError: a layer is refused.
    """
    found = recall(image.config.digest, sources.cache)
    if found is not None and found.complete:
        return found
    if not sources.fetch:
        return Unknown(because="what is in the base was never read", hint=f"envsnap bases inspect {base.pinned} --deep reads it once")
    if sources.engine is not None and base.in_engine:
        here = sources.engine.image(base.pinned) or sources.engine.image(base.reference)
        if here is not None and here.config_digest == image.config.digest:
            return of_engine(here.image_id, engine=sources.engine, cache=sources.cache, progress=progress, name=base.name)
    if sources.offline or image.manifest is None:
        return Unknown(because="what is in the base was never read, and its registry is not asked", hint="envsnap bases import FILE")
    return of_registry(image, registry=sources.registry, cache=sources.cache, progress=progress)


def of_registry(image: BaseImage, *, registry: Registry, cache: Path, progress: Progress) -> BaseInventory:
    """Read an image's layers as they come from its registry, and keep none of them.

    Args:
        image: with a manifest, and a reference that says where its layers are.

    Raises:
        EngineError: the registry fails, or has other layers than the config says. InputError: a layer is refused.
    """
    return of_layers(image, lambda layer: registry.open_blob(image.reference, layer), cache=cache, progress=progress)


def of_layers(image: BaseImage, open_layer: Callable[[Descriptor], Iterator[bytes]], *, cache: Path, progress: Progress) -> BaseInventory:
    """Read an image's layers; raises as `of_registry`.

    Args:
        image: with a manifest. open_layer: gives their bytes, held against their digests.
    """
    manifest, config = image.manifest, image.config
    assert manifest is not None
    if len(manifest.layers) != len(config.diff_ids):
        raise EngineError(
            f"cannot read what is in {image.reference}",
            why=f"its manifest has {len(manifest.layers)} layers, and its config names {len(config.diff_ids)}",
        )
    name = image.reference.partition("@")[0]
    total = sum(layer.size for layer in manifest.layers)
    with progress.task(f"read what is in {name}", total=total, unit="bytes") as task:
        layers = [
            LayerSource(
                name=f"layer {number} of {len(manifest.layers)} of {name}",
                diff_id=diff_id,
                open=lambda layer=layer: counted(open_layer(layer), task),  # type: ignore[misc]
            )
            for number, (layer, diff_id) in enumerate(zip(manifest.layers, config.diff_ids, strict=True), 1)
        ]
        inventory = _read(name, layers, image_config(config, total), cache, progress)
    return remembered.remember(inventory, config=config.digest, reference=name, cache=cache).inventory


def of_engine(reference: str, *, engine: Engine, cache: Path, progress: Progress, name: str = "") -> BaseInventory:
    """Read all files of an image that the engine has, in one pass.

    Args:
        reference: name or ID. name: for people, where the reference is an ID.

    Raises:
        EngineError: the engine fails, or does not have it.
    """
    image = engine.image(reference)
    if image is None:
        raise EngineError(f"cannot read what is in {reference}", why="the engine does not have it", hint=f"docker pull {reference}")
    name = name or reference.partition("@")[0]

    def files() -> Iterator[bytes]:
        with engine.files(image.image_id) as pieces:
            yield from pieces

    with progress.task(f"read what is in {name}", total=image.size_bytes, unit="bytes") as task:
        layer = LayerSource(name=f"what the engine has as {name}", diff_id=None, open=lambda: counted(files(), task))
        inventory = _read(name, [layer], image.config, cache, progress)
    return remembered.remember(inventory, config=image.config_digest, reference=name, cache=cache).inventory


def _read(name: str, layers: Iterable[LayerSource], config: ImageConfig, cache: Path, progress: Progress) -> BaseInventory:
    return read_inventory(name, layers, config, blobs=BlobStore(cache / "blobs"), scratch=cache, progress=progress)
