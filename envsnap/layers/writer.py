"""Writing a layer: a tar stream in gzip members whose bytes no compressor decides.

A gzip file may have many members (RFC 1952 §2.2). What was deflated elsewhere becomes a member as it is; headers and texts of ours are
deflated by `deflate`'s own rules; other content is stored. So a layer's digest follows from its entries, and from nothing else.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile

from envsnap.errors import InputError
from envsnap.layers import deflate, tar
from envsnap.layers.inflate import Inflater, crc32_of
from envsnap.oci.image import EPOCH
from envsnap.oci.paths import parents

GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""No name, no time, an unknown system."""

SMALL_BYTES = 256 << 10
"""Content up to this is a small file's, and searched for repetitions where it is text."""

_TRAILER = struct.Struct("<II")
_WINDOW = 1 << 20  # bytes of content between two headers of our own stored members
_OUT = 256 << 10
_WHOLE = 64 << 10  # what is as large is worth no copy, to be one piece with its neighbours
_UNSAFE = re.compile(r"(?:\A|/)(?:\.{0,2}|\.wh\.[^/]*)(?:/|\Z)|\0")


class LayerWriter:
    """Writes one layer, entry by entry.

    Paths are without a leading "/". One that leaves the layer, passes through something that is no directory of it, is there already, or
    would read as a whiteout is refused: `InputError`, from every method. A directory that is named again is left out: the first counts.

    Args:
        write: gets the compressed blob, piece by piece; whoever wants its digest hashes it there.
        mtime: of every entry, seconds since 1970.
    """

    def __init__(self, write: Callable[[bytes | memoryview], object], *, mtime: int = EPOCH) -> None:
        self._write = write
        self._mtime = mtime
        self._diff = hashlib.sha256()
        self._size = 0
        self._own: list[bytes] = []  # headers, padding and texts that wait to become a member
        self._own_bytes = 0
        self._own_is_text = False
        self._out: list[bytes | memoryview] = []
        self._out_bytes = 0
        self._entries: dict[str, str] = {}  # path -> SHA-256 of a file's content
        self._directories: set[str] = set()  # written, or in use as one

    def directory(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        if path in self._entries:
            if path in self._directories:
                return
            raise InputError(f"refused the directory {path!r}", why="it is a file or a link of the layer, too")
        self._claim(path)
        self._directories.add(path)
        self._put(tar.header(path, tar.DIRECTORY, size=0, mode=mode, mtime=self._mtime, uid=uid, gid=gid))

    def file(self, path: str, data: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
        """A small file, as a whole. Texts up to 256 KiB are searched for repetitions."""
        if len(data) > SMALL_BYTES or b"\0" in data:
            self.stream(path, (data,), size=len(data), mode=mode, uid=uid, gid=gid)
            return
        self._claim_file(path)
        self._entries[path] = hashlib.sha256(data).hexdigest()
        self._put(tar.header(path, tar.FILE, size=len(data), mode=mode, mtime=self._mtime, uid=uid, gid=gid))
        if data:
            self._put(data + tar.padding(len(data)))
            self._own_is_text = True

    def stream(self, path: str, pieces: Iterable[bytes | memoryview], *, size: int, mode: int = 0o644, uid: int = 0, gid: int = 0) -> str:
        """A file of `size` bytes, stored; where the pieces are cut does not matter. Returns the content's SHA-256, hex.

        Raises:
            InputError: there is more or less of it.
        """
        self._claim_file(path)
        self._put(tar.header(path, tar.FILE, size=size, mode=mode, mtime=self._mtime, uid=uid, gid=gid))
        content, crc, left = hashlib.sha256(), 0, size
        if size:
            self._end_member()
            self._emit(GZIP_HEADER)
        for window in _windows(pieces):
            left -= len(window)
            if left < 0:
                break
            content.update(window)
            crc = crc32_of(window, crc)
            self._tar(window)
            for block in deflate.bulk(window):
                self._emit(block)
        if left:
            raise _unlike(path, "more" if left < 0 else "less", size)
        if size:
            self._emit(deflate.LAST_EMPTY + _TRAILER.pack(crc, size & 0xFFFFFFFF))
            self._put(tar.padding(size))
        self._entries[path] = sha256 = content.hexdigest()
        return sha256

    def deflated(self, path: str, pieces: Iterable[bytes | memoryview], *, size: int, crc32: int, mode: int = 0o644) -> str:
        """A file whose content comes as raw deflate (RFC 1951) and stays as it is. Returns the content's SHA-256, hex.

        The pieces are inflated once, to be hashed, and checked: at most `size` bytes are ever made of them.

        Raises:
            InputError: they are no deflate stream, end too early or go on after its end, or give other content than was announced.
        """
        self._claim_file(path)
        self._put(tar.header(path, tar.FILE, size=size, mode=mode, mtime=self._mtime))
        if size:
            self._end_member()
            self._emit(GZIP_HEADER)
        content, inflater = hashlib.sha256(), Inflater(path, size)
        for piece in pieces:
            if size:
                self._emit(piece)
            for data in inflater.inflate(piece):
                content.update(data)
                self._tar(data)
        inflater.finish(crc32)
        if size:
            self._emit(_TRAILER.pack(crc32, size & 0xFFFFFFFF))
            self._put(tar.padding(size))
        self._entries[path] = sha256 = content.hexdigest()
        return sha256

    def symlink(self, path: str, target: str) -> None:
        self._link(path, tar.LINK, target, 0o777, 0, 0)

    def hardlink(self, path: str, target: str, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
        """A second name of a file.

        Args:
            target: a path of this layer or one below, without a leading "/".
            mode, uid, gid: those of the file, which engines set again.
        """
        if _UNSAFE.search(target):
            raise InputError(f"refused the hard link {path!r}", why=f"its target is {target!r}")
        self._link(path, tar.HARD_LINK, target, mode, uid, gid)

    def whiteout(self, path: str) -> None:
        """What the layers below have at `path` is gone (OCI image specification 1.1, layer.md)."""
        folder, slash, name = path.rpartition("/")
        self._claim(path)
        hidden = f"{folder}{slash}.wh.{name}"
        self._put(tar.header(hidden, tar.FILE, size=0, mode=0o644, mtime=self._mtime))

    def content(self, path: str) -> str | None:
        """SHA-256, hex, of a file that was written; "" of another entry; None where there is none."""
        return self._entries.get(path)

    def finish(self) -> tuple[str, int]:
        """End the layer. Returns its diff_id ("sha256:…" of the tar) and the tar's size in bytes."""
        self._put(tar.END)
        self._end_member()
        self._flush()
        return f"sha256:{self._diff.hexdigest()}", self._size

    def _link(self, path: str, kind: tar.Kind, target: str, mode: int, uid: int, gid: int) -> None:
        if not target or "\0" in target:
            raise InputError(f"refused the link {path!r}", why="its target is no path")
        self._claim_file(path)
        self._put(tar.header(path, kind, size=0, mode=mode, mtime=self._mtime, uid=uid, gid=gid, target=target))

    def _claim_file(self, path: str) -> None:
        if path in self._directories:
            raise InputError(f"refused the path {path!r}", why="it is a directory of the layer, too")
        self._claim(path)

    def _claim(self, path: str) -> None:
        if path in self._entries:
            raise InputError(f"refused the path {path!r}", why="it is in the layer twice")
        folder = path.rpartition("/")[0]
        if folder not in self._directories or _UNSAFE.search(path, len(folder)):
            if _UNSAFE.search(path):
                raise InputError(f"refused the path {path!r}", why="it leaves the layer, or means something else there")
            for above in takewhile(lambda above: above not in self._directories, parents(path)):
                if above in self._entries:
                    raise InputError(f"refused a path below {above!r}", why="that is a file or a link of the layer")
                self._directories.add(above)
        self._entries[path] = ""

    def _put(self, data: bytes) -> None:
        """Bytes of ours: part of the tar now, of a member later."""
        self._own.append(data)
        self._own_bytes += len(data)
        if self._own_bytes > _WINDOW:
            self._end_member()

    def _end_member(self) -> None:
        if not self._own:
            return
        data = b"".join(self._own)
        self._own.clear()
        self._own_bytes = 0
        self._tar(data)
        deflated = deflate.text(data) if self._own_is_text else deflate.headers(data)
        self._own_is_text = False
        self._emit(b"%b%b%b" % (GZIP_HEADER, deflated, _TRAILER.pack(crc32_of(data), len(data))))

    def _tar(self, data: bytes | memoryview) -> None:
        self._diff.update(data)
        self._size += len(data)

    def _emit(self, data: bytes | memoryview) -> None:
        if len(data) >= _WHOLE:
            self._flush()
            self._write(data)
            return
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes >= _OUT:
            self._flush()

    def _flush(self) -> None:
        if self._out:
            self._write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0


def _windows(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The same bytes cut at multiples of a window, however they came."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        while len(gathered) >= _WINDOW:
            yield bytes(memoryview(gathered)[:_WINDOW])
            del gathered[:_WINDOW]
    if gathered:
        yield bytes(gathered)


def _unlike(path: str, quantity: str, size: int) -> InputError:
    return InputError(f"refused {path!r}", why=f"there is {quantity} of it than the {size:,} bytes that were announced")
