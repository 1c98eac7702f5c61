"""Files that are either whole or not there, and blobs addressed by their digest."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from envsnap.errors import InputError, TargetError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@contextmanager
def disk_errors(doing: str, place: Path) -> Iterator[None]:
    """Turn what a disk can say (full, read-only, forbidden) into an error that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TargetError(
                f"cannot {doing}: no space left",
                why=f"{error.filename or place}",
                hint=f"free space below {place}, or choose another place",
            ) from error
        raise TargetError(f"cannot {doing}", why=f"{error.filename or place}: {error.strerror or error}") from error


def write_file(path: Path, data: bytes) -> None:
    """Replace `path` as a whole: whoever reads it sees the old bytes or the new ones.

    Raises:
        TargetError: the disk is full, or the place cannot be written.
    """
    with disk_errors(f"write {path}", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Fill a directory beside `path`, then put it in `path`'s place; on any failure the old one stays as it was.

    Raises:
        TargetError: the disk is full, or the place cannot be written.
    """
    with disk_errors(f"write {path}", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield fresh
            fresh.chmod(0o755)
            stale = fresh.with_name(fresh.name + ".old")
            with contextlib.suppress(FileNotFoundError):
                path.rename(stale)
            try:
                fresh.rename(path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    stale.rename(path)
                raise
            shutil.rmtree(stale, ignore_errors=True)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Fill an empty file beside `path`, then put it in `path`'s place; on any failure what was there stays.

    Raises:
        TargetError: the disk is full, or the place cannot be written.
    """
    with disk_errors(f"write {path}", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        fresh = Path(name)
        try:
            yield fresh
            fresh.chmod(0o644)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


class BlobStore:
    """Large bytes beside a lock, at `NAME.blobs/sha256/<hex>`; checked on every read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Where a blob lies. Raises InputError for anything but "sha256:<64 hex digits>"."""
        if not _DIGEST.match(digest):
            raise InputError(f"not a digest: {digest!r}")
        return self.root / "sha256" / digest.removeprefix("sha256:")

    def put(self, data: bytes) -> str:
        """Keep `data`; returns its digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            write_file(self.path(digest), data)
        return digest

    @contextmanager
    def writer(self, durable: bool = True) -> Iterator[BlobWriter]:
        """A blob that is written piece by piece; it is there when this is left without an exception.

        Args:
            durable: wait until the disk has it. A cache need not: what a power cut leaves of it is hashed before it is believed.

        Raises:
            TargetError: the disk is full, or the place cannot be written.
        """
        folder = self._folder()
        with disk_errors(f"write a blob below {self.root}", folder):
            handle, name = tempfile.mkstemp(prefix=".blob.", dir=folder)
            temporary = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    yield (writer := BlobWriter(file))
                    file.flush()
                    if durable:
                        os.fsync(file.fileno())
                writer.digest = "sha256:" + writer.hash.hexdigest()
                temporary.chmod(0o644)
                temporary.replace(self.path(writer.digest))
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def take(self, path: Path) -> str:
        """Move a finished file into the store, however large it is; returns its digest.

        Raises:
            TargetError: it cannot be read, or the place cannot be written.
        """
        with disk_errors(f"write a blob below {self.root}", self._folder()):
            sha256 = hashlib.sha256()
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    sha256.update(piece)
            path.chmod(0o644)
            digest = f"sha256:{sha256.hexdigest()}"
            with tempfile.TemporaryDirectory(prefix=".take.", dir=self._folder()) as scratch:  # another disk makes this a copy
                Path(shutil.move(path, Path(scratch, "blob"))).replace(self.path(digest))
        return digest

    def copy_to(self, digest: str, place: Path) -> None:
        """Write a blob's bytes to a new file, however large they are.

        Raises:
            InputError: it is missing, or its bytes are not what its name says; there is no file then.
            TargetError: the disk is full, or the place cannot be written.
        """
        source = self._open(digest)
        with source, disk_errors(f"write {place}", place.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                writer = BlobWriter(file)
                shutil.copyfileobj(source, writer, 1 << 20)
            if writer.hash.hexdigest() != digest.removeprefix("sha256:"):
                place.unlink()
                raise self._changed(digest)

    def adopt(self, other: BlobStore, digest: str) -> None:
        """Take a blob over from another store, however large it is; raises as `copy_to`."""
        if not self.has(digest):
            with tempfile.TemporaryDirectory(prefix=".adopt.", dir=self._folder()) as scratch:
                other.copy_to(digest, copy := Path(scratch, "blob"))
                copy.chmod(0o644)
                copy.replace(self.path(digest))

    def _folder(self) -> Path:
        folder = self.root / "sha256"
        with disk_errors(f"write below {self.root}", folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def touch(self, digest: str) -> None:
        """Note that a blob was used just now: what was not for longest is the first to go from a cache that grew too large."""
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's: then he keeps count
            os.utime(self.path(digest))

    def keep_only(self, digests: Collection[str]) -> None:
        """Drop every other blob: what an earlier capture of the same name kept and this one does not name."""
        folder = self.root / "sha256"
        kept = {self.path(digest).name for digest in digests}
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in kept and path.is_file():
                path.unlink()

    def read(self, digest: str) -> bytes:
        """The blob's bytes.

        Raises:
            InputError: it is missing, or its bytes are not what its name says.
        """
        with self._open(digest) as file:
            data = file.read()
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise self._changed(digest)
        return data

    def pieces(self, digest: str) -> Iterator[bytes]:
        """The blob's bytes, however large it is. Nothing of them may be believed before the last one was taken.

        Raises:
            InputError: it is missing, or was read to its end and is not what its name says.
        """
        sha256 = hashlib.sha256()
        with self._open(digest) as file:
            while piece := file.read(1 << 20):
                sha256.update(piece)
                yield piece
        if sha256.hexdigest() != digest.removeprefix("sha256:"):
            raise self._changed(digest)

    def _open(self, digest: str) -> BinaryIO:
        path = self.path(digest)
        try:
            return path.open("rb")
        except OSError as error:
            raise InputError(
                f"blob {digest[:19]} is missing",
                why=f"{path}: {error.strerror}",
                hint="copy the .blobs directory beside the lock",
            ) from error

    def _changed(self, digest: str) -> InputError:
        return InputError(f"blob {digest[:19]} was changed", why=str(self.path(digest)), hint="restore it, or capture again")


class BlobWriter(io.RawIOBase):
    """Hashes what is written on its way to a file. Attributes: size: bytes so far; digest: "sha256:…", once the blob is whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0
        self.digest = ""

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        self.hash.update(data)
        self.size += memoryview(data).nbytes
        return self._file.write(data)
