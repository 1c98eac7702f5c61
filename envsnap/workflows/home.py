"""The image that an environment lives in: NVIDIA's, whose own packages no index has as they are built there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from envsnap.catalog.images import row_of
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import EngineImage
from envsnap.model.base import InstalledDistribution, Release
from envsnap.model.catalog import Catalog
from envsnap.progress import Progress
from envsnap.workflows import inventories

BUILD = "com.nvidia.build.id"
"""Label of NVIDIA's images that names one build of one; what is built on an image has it, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Attributes: reference: by digest where a registry has given one. packages: Python's, as the image has them."""

    reference: str
    packages: tuple[InstalledDistribution, ...]


def find(image: EngineImage | None, *, engine: DockerEngine | None, catalog: Catalog, cache: Path, progress: Progress) -> Home | None:
    """Of an image, or of what a container was made of: NVIDIA's image that it is, or was built on. None for any other.

    Where the engine does not have what it was built on, for BuildKit leaves none of it there, the image is taken for its own home, and
    that is said: what its Dockerfile installed is not told from what NVIDIA did.

    Raises:
        EngineError, TargetError: the engine fails, or its Python cannot be run.
    """
    build = image.config.labels.get(BUILD) if image is not None else None
    if image is None or engine is None or build is None:
        return None
    below = {name: layers for name, layers in engine.labelled(BUILD, build).items() if image.diff_ids[: len(layers)] == layers}
    lowest_id = min(below, key=lambda name: (len(below[name]), name), default=image.image_id)
    lowest = (engine.image(lowest_id) if lowest_id != image.image_id else None) or image
    reference = _reference(lowest)
    if lowest is image and (row := row_of(reference, image.config, catalog)) is not None and not _is_called(image, row):
        name = reference.partition("@")[0]
        progress.warning(
            f"{name} says that it is NVIDIA's {row.family} {row.release}. If it was built on that, what its Dockerfile installed counts as "
            f"NVIDIA's own: docker pull {row.reference}, whose layers are here, and capture again"
        )
    progress.note(f"made in {reference.partition('@')[0]}: what that has unchanged is its own")
    return Home(reference=reference, packages=inventories.with_packages(lowest, engine=engine, cache=cache, progress=progress).packages)


def _reference(image: EngineImage) -> str:
    """The tag that was named first, with the digest under which the registry of that name knows it."""
    digests = {name: digest for name, _, digest in (one.partition("@") for one in image.repo_digests)}
    for tag in image.tags:
        if digest := digests.get(_repository(tag)):
            return f"{tag}@{digest}"
    return next(iter((*_by_digest(digests.items()), *image.tags)), image.image_id)


def _is_called(image: EngineImage, row: Release) -> bool:
    """Whether it goes by the name of NVIDIA's, or by the tag of that, as a copy in a registry of one's own does."""
    repository, _, tag = row.reference.rpartition(":")
    known = {one.partition("@")[0] for one in image.repo_digests}
    return repository in known or any(name.endswith(f":{tag}") for name in image.tags)


def _by_digest(digests: Iterable[tuple[str, str]]) -> Iterable[str]:
    return (f"{name}@{digest}" for name, digest in digests)


def _repository(tag: str) -> str:
    """Without the tag."""
    return tag.rpartition(":")[0] if ":" in tag.rpartition("/")[2] else tag
