"""Reading a tar archive that nobody vouches for, forward and once.

Formats: POSIX ustar and pax, GNU's long names and numbers, sparse files (whose content is passed over). The standard library's reader keeps
every member and takes a header's word for how large a header may be; this one keeps nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from envsnap.inventory.stream import Damaged

Kind = Literal["file", "directory", "symlink", "hardlink", "other"]

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_KINDS: dict[bytes, Kind] = {b"1": "hardlink", b"2": "symlink", b"3": "other", b"4": "other", b"5": "directory", b"6": "other"}
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _GNU_SPARSE = b"L", b"K", b"x", b"g", b"S"
_UNSIGNED, _SIGNED = struct.Struct("148B8x356B"), struct.Struct("148b8x356b")
_MAX_EXTENSION_BYTES = 1 << 20  # of a pax header or a long name
_MAX_PATH_BYTES = 4096  # PATH_MAX of Linux
_MAX_SIZE = 1 << 46  # of one file; more is no honest size


class Member(NamedTuple):
    """A header of the archive.

    Attributes:
        path: without a leading "/" and without "." parts; "" is the root.
        size: of the content that follows. sparse: that content is not the file's as it is.
        mode: permission bits with set-ID and sticky ones.
        target: of a symbolic link as it stands there; of a hard link as `path`.
    """

    path: str
    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    target: str = ""
    sparse: bool = False


class Content:
    """The content of the member that is being read, piece by piece, once."""

    def __init__(self, source: _Source, size: int) -> None:
        self._source = source
        self._left = size

    def __iter__(self) -> Iterator[memoryview]:
        while self._left:
            piece = self._source.some(self._left)
            self._left -= len(piece)
            yield piece

    def skip(self) -> None:
        """Pass over what was not read."""
        for _ in self:
            pass


def members(pieces: Iterator[bytes]) -> Iterator[tuple[Member, Content]]:
    """The members in order. What of a content is not read before the next member is asked for is passed over; all is read to the end.

    Raises:
        Damaged: no tar archive, or one that ends early, or with a path that leads out of it, or a header of no honest size.
    """
    source = _Source(pieces)
    extended: dict[str, str] = {}
    while (header := source.block()) is not None:
        if header == _ZEROS:
            source.drain()
            return
        _require_checksum(header)
        kind, size = header[156:157], _number(header[124:136], "size")
        if kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL):
            text = _extension(source, size)
            if kind == _PAX:
                extended |= _pax(text)
            elif kind != _PAX_GLOBAL:  # engines heed none either: git archive writes its commit there
                extended["path" if kind == _LONG_NAME else "linkpath"] = _text(text.rstrip(b"\0"))
            continue
        size = _decimal(extended, "size", size)
        sparse = kind == _GNU_SPARSE or any(key.startswith("GNU.sparse.") for key in extended)
        if kind == _GNU_SPARSE:
            _pass_sparse_map(source, header)
        what = _KINDS.get(kind, "file")
        content = Content(source, size if what == "file" else 0)
        yield _member(header, extended, what, size, sparse=sparse), content
        content.skip()
        source.exactly(-(size if what == "file" else 0) % _BLOCK)
        extended = {}


class _Source:
    """A stream of pieces, read by number of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def some(self, limit: int) -> memoryview:
        """From one to `limit` bytes. Raises Damaged at the end."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                raise Damaged("it ends early")
            self._left = memoryview(piece)
        found, self._left = self._left[:limit], self._left[limit:]
        return found

    def exactly(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            found += self.some(size - len(found))
        return bytes(found)

    def block(self) -> bytes | None:
        """The next header; None at the end of the stream."""
        if len(self._left) < _BLOCK:
            while not self._left:
                piece = next(self._pieces, None)
                if piece is None:
                    return None
                self._left = memoryview(piece)
            return self.exactly(_BLOCK)
        found, self._left = bytes(self._left[:_BLOCK]), self._left[_BLOCK:]
        return found

    def drain(self) -> None:
        """Read what follows the archive, so that whoever hashes the stream has seen all of it."""
        self._left = memoryview(b"")
        for _ in self._pieces:
            pass


def _member(header: bytes, extended: dict[str, str], kind: Kind, size: int, *, sparse: bool) -> Member:
    name = _text(header[:100].split(b"\0", 1)[0])
    if header[257:263] == b"ustar\0" and header[345] and "path" not in extended:
        name = _text(header[345:500].split(b"\0", 1)[0]) + "/" + name
    name = extended.get("GNU.sparse.name") or extended.get("path") or name
    target = extended.get("linkpath") or _text(header[157:257].split(b"\0", 1)[0])
    if kind == "file" and name.endswith("/"):  # how the oldest archives say it
        kind = "directory"
    if kind == "symlink" and (len(target) > _MAX_PATH_BYTES or "\0" in target):
        raise Damaged(f"the link {name[:100]!r} leads to what is no path")
    return Member(
        path=inside(name),
        kind=kind,
        size=size,
        mode=_number(header[100:108], "mode") & 0o7777,
        uid=_decimal(extended, "uid", _number(header[108:116], "uid")),
        gid=_decimal(extended, "gid", _number(header[116:124], "gid")),
        target=inside(target) if kind == "hardlink" else target,
        sparse=sparse,
    )


def inside(path: str) -> str:
    """A path from the root, in one spelling. Raises Damaged: it leads out, or is no path."""
    if len(path) > _MAX_PATH_BYTES or "\0" in path:
        raise Damaged(f"the path {path[:100]!r}… is none")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Damaged(f"the path {path[:200]!r} leads out of it")
    return "/".join(parts)


def _require_checksum(header: bytes) -> None:
    said = _number(header[148:156], "checksum")
    if said not in (256 + sum(_UNSIGNED.unpack(header)), 256 + sum(_SIGNED.unpack(header))):
        raise Damaged("it is no tar archive all through")


def _number(field: bytes, name: str) -> int:
    """Octal digits, or GNU's binary form for what is too large for them."""
    if field[0] == 0x80:
        value = int.from_bytes(field[1:], "big")
    else:
        digits = field.split(b"\0", 1)[0].strip()
        value = int(digits or b"0", 8) if not digits.strip(b"01234567") else -1
    if not 0 <= value <= _MAX_SIZE:
        raise Damaged(f"a header has no honest {name}")
    return value


def _decimal(extended: dict[str, str], name: str, otherwise: int) -> int:
    text = extended.get(name)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit()) or len(text) > 15 or int(text) > _MAX_SIZE:
        raise Damaged(f"a pax header has no honest {name}")
    return int(text)


def _extension(source: _Source, size: int) -> bytes:
    if size > _MAX_EXTENSION_BYTES:
        raise Damaged(f"a header of {size} bytes is refused")
    text = source.exactly(size)
    source.exactly(-size % _BLOCK)
    return text


def _pax(text: bytes) -> dict[str, str]:
    """Records of a length that counts itself, a space, KEY=VALUE and a line feed."""
    found: dict[str, str] = {}
    start = 0
    while start < len(text):
        space = text.find(b" ", start, start + 9)
        digits = text[start:space] if space > 0 else b""
        end = start + int(digits) if digits.isdigit() else 0
        key, equals, value = text[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(text) or text[end - 1 : end] != b"\n" or not equals:
            raise Damaged("a pax header is malformed")
        found[_text(key)] = _text(value)
        start = end
    return found


def _pass_sparse_map(source: _Source, header: bytes) -> None:
    more = header[482]
    while more:
        more = source.exactly(_BLOCK)[504]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
