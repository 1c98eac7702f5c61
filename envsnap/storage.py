"""Files that are either whole or not there, and blobs addressed by their digest."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeVar

import msgspec

from envsnap.errors import InputError, TargetError
from envsnap.oci.digest import DIGEST

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

_PIECE_BYTES = 1 << 20  # read, hashed or copied at a time
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of linux/fcntl.h and linux/fs.h


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


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` as a whole: whoever reads it sees the old bytes or the new ones.

    Args:
        durable: wait until the disk has it.

    Raises:
        TargetError: the disk is full, or the place cannot be written.
    """
    with disk_errors(f"write {path}", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path.parent, f".{path.name}.")
        try:
            with open(temporary, "xb", opener=_private) as file:
                file.write(data)
                file.flush()
                if durable:
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
    with disk_errors(f"write {path}", path.parent), scratch_directory(path.parent, f".{path.name}.") as scratch:
        fresh, stale = scratch / "fresh", scratch / "stale"
        fresh.mkdir()
        yield fresh
        fresh.chmod(0o755)
        if _exchange(fresh, path):
            return
        with contextlib.suppress(FileNotFoundError):
            path.rename(stale)
        try:
            fresh.rename(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                stale.rename(path)
            raise


@contextmanager
def scratch_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """A directory of one's own, for the time being. What processes that were killed left under the same prefix goes first.

    Raises:
        TargetError: the disk is full, or the place cannot be written.
    """
    with disk_errors(f"write below {parent}", parent):
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{prefix}*"):
            with contextlib.suppress(OSError), _opened(left) as handle:
                if _lock(handle) == "locked":
                    shutil.rmtree(left, ignore_errors=True)
        with contextlib.ExitStack() as stack:
            while True:
                place = _beside(parent, prefix)
                try:
                    place.mkdir(mode=0o700)
                    if _own(place, stack):
                        yield place
                        return
                finally:
                    try:
                        shutil.rmtree(place, ignore_errors=True)
                    except OSError as error:  # it ignores all but one: of closing twice what it was closing when Ctrl-C came
                        raise KeyboardInterrupt from error
                    finally:  # which Ctrl-C may have broken off
                        shutil.rmtree(place, ignore_errors=True)


def _beside(parent: Path, prefix: str) -> Path:
    """A name that nobody else has. It is known before there is anything under it, so that Ctrl-C at any instant leaves nothing behind."""
    return parent / f"{prefix}{os.urandom(8).hex()}"


def _own(directory: Path, stack: contextlib.ExitStack) -> bool:
    """Lock a directory for as long as `stack` lives; False where another took it for one that was left, before it was locked."""
    try:
        return _lock(stack.enter_context(_opened(directory))) != "busy"
    except FileNotFoundError:
        return False


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int) -> Literal["locked", "busy", "unknown"]:
    """Lock a directory until it is closed, however its process ends; "unknown" where the file system has no locks for directories."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "busy"
    except OSError:
        return "unknown"
    return "locked"


def _exchange(one: Path, other: Path) -> bool:
    """Let two directories change places in one step; False where one is missing, or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Fill an empty file beside `path`, then put it in `path`'s place; on any failure what was there stays.

    Raises:
        TargetError: the disk is full, or the place cannot be written.
    """
    with disk_errors(f"write {path}", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = _beside(path.parent, f".{path.name}.")
        try:
            fresh.touch(mode=0o600, exist_ok=False)
            yield fresh
            fresh.chmod(0o644)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


class _Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attributes: sha256: of the file's name and of `of` as it stands in the file."""

    of: msgspec.Raw
    sha256: str


def write_note(path: Path, value: msgspec.Struct) -> None:
    """Remember something that can be found out again. Raises as `write_file`."""
    data = msgspec.json.encode(value)
    write_file(path, msgspec.json.encode(_Note(of=msgspec.Raw(data), sha256=_note_digest(path, data))), durable=False)


def read_note(path: Path, kind: type[T]) -> T | None:
    """What was remembered there; None where nothing was, or the file is not what was written under its name."""
    try:
        note = msgspec.json.decode(path.read_bytes(), type=_Note)
        return msgspec.json.decode(note.of, type=kind) if _note_digest(path, note.of) == note.sha256 else None
    except (OSError, ValueError):  # msgspec's errors are ValueErrors, and not all of its ValueErrors are its own
        return None


def _note_digest(path: Path, data: bytes | msgspec.Raw) -> str:
    return hashlib.sha256(b"\n".join((os.fsencode(path.name), data))).hexdigest()


def touch(path: Path) -> None:
    """Note that something in a cache was used just now: what was not for longest is the first to go from one that grew too large."""
    with contextlib.suppress(OSError):  # gone meanwhile, or another user's: then he keeps count
        os.utime(path)


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
        """As `touch`, of a blob of a cache."""
        touch(self.path(digest))

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
