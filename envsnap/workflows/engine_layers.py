"""Layers that an engine made, taken out of it as blobs: what a registry gets, and what is saved, are these bytes."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from envsnap.archive import as_file
from envsnap.blobs import BlobStore
from envsnap.errors import EngineError
from envsnap.layers.reader import inflated
from envsnap.oci.image import Layer
from envsnap.progress import Task, counted
from envsnap.storage import disk_errors

_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"
_LEVEL = 6


def take_layers(
    saved: Iterator[bytes], wanted: Collection[str], others: Collection[str], *, made_by: str, store: BlobStore, scratch: Path, task: Task
) -> dict[str, Layer]:
    """Layers of an image that an engine saves (`docker save`), compressed where the engine keeps them plain; each is held against its name.

    How an engine lays out such an archive hangs on its version and store, so no name in it is believed: a file whose content has the
    digest of a wanted layer is that layer.

    Args:
        wanted: diff_ids.
        others: digests, of content or compressed, of what need not be looked at where it bears its digest as its name: the base's layers.
        made_by: for the image's history.
        scratch: directory on a disk, for one layer at a time.

    Returns:
        By diff_id, all that were wanted.

    Raises:
        EngineError: the archive is damaged, or lacks one. InputError: a file of it is. TargetError: the disk is full.
    """
    found: dict[str, Layer] = {}
    passed_over = {digest.partition(":")[2] for digest in others} - {digest.partition(":")[2] for digest in wanted}
    try:
        with tarfile.open(mode="r|", fileobj=as_file(counted(saved, task))) as members:
            for member in members:
                if len(found) == len(set(wanted)):
                    break
                if not member.isreg() or member.name.rpartition("/")[2] in passed_over:
                    continue
                content = members.extractfile(member)
                assert content is not None
                with disk_errors(f"write below {scratch}", scratch), tempfile.TemporaryFile(dir=scratch) as copy:
                    diff_id = _copied(content, copy, member.name)
                    if diff_id in wanted and diff_id not in found:
                        found[diff_id] = _kept(copy, diff_id, made_by, store)
    except (tarfile.TarError, EOFError) as error:
        raise EngineError("cannot read the layers that the engine made", why=f"what it saves is damaged: {error}") from error
    if missing := [diff_id for diff_id in wanted if diff_id not in found]:
        why = f"what it saves has no layer {missing[0][:19]}…"
        raise EngineError("cannot read the layers that the engine made", why=why, hint="--engine docker builds and pushes the whole image")
    return found


def _copied(content: IO[bytes], copy: IO[bytes], name: str) -> str:
    """Writes the content as it is; returns the digest of what it holds uncompressed."""

    def pieces() -> Iterator[bytes]:
        while piece := content.read(_PIECE):
            copy.write(piece)
            yield piece

    sha256 = hashlib.sha256()
    for piece in inflated(pieces(), what=f"{name} of what the engine saves"):
        sha256.update(piece)
    return f"sha256:{sha256.hexdigest()}"


def _kept(copy: IO[bytes], diff_id: str, made_by: str, store: BlobStore) -> Layer:
    """In the store, as gzip: an engine that keeps it compressed so pushes the same bytes."""
    copy.seek(0)
    as_it_is = copy.read(len(_GZIP)) == _GZIP
    copy.seek(0)
    raw = iter(lambda: copy.read(_PIECE), b"")
    with store.writer(durable=False) as blob:
        for piece in raw if as_it_is else _compressed(inflated(raw, what="a layer that the engine made")):
            blob.write(piece)
    return Layer(digest=blob.digest, diff_id=diff_id, size_bytes=blob.size, made_by=made_by)


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()
