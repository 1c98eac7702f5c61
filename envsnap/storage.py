"""Files that are either whole or not there, and blobs addressed by their digest."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from envsnap.errors import InputError, TargetError

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

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def keep_only(self, digests: Collection[str]) -> None:
        """Drop every other blob: what an earlier capture of the same name kept and this one does not name."""
        folder = self.root / "sha256"
        kept = {self.path(digest).name for digest in digests}
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in kept:
                path.unlink()

    def read(self, digest: str) -> bytes:
        """The blob's bytes.

        Raises:
            InputError: it is missing, or its bytes are not what its name says.
        """
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"blob {digest[:19]} is missing",
                why=f"{path}: {error.strerror}",
                hint="copy the .blobs directory beside the lock",
            ) from error
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise InputError(f"blob {digest[:19]} was changed", why=str(path), hint="restore it, or capture again")
        return data
