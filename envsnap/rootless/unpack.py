"""An image's layers, applied in order onto one directory, as an ordinary user.

Nothing there is anybody else's, so that nothing needs root: owners are not kept, device nodes are left out (a runtime brings its own),
set-uid bits and what lets others write are dropped. Layers are not trusted: names are resolved within the directory, as a runtime
resolves them within an image, and the last part of a name is never followed. Nobody else may have the directory while it is filled.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import queue
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from envsnap.errors import InputError
from envsnap.layers.reader import LayerReader, Member, inflated
from envsnap.progress import Task
from envsnap.rootless.inside import LeadsNowhere, resolve

if TYPE_CHECKING:
    from hashlib import _Hash

OpenLayer = Callable[[], Iterator[bytes]]
"""Opens a layer's blob, gzipped or not, as a stream."""

_MAX_BYTES = 256 << 30
_MAX_MEMBERS = 1_000_000
_WHITEOUT, _META, _OPAQUE = ".wh.", ".wh..wh.", ".wh..wh..opq"
_AHEAD = 4  # pieces of 1 MiB that are inflated while others are written
_GRACE_S = 5.0
_ITS_FAULT = {errno.ENAMETOOLONG, errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.EMLINK}


class Unpacker:
    """Applies layers to an empty directory.

    Attributes:
        bytes: content of the files that were written.
    """

    def __init__(self, root: Path, *, max_bytes: int = _MAX_BYTES, max_members: int = _MAX_MEMBERS) -> None:
        self.bytes = 0
        self._root = str(root)
        self._max_bytes, self._max_members = max_bytes, max_members
        self._members = 0
        self._directories = {"": self._root}  # by the names that layers give them, where they really lie
        self._open: set[str] = set()  # directories that anybody may write in the image
        self._brought: set[str] = set()  # by the layer at hand, and the directories above: a layer hides what lies below it alone
        self._what = ""

    def apply(self, diff_id: str, opened: OpenLayer, task: Task) -> None:
        """Apply one layer.

        Args:
            task: told of bytes.

        Raises:
            InputError: it is damaged, tells of too much, or is not what its diff_id says.
            OSError: as the disk says it; what `opened` raises.
        """
        self._what = f"layer {diff_id[:19]}"
        self._brought = {self._root}
        sha256 = hashlib.sha256()
        with _ahead(_hashed(inflated(opened(), what=self._what), sha256)) as tar:
            layer = LayerReader(tar, what=self._what)
            for member in layer:
                self._count(member)
                try:
                    self._place(member, layer)
                except LeadsNowhere as error:
                    raise self._refused(str(error)) from error
                except OSError as error:
                    if error.errno in _ITS_FAULT:
                        raise self._refused(f"{member.path!r} cannot be placed: {error.strerror}") from error
                    raise
                task.advance(member.size)
        if (found := f"sha256:{sha256.hexdigest()}") != diff_id:
            raise self._refused(f"it holds other bytes than its digest says: {found[:19]}…")

    def writable(self) -> tuple[str, ...]:
        """Topmost directories that anybody may write in the image, as its absolute paths, sorted."""
        found: list[str] = []
        for place in sorted(self._open):
            if _is_directory(place) and not any(place.startswith(f"{above}/") for above in found):
                found.append(place)
        return tuple(place.removeprefix(self._root) for place in found)

    def directory(self, path: str) -> str:
        """Where a directory of the image really lies; it is made where it is missing. Raises LeadsNowhere: it cannot be."""
        if (known := self._directories.get(path)) is None:
            known = resolve(self._root, path, make=self._new_directory)
            assert known is not None
            self._directories[path] = known
        return known

    def _count(self, member: Member) -> None:
        self._members += 1
        self.bytes += member.size
        if self._members > self._max_members:
            raise self._refused(f"the image has more than {self._max_members:,} files")
        if self.bytes > self._max_bytes:
            raise self._refused(f"the image has more than {self._max_bytes:,} bytes")

    def _place(self, member: Member, layer: LayerReader) -> None:
        head, name = posixpath.split(member.path)
        if not name:
            return  # the root itself
        if name.startswith(_WHITEOUT):
            self._hide(head, name)
            return
        place = f"{self.directory(head)}/{name}"
        if member.kind == "directory":
            self._make_directory(place, member.mode)
        elif member.kind == "file":
            self._write(place, member, layer)
        elif member.kind == "link":
            self._replacing(place, lambda: Path(place).symlink_to(member.target))
        elif member.kind == "hard link":
            self._link(place, member.target)
        else:
            self._remove(place)
        self._bring(place)

    def _bring(self, place: str) -> None:
        while place not in self._brought:
            self._brought.add(place)
            place = posixpath.dirname(place)

    def _new_directory(self, place: str) -> None:
        path = Path(place)
        path.mkdir()
        path.chmod(0o755)  # whatever the umask

    def _make_directory(self, place: str, mode: int) -> None:
        if not _is_directory(place):
            self._remove(place)
            Path(place).mkdir()
        Path(place).chmod(mode & 0o755 | 0o700)
        (self._open.add if mode & stat.S_IWOTH else self._open.discard)(place)

    def _write(self, place: str, member: Member, layer: LayerReader) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = self._replacing(place, lambda: os.open(place, flags, 0o600))
        try:
            for piece in layer.content():
                left = piece
                while left:
                    left = left[os.write(handle, left) :]
            os.fchmod(handle, member.mode & 0o755 | 0o400)
            os.utime(handle, (member.mtime, member.mtime))  # by which byte code knows its source
        finally:
            os.close(handle)

    def _link(self, place: str, target: str) -> None:
        head, name = posixpath.split(target)
        source = f"{self.directory(head)}/{name}"
        if _is_directory(source):
            raise LeadsNowhere(f"a hard link leads to the directory {target!r}")
        if source != place:
            self._replacing(place, lambda: os.link(source, place, follow_symlinks=False))

    def _replacing(self, place: str, make: Callable[[], _Made]) -> _Made:
        """Make something where something else may be: that is removed, never written through."""
        try:
            return make()
        except FileExistsError:
            self._remove(place)
            return make()

    def _hide(self, head: str, name: str) -> None:
        if name.startswith(_META) and name != _OPAQUE:
            return  # bookkeeping of a storage driver
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise LeadsNowhere(f"{head}/{name} hides nothing that has a name")
        parent = resolve(self._root, head)
        if parent is None or not _is_directory(parent):
            return
        for place in _children(parent) if name == _OPAQUE else (f"{parent}/{hidden}",):
            self._hide_below(place)

    def _hide_below(self, place: str) -> None:
        if place not in self._brought:
            self._remove(place)
        elif _is_directory(place):
            for below in _children(place):
                self._hide_below(below)

    def _remove(self, place: str) -> None:
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            shutil.rmtree(place)
        else:
            Path(place).unlink()
        if not stat.S_ISREG(mode):
            self._directories = {"": self._root}  # names may lead elsewhere now

    def _refused(self, why: str) -> InputError:
        return InputError(f"refused {self._what}", why=why)


_Made = TypeVar("_Made")


def _is_directory(place: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(place).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _children(place: str) -> list[str]:
    with os.scandir(place) as entries:
        return [entry.path for entry in entries]


def _hashed(pieces: Iterable[bytes], sha256: _Hash) -> Iterator[bytes]:
    for piece in pieces:
        sha256.update(piece)
        yield piece


@contextmanager
def _ahead(pieces: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """The same pieces, made by a thread of their own a little ahead of whoever takes them: inflating and hashing need a core themselves."""
    taken: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
    enough = threading.Event()

    def make() -> None:
        end: BaseException | None = None
        try:
            for piece in pieces:
                taken.put(piece)
                if enough.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            end = error
        taken.put(end)

    def take() -> Iterator[bytes]:
        while (piece := taken.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        enough.set()
        give_up = time.monotonic() + _GRACE_S
        while thread.is_alive() and time.monotonic() < give_up:  # it may be waiting for room, or for a registry
            with suppress(queue.Empty):
                taken.get(timeout=0.05)
