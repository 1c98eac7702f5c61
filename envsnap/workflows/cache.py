"""What the cache keeps, and freeing it while others use it.

An entry goes in one step: a file by `unlink`, a directory by being renamed first. Whoever reads it at that moment reads on; whoever misses
it later makes it again. So nothing is locked, and an interrupt leaves a cache that is whole. Unpacked images alone are locked while
something runs in them, and stay.
"""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from envsnap.errors import TargetError
from envsnap.model.cache import CacheState, Kept
from envsnap.progress import Progress
from envsnap.rootless import roots

UNUSED_DAYS = 30
"""What was not used for so long goes where nothing else is said."""

LAYERS, WHEELS = "layers", "wheels"
_UNFINISHED, _UNFINISHED_S = "unfinished", 24 * 3600  # a temporary file of today may be somebody's work
_KINDS = {  # folder of the cache -> kind; any other folder is a kind by its own name
    "layers": LAYERS,
    "wheels": WHEELS,
    "project-pages": "index pages",
    "requires": "index pages",
    "git": "git repositories",
    "kits": "packages lent to smoke-trains",
    "images": "names of images",
    "bases": "base images",
    "bytecode": "byte code",
    "debian": "indexes of distributions",
    "records": "records of wheels",
    roots.FOLDER: "unpacked images",
}
_BLOBS = Path("blobs", "sha256")
_CONTENT = ((b"\x1f\x8b", LAYERS), (b"PK\x03\x04", WHEELS), (b"!<arch>\n", "system packages"), (b"{", "manifests and configs"))


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


def entries(cache: Path) -> Iterator[Entry]:
    """Everything that the cache keeps. What goes while this looks is left out."""
    for folder in _children(cache):
        if not _is_directory(folder):
            kinds: Iterable[tuple[str, Path]] = [(folder.name, folder)]
        elif folder.name == _BLOBS.parts[0]:
            kinds = ((_kind_of_blob(path), path) for path in _children(cache / _BLOBS))
        else:
            kinds = ((_KINDS.get(folder.name, folder.name), path) for path in _children(folder))
        for kind, path in kinds:
            found = _measure(path) if path.name != roots.LOCK else None
            if found is not None:
                size, used = found
                yield Entry(kind=_UNFINISHED if path.name.startswith(".") else kind, path=path, size_bytes=size, used=used)


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
    """Bytes on disk, and when it was last used or changed; of a directory, with all below it."""
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
