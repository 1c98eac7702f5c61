"""Layers made by hand: what a tool would write, and what none would."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterator

import pytest

from envsnap.inventory.files import FileSystem

Entry = tuple[str, tarfile.TarInfo, bytes]


def directory(path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, uid, gid
    return path, info, b""


def file(path: str, data: bytes = b"", mode: int = 0o644) -> Entry:
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(data), mode
    return path, info, data


def link(path: str, target: str) -> Entry:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return path, info, b""


def hard_link(path: str, target: str) -> Entry:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return path, info, b""


def device(path: str) -> Entry:
    info = tarfile.TarInfo(path)
    info.type = tarfile.CHRTYPE
    return path, info, b""


def whiteout(path: str) -> Entry:
    parent, _, name = path.rpartition("/")
    return file(f"{parent}/.wh.{name}" if parent else f".wh.{name}")


def opaque(path: str) -> Entry:
    return file(f"{path}/.wh..wh..opq")


def layer(*entries: Entry) -> bytes:
    """An uncompressed layer."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for _, info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def pieces(data: bytes, size: int = 700) -> Iterator[bytes]:
    """Of a size that no header begins at."""
    yield from (data[start : start + size] for start in range(0, len(data), size))


@pytest.fixture
def put() -> Iterator[Callable[..., FileSystem]]:
    """Makes a file system of uncompressed layers."""
    with tempfile.TemporaryFile() as spool:
        files = FileSystem(spool)

        def put_layers(*layers: bytes) -> FileSystem:
            for number, one in enumerate(layers, 1):
                files.apply(pieces(one), what=f"layer {number}")
            return files

        yield put_layers


def elf(*, soname: str = "", needed: tuple[str, ...] = (), search: str = "", interpreter: str = "", text: bytes = b"") -> bytes:
    """A 64-bit ELF file for x86-64 with nothing but what a loader reads, and `text` somewhere in it."""
    strings = bytearray(b"\0")

    def string(value: str) -> int:
        offset = len(strings)
        strings.extend(value.encode() + b"\0")
        return offset

    tags = [(1, string(one)) for one in needed] + ([(14, string(soname))] if soname else []) + ([(29, string(search))] if search else [])
    count = 2 + bool(interpreter)
    dynamic_at = 64 + 56 * count
    dynamic_size = 16 * (len(tags) + 2)
    strings_at = dynamic_at + dynamic_size
    interpreter_at = strings_at + len(strings)
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in [*tags, (5, strings_at), (0, 0)])
    tail = bytes(strings) + interpreter.encode() + b"\0" + text + b"\0"
    size = dynamic_at + len(dynamic) + len(tail)
    headers = [(1, 0, 0, size), (2, dynamic_at, dynamic_at, dynamic_size)]
    headers += [(3, interpreter_at, interpreter_at, len(interpreter) + 1)] if interpreter else []
    table = b"".join(struct.pack("<IIQQQQQQ", kind, 5, at, address, address, length, length, 8) for kind, at, address, length in headers)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    return head + table + dynamic + tail


def loader_cache(entries: dict[str, str], flags: int = 0x0303) -> bytes:
    """An etc/ld.so.cache in glibc's new format."""
    strings, table = bytearray(), []
    start = 48 + 24 * len(entries)
    for soname, path in entries.items():
        key = start + len(strings)
        strings.extend(soname.encode() + b"\0")
        value = start + len(strings)
        strings.extend(path.encode() + b"\0")
        table.append(struct.pack("<iIIIQ", flags, key, value, 0, 0))
    head = b"glibc-ld.so.cache1.1" + struct.pack("<II", len(entries), len(strings)) + bytes(20)
    return head + b"".join(table) + bytes(strings)
