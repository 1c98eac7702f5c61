"""Getting an image that was put together into an engine: only the layers that it lacks, and the names when it is seen to be there."""

from __future__ import annotations

from collections.abc import Sequence

from envsnap.engines.interface import Engine, EngineImage
from envsnap.engines.loading import NotTaken
from envsnap.errors import InputError
from envsnap.oci.image import Image
from envsnap.progress import Progress, counted
from envsnap.publish import write
from envsnap.publish.content import BlobSource
from envsnap.publish.layout import contents


def land(image: Image, tags: Sequence[str], engine: Engine, source: BlobSource, progress: Progress) -> EngineImage:
    """Have an image in the engine's store, under all of `tags`.

    Args:
        source: gives the layers, those of the base where the engine lacks them.

    Raises:
        EngineError: the engine cannot be reached, or does not have the image afterwards; no name is set then.
        InputError: a layer cannot be had.
    """
    found = engine.find(image) or _send(image, engine, source, progress)
    for tag in tags:
        engine.tag(found.image_id, tag)
    return engine.find(image) or found


def _send(image: Image, engine: Engine, source: BlobSource, progress: Progress) -> EngineImage:
    there = engine.layers_there(image)
    try:
        return _load(image, engine, source, progress, without=there)
    except NotTaken as refused:
        if not there:
            raise
        progress.detail(f"the engine did not take the new layers alone ({refused.why}): sending all")
        try:
            return _load(image, engine, source, progress, without=0)
        except InputError as error:
            raise refused from error


def _load(image: Image, engine: Engine, source: BlobSource, progress: Progress, *, without: int) -> EngineImage:
    files = contents(image, without=without, docker=True)
    with progress.task("load into the engine", total=files.size_bytes, unit="bytes") as task:
        return engine.load(image, counted(write.stream(files, source), task))
