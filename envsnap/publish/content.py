"""Where the bytes of an image's layers come from, held against what names them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError
from envsnap.oci.documents import CONFIG_OF, LAYER_OF, OCI_LAYER, OCI_MANIFEST, Descriptor
from envsnap.oci.image import Image

CHUNK = 1 << 20
_MADE_AGAIN = "run it again: what the cache lacks is made or fetched anew"


class BlobSource(Protocol):
    """Hands out blobs by digest."""

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The blob, piece by piece. It comes to its end only when all was held against digest and size.

        Raises:
            Missing: there is no such blob.
            InputError: its bytes are not what its digest says.
            EngineError: a registry does not give it.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerContent:
    """One layer of an image. Attributes: diff_id: of its tar. blob: None where nothing says how the base's layer is compressed."""

    diff_id: str
    blob: Descriptor | None


def layers_of(image: Image) -> tuple[LayerContent, ...]:
    """The base's layers, then the image's own.

    Raises:
        InputError: manifest and config do not name equally many.
    """
    diff_ids = image.config.diff_ids
    if image.manifest is None:
        kind = LAYER_OF[image.base.manifest.media_type] if image.base.manifest is not None else OCI_LAYER
        own = [Descriptor(media_type=kind, digest=layer.digest, size=layer.size_bytes) for layer in image.layers]
        blobs: list[Descriptor | None] = [*[None] * (len(diff_ids) - len(own)), *own]
    else:
        blobs = list(image.manifest.layers)
    if len(blobs) != len(diff_ids):
        raise InputError("the image contradicts itself", why=f"its manifest names {len(blobs)} layers, its config {len(diff_ids)}")
    return tuple(LayerContent(diff_id=diff_id, blob=blob) for diff_id, blob in zip(diff_ids, blobs, strict=True))


def config_descriptor(image: Image) -> Descriptor:
    """Names the image's config."""
    kind = image.manifest.media_type if image.manifest is not None else OCI_MANIFEST
    return Descriptor(media_type=CONFIG_OF[kind], digest=image.config.digest, size=len(image.config.raw))


def held(pieces: Iterator[bytes], descriptor: Descriptor, place: str) -> Iterator[bytes]:
    """`pieces`, of which the last is given only when all are what the descriptor says.

    Raises:
        InputError: they are not; `place` is named.
    """
    sha256, size, last = hashlib.sha256(), 0, b""
    for piece in pieces:
        sha256.update(piece)
        size += len(piece)
        if size > descriptor.size:
            break
        if last:
            yield last
        last = piece
    if size != descriptor.size or f"sha256:{sha256.hexdigest()}" != descriptor.digest:
        why = "its bytes are not what its digest says" if size == descriptor.size else f"it should have {descriptor.size} bytes"
        raise InputError(f"blob {descriptor.digest[:19]} is damaged", why=f"{place}: {why}")
    if last:
        yield last


class Missing(InputError):
    """A source has no such blob. Raised before its first piece."""


class Stored:
    """The blobs of a cache."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        """See `BlobSource`. A damaged blob leaves the cache, so that it is made again."""
        path = self._store.path(descriptor.digest)
        try:
            file = path.open("rb")
        except OSError as error:
            raise Missing(f"blob {descriptor.digest[:19]} is missing", why=f"{path}: {error.strerror}", hint=_MADE_AGAIN) from error
        self._store.touch(descriptor.digest)
        with file:
            try:
                yield from held(iter(lambda: file.read(CHUNK), b""), descriptor, str(path))
            except InputError as error:
                path.unlink(missing_ok=True)
                raise InputError(error.what, why=error.why, hint=_MADE_AGAIN) from error


class FirstOf:
    """Several sources, asked in order until one has the blob."""

    def __init__(self, *sources: BlobSource) -> None:
        self._sources = sources

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        """See `BlobSource`. What the last source raises is raised."""
        *others, last = self._sources
        for source in others:
            try:
                pieces = source.open(descriptor)
                first = next(pieces, b"")
            except (Missing, EngineError):
                continue
            yield first
            yield from pieces
            return
        yield from last.open(descriptor)
