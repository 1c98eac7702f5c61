"""A layer read forward: gzip or zstd in as many parts as it likes or a plain tar, and what the tar holds. Nothing of it is trusted.

Specifications: RFC 1952; POSIX.1-2017 (ustar, pax) and GNU tar's long names and base-256 numbers. What engines unpack can be read;
sparse files, which no engine's layers have, and kinds that nobody knows are refused.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from envsnap.errors import InputError
from envsnap.layers.inflate import DEFLATE_ERRORS, gzip_stream
from envsnap.layers.tar import BLOCK

Kind = Literal["file", "directory", "link", "hard link", "special"]

_PIECE = 1 << 20
_SLICE = 1 << 16  # of the blob, given to zlib at once: it copies what follows the end of a member, and there may be many
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_WINDOW_LOG = 27  # 128 MiB, what the highest level that build tools offer uses; a frame may ask for 2 GiB
_MAX_EXTENDED = 1 << 20
_MAX_SIZE = 1 << 50
_LATEST = 1 << 33  # seconds since 1970; no file system minds
_CHECKSUM = slice(148, 156)
_KINDS: dict[bytes, Kind] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hard link",
    b"2": "link",
    b"3": "special",
    b"4": "special",
    b"5": "directory",
    b"6": "special",
}
_NUMBER = re.compile(rb"[ \0]*([0-7]*)[ \0]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of a layer.

    Attributes:
        path: without "/" at either end, "." or ".."; "" is the root itself. Undecodable bytes as surrogates.
        mode: permission bits, those of set-uid, set-gid and sticky among them.
        mtime: seconds since 1970. size: bytes of content, 0 for all but files.
        target: of a link, as it stands there; of a hard link a path like `path`.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    target: str = ""


def inflated(blob: Iterable[bytes], *, what: str) -> Iterator[bytes]:
    """The tar in a layer's blob, in pieces of at most 1 MiB: as it is, or out of gzip's members or zstd's frames.

    Args:
        what: names the layer in an error ("layer sha256:…").

    Raises:
        InputError: it is damaged, cut off, or compressed with something else.
    """
    pieces = iter(blob)
    first = b""
    while len(first) < len(_ZSTD) and (piece := next(pieces, None)) is not None:
        first += piece
    whole = _joined(first, pieces)
    if first.startswith(_GZIP):
        yield from _members_inflated(whole, what)
    elif first.startswith(_ZSTD):
        yield from _frames_inflated(whole, what)
    else:
        yield from _cut(whole, _PIECE)


def _joined(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


def _cut(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), size):
            yield piece[start : start + size]


def _members_inflated(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    stream = gzip_stream()
    fresh = True
    for piece in _cut(pieces, _SLICE):
        rest, more = piece, False
        while rest or more:
            if fresh and not (rest := rest.lstrip(b"\0")):  # padding between members or behind the last
                break
            fresh = False
            try:
                data = stream.decompress(rest, _PIECE)
            except DEFLATE_ERRORS as error:
                raise _damaged(what, f"it is no gzip: {error}") from error
            if data:
                yield data
            if stream.eof:
                rest, more, stream, fresh = stream.unused_data, False, gzip_stream(), True
            else:
                rest, more = stream.unconsumed_tail, len(data) == _PIECE
    if not fresh:
        raise _damaged(what, "it is cut off")


def _frames_inflated(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    stream: zstd.ZstdDecompressor | None = None
    for piece in _cut(pieces, _SLICE):
        rest, more = piece, False
        while rest or more:
            stream = stream or zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
            try:
                data = stream.decompress(rest, _PIECE)
            except zstd.ZstdError as error:
                raise _damaged(what, f"it is no zstd: {error}") from error
            if data:
                yield data
            if stream.eof:
                rest, more, stream = stream.unused_data, False, None
            else:
                rest, more = b"", not stream.needs_input
    if stream is not None:
        raise _damaged(what, "it is cut off")


class LayerReader:
    """The members of a tar stream, in order, and the content of the one that was read last.

    Args:
        tar: the stream in pieces; read to its end, padding and all, by whoever reads the members to their end.
        what: names the layer in an error.
    """

    def __init__(self, tar: Iterable[bytes], *, what: str) -> None:
        self._pieces = iter(tar)
        self._what = what
        self._piece = memoryview(b"")
        self._left = 0  # of the current member's content
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        """Raises InputError: the stream is damaged, or says what no layer may."""
        extended: dict[str, bytes] = {}
        while True:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
            block = self._block()
            if block is None or not any(block):
                break
            kind, size = self._checked(block)
            if kind in (b"x", b"L", b"K", b"g"):
                data = self._read_extended(size)
                if kind == b"x":
                    extended |= self._records(data)
                elif kind != b"g":  # what a global header says is of no member
                    extended["path" if kind == b"L" else "linkpath"] = data.rstrip(b"\0")
                continue
            member = self._member(block, kind, size, extended)
            extended = {}
            self._left, self._padding = member.size, -member.size % BLOCK
            yield member
        for _ in self._pieces:
            pass

    def content(self) -> Iterator[memoryview]:
        """What is left of the last member's content. Raises InputError: the stream ends within it."""
        while self._left:
            piece = self._some(self._left)
            self._left -= len(piece)
            yield piece

    def _some(self, limit: int) -> memoryview:
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                raise _damaged(self._what, "it is cut off")
            self._piece = memoryview(piece)
        taken, self._piece = self._piece[:limit], self._piece[limit:]
        return taken

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._some(count))

    def _exactly(self, count: int) -> bytes:
        first = self._some(count)
        if len(first) == count:
            return bytes(first)
        data = bytearray(first)
        while len(data) < count:
            data += self._some(count - len(data))
        return bytes(data)

    def _block(self) -> bytes | None:
        """The next header; None where the stream ends without the blocks that should end it, which engines allow."""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return None
            self._piece = memoryview(piece)
        return self._exactly(BLOCK)

    def _checked(self, block: bytes) -> tuple[bytes, int]:
        """Kind and size of an entry whose checksum holds."""
        if self._number(block[_CHECKSUM]) != sum(block) - sum(block[_CHECKSUM]) + 8 * 0x20:
            raise _damaged(self._what, "the checksum of a tar header does not hold")
        return block[156:157], self._number(block[124:136])

    def _number(self, field: bytes) -> int:
        if field[0] & 0x80:  # base-256, as GNU tar writes what octal digits cannot say
            return 0 if field[0] & 0x40 else int.from_bytes(bytes([field[0] & 0x3F]) + field[1:], "big")
        match = _NUMBER.match(field)
        if match is None:
            raise _damaged(self._what, "a number of a tar header is none")
        return int(match[1] or b"0", 8)

    def _read_extended(self, size: int) -> bytes:
        if size > _MAX_EXTENDED:
            raise _damaged(self._what, f"an extended header has more than {_MAX_EXTENDED >> 20} MiB")
        data = self._exactly(size) if size else b""
        self._skip(-size % BLOCK)
        return data

    def _records(self, data: bytes) -> dict[str, bytes]:
        records: dict[str, bytes] = {}
        while data:
            length, space, _ = data.partition(b" ")
            end = int(length) if space and length.isdigit() and len(length) < 8 else 0
            keyword, equals, value = data[len(length) + 1 : end].partition(b"=")
            if not equals or not value.endswith(b"\n"):
                raise _damaged(self._what, "a record of an extended header is none")
            if keyword.startswith(b"GNU.sparse"):
                raise _damaged(self._what, "it has a sparse file")
            records[keyword.decode("utf-8", "replace")] = value[:-1]
            data = data[end:]
        return records

    def _member(self, block: bytes, kind_byte: bytes, size: int, extended: dict[str, bytes]) -> Member:
        kind = _KINDS.get(kind_byte)
        if kind is None:
            raise _damaged(self._what, f"it has an entry of the kind {kind_byte!r}")
        name = _text_of(block[:100])
        if block[257:263] == b"ustar\0" and block[345:500].rstrip(b"\0"):
            name = _text_of(block[345:500]) + b"/" + name
        name = extended.get("path", name)
        if kind == "file" and name.endswith(b"/"):  # as tar did before it had a kind for directories
            kind = "directory"
        path = self._path(name)
        target = extended.get("linkpath", _text_of(block[157:257]))
        if b"\0" in target or (kind in ("link", "hard link") and not target):
            raise _damaged(self._what, f"{path!r} is a link to nowhere")
        if "size" in extended:
            size = self._decimal(extended["size"])
        if size > _MAX_SIZE:
            raise _damaged(self._what, f"{path!r} has an impossible size")
        mtime = extended["mtime"].partition(b".")[0] if "mtime" in extended else None
        return Member(
            path=path,
            kind=kind,
            mode=self._number(block[100:108]) & 0o7777,
            uid=self._decimal(extended["uid"]) if "uid" in extended else self._number(block[108:116]),
            gid=self._decimal(extended["gid"]) if "gid" in extended else self._number(block[116:124]),
            mtime=min(_LATEST, self._number(block[136:148]) if mtime is None else self._decimal(mtime)),
            size=size if kind == "file" else 0,
            target=self._path(target) if kind == "hard link" else target.decode("utf-8", "surrogateescape"),
        )

    def _decimal(self, text: bytes) -> int:
        if not re.fullmatch(rb"-?[0-9]{1,18}", text):
            raise _damaged(self._what, "a number of an extended header is none")
        return max(0, int(text))

    def _path(self, name: bytes) -> str:
        """Names of a layer are relative to the root, "./etc" and "/etc" as much as "etc"; none may go up."""
        text = name.decode("utf-8", "surrogateescape")
        if "\0" in text or ".." in text.split("/"):
            raise _damaged(self._what, f"{text!r} leads out of it")
        return posixpath.normpath(f"/{text}").lstrip("/")


def _text_of(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _damaged(what: str, why: str) -> InputError:
    return InputError(f"refused {what}", why=why)
