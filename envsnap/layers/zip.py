"""Reading a zip archive that is not trusted, from front to back, once.

Specification: APPNOTE 6.3.10. What two readers could take for two different archives is refused: members that overlap, bytes that
belong to none, a local header that says other things than the central directory, a comment, a name in another encoding than UTF-8.
What is then left has one meaning, and the members' order in the file is that of one sequential pass.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import BinaryIO, NamedTuple, NoReturn

from envsnap.errors import InputError
from envsnap.oci.paths import parents

STORED, DEFLATED = 0, 8

# Limits, each with what it is against. The largest wheels there are have some 50,000 members and 15 GB.
_MEMBERS = 500_000  # memory: a member takes some 400 bytes of it
_DIRECTORY_BYTES = 128 << 20  # memory
_NAME_BYTES, _PART_BYTES = 2048, 255  # names that no file system can have
_CONTENT_BYTES = 256 << 30  # disk: zip bombs
_RATIO = 1040  # deflate gives at most 1032 bytes for one: a size that lies is told before anything is inflated
_PACKED_SLACK = 64 << 10  # memory: a member that is read at once takes as much of it as it is packed

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s2B4HL2L2H")
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_HAS_DESCRIPTOR, _UTF8 = 0x0008, 0x0800
_HARMLESS = _HAS_DESCRIPTOR | _UTF8 | 0x0006  # bits 1 and 2: how hard the compressor tried
_KIND, _REGULAR, _FOLDER = 0o170000, 0o100000, 0o040000
_UNSAFE = re.compile(r"(?:\A|/)(?:\.{0,2})(?:/|\Z)|[\x00-\x1f\x7f\\]")
_PIECE = 256 << 10  # small enough for a core's cache, and for several wheels at once


class Member(NamedTuple):
    """One file. Attributes: mode: of Unix, 0 where the archive says none. size, packed_size: bytes. offset: of its local header."""

    name: str
    method: int
    flags: int
    crc32: int
    size: int
    packed_size: int
    offset: int
    mode: int
    is_folder: bool


@dataclass(frozen=True, slots=True)
class Archive:
    """What the end of an archive says of it.

    Attributes:
        what: the archive, for errors.
        members: in the order of the file; folders among them.
        end: offset of the central directory. tail: its bytes, and all behind it.
    """

    what: str
    members: tuple[Member, ...]
    end: int
    tail: bytes


class HashedFile:
    """A file that is read forward, in pieces, and hashed on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._piece = memoryview(b"")
        self._place = 0
        self.position = 0

    def take(self, count: int) -> bytes:
        """The next bytes; fewer at the end of the file."""
        place = self._place
        if place + count <= len(self._piece):  # nearly always
            self._place = place + count
            self.position += count
            return bytes(self._piece[place : place + count])
        return b"".join(self.pieces(count))

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next bytes as they come, at most 256 KiB each; fewer at the end of the file."""
        while count:
            if self._place == len(self._piece) and not self._next():
                return
            piece = self._piece[self._place : self._place + count]
            self._place += len(piece)
            self.position += len(piece)
            count -= len(piece)
            yield piece

    def finish(self) -> str:
        """Read what is left. Returns the SHA-256 of all of the file, hex."""
        while self._next():
            pass
        return self._hash.hexdigest()

    def _next(self) -> bool:
        data = self._file.read(_PIECE)
        self._hash.update(data)
        self._piece, self._place = memoryview(data), 0
        return bool(data)


def read_archive(file: BinaryIO, what: str) -> Archive:
    """Read the central directory.

    Args:
        what: names the archive in errors.

    Raises:
        InputError: it is no zip archive, is cut off, ambiguous, or beyond the limits.
    """
    return _DirectoryReader(file, what).read()


def read_member(file: BinaryIO, archive: Archive, member: Member, limit: int) -> bytes:
    """A small member's content, out of order.

    Raises:
        InputError: it is larger than `limit` bytes, or not what the directory says.
    """
    if member.size > limit:
        _refuse(archive, f"{member.name} has {member.size:,} bytes, more than {limit:,}")
    file.seek(member.offset)
    source = HashedFile(file)
    _check_local_header(source, archive, member)
    packed = source.take(member.packed_size)
    return _whole(archive, member, packed)


def member_pieces(file: BinaryIO, archive: Archive, member: Member) -> Iterator[memoryview]:
    """A member's packed bytes, out of order.

    Raises:
        InputError: it is cut off, or its header says other things than the directory.
    """
    file.seek(member.offset)
    source = HashedFile(file)
    _check_local_header(source, archive, member)
    end = source.position + member.packed_size
    yield from source.pieces(member.packed_size)
    if source.position != end:
        _refuse(archive, f"{member.name} is cut off")


def read_sequentially(source: HashedFile, archive: Archive) -> Iterator[tuple[Member, Iterator[memoryview]]]:
    """Every member with its packed bytes, from front to back; whoever takes a member need not take all of its bytes.

    Args:
        source: the archive, from its start.

    Raises:
        InputError: what lies before the central directory is not what that says.
    """
    members = archive.members
    for number, member in enumerate(members):
        if source.position != member.offset:
            where = "overlaps what is before it" if source.position > member.offset else "has bytes before it that belong to no member"
            _refuse(archive, f"{member.name} {where}")
        _check_local_header(source, archive, member)
        end = source.position + member.packed_size
        yield member, source.pieces(member.packed_size)
        for _ in source.pieces(end - source.position):
            pass
        if source.position != end:
            _refuse(archive, f"{member.name} is cut off")
        if member.flags & _HAS_DESCRIPTOR:
            until = members[number + 1].offset if number + 1 < len(members) else archive.end
            _check_descriptor(source.take(min(max(until - end, 0), 24)), archive, member)
    if source.position != archive.end:
        _refuse(archive, "bytes before its directory belong to no member")
    if source.take(len(archive.tail) + 1) != archive.tail:
        _refuse(archive, "it changed while it was read")


def _most_packed(size: int) -> int:
    """Bytes beyond which nobody packs a file of `size` bytes.

    A deflate stream may have any number of empty blocks. Of compressors, none that has the choice comes out above stored blocks (5 bytes
    for each of at most 65,535); one that only has the format's fixed codes needs 9 bits for a byte, and zlib's own bound for its worst
    settings (`compressBound`) adds 1/8 and 1/64 to the size. A quarter has room for one that flushes every 50 bytes, too.
    """
    return size + size // 4 + _PACKED_SLACK


def _whole(archive: Archive, member: Member, packed: bytes) -> bytes:
    stream = zlib.decompressobj(-15)
    try:
        data = stream.decompress(packed, member.size + 1) if member.method == DEFLATED else packed
    except zlib.error:
        _refuse(archive, f"{member.name} is no deflate stream")
    ended = member.method == STORED or (stream.eof and not stream.unused_data)
    if not ended or len(data) != member.size or zlib.crc32(data) != member.crc32:
        _refuse(archive, f"{member.name} has other content than its header says")
    return data


def _refuse(archive: Archive, why: str) -> NoReturn:
    raise InputError(f"refused {archive.what}", why=why)


def _check_local_header(source: HashedFile, archive: Archive, member: Member) -> None:
    name = member.name.encode()
    raw = source.take(_LOCAL.size + len(name))
    if len(raw) < _LOCAL.size:
        _refuse(archive, f"{member.name} is cut off")
    signature, _, _, flags, method, _, _, crc32, packed_size, size, name_length, extra_length = _LOCAL.unpack_from(raw)
    said_name = (signature, flags, method, name_length, raw[_LOCAL.size :])
    if said_name != (b"PK\3\4", member.flags, member.method, len(name), name):
        _refuse(archive, f"the header of {member.name} says other things than the directory")
    extra = source.take(extra_length) if extra_length else b""
    if _MAX32 in (size, packed_size):
        values = _extra_fields(extra).get(_ZIP64, b"")
        if len(values) >= 16:
            size, packed_size = struct.unpack_from("<2Q", values)
    said = (crc32, size, packed_size)
    known = (member.crc32, member.size, member.packed_size)
    if said != known and not (flags & _HAS_DESCRIPTOR and crc32 == 0 and not (size or packed_size)):
        _refuse(archive, f"the header of {member.name} says other sizes than the directory")


def _check_descriptor(raw: bytes, archive: Archive, member: Member) -> None:
    values = (member.crc32, member.packed_size, member.size)
    small = () if max(values) > _MAX32 else (struct.pack("<3L", *values),)
    forms = (*small, struct.pack("<LQQ", *values))
    if raw not in (*forms, *(b"PK\7\x08" + form for form in forms)):
        _refuse(archive, f"what follows {member.name} is not its data descriptor")


def _extra_fields(extra: bytes) -> Mapping[int, bytes]:
    """By their number; what is no field is left out."""
    found, place = dict[int, bytes](), 0
    while place + 4 <= len(extra):
        number, length = struct.unpack_from("<2H", extra, place)
        found[number] = extra[place + 4 : place + 4 + length]
        place += 4 + length
    return found


class _DirectoryReader:
    def __init__(self, file: BinaryIO, what: str) -> None:
        self._file = file
        self._what = what
        self._size = file.seek(0, io.SEEK_END)

    def read(self) -> Archive:
        start, length, count = self._find()
        self._file.seek(start)
        tail = self._file.read(self._size - start)
        if len(tail) != self._size - start:
            self._refuse("it is cut off")
        members = self._members(memoryview(tail)[:length], count, start)
        return Archive(self._what, tuple(sorted(members, key=lambda member: member.offset)), start, tail)

    def _refuse(self, why: str) -> NoReturn:
        raise InputError(f"refused {self._what}", why=why)

    def _find(self) -> tuple[int, int, int]:
        """Offset and bytes of the central directory, and how many members it has."""
        end = self._size - _END.size
        raw = self._at(end, _END.size)
        if len(raw) < _END.size or not raw.startswith(b"PK\5\6"):
            self._refuse("it is no zip archive, is cut off, or something follows it")
        _, disk, first_disk, here, count, length, start, comment = _END.unpack(raw)
        if comment:
            self._refuse("it is cut off")  # a comment would lie behind what was read
        if disk or first_disk or here != count:
            self._refuse("it is a part of several")
        located = self._at(end - _END64_LOCATOR.size, _END64_LOCATOR.size)
        if located.startswith(b"PK\6\7"):
            _, first_disk, place, disks = _END64_LOCATOR.unpack(located)
            raw = self._at(place, _END64.size)
            if len(raw) < _END64.size or not raw.startswith(b"PK\6\6") or first_disk or disks > 1:
                self._refuse("its zip64 record is none")
            said = (count, length, start)
            _, record_size, _, _, disk, first_disk, here, count, length, start = _END64.unpack(raw)
            if record_size != _END64.size - 12 or place + _END64.size != end - _END64_LOCATOR.size:
                self._refuse("something lies behind its directory")
            if disk or first_disk or here != count:
                self._refuse("it is a part of several")
            if any(
                small not in (large, limit)
                for small, large, limit in zip(said, (count, length, start), (_MAX16, _MAX32, _MAX32), strict=True)
            ):
                self._refuse("its two ends contradict each other")
            end = place
        if start + length != end:
            self._refuse("something lies before it or behind its directory")
        if length > _DIRECTORY_BYTES or count > _MEMBERS:
            self._refuse(f"it has {count:,} members and a directory of {length:,} bytes")
        return start, length, count

    def _at(self, place: int, count: int) -> bytes:
        if not 0 <= place <= self._size:
            return b""
        self._file.seek(place)
        return self._file.read(count)

    def _members(self, directory: memoryview, count: int, end: int) -> list[Member]:
        members, place, names, total = [], 0, set[str](), 0
        while place < len(directory):
            if len(directory) - place < _CENTRAL.size:
                self._refuse("its directory is cut off")
            member, place = self._member(directory, place)
            name = member.name.rstrip("/")
            if name in names:
                self._refuse(f"it has {name} twice")
            names.add(name)
            total += member.size
            if total > _CONTENT_BYTES:
                self._refuse(f"it says to have more than {_CONTENT_BYTES >> 30} GiB of content")
            if member.offset + _LOCAL.size + member.packed_size > end:
                self._refuse(f"{name} reaches into its directory")
            if member.packed_size > _most_packed(member.size):
                self._refuse(f"{name} is packed into {member.packed_size:,} bytes, more than its {member.size:,} can need")
            members.append(member)
        if len(members) != count:
            self._refuse(f"it says to have {count:,} members and has {len(members):,}")
        self._check_parents(members)
        return members

    def _check_parents(self, members: list[Member]) -> None:
        files = {member.name for member in members if not member.is_folder}
        checked: set[str] = set()
        for member in members:
            for folder in takewhile(lambda folder: folder not in checked, parents(member.name.rstrip("/"))):
                if folder in files:
                    self._refuse(f"{folder} is a file, and {member.name} lies below it")
                checked.add(folder)

    def _member(self, directory: memoryview, place: int) -> tuple[Member, int]:
        """The member whose entry begins at `place`, and where the next one does."""
        (signature, _, _, _, _, flags, method, _, _, crc32, packed_size, size,
         name_length, extra_length, comment_length, disk, _, attributes, offset) = _CENTRAL.unpack_from(directory, place)  # fmt: skip
        place += _CENTRAL.size
        end = place + name_length + extra_length + comment_length
        if signature != b"PK\1\2" or end > len(directory):
            self._refuse("its directory is malformed")
        raw = bytes(directory[place : place + name_length])
        name = self._name(raw, flags)
        fields = _extra_fields(bytes(directory[place + name_length : end - comment_length])) if extra_length else {}
        if _UNICODE_PATH in fields:
            self._refuse(f"{name} has two names")
        if _MAX32 in (size, packed_size, offset):
            size, packed_size, offset = self._zip64(name, fields.get(_ZIP64, b""), (size, packed_size, offset))
        if flags & ~_HARMLESS:
            self._refuse(f"{name} is encrypted, or of a kind that wheels have not")
        if method not in (STORED, DEFLATED):
            self._refuse(f"{name} is compressed by method {method}: a wheel's members are stored or deflated")
        if disk:
            self._refuse("it is a part of several")
        is_folder, mode = name.endswith("/"), attributes >> 16
        if mode & _KIND not in ((0, _FOLDER) if is_folder else (0, _REGULAR)):
            self._refuse(f"{name} is a link or a device")
        if (size and is_folder) or (method == STORED and size != packed_size) or size > packed_size * _RATIO:
            self._refuse(f"{name} lies about its size")
        return Member(name, method, flags, crc32, size, packed_size, offset, mode, is_folder), end

    def _name(self, raw: bytes, flags: int) -> str:
        try:
            name = raw.decode("utf-8" if flags & _UTF8 else "ascii")
        except UnicodeDecodeError:
            self._refuse(f"the name {raw[:80]!r} is not in the encoding that it says")
        if _UNSAFE.search(name.removesuffix("/")) or len(raw) > _NAME_BYTES or (len(raw) > _PART_BYTES and self._has_long_part(raw)):
            self._refuse(f"the name {name[:80]!r} is none that a file can have, or leaves the directory")
        return name

    def _has_long_part(self, raw: bytes) -> bool:
        return max(map(len, raw.split(b"/"))) > _PART_BYTES

    def _zip64(self, name: str, field: bytes, values: tuple[int, int, int]) -> tuple[int, int, int]:
        """What did not fit into 32 bits stands in an extra field, in this order."""
        wanted = sum(value == _MAX32 for value in values)
        if len(field) < 8 * wanted:
            self._refuse(f"{name} has no zip64 sizes")
        large = iter(struct.unpack_from(f"<{wanted}Q", field))
        size, packed_size, offset = (next(large) if value == _MAX32 else value for value in values)
        return size, packed_size, offset
