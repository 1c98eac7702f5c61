"""Unpacked images in the cache: one directory each, named by the config digest, whole or not there, shared by whatever runs in them.

    roots/<hex>/root         the image's file system, without its root's privileges (`unpack`)
    roots/<hex>/root.json    a `Record`

One at a time is unpacked per cache, under a lock on `roots/.lock`. Whoever runs in one holds a shared lock on its record, so that pruning
leaves it alone. Regular files, since network file systems lock nothing else; where nothing can be locked, a root is made twice at worst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from envsnap.errors import TargetError
from envsnap.oci.digest import DIGEST
from envsnap.oci.documents import Config
from envsnap.progress import Progress
from envsnap.rootless import inside
from envsnap.rootless.inside import LeadsNowhere
from envsnap.rootless.unpack import OpenLayer, Unpacker
from envsnap.storage import disk_errors

FOLDER = "roots"
LOCK = ".lock"
"""A file of the folder that is no root."""
_RECORD = "root.json"
_FILE_LIMIT = 64 << 20
_NEEDED = ("run", "tmp", "var/tmp", "etc")  # what every engine's containers have, whatever the image says
_MOUNTED = ("proc", "sys", "dev")  # directories, and no links that lead a runtime elsewhere
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EINVAL}  # what a file system says that has none
_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: writable: topmost directories that anybody may write in the image, absolute. bytes: content of its files."""

    writable: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """An unpacked image. Attributes: path: its file system. writable: as in `Record`."""

    path: Path
    config: Config
    writable: tuple[str, ...]

    def read(self, path: str) -> bytes | None:
        """A file of the image; None where it has none. Raises TargetError: it has more than 64 MiB."""
        data = inside.read(str(self.path), path, limit=_FILE_LIMIT + 1)
        if data is not None and len(data) > _FILE_LIMIT:
            raise TargetError(f"refused {path} of the image", why=f"it has more than {_FILE_LIMIT >> 20} MiB")
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One that the cache has. Attributes: digest: of the image's config. used: seconds since 1970."""

    digest: str
    bytes: int
    used: float


def unpacked(config: Config, layers: Sequence[tuple[str, OpenLayer]], *, cache: Path, progress: Progress) -> Root:
    """The image's file system: what the cache has, else unpacked now.

    Args:
        layers: diff_id and opener of each, from the lowest; only opened where the cache has no such root.

    Raises:
        InputError: a layer is damaged, hostile, or not what its diff_id says.
        TargetError: the disk is full, or the cache cannot be written. What an opener raises.
    """
    if tuple(diff_id for diff_id, _ in layers) != config.diff_ids:
        raise ValueError("other layers than the config names")
    folder = cache / FOLDER
    place = folder / config.digest.removeprefix("sha256:")
    if (record := _read(place)) is None:
        with disk_errors(f"unpack the image below {folder}", folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / LOCK).touch()
            with _lock(folder / LOCK, fcntl.LOCK_EX) as locked:
                if locked:
                    for stale in folder.glob(".*/"):  # of one who was killed
                        shutil.rmtree(stale, ignore_errors=True)
                if (record := _read(place)) is None:  # another may have done it meanwhile
                    record = _unpack(config, layers, place, progress)
    return Root(path=place / "root", config=config, writable=record.writable)


@contextmanager
def in_use(root: Root) -> Iterator[None]:
    """Keep a root from being pruned. Raises TargetError: it was already."""
    place = root.path.parent
    try:
        with _lock(place / _RECORD, fcntl.LOCK_SH):
            if not root.path.is_dir():
                raise FileNotFoundError
            with suppress(OSError):  # another user's cache; then its owner's use counts
                os.utime(place / _RECORD)
            yield
    except FileNotFoundError as error:
        raise TargetError("the unpacked image is gone", why=f"{place} was removed meanwhile", hint="try again") from error


def kept(cache: Path) -> tuple[Kept, ...]:
    """All that the cache has, the one that was longest not used first."""
    return tuple(sorted(filter(None, map(kept_at, _places(cache))), key=lambda one: one.used))


def kept_at(place: Path) -> Kept | None:
    """What a directory of `roots/` is; None where it is no root, or one that is not whole."""
    record = _read(place)
    try:
        return Kept(digest=f"sha256:{place.name}", bytes=record.bytes, used=(place / _RECORD).stat().st_mtime) if record else None
    except OSError:  # gone meanwhile
        return None


def drop(cache: Path, digest: str) -> bool:
    """Remove a root; False where there is none, or something runs in it."""
    if not DIGEST.match(digest):
        return False
    place = cache / FOLDER / digest.removeprefix("sha256:")
    busy = fcntl.LOCK_EX | fcntl.LOCK_NB
    with disk_errors(f"remove {place}", place), suppress(FileNotFoundError, BlockingIOError), _lock(place / _RECORD, busy):
        gone = Path(tempfile.mkdtemp(prefix=".gone.", dir=place.parent))
        place.rename(gone / "root")
        shutil.rmtree(gone)
        return True
    return False


def _unpack(config: Config, layers: Sequence[tuple[str, OpenLayer]], place: Path, progress: Progress) -> Record:
    fresh = Path(tempfile.mkdtemp(prefix=f".{place.name[:12]}.", dir=place.parent))
    try:
        root = fresh / "root"
        root.mkdir(0o755)
        unpacker = Unpacker(root)
        with progress.task("unpacking the image", unit="bytes") as task:
            for number, (diff_id, opened) in enumerate(layers, 1):
                task.status(f"layer {number} of {len(layers)}")
                unpacker.apply(diff_id, opened, task)
        _complete(root, unpacker, config)
        record = Record(writable=unpacker.writable(), bytes=unpacker.bytes)
        (fresh / _RECORD).write_bytes(msgspec.json.encode(record))
        fresh.chmod(0o755)
        if (made_meanwhile := _read(place)) is not None:  # where locks do not hold
            return made_meanwhile
        shutil.rmtree(place, ignore_errors=True)  # one without a record
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return record


def _complete(root: Path, unpacker: Unpacker, config: Config) -> None:
    """Make what an engine would make in a new container, since a runtime cannot in one that is read-only."""
    for name in _MOUNTED:
        if (root / name).is_symlink() or not (root / name).is_dir():
            (root / name).unlink(missing_ok=True)
            (root / name).mkdir(0o755)
    volumes = config.run.get("Volumes")
    for path in (*_NEEDED, str(config.run.get("WorkingDir") or ""), *(volumes if isinstance(volumes, dict) else ())):
        with suppress(LeadsNowhere):
            unpacker.directory(path.strip("/"))
    if (root / "etc").is_dir() and not (root / "etc").is_symlink():
        for name in _FILES:
            if not os.path.lexists(root / name):
                (root / name).touch(0o644)


def _places(cache: Path) -> list[Path]:
    folder = cache / FOLDER
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _read(place: Path) -> Record | None:
    try:
        return msgspec.json.decode((place / _RECORD).read_bytes(), type=Record)
    except (OSError, ValueError):
        return None


@contextmanager
def _lock(file: Path, kind: int) -> Iterator[bool]:
    """Hold a lock; False where the file system has none. Raises BlockingIOError: it is taken, and was not to be waited for."""
    shared = kind == fcntl.LOCK_SH
    handle = os.open(file, (os.O_RDONLY if shared else os.O_RDWR) | os.O_CLOEXEC)
    try:
        yield _locked(handle, kind)
    finally:
        os.close(handle)


def _locked(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True
