"""A wheel's members from what was installed of it: its layer's diff_id without the wheel.

A layer's uncompressed bytes follow from each member's name, mode and content, and from their order. The first three and the order stand in
the wheel's end, which a capture reads to prove where a package came from; content is on the disk. Nothing here is the wheel file itself:
no layer is made of it, and what is told of it is held against the layer that is made of the file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import BinaryIO, cast

from envsnap.layers import zip  # noqa: A004  (a module of the room)
from envsnap.layers.inflate import crc32_of

_SCRIPTS = ".data/scripts/"
_SCRIPT_BYTES = 1 << 20  # memory; larger ones are programs, and left as they are
# First lines of scripts for which installers put another: they do not keep it, and the member's checksum says which one it was.
_FIRST_LINES = tuple(
    f"#!python{kind}{options}{end}".encode()
    for kind, options, end in product(("", "3", "w"), ("", " -E", " -I", " -O", " -s", " -u", " "), ("\n", "\r\n"))
)

Open = Callable[[str], Iterable[bytes]]
"""Content of what is installed at a path in the layer. Raises OtherContent: nothing is there that can be read."""


class OtherContent(Exception):
    """What is installed is not what the wheel has; the message is a clause that names the file."""


class InstalledMembers:
    """See `layers.wheel.Members`. No content is held against RECORD here: whoever takes it does that.

    Args:
        end: bytes of the wheel from its central directory on; size: of the whole wheel.
        record: content of its RECORD.
        site: of the layer.

    Raises:
        InputError: the end is not that of a zip archive, or is refused.
    """

    def __init__(self, end: bytes, size: int, record: bytes, open_: Open, *, site: str, file: str) -> None:
        found = zip.read_archive(cast("BinaryIO", _End(end, size)), file).members
        self.all: Sequence[zip.Member] = tuple(member._replace(method=zip.STORED, packed_size=member.size) for member in found)
        self._record = record
        self._open = open_
        self._site = site

    def read(self, member: zip.Member, limit: int) -> bytes:
        """A file of the .dist-info folder."""
        if member.size > limit:
            raise OtherContent(f"{member.name} has {member.size:,} bytes, more than {limit:,}")
        return b"".join(self._content(member, {member.name: f"{self._site}/{member.name}"}))

    def sequentially(self, places: Mapping[str, str]) -> Iterator[tuple[zip.Member, Iterator[memoryview]]]:
        for member in self.all:
            yield member, self._content(member, places)

    def _content(self, member: zip.Member, places: Mapping[str, str]) -> Iterator[memoryview]:
        if _is_record(member.name):
            pieces: Iterable[bytes] = (self._record,)
        elif member.size <= _SCRIPT_BYTES and _SCRIPTS in member.name:
            pieces = (_as_shipped(member, self._open(places[member.name])),)
        else:
            pieces = self._open(places[member.name])
        size, crc = 0, 0
        for piece in pieces:
            size += len(piece)
            if size > member.size:
                break
            crc = crc32_of(piece, crc)
            yield memoryview(piece)
        if size != member.size or crc != member.crc32:
            raise OtherContent(f"{member.name} is not as it was installed")


def sizes(end: bytes, size: int, file: str) -> tuple[int, int]:
    """Bytes of all content of a wheel, and of the Python sources in it. Args, raises: as `InstalledMembers`."""
    members = zip.read_archive(cast("BinaryIO", _End(end, size)), file).members
    return sum(member.size for member in members), sum(member.size for member in members if member.name.endswith(".py"))


class _End:
    """A file of which only the last bytes are there."""

    def __init__(self, end: bytes, size: int) -> None:
        self._end = io.BytesIO(end)
        self._start = size - len(end)
        self._place = 0

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            return self._start + self._end.seek(place, io.SEEK_END)
        self._place = place - self._start
        self._end.seek(max(0, self._place))
        return place

    def read(self, count: int) -> bytes:
        return self._end.read(count) if self._place >= 0 else b""


def _is_record(name: str) -> bool:
    folder, _, file = name.partition("/")
    return file == "RECORD" and folder.endswith(".dist-info")


def _as_shipped(member: zip.Member, installed: Iterable[bytes]) -> bytes:
    """A script with the first line that it has in the wheel: installers put the path of an interpreter there, or several lines."""
    data = bytearray()
    for piece in installed:
        data += piece
        if len(data) > 2 * _SCRIPT_BYTES:
            break
    for first in (b"", *_FIRST_LINES):
        shipped = first + data[len(data) - member.size + len(first) :] if len(first) <= member.size else b""
        if len(shipped) == member.size and crc32_of(shipped) == member.crc32:
            return shipped
    raise OtherContent(f"{member.name} is not as it was installed, or began with a line that cannot be told")
