"""An image that was put together here, run without an engine: unpacked into the cache once, then as good as a container for checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from envsnap.errors import TargetError
from envsnap.oci.documents import Descriptor
from envsnap.oci.image import Image
from envsnap.progress import Progress
from envsnap.publish.content import BlobSource, layers_of
from envsnap.rootless import roots, runtime
from envsnap.rootless.roots import Root
from envsnap.rootless.target import RootlessTarget
from envsnap.rootless.unpack import OpenLayer


def root_of(image: Image, blobs: BlobSource, *, cache: Path, progress: Progress) -> Root:
    """The image's file system: what the cache has, else unpacked from `blobs`.

    Raises:
        TargetError: nothing says what the base's layers are, or the cache cannot be written.
        InputError: a layer is damaged, or not what the image says. EngineError: a registry does not give one.
    """
    layers = []
    for layer in layers_of(image):
        if layer.blob is None:
            why = "its base was taken from an engine, and nothing says what that base's layers are"
            raise TargetError("the image cannot be unpacked here", why=why, hint="envsnap load, then verify it in that engine")
        layers.append((layer.diff_id, _opener(blobs, layer.blob)))
    return roots.unpacked(image.config, layers, cache=cache, progress=progress)


def target_for(
    image: Image,
    blobs: BlobSource,
    *,
    name: str,
    cache: Path,
    env: Mapping[str, str],
    gpus: str = "none",
    user: str | None = None,
    progress: Progress,
) -> RootlessTarget:
    """A place for guest scripts in the image.

    Args:
        name: of the image, for people.
        gpus, user: as docker's options.

    Raises:
        EngineError: nothing here can run an image. TargetError: nothing that is here can give those GPUs. As `root_of`.
    """
    found = runtime.find(env, gpus=gpus)  # before anything large is unpacked in vain
    root = root_of(image, blobs, cache=cache, progress=progress)
    return RootlessTarget(root=root, runtime=found, name=name, gpus=gpus, user=user)


def _opener(blobs: BlobSource, blob: Descriptor) -> OpenLayer:
    def opened() -> Iterator[bytes]:
        return blobs.open(blob)

    return opened
