"""Inventories that are remembered, and files that carry them to others.

Both say which image they speak of by the digest of its config: what has the same config has the same files.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec.structs import replace

from envsnap.blobs import BlobStore
from envsnap.errors import InputError
from envsnap.layers.reader import LayerReader, inflated
from envsnap.model.base import BaseInventory, Remembered
from envsnap.oci.documents import digest_of
from envsnap.oci.image import EPOCH
from envsnap.storage import new_file, write_file

_DOCUMENT = "inventory.json"
_BLOBS = "blobs/sha256/"
_GZIP = b"\x1f\x8b"
_WRITTEN_BY = "envsnap bases export REF FILE writes such files"
_COPY = "copy it again, or have envsnap bases export write it again"
_CHUNK = 1 << 20
_MAX_DOCUMENT_BYTES = 64 << 20
_MAX_BLOB_BYTES = 1 << 30


def remember(inventory: BaseInventory, *, config: str, reference: str, cache: Path) -> Remembered:
    """Keep an inventory that was read here; one that is complete stays when one comes that is not.

    Args:
        cache: envsnap's cache directory; the blobs that the inventory names are in its store.

    Raises:
        TargetError: the disk is full.
    """
    if not inventory.complete and (known := recall(config, cache)) is not None and known.inventory.complete:
        return known
    made = Remembered(config=config, reference=reference, inventory=inventory, digest=_digest(inventory), read_here=True)
    _keep(made, cache)
    return made


def recall(config: str, cache: Path) -> Remembered | None:
    """What is known of an image. A file that was changed, is of another format, or names blobs that are gone is as good as none.

    Whether a blob is what its name says only whoever reads it finds out: that is where one that is damaged goes (`BlobStore.mending`).
    """
    try:
        found = _decode(_place(config, cache).read_bytes())
    except (OSError, InputError):
        return None
    blobs = BlobStore(cache / "blobs")
    return found if found.config == config and all(blobs.has(digest) for digest in blobs_of(found.inventory)) else None


def all_of(cache: Path) -> list[Remembered]:
    """Every one that is known, by name."""
    configs = (f"sha256:{path.stem}" for path in sorted((cache / "inventories").glob("*.json")))
    return sorted(filter(None, (recall(config, cache) for config in configs)), key=lambda one: (one.reference, one.config))


def blobs_of(inventory: BaseInventory) -> tuple[str, ...]:
    """Digests of all blobs that belong to an inventory, sorted."""
    records = (package.record for package in inventory.packages)
    named = (inventory.dpkg_status, inventory.loader_cache, inventory.interpreter, inventory.torch_libraries, *records)
    return tuple(sorted({digest for digest in named if digest is not None}))


def export(remembered: Remembered, cache: Path, file: Path) -> None:
    """Write one file with all of it: a gzipped tar archive of the document and its blobs, the same for the same inventory and zlib.

    Raises:
        InputError: a blob is missing, or was changed.
        TargetError: the disk is full.
    """
    blobs = BlobStore(cache / "blobs")
    compressor = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    with new_file(file) as fresh, fresh.open("wb") as out:
        for piece in _archive(remembered, blobs, fresh):
            out.write(compressor.compress(piece))
        out.write(compressor.flush())


def load(file: Path, cache: Path) -> Remembered:
    """Take over what `export` wrote. Whoever made the file is believed in what the inventory says of its image, and not so far that its
    interpreter would count as the image's own (`Remembered.read_here`). What was read here stays, and is what is returned.

    Raises:
        InputError: no such file, or not one that `export` wrote, or changed since.
        TargetError: the disk is full.
    """
    what = f"{file}"
    try:
        found = _taken_over(file, what, cache)
    except InputError as error:
        error.hint = error.hint or _COPY
        raise
    known = recall(found.config, cache)
    if known is not None and known.read_here and known.inventory.complete:
        return known
    taken = replace(found, read_here=False)
    _keep(taken, cache)
    return taken


def _taken_over(file: Path, what: str, cache: Path) -> Remembered:
    """What the file says, once its blobs are kept. Raises: as `load`."""
    blobs = BlobStore(cache / "blobs")
    found: Remembered | None = None
    missing: set[str] = set()
    with _opened(file) as stream:
        if stream.read(len(_GZIP)) != _GZIP:
            raise InputError(f"refused {what}", why="it is no inventory of a base: those are compressed with gzip", hint=_WRITTEN_BY)
        stream.seek(0)
        reader = LayerReader(inflated(iter(lambda: stream.read(_CHUNK), b""), what=what), what=what)
        for member in reader:
            if found is None:
                if member.path != _DOCUMENT or member.size > _MAX_DOCUMENT_BYTES:
                    raise InputError(f"refused {what}", why=f"it does not begin with {_DOCUMENT}", hint=_WRITTEN_BY)
                found = _decode(b"".join(reader.content()))
                if not found.inventory.complete:
                    raise InputError(f"refused {what}", why="its inventory is not complete", hint=_WRITTEN_BY)
                missing = set(blobs_of(found.inventory))
                continue
            digest = f"sha256:{member.path.removeprefix(_BLOBS)}"
            if digest not in missing or member.size > _MAX_BLOB_BYTES:
                raise InputError(f"refused {what}", why=f"its inventory does not name {member.path[:200]}")
            with blobs.writer(durable=False) as blob:
                for piece in reader.content():
                    blob.write(piece)
            if blob.digest != digest:
                raise InputError(f"refused {what}", why=f"{member.path} was changed: it has {blob.digest[:19]}…")
            missing.remove(digest)
    if found is None or missing:
        raise InputError(f"refused {what}", why="it ends early" if missing else "it is empty", hint="copy it again")
    return found


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {file}", why=error.strerror or str(error), hint=_WRITTEN_BY) from error


def _archive(remembered: Remembered, blobs: BlobStore, scratch: Path) -> Iterator[bytes]:
    document = msgspec.json.encode(replace(remembered, read_here=False), order="deterministic")  # there it was not
    yield _header(_DOCUMENT, len(document)) + document + bytes(-len(document) % tarfile.BLOCKSIZE)
    for digest in blobs_of(remembered.inventory):
        copy = scratch.with_name(f"{scratch.name}.blob")
        try:
            blobs.copy_to(digest, copy)  # what it gives was held against its digest
        except InputError as error:
            blobs.drop_damaged(digest)
            raise InputError(error.what, why=error.why, hint="envsnap bases inspect REF --deep reads the base anew") from error
        try:
            size = copy.stat().st_size
            yield _header(_BLOBS + digest.removeprefix("sha256:"), size)
            with copy.open("rb") as file:
                yield from iter(lambda: file.read(_CHUNK), b"")
            yield bytes(-size % tarfile.BLOCKSIZE)
        finally:
            copy.unlink()
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(path: str, size: int) -> bytes:
    header = tarfile.TarInfo(path)
    header.size, header.mtime, header.mode = size, EPOCH, 0o644
    return header.tobuf(tarfile.USTAR_FORMAT)


def _decode(raw: bytes) -> Remembered:
    """Raises InputError: of another format, or changed."""
    try:
        found = msgspec.json.decode(raw, type=Remembered)
    except ValueError as error:
        raise InputError("refused an inventory", why=f"it cannot be read: {error}") from error
    if found.digest != _digest(found.inventory):
        raise InputError("refused an inventory", why="it was changed: its digest does not hold")
    return found


def _digest(inventory: BaseInventory) -> str:
    return digest_of(msgspec.json.encode(inventory, order="deterministic"))


def _keep(remembered: Remembered, cache: Path) -> None:
    write_file(_place(remembered.config, cache), msgspec.json.encode(remembered, order="deterministic"))


def _place(config: str, cache: Path) -> Path:
    return cache / "inventories" / f"{config.removeprefix('sha256:')}.json"
