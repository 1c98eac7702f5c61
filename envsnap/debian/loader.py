"""/etc/ld.so.cache: what `ldconfig` makes, for libraries that are added without running it (glibc's elf/cache.c and elf/ldconfig.c).

The dynamic loader finds what lies in its own directories without it. `ldconfig -p` does not, and so neither do Python's
`ctypes.util.find_library` and what relies on it.
"""

from __future__ import annotations

import re
import struct
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple

from envsnap.guest.elf import ELF_FAULTS, parse_elf

CACHE = "etc/ld.so.cache"
MULTIARCH = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")
_LITTLE_ENDIAN = 2
_FLAGS = {"amd64": 0x0303, "arm64": 0x0A03}
_LIBRARY = re.compile(r"(?:lib|ld-)[^/]*\.so(?:\.[^/]*)?\Z")
_SPOOLED = 8 << 20


class Entry(NamedTuple):
    """A library. Attributes: path: absolute; flags: its ABI."""

    soname: str
    path: str
    flags: int


def directories(arch: str) -> tuple[str, ...]:
    """Where ldconfig looks on Debian and Ubuntu, in its order, without the leading "/"."""
    multiarch = MULTIARCH[arch]
    return ("usr/local/lib", f"usr/local/lib/{multiarch}", f"lib/{multiarch}", f"usr/lib/{multiarch}", "lib", "usr/lib")


def read(cache: bytes) -> Iterator[Entry]:
    """The libraries in a cache; those for one kind of processor alone are passed over, as their generic ones are there, too."""
    start = cache.find(_MAGIC)
    data = cache[start:] if start >= 0 else b""  # an older form may stand before it
    if len(data) < _HEADER.size:
        return
    count = int(_HEADER.unpack_from(data)[1])
    for number in range(min(count, (len(data) - _HEADER.size) // _ENTRY.size)):
        flags, key, value, _, hwcap = _ENTRY.unpack_from(data, _HEADER.size + number * _ENTRY.size)
        if not hwcap:
            yield Entry(_string(data, key), _string(data, value), flags)


def write(entries: Iterable[Entry]) -> bytes:
    """A cache in the order in which the loader searches it; of one name, the first comes first."""
    ordered = sorted(dict.fromkeys(entries), key=lambda entry: (_order(entry.soname), entry.flags), reverse=True)
    strings = bytearray()
    table = bytearray()
    start = _HEADER.size + len(ordered) * _ENTRY.size
    for entry in ordered:
        path = entry.path.encode("utf-8", "surrogateescape")
        soname = entry.soname.encode("utf-8", "surrogateescape")
        value = start + len(strings)
        strings += path + b"\0"
        key = value + len(path) - len(soname)
        if not path.endswith(soname):
            key = start + len(strings)
            strings += soname + b"\0"
        table += _ENTRY.pack(entry.flags, key, value, 0, 0)
    return _HEADER.pack(_MAGIC, len(ordered), len(strings), _LITTLE_ENDIAN, 0) + bytes(table + strings)


class Libraries:
    """Notes the libraries of packages while they are written. Args: merged: /lib is a link to /usr/lib."""

    def __init__(self, arch: str, *, merged: bool) -> None:
        self._flags = _FLAGS[arch]
        self._rank = {self._named(folder, merged): rank for rank, folder in reversed(list(enumerate(directories(arch))))}
        self._merged = merged
        self._files: dict[str, str] = {}
        self._links: dict[str, str] = {}

    @staticmethod
    def _named(folder: str, merged: bool) -> str:
        """As ldconfig comes across it first."""
        return folder.removeprefix("usr/") if merged and folder.startswith("usr/lib") else folder

    def is_one(self, place: str) -> bool:
        """Whether a file at a place of the image may be a library that the loader looks for."""
        folder, _, name = place.rpartition("/")
        return self._named(folder, self._merged) in self._rank and _LIBRARY.match(name) is not None

    def link(self, place: str, target: str) -> None:
        if self.is_one(place) and "/" not in target:
            self._links[place] = target

    def teed(self, place: str, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """The same pieces; when they have passed, what the library is called is known."""
        with tempfile.SpooledTemporaryFile(_SPOOLED) as copy:
            for piece in pieces:
                copy.write(piece)
                yield piece
            soname = _soname(copy)
        if soname is not None:
            self._files[place] = soname or place.rpartition("/")[2]

    def entries(self) -> list[Entry]:
        """Each name that a program may ask for, under the path by which ldconfig would give it out."""
        found: list[tuple[int, Entry]] = []
        for place, soname in self._files.items():
            found.append(self._entry(place, soname))
        for place, target in self._links.items():
            folder = place.rpartition("/")[0]
            soname = self._files.get(f"{folder}/{target}", "")
            # A link to a file that has its soname for a name is a library of its own ("libfoo.so" -> "libfoo.so.1").
            if soname == target:
                found.append(self._entry(place, place.rpartition("/")[2]))
        return [entry for _, entry in sorted(set(found))]

    def _entry(self, place: str, soname: str) -> tuple[int, Entry]:
        folder = self._named(place.rpartition("/")[0], self._merged)
        return self._rank[folder], Entry(soname, f"/{folder}/{soname}", self._flags)


def _soname(file: IO[bytes]) -> str | None:
    """DT_SONAME, "" for a library without; None for what is no library."""

    def at(size: int, offset: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    try:
        elf = parse_elf(at)
    except ELF_FAULTS:
        return None
    return elf.soname if elf is not None else None


def _order(name: str) -> tuple[tuple[int, int], ...]:
    """What sorts as `_dl_cache_libcmp` does: digits as numbers, and after everything else."""
    parts = re.findall(r"[0-9]+|[^0-9]", name)
    return tuple((2, int(part)) if part.isdigit() else (1, ord(part)) for part in parts)


def _string(data: bytes, offset: int) -> str:
    return data[offset : data.find(b"\0", offset)].decode("utf-8", "surrogateescape")
