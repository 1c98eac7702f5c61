"""The dynamic symbols of shared objects that pass by as a stream, however large they are.

Where a shared object's tables lie is said at its end (section headers), and they may be anywhere before: at the start, or near the end,
where patchelf puts them. In between are gigabytes of GPU code. So what passes by is kept where tables can be, which its start says: the
first part of each segment that is loaded, and the section headers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

from envsnap.errors import InputError
from envsnap.guest.elf import ELF_FAULTS, PT_DYNAMIC, PT_LOAD, parse_symbols
from envsnap.guest.libraries import is_shared_object
from envsnap.layers import zip  # noqa: A004  (a module of the room)
from envsnap.layers.inflate import Inflater, crc32_of
from envsnap.model.abi import SharedObject

_HEAD = 64 << 10  # bytes that program headers are looked for in
_PART = 16 << 20  # of a segment: tables come first in it; libtorch_cpu has 11 MB of them in two segments
_MOST = 64 << 20  # of one file: memory
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_EXECUTABLE = 1

Part = tuple[int, bytes]
"""Offset in the file, and bytes."""


def table_parts(pieces: Iterable[bytes | memoryview]) -> Iterator[Part]:
    """The parts of a shared object that its tables can lie in, in order; all pieces are taken. None of what is no 64-bit ELF file."""
    stream = iter(pieces)
    head = b""
    for piece in stream:
        head += piece
        if len(head) >= _HEAD:
            break
    ranges = _ranges(head[:_HEAD])
    place = 0
    for piece in chain((head,), stream):
        for start, end in ranges:
            first, last = max(start, place), min(end, place + len(piece))
            if first < last:
                yield first, bytes(piece[first - place : last - place])
        place += len(piece)


def _ranges(head: bytes) -> list[tuple[int, int]]:
    """Where tables can be: (from, to), ascending and apart, `_MOST` bytes in all at most."""
    if head[:6] != b"\x7fELF\x02\x01" or len(head) < 64:
        return []
    programs, sections = struct.unpack_from("<QQ", head, 32)
    size, count, section_size, section_count = struct.unpack_from("<4H", head, 54)
    wanted = [(0, len(head)), (sections, sections + section_size * section_count)]
    if size == _PROGRAM_HEADER.size and programs + size * count <= len(head):
        for number in range(count):
            kind, flags, offset, _, _, length, _, _ = _PROGRAM_HEADER.unpack_from(head, programs + number * size)
            # Linkers of old put tables and code into one segment, which then is the first.
            if kind == PT_DYNAMIC or (kind == PT_LOAD and not (flags & _EXECUTABLE and offset)):
                wanted.append((offset, offset + min(length, _PART)))
    ranges: list[tuple[int, int]] = []
    left = _MOST
    for first, last in sorted(wanted):
        start = max(first, ranges[-1][1] if ranges else 0)
        end = min(last, start + left)
        if start < end:
            ranges.append((start, end))
            left -= end - start
    return ranges


def read_symbols(path: str, pieces: Iterable[bytes | memoryview]) -> SharedObject | None:
    """What a shared object that passes by needs and defines; None for what is none, and for one whose tables cannot be read.

    Args:
        path: of the result.
        pieces: its content; all are taken.
    """
    kept: list[tuple[int, bytearray]] = []
    for offset, part in table_parts(pieces):
        if kept and kept[-1][0] + len(kept[-1][1]) == offset:
            kept[-1][1].extend(part)
        else:
            kept.append((offset, bytearray(part)))

    def read(size: int, offset: int) -> bytes:
        """What was not kept is the end of the file."""
        found = (bytes(data[offset - start : offset - start + size]) for start, data in kept if start <= offset < start + len(data))
        return next(found, b"")

    try:
        symbols = parse_symbols(read)
    except ELF_FAULTS:
        return None
    return SharedObject(path=path, **symbols._asdict()) if symbols is not None else None


def wheel_symbols(wheel: BinaryIO, *, file: str) -> Iterator[tuple[str, SharedObject | None]]:
    """The shared objects of a wheel, by name: what each needs and defines, None where that cannot be read.

    They are inflated one after the other; nothing else of the wheel is, and the wheel's hash is not looked at.

    Args:
        wheel: seekable.
        file: its file name, for errors.

    Raises:
        InputError: it is no zip archive, or refused; the member is named.
    """
    archive = zip.read_archive(wheel, file)
    for member in archive.members:
        if not member.is_folder and is_shared_object(member.name):
            yield member.name, read_symbols(member.name, _content(wheel, archive, member))


def _content(wheel: BinaryIO, archive: zip.Archive, member: zip.Member) -> Iterator[bytes | memoryview]:
    packed = zip.member_pieces(wheel, archive, member)
    if member.method == zip.STORED:
        crc = 0
        for piece in packed:
            crc = crc32_of(piece, crc)
            yield piece
        if crc != member.crc32:
            raise InputError(f"refused {member.name!r}", why="its CRC-32 is another than the announced one")
        return
    inflater = Inflater(member.name, member.size)
    for piece in packed:
        yield from inflater.inflate(piece)
    inflater.finish(member.crc32)
