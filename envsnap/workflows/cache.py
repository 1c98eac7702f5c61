"""What the cache keeps, and freeing it while others use it.

An entry goes in one step: a file by `unlink`, a directory by being renamed first. Whoever reads it at that moment reads on; whoever misses
it later makes it again. So nothing is locked, and an interrupt leaves a cache that is whole. Unpacked images alone are locked while
something runs in them, and stay.

What is used is touched (`BlobStore.touch`), so that the time of a file's last change is that of its last use.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from envsnap.errors import TargetError
from envsnap.inventory import remembered
from envsnap.model.cache import CacheState, Kept
from envsnap.progress import Progress
from envsnap.rootless import roots
from envsnap.storage import write_file
from envsnap.workflows import local

UNUSED_DAYS = 30
"""What was not used for so long goes where nothing else is said."""

MOST_BYTES = 100 * 10**9
"""What the cache may hold where nothing else is said, and the disk has twice as much: several large images, with their wheels."""
_IN_USE_S = 24 * 3600
"""What was used so lately stays, however large the cache is: a build that still runs may need it again."""
_SMALL_BYTES = 1 << 16
"""What is smaller stays: it takes no room."""
_LOOK_S = 3600
_LOOKED = "bounded"
"""A file of the cache: the size that it was last held to, and when."""

LAYERS, WHEELS = "layers", "wheels"
_UNFINISHED, _UNFINISHED_S = "unfinished", 24 * 3600  # a temporary file of today may be somebody's work
_KINDS = {  # folder of the cache -> kind; whatever else lies there is somebody else's
    "layers": LAYERS,
    "wheels": WHEELS,
    "project-pages": "index pages",
    "requires": "index pages",
    "certificates": "index pages",
    "git": "git repositories",
    "kits": "packages lent to smoke-trains",
    "images": "names of images",
    "bases": "base images",
    "bytecode": "byte code",
    "modules": "byte code",
    "foretold": "foretold images",
    "debian": "indexes of distributions",
    "records": "records of wheels",
    "inventories": "inventories of bases",
    roots.FOLDER: "unpacked images",
}
_FACTS = frozenset({"layers", "wheels", "images", "bases", "bytecode", "modules", "foretold", "records", "inventories"})
"""Folders of what was found out once: an image is told from it without a network, and it names what is in the store."""
_BLOBS = Path("blobs", "sha256")
_OWN = re.compile(r"[0-9a-f]{24}|\.([0-9a-f]{12}|(blob|take|adopt|gone)\.)")
"""How the names of entries begin: with a hash, or, of what is not finished, with a dot and a hash or what the store calls it.

The folders have plain names, and where ENVSNAP_CACHE names a directory with other things in it, an `images/` may be somebody's pictures."""
_PACKAGES = "system packages"
_CONTENT = ((b"\x1f\x8b", LAYERS), (b"PK\x03\x04", WHEELS), (b"!<arch>\n", _PACKAGES), (b"{", "manifests and configs"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that can go. Attributes: used: seconds since 1970, as far as known: blobs are touched when they are used."""

    kind: str
    path: Path
    size_bytes: int
    used: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """Attributes: freed: what went. left: what is still there."""

    freed: CacheState
    left: CacheState


def show(cache: Path) -> CacheState:
    """What is kept, by kind."""
    return _summary(cache, entries(cache))


def prune(
    cache: Path,
    progress: Progress,
    *,
    now: float,
    kinds: Collection[str] = (),
    unused_s: float | None = None,
    max_bytes: int | None = None,
) -> Pruned:
    """Free what was asked for: all of some kinds, what was not used for long, or as much as is over a size, longest unused first.

    Args:
        kinds: empty for all.
        unused_s: only what was not used for so many seconds.
        max_bytes: of the whole cache; only as much goes as is over it.
    """
    everything = list(entries(cache))
    before = sum(entry.size_bytes for entry in everything)
    excess = before - max_bytes if max_bytes is not None else None
    gone: list[Entry] = []
    with progress.task("free the cache", unit="files") as task:
        for entry in sorted(everything, key=lambda entry: (entry.kind != _UNFINISHED, entry.used, entry.path)):
            if entry.kind == _UNFINISHED:
                wanted = now - entry.used > _UNFINISHED_S
            else:
                wanted = (
                    (not kinds or entry.kind in kinds)
                    and (unused_s is None or now - entry.used > unused_s)
                    and (excess is None or excess > 0)
                )
            if wanted and _remove(entry):
                gone.append(entry)
                task.advance(1)
                if excess is not None:
                    excess -= entry.size_bytes
    return Pruned(freed=_summary(cache, gone), left=show(cache))


def usual_limit(cache: Path) -> int:
    """How many bytes the cache may hold where nothing else is said: `MOST_BYTES`, or half of its disk where that is less."""
    place = next((path for path in (cache, *cache.parents) if path.is_dir()), Path("/"))
    try:
        return min(MOST_BYTES, shutil.disk_usage(place).total // 2)
    except OSError:
        return MOST_BYTES


def hold_to(cache: Path, max_bytes: int, progress: Progress, *, now: float) -> int:
    """Free what is over a size, longest unused first, and nothing that `_kept` names; returns how many bytes that were.

    It looks once an hour, or when the size is another one, and in between costs nothing. Whatever cannot be freed stays: a build that went
    well does not fail for it.
    """
    if not _is_time_to_look(cache / _LOOKED, max_bytes, now):
        return 0
    everything = list(entries(cache, by_content=False))
    excess = sum(entry.size_bytes for entry in everything) - max_bytes
    freed = _free(cache, everything, excess, progress, now) if excess > 0 else 0
    with contextlib.suppress(TargetError):
        write_file(cache / _LOOKED, str(max_bytes).encode(), durable=False)
    return freed


def _free(cache: Path, everything: list[Entry], excess: int, progress: Progress, now: float) -> int:
    """Free so many bytes, as far as they may go; returns how many went."""
    stays = _kept(cache)
    freed = 0
    with progress.task("free the cache", unit="bytes") as task:
        for entry in sorted(everything, key=lambda entry: (entry.used, entry.path)):
            if freed >= excess or now - entry.used < _IN_USE_S:
                break
            if not stays(entry) and _is_as_it_was(entry) and _remove(entry):
                freed += entry.size_bytes
                task.advance(entry.size_bytes)
    return freed


def _kept(cache: Path) -> Callable[[Entry], bool]:
    """Says what is not freed unasked: what is small, and what cannot be had again, or only by reading a whole base again.

    That is the layers of an image that is nowhere else; packages of distributions, of which mirrors keep the last version while a plan
    names another; what was found out of wheels, layers and bases; and the blobs that inventories name.
    """
    named = local.only_here(cache)
    for base in remembered.all_of(cache):
        named |= {local.blobs(cache).path(digest) for digest in remembered.blobs_of(base.inventory)}

    def stays(entry: Entry) -> bool:
        folder = entry.path.parent
        return (
            entry.size_bytes < _SMALL_BYTES
            or entry.path in named
            or (folder.name in _FACTS and entry.kind != _UNFINISHED)
            or (folder == cache / _BLOBS and _kind_of_blob(entry.path) == _PACKAGES)
        )

    return stays


def _is_time_to_look(mark: Path, max_bytes: int, now: float) -> bool:
    try:
        return mark.read_bytes() != str(max_bytes).encode() or not 0 <= now - mark.stat().st_mtime < _LOOK_S
    except OSError:
        return True


def _is_as_it_was(entry: Entry) -> bool:
    """Whether nobody used it since it was measured."""
    found = _measure(entry.path)
    return found is not None and found[1] == entry.used


def entries(cache: Path, *, by_content: bool = True) -> Iterator[Entry]:
    """Everything that the cache keeps, and nothing that envsnap did not make. What goes while this looks is left out.

    Args:
        by_content: look into blobs, to tell their kinds apart.
    """
    for path in _own(cache / _BLOBS):
        yield from _entry(_kind_of_blob(path) if by_content else "blobs", path)
    for folder, kind in _KINDS.items():
        for path in _own(cache / folder):
            yield from _entry(kind, path)


def _entry(kind: str, path: Path) -> Iterator[Entry]:
    if (found := _measure(path)) is not None:
        size, used = found
        yield Entry(kind=_UNFINISHED if path.name.startswith(".") else kind, path=path, size_bytes=size, used=used)


def _own(folder: Path) -> list[Path]:
    return [path for path in _children(folder) if _OWN.match(path.name)] if _is_directory(folder) else []


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _kind_of_blob(path: Path) -> str:
    """By its first bytes: the store knows digests alone."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError:
        start = b""
    return next((kind for magic, kind in _CONTENT if start.startswith(magic)), "other blobs")


def _measure(path: Path) -> tuple[int, float] | None:
    """Bytes on disk, and when it was last used or changed; of a directory, with all below it, of an unpacked image as it says itself."""
    if path.parent.name == roots.FOLDER and (root := roots.kept_at(path)) is not None:
        return root.bytes, root.used
    try:
        found = path.lstat()
    except OSError:
        return None
    size, used = found.st_blocks * 512, found.st_mtime
    if stat.S_ISDIR(found.st_mode):
        for child in _children(path):
            if (inner := _measure(child)) is not None:
                size, used = size + inner[0], max(used, inner[1])
    return size, used


def _remove(entry: Entry) -> bool:
    """Whether it went by this."""
    try:
        if not _is_directory(entry.path):
            entry.path.unlink()
            return True
        if entry.path.parent.name == roots.FOLDER and entry.kind != _UNFINISHED:
            return roots.drop(entry.path.parent.parent, f"sha256:{entry.path.name}")
        with tempfile.TemporaryDirectory(prefix=".gone.", dir=entry.path.parent, ignore_cleanup_errors=True) as grave:
            entry.path.rename(Path(grave, "entry"))
    except (OSError, TargetError):  # another was faster, or it is another user's
        return False
    return True


def _summary(cache: Path, found: Iterable[Entry]) -> CacheState:
    sums: dict[str, tuple[int, int]] = {}
    for entry in found:
        count, size = sums.get(entry.kind, (0, 0))
        sums[entry.kind] = (count + 1, size + entry.size_bytes)
    kinds = [Kept(kind=kind, entries=count, bytes=size) for kind, (count, size) in sums.items()]
    return CacheState(directory=str(cache), kinds=tuple(sorted(kinds, key=lambda kept: (-kept.bytes, kept.kind))))
