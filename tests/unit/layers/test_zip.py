"""Zip archives that somebody meant to be something else: each is refused with the reason."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import stat
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envsnap.errors import InputError
from envsnap.guest.wheel import Member as PackedMember
from envsnap.guest.wheel import add_member
from envsnap.layers.wheel import write_wheel
from envsnap.layers.writer import LayerWriter
from envsnap.layers.zip import HashedFile, read_archive, read_member, read_sequentially
from envsnap.model.layers import Layout
from tests.wheels import SCHEMES, File, make_wheel, make_zip

FILE = "pkg-1.0-py3-none-any.whl"


def contents(data: bytes) -> dict[str, bytes]:
    """All members' content, read from front to back."""
    file = io.BytesIO(data)
    archive = read_archive(file, FILE)
    file.seek(0)
    source = HashedFile(file)
    found = {}
    for member, pieces in read_sequentially(source, archive):
        packed = b"".join(pieces)
        found[member.name] = zlib.decompress(packed, -15) if member.method else packed
    assert source.finish() == hashlib.sha256(data).hexdigest()
    return found


PLAIN = {"a.txt": File(b"one" * 100), "b/": File(b"", stat.S_IFDIR | 0o755, method=0), "b/c.txt": File(b"two", method=0)}
GOOD = make_zip(PLAIN)


class OneWay(io.RawIOBase):
    """A file that cannot seek, so that zipfile writes data descriptors."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += bytes(data)  # type: ignore[call-overload]
        return len(data)  # type: ignore[arg-type]


def test_members_are_read_in_the_order_of_the_file() -> None:
    assert contents(GOOD) == {"a.txt": b"one" * 100, "b/": b"", "b/c.txt": b"two"}
    assert contents(make_zip({})) == {}


@pytest.mark.parametrize("force_zip64", [False, True])
def test_data_descriptors_of_each_kind(force_zip64: bool) -> None:
    out = OneWay()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("one", "two"):
            with archive.open(name, "w", force_zip64=force_zip64) as member:
                member.write(name.encode() * 50)
    assert contents(bytes(out.data)) == {"one": b"one" * 50, "two": b"two" * 50}


def test_wheels_that_were_packed_here() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        add_member(archive, PackedMember("größe", b"x" * 10))
    assert contents(out.getvalue()) == {"größe": b"x" * 10}


def test_a_directory_of_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    assert contents(make_zip({"one": File(b"1"), "two": File(b"2")})) == {"one": b"1", "two": b"2"}
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1)
    assert contents(make_zip({"one": File(b"12", zip64=True), "two": File(b"34", method=0, zip64=True)})) == {"one": b"12", "two": b"34"}


def test_one_member_out_of_order() -> None:
    file = io.BytesIO(GOOD)
    archive = read_archive(file, FILE)
    member = next(found for found in archive.members if found.name == "a.txt")
    assert read_member(file, archive, member, 300) == b"one" * 100
    with pytest.raises(InputError) as caught:
        read_member(file, archive, member, 299)
    assert caught.value.why == "a.txt has 300 bytes, more than 299"


def named(name: str, **changes: object) -> bytes:
    return make_zip({name: File(b"x")._replace(**changes)})  # type: ignore[arg-type]


def twice(name: str, other: str) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(name, b"" if name.endswith("/") else b"1")
            archive.writestr(other, b"2")
    return out.getvalue()


def changed(place: Callable[[bytes], int], value: bytes, data: bytes = GOOD) -> bytes:
    start = place(data)
    return data[:start] + value + data[start + len(value) :]


def central(field: int) -> Callable[[bytes], int]:
    return lambda data: data.index(b"PK\1\2") + field


def local(field: int) -> Callable[[bytes], int]:
    return lambda data: data.index(b"PK\3\4") + field


def end(field: int) -> Callable[[bytes], int]:
    return lambda data: data.index(b"PK\5\6") + field


def with_gap() -> bytes:
    """Bytes between two members, the directory put right."""
    second = GOOD.index(b"PK\3\4", 4)
    directory = GOOD.index(b"PK\1\2")
    entries = GOOD[directory : GOOD.index(b"PK\5\6")]
    parts = [b"PK\1\2" + part for part in entries.split(b"PK\1\2")[1:]]
    moved = [parts[0], *(part[:42] + struct.pack("<L", struct.unpack_from("<L", part, 42)[0] + 4) + part[46:] for part in parts[1:])]
    tail = GOOD[GOOD.index(b"PK\5\6") :]
    return GOOD[:second] + b"evil" + GOOD[second:directory] + b"".join(moved) + tail[:16] + struct.pack("<L", directory + 4) + tail[20:]


def overlapping() -> bytes:
    """Two entries of the directory for one member of the file, by two names."""
    directory, finish = GOOD.index(b"PK\1\2"), GOOD.index(b"PK\5\6")
    entry = b"PK\1\2" + GOOD[directory:finish].split(b"PK\1\2")[1]
    entries = GOOD[directory:finish] + entry.replace(b"a.txt", b"z.txt")
    return GOOD[:directory] + entries + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 4, 4, len(entries), directory, 0)


def padded(blocks: int) -> bytes:
    """A file of 2 bytes behind empty stored blocks of 5 bytes each."""
    packer = zlib.compressobj(wbits=-15)
    return deflated(b"\0\0\0\xff\xff" * blocks + packer.compress(b"ok") + packer.flush(), b"ok")


def deflated(packed: bytes, content: bytes) -> bytes:
    """An archive of a file with this deflate stream."""
    data = make_zip({"a": File(packed, method=0)})
    sizes = struct.pack("<3L", zlib.crc32(content), len(packed), len(content))
    for method, rest in ((local(8), local(14)), (central(10), central(16))):
        data = changed(rest, sizes, changed(method, b"\x08\0", data))
    return data


REFUSED = {
    "empty": (b"", "no zip archive"),
    "no zip": (b"not a zip" * 10, "no zip archive"),
    "cut off": (GOOD[:-1], "no zip archive, is cut off"),
    "half": (GOOD[: len(GOOD) // 2], "no zip archive, is cut off"),
    "appended": (GOOD + b"\0", "something follows it"),
    "prepended": (b"#!/bin/sh\n" + GOOD, "something lies before it"),
    "comment": (changed(end(20), b"\1\0"), "is cut off"),
    "absolute": (named("/etc/passwd"), "'/etc/passwd' is none that a file can have"),
    "parent": (named("a/../../b"), "leaves the directory"),
    "dots": (named(".."), "leaves the directory"),
    "dot": (named("./a"), "leaves the directory"),
    "empty part": (named("a//b"), "leaves the directory"),
    "backslash": (changed(central(46), b"a\\txt", changed(local(30), b"a\\txt")), "'a\\\\txt'"),
    "control": (named("a\nb"), "leaves the directory"),
    "NUL": (changed(central(46), b"a\0txt", changed(local(30), b"a\0txt")), "leaves the directory"),
    "escape": (named("a\x1b[2Jb"), "leaves the directory"),
    "long part": (named("x" * 256), "leaves the directory"),
    "long": (named("/".join(["y" * 200] * 11)), "leaves the directory"),
    "CP437": (changed(central(46), b"\xff.txt", changed(local(30), b"\xff.txt")), "not in the encoding that it says"),
    "UTF-8": (changed(central(8), b"\0\x08", changed(central(46), b"\xff.txt")), "not in the encoding that it says"),
    "link": (named("link", attributes=stat.S_IFLNK | 0o777), "link is a link or a device"),
    "device": (named("dev", attributes=stat.S_IFCHR | 0o666), "dev is a link or a device"),
    "socket": (named("sock", attributes=stat.S_IFSOCK | 0o666), "sock is a link or a device"),
    "folder that is a link": (named("dir/", attributes=stat.S_IFLNK | 0o777, data=b"", method=0), "dir/ is a link or a device"),
    "file that is a folder": (named("file", attributes=stat.S_IFDIR | 0o777), "file is a link or a device"),
    "twice": (twice("a", "a"), "it has a twice"),
    "as a folder, too": (twice("a/", "a"), "it has a twice"),
    "below a file": (twice("a", "a/b"), "a is a file, and a/b lies below it"),
    "encrypted": (changed(central(8), b"\1\0"), "encrypted"),
    "patched": (changed(central(8), b"\x20\0"), "of a kind that wheels have not"),
    "hidden header": (changed(central(8), b"\0\x20"), "encrypted"),
    "bzip2": (named("a", method=zipfile.ZIP_BZIP2), "compressed by method 12"),
    "lzma": (named("a", method=zipfile.ZIP_LZMA), "compressed by method 14"),
    "other name": (changed(local(30), b"b.txt"), "the header of a.txt says other things"),
    "longer name": (changed(local(26), b"\6\0"), "the header of a.txt says other things"),
    "other method": (changed(local(8), b"\0\0"), "the header of a.txt says other things"),
    "other flags": (changed(local(6), b"\x08\0"), "the header of a.txt says other things"),
    "other size": (changed(local(22), b"\1\1"), "the header of a.txt says other sizes"),
    "other checksum": (changed(local(14), b"\1\1"), "the header of a.txt says other sizes"),
    "no header": (changed(local(0), b"PK\7\x08"), "the header of a.txt says other things"),
    "gap": (with_gap(), "b/ has bytes before it that belong to no member"),
    "overlap": (overlapping(), "overlaps what is before it"),
    "bomb": (changed(central(24), struct.pack("<L", 0xFFFFFFF0)), "a.txt lies about its size"),
    "packed into more than it needs": (padded(14_000), "a is packed into 70,004 bytes, more than its 2 can need"),
    "stored of another size": (changed(lambda data: data.rindex(b"PK\1\2") + 24, b"\4"), "b/c.txt lies about its size"),
    "folder with content": (named("a/", attributes=stat.S_IFDIR | 0o755, method=0), "a/ lies about its size"),
    "beyond the end": (changed(central(20), struct.pack("<L", 1 << 30)), "reaches into its directory"),
    "disk": (changed(end(4), b"\1\0"), "a part of several"),
    "disk of a member": (changed(central(34), b"\1\0"), "a part of several"),
    "more members": (changed(end(8), b"\4\0\4\0"), "it says to have 4 members and has 3"),
    "fewer members": (changed(end(8), b"\2\0\2\0"), "it says to have 2 members and has 3"),
    "directory elsewhere": (changed(end(16), b"\0\0\0\0"), "something lies before it"),
    "no entry": (changed(central(0), b"PK\0\0"), "its directory is malformed"),
    "entry cut off": (changed(central(28), b"\xff\xff"), "its directory is malformed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(case: str) -> None:
    data, why = REFUSED[case]
    with pytest.raises(InputError) as caught:
        contents(data)
    assert caught.value.what == f"refused {FILE}"
    assert why in caught.value.why


def test_more_members_than_memory_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envsnap.layers.zip._MEMBERS", 2)
    with pytest.raises(InputError) as caught:
        contents(GOOD)
    assert "3 members" in caught.value.why
    monkeypatch.setattr("envsnap.layers.zip._MEMBERS", 3)
    monkeypatch.setattr("envsnap.layers.zip._CONTENT_BYTES", 302)
    with pytest.raises(InputError) as caught:
        contents(GOOD)
    assert "of content" in caught.value.why


def test_a_file_that_changes_between_two_looks() -> None:
    file = io.BytesIO(GOOD)
    archive = read_archive(file, FILE)
    other = GOOD[:-22] + bytes(22)
    with pytest.raises(InputError) as caught:
        list(read_sequentially(HashedFile(io.BytesIO(other)), archive))
    assert caught.value.why == "it changed while it was read"


def test_what_any_compressor_makes_is_read() -> None:
    """The worst of them: stored blocks, codes that are never better than the bytes, small buffers, a flush after each 50 bytes."""
    noise = random.Random(1).randbytes(100_000)
    packers = [zlib.compressobj(level, zlib.DEFLATED, -15, memory, how) for level in (0, 1, 9) for memory in (1, 9) for how in range(5)]
    streams = [packer.compress(noise) + packer.flush() for packer in packers]
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    pieces = [packer.compress(noise[at : at + 50]) + packer.flush(zlib.Z_SYNC_FLUSH) for at in range(0, len(noise), 50)]
    streams.append(b"".join(pieces) + packer.flush())
    assert max(map(len, streams)) > 1.1 * len(noise)
    for packed in streams:
        assert contents(deflated(packed, noise)) == {"a": noise}
    assert contents(padded(13_000)) == {"a": b"ok"}


@pytest.mark.parametrize("bound", [True, False], ids=["bound", "without it"])
def test_memory_is_bound_by_what_is_read(monkeypatch: pytest.MonkeyPatch, bound: bool) -> None:
    if not bound:
        monkeypatch.setattr("envsnap.layers.zip._PACKED_SLACK", 1 << 40)
    file = io.BytesIO(padded(1 << 20))
    tracemalloc.start()
    try:
        with contextlib.suppress(InputError):
            archive = read_archive(file, FILE)
            assert read_member(file, archive, archive.members[0], 100) == b"ok"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20 if bound else peak > 5 << 20


WHEEL = make_wheel({path: file for path, file in SCHEMES.items() if "large" not in path})
small = st.integers(0, 255)
places = st.one_of(st.integers(0, len(WHEEL) - 1), st.integers(WHEEL.index(b"PK\1\2"), len(WHEEL) - 1))
changes = st.lists(st.tuples(places, st.binary(min_size=1, max_size=4)), min_size=1, max_size=4)


def transcode(data: bytes) -> None:
    """Ends, or raises ours."""
    writer = LayerWriter(len)
    try:
        write_wheel(io.BytesIO(data), writer, Layout(python="3.11"), file=FILE, sha256=hashlib.sha256(data).hexdigest())
        writer.finish()
    except InputError as error:
        named = FILE in error.what and error.why
        if not named:
            raise AssertionError("the wheel or the reason is not named") from error


@given(changes)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_changed_wheels_end_in_our_errors_only(edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(WHEEL)
    for place, value in edits:
        data[place : place + len(value)] = value
    transcode(bytes(data))


@given(st.integers(0, len(WHEEL)), st.integers(0, len(WHEEL)), st.binary(max_size=30))
@settings(max_examples=150, deadline=None)
def test_spliced_wheels_end_in_our_errors_only(start: int, stop: int, between: bytes) -> None:
    transcode(WHEEL[:start] + between + WHEEL[stop:])


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_any_bytes_end_in_our_errors_only(data: bytes) -> None:
    transcode(data)
    transcode(data + WHEEL[-200:])


record_lines = st.lists(
    st.one_of(st.text(max_size=30), st.sampled_from(["pkg/a.py,sha256=,1", 'pkg/"a,,', "../x,sha256=AA,", ",,"])), max_size=5
)


@given(record_lines, st.text(max_size=60), st.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_metadata_ends_in_our_errors_only(record: list[str], entry_points: str, wheel: str) -> None:
    members = {
        "pkg/a.py": b"A = 1\n",
        "pkg-1.0.dist-info/entry_points.txt": f"[console_scripts]\n{entry_points}".encode(),
        "pkg-1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\n{wheel}".encode(),
    }
    transcode(make_wheel(members, record="\n".join(record).encode() if record else None))
