"""The image that an environment lives in: NVIDIA's, whose own packages no index has as they are built there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import EngineImage
from envsnap.model.base import InstalledDistribution
from envsnap.progress import Progress
from envsnap.workflows import inventories

BUILD = "com.nvidia.build.id"
"""Label of NVIDIA's images that names one build of one; what is built on an image has it, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Attributes: reference: by digest where a registry has given one. packages: Python's, as the image has them."""

    reference: str
    packages: tuple[InstalledDistribution, ...]


def find(image: EngineImage | None, *, engine: DockerEngine | None, cache: Path, progress: Progress) -> Home | None:
    """Of an image, or of what a container was made of: NVIDIA's image that it is, or was built on. None for any other.

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
    progress.note(f"made in {reference.partition('@')[0]}: what that has unchanged is its own")
    return Home(reference=reference, packages=inventories.with_packages(lowest, engine=engine, cache=cache, progress=progress).packages)


def _reference(image: EngineImage) -> str:
    """The tag that was named first, with the digest under which the registry of that name knows it."""
    digests = {name: digest for name, _, digest in (one.partition("@") for one in image.repo_digests)}
    for tag in image.tags:
        if digest := digests.get(_repository(tag)):
            return f"{tag}@{digest}"
    return next(iter((*_by_digest(digests.items()), *image.tags)), image.image_id)


def _by_digest(digests: Iterable[tuple[str, str]]) -> Iterable[str]:
    return (f"{name}@{digest}" for name, digest in digests)


def _repository(tag: str) -> str:
    """Without the tag."""
    return tag.rpartition(":")[0] if ":" in tag.rpartition("/")[2] else tag
