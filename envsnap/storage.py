"""Files and directories that are either whole or not there."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from envsnap.errors import TargetError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of linux/fcntl.h and linux/fs.h

_WAYS_OUT = {
    errno.ENOENT: "make the directory, or choose another place",
    errno.ENOTDIR: "a file is where a directory should be: choose another place",
    errno.EEXIST: "a file is where a directory should be: choose another place",
    errno.EISDIR: "that is a directory: name a file in it",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a place that is yours to write"),
}


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
        hint = _WAYS_OUT.get(error.errno or 0, "")
        raise TargetError(f"cannot {doing}", why=f"{error.filename or place}: {error.strerror or error}", hint=hint) from error


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
    """Lock a directory for as long as `stack` lives; False where another took it for one that was left, before it was locked.

    That one may be done with it between the two: what is locked then is a directory that is no longer there.
    """
    try:
        handle = stack.enter_context(_opened(directory))
        return _lock(handle) != "busy" and os.path.samestat(os.fstat(handle), directory.stat())
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


def touch(path: Path) -> None:
    """Note that something in a cache was used just now: what was not for longest is the first to go from one that grew too large."""
    with contextlib.suppress(OSError):  # gone meanwhile, or another user's: then he keeps count
        os.utime(path)
