"""Writing an image out: as a stream for an engine, as an archive or as a directory; files are looked at before they get their name."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from envsnap.errors import TargetError, UsageError
from envsnap.oci.image import EPOCH, Image
from envsnap.progress import Progress
from envsnap.publish import read
from envsnap.publish.content import BlobSource
from envsnap.publish.layout import BLOBS, MARK, Contents, blob_path, contents
from envsnap.storage import disk_errors, new_directory, new_file

Form = Literal["oci-archive", "docker-archive", "oci-dir"]
FORMS: tuple[Form, ...] = get_args(Form)
_RECORD = 20 * tarfile.BLOCKSIZE  # what a tar's length is a multiple of


def stream(files: Contents, source: BlobSource) -> Iterator[bytes]:
    """The archive of an image, piece by piece: the same bytes for the same image, always.

    Raises:
        InputError, EngineError: a layer cannot be had; what was given until then ends in the middle of it.
    """
    size = 0
    for piece in _members(files, source):
        size += len(piece)
        yield piece
    end = 2 * tarfile.BLOCKSIZE
    yield tarfile.NUL * (end + -(size + end) % _RECORD)


def _members(files: Contents, source: BlobSource) -> Iterator[bytes]:
    for folder in (PurePosixPath(BLOBS).parent, PurePosixPath(BLOBS)):
        yield _header(str(folder), 0, directory=True)
    for name, data in files.documents.items():
        yield _header(name, len(data))
        yield data + tarfile.NUL * (-len(data) % tarfile.BLOCKSIZE)
    for layer in files.layers:
        yield _header(blob_path(layer.digest), layer.size)
        yield from source.open(layer)
        yield tarfile.NUL * (-layer.size % tarfile.BLOCKSIZE)


def _header(name: str, size: int, *, directory: bool = False) -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.mtime, header.mode = size, EPOCH, 0o755 if directory else 0o644
    header.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def save(
    image: Image, place: Path, form: Form, names: Sequence[str], source: BlobSource, progress: Progress, *, with_base: bool = True
) -> int:
    """Write an image to `place`, and read it back before it gets that name; returns its size in bytes.

    Raises:
        UsageError: something else is at `place`.
        InputError: the image cannot be written out whole, or what was written is not the image.
        EngineError: a registry does not give a layer.
        TargetError: the disk is full, or the place cannot be written.
    """
    without = 0 if with_base else len(image.base.config.diff_ids)
    files = contents(image, names, without=without, docker=form == "docker-archive")
    _require_room(place, form)
    with new_directory(place) if form == "oci-dir" else new_file(place) as fresh:
        with progress.task(f"write {place}", total=files.size_bytes, unit="bytes") as task:
            pieces = _into_directory(fresh, files, source) if form == "oci-dir" else _into_file(fresh, stream(files, source))
            for size in pieces:
                task.advance(size)
        with read.opened(fresh, called=str(place), architecture=image.config.architecture) as written:
            written.verify(progress)
            if written.image.config.digest != image.config.digest:
                raise TargetError(f"cannot write {place}", why="what was written is another image")
    return files.size_bytes if form == "oci-dir" else place.stat().st_size


def _require_room(place: Path, form: Form) -> None:
    if form == "oci-dir" and place.exists() and not (place / MARK).is_file() and not (place.is_dir() and not any(place.iterdir())):
        raise UsageError(f"{place} is there already, and no image layout", hint="name a directory that does not exist yet")
    if form != "oci-dir" and place.is_dir():
        raise UsageError(f"{place} is a directory", hint=f"name a file, or   --format oci-dir   for a directory: {place}/image.tar")


def _into_file(place: Path, pieces: Iterator[bytes]) -> Iterator[int]:
    with place.open("wb") as file:
        for piece in pieces:
            with disk_errors(f"write {place}", place.parent):
                file.write(piece)
            yield len(piece)
        file.flush()
        os.fsync(file.fileno())


def _into_directory(place: Path, files: Contents, source: BlobSource) -> Iterator[int]:
    (place / BLOBS).mkdir(parents=True)
    for name, data in files.documents.items():
        yield from _into_file(place / name, iter([data]))
    for layer in files.layers:
        yield from _into_file(place / blob_path(layer.digest), source.open(layer))
