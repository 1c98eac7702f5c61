"""Blobs: large bytes addressed by their digest, beside a lock or in a cache."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from envsnap import storage
from envsnap.errors import InputError
from envsnap.oci.digest import DIGEST
from envsnap.storage import disk_errors, write_file

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PIECE_BYTES = 1 << 20  # read, hashed or copied at a time


class BlobStore:
    """Large bytes beside a lock, at `NAME.blobs/sha256/<hex>`; checked on every read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Where a blob lies. Raises InputError for anything but "sha256:<64 hex digits>"."""
        if not DIGEST.match(digest):
            raise InputError(f"not a digest: {digest!r}")
        return self.root / "sha256" / digest.removeprefix("sha256:")

    def put(self, data: bytes) -> str:
        """Keep `data`, in place of a damaged copy of it, too; returns its digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        try:
            kept = path.read_bytes()
        except OSError:  # not there, or gone just now
            kept = None
        if kept != data:
            write_file(path, data)
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
        with disk_errors(f"write a blob below {self.root}", folder), contextlib.closing(_Temporary(folder)) as temporary:
            yield (writer := BlobWriter(temporary.file))
            temporary.file.flush()
            if durable:
                os.fsync(temporary.file.fileno())
            writer.digest = "sha256:" + writer.hash.hexdigest()
            temporary.keep_as(self.path(writer.digest))

    def take(self, path: Path) -> str:
        """Move a finished file into the store, however large it is; returns its digest.

        Raises:
            TargetError: it cannot be read, or the place cannot be written.
        """
        with disk_errors(f"write a blob below {self.root}", self._folder()):
            with path.open("rb") as file:
                digest = f"sha256:{_sha256_of(file)}"
            path.chmod(0o644)
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
                shutil.copyfileobj(source, writer, _PIECE_BYTES)
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

    def size(self, digest: str) -> int | None:
        """In bytes; None where it is missing. One that is cut off has its digest's name and another size."""
        try:
            return self.path(digest).stat().st_size
        except OSError:
            return None

    def check(self, digest: str) -> None:
        """Raises InputError: it is missing, or its bytes are not what its name says."""
        with self._open(digest) as file:
            if f"sha256:{_sha256_of(file)}" != digest:
                raise self._changed(digest)

    def drop_damaged(self, digest: str) -> bool:
        """Let go of a blob whose bytes are not what its name says, so that it is made or fetched anew. Returns whether it was so."""
        try:
            with self.path(digest).open("rb") as file:
                sha256 = _sha256_of(file)
        except OSError:  # gone, or a disk that cannot be read
            return False
        if f"sha256:{sha256}" == digest:
            return False
        self.path(digest).unlink(missing_ok=True)
        return True

    def has_whole(self, digest: str) -> bool:
        """Whether a blob is there and all that its name says, for which it is read; one that is damaged goes, as of `drop_damaged`."""
        return self.has(digest) and not self.drop_damaged(digest)

    @contextmanager
    def mending(self, digests: Iterable[str], what: str) -> Iterator[None]:
        """While blobs of a cache are read: where that fails, all of `digests` that are damaged go, so that the next run has them anew.

        Raises:
            InputError: in the place of another, where there was damage; it names `what`.
        """
        try:
            yield
        except InputError as error:
            if [digest for digest in digests if self.drop_damaged(digest)]:
                hint = "run it again: it is made or fetched anew"
                raise InputError(f"what the cache kept of {what} was damaged", why=error.what, hint=hint) from error
            raise

    def touch(self, digest: str) -> None:
        """As `storage.touch`, of a blob of a cache."""
        storage.touch(self.path(digest))

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
            while piece := file.read(_PIECE_BYTES):
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


def _sha256_of(file: BinaryIO) -> str:
    sha256 = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        sha256.update(piece)
    return sha256.hexdigest()


class _Temporary:
    """A file that gets its name when it is whole. It has none before that, so that nothing is left of it however its process ends.

    Only where it takes another's place it has a name of its own for an instant, the same for whoever writes that blob: what a process that
    was killed right then left, the next one takes away.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        try:
            handle = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
            handle, name = tempfile.mkstemp(prefix=".blob.", dir=folder)  # a file system that has no such files
            self._path = Path(name)
        self.file = os.fdopen(handle, "wb")

    def keep_as(self, path: Path) -> None:
        """Name it, in place of what has that name."""
        os.fchmod(self.file.fileno(), 0o644)
        if self._path is None:
            try:
                self._link(path)
            except FileExistsError:  # a link cannot take another file's place, only a rename can
                own = self._folder / f".blob.{path.name}"
                own.unlink(missing_ok=True)
                with contextlib.suppress(FileExistsError, FileNotFoundError):  # another wrote the same bytes just now
                    self._link(own)
                    own.replace(path)
            return
        self._path.replace(path)
        self._path = None

    def _link(self, path: Path) -> None:
        os.link(f"/proc/self/fd/{self.file.fileno()}", path, src_dir_fd=self.file.fileno(), follow_symlinks=True)

    def close(self) -> None:
        self.file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


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
