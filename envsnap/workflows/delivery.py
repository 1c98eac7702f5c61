"""Where an assembled image goes: to registries while it is still made, into the local engine, or into envsnap's own store."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from envsnap.blobs import BlobStore
from envsnap.engines.docker import DockerEngine
from envsnap.errors import EngineError, InputError
from envsnap.oci.documents import LAYER_OF, OCI_MANIFEST, Descriptor
from envsnap.oci.image import BaseImage, Image, Layer
from envsnap.progress import Progress
from envsnap.registry.client import Registry
from envsnap.registry.upload import from_file
from envsnap.registry.wire import FilePart
from envsnap.workflows import local
from envsnap.workflows.assembled import Sources, blobs_of
from envsnap.workflows.land import land

_UPLOADS = 3  # at a time: one connection seldom fills a network, and a registry on this machine hashes what it gets


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Attributes: moved: something had to be sent or loaded. place: where the image is, for a person."""

    uploaded_bytes: int
    moved: bool
    place: str


class Delivery:
    """Takes layers as they are made, and the image when it is whole.

    Args:
        tags: all of the image's names. push: those that are registries' too.
        engine: that it lands in; None for none.
        store: have it in envsnap's own store, from where it can be verified, saved and pushed.
        foretold: the image, where it is known before it is made: what has it already is sent nothing.
    """

    def __init__(
        self,
        sources: Sources,
        base: BaseImage,
        *,
        tags: Sequence[str],
        push: Sequence[str],
        engine: DockerEngine | None,
        store: bool,
        foretold: Image | None,
    ) -> None:
        self._sources = sources
        self._base = base
        self._tags = tags
        self._push = push
        self._place = "in its registry" if push else "in envsnap's own store"
        self._sent = frozenset(push)
        self._engine = engine
        landed = engine is not None and foretold is not None and engine.find(foretold) is not None
        self._keep = store
        self._load = engine is not None and not landed
        if foretold is not None and _is_pushed(foretold, push, sources.registry):
            self._push = ()
        self._uploads = _Uploads(sources.registry, push[0], base, sources.store) if self._push else None

    def wants(self, layer: Layer) -> Literal["no", "here", "elsewhere"]:
        """See `assemble.Wanted`."""
        if self._load or (self._uploads is not None and self._uploads.lacks(layer)):
            return "elsewhere"
        return "here" if self._keep else "no"

    def offer(self, layer: Layer) -> None:
        """A layer is there."""
        if self._uploads is not None:
            self._uploads.send(layer)

    @contextmanager
    def open(self) -> Iterator[Delivery]:
        """While layers are made."""
        if self._uploads is None:
            yield self
        else:
            with self._uploads.running():
                yield self

    def finish(self, image: Image, progress: Progress) -> Delivered:
        """Have the whole image where it was asked for, under its names.

        Raises:
            EngineError: a registry or the engine fails, or does not have it afterwards; or a layer that the cache kept is damaged.
        """
        try:
            return self._finish(image, progress)
        except (EngineError, InputError) as error:
            # A base that is made here has its layers in the store, too.
            of_base = self._base.manifest.layers if self._base.manifest is not None else ()
            layers = {layer.digest: "the base's" for layer in of_base} | {layer.digest: layer.made_by for layer in image.layers}
            damaged = [made_by for digest, made_by in layers.items() if self._sources.store.drop_damaged(digest)]
            if damaged:
                what = f"what the cache kept of {len(damaged)} layers was damaged"
                raise EngineError(what, why=f"{damaged[0]}; {error.what}", hint="run it again: they are made anew") from error
            raise

    def _finish(self, image: Image, progress: Progress) -> Delivered:
        self._sources.store.put(image.config.raw)
        uploaded = self._uploads.sent_bytes() if self._uploads is not None else 0
        uploaded += sum(self._pushed(image, tag, progress) for tag in self._push)
        self._remember(image, "here")
        if self._engine is None:
            return Delivered(uploaded_bytes=uploaded, moved=uploaded > 0, place=self._place)
        there = self._engine.find(image) is not None
        land(image, self._tags, self._engine, blobs_of(self._base, self._sources), progress)
        self._remember(image, "engine")  # not before: what is here alone is what the cache spares
        return Delivered(uploaded_bytes=uploaded, moved=uploaded > 0 or not there, place="in the local engine")

    def _remember(self, image: Image, unless_sent: Literal["here", "engine"]) -> None:
        for tag in self._tags:
            local.remember(image, [tag], self._sources.cache, place="registry" if tag in self._sent else unless_sent)

    def _pushed(self, image: Image, tag: str, progress: Progress) -> int:
        if image.manifest is None:
            raise EngineError(f"cannot push {tag}", why="what the base's layers are in a registry is not known", hint="push the base first")
        base = self._base if self._base.reference else None

        def read(blob: Descriptor, offset: int) -> Iterator[bytes | FilePart]:
            return from_file(self._sources.store.path(blob.digest))(offset)

        return self._sources.registry.push(tag, image.manifest, read, base=base, progress=progress).uploaded_bytes


def _is_pushed(image: Image, tags: Sequence[str], registry: Registry) -> bool:
    """Whether every tag names exactly this image already."""
    if image.manifest is None:
        return False
    heads = (registry.head(tag) for tag in tags)
    return all(head is not None and head.digest == image.manifest.digest for head in heads)


class _Uploads:
    """Sends layers to a repository while others are still made."""

    def __init__(self, registry: Registry, reference: str, base: BaseImage, store: BlobStore) -> None:
        self._registry = registry
        self._reference = reference
        self._store = store
        self._kind = LAYER_OF[base.manifest.media_type if base.manifest is not None else OCI_MANIFEST]
        self._pool = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="upload")
        self._running: list[Future[int]] = []
        self._there: set[str] = set()
        self._lock = threading.Lock()

    def lacks(self, layer: Layer) -> bool:
        """Whether the repository does not have it yet."""
        if self._registry.has_blob(self._reference, layer.digest):
            with self._lock:
                self._there.add(layer.digest)
            return False
        return True

    def send(self, layer: Layer) -> None:
        """Begin to send a layer, where it is not there."""
        with self._lock:
            if layer.digest not in self._there:
                self._there.add(layer.digest)
                self._running.append(self._pool.submit(self._send, layer))

    def _send(self, layer: Layer) -> int:
        descriptor = Descriptor(media_type=self._kind, digest=layer.digest, size=layer.size_bytes)
        return self._registry.upload(self._reference, descriptor, from_file(self._store.path(layer.digest)))

    @contextmanager
    def running(self) -> Iterator[_Uploads]:
        """Wait for all that was begun; when this is left by an exception, what was not begun is not."""
        try:
            yield self
        except BaseException:
            self._registry.close()  # cuts what is under way
            self._pool.shutdown(wait=True, cancel_futures=True)
            raise
        self._pool.shutdown(wait=True)

    def sent_bytes(self) -> int:
        """Of all that was sent; waits for it. Raises what stopped one."""
        return sum(future.result() for future in self._running)
