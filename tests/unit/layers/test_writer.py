"""Layers as tar readers and inflaters see them, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envsnap.errors import InputError
from envsnap.layers import tar
from envsnap.layers.writer import LayerWriter
from envsnap.oci.image import EPOCH

GOLDEN = "sha256:882a1c8bf91abaed6e914f980a87a85a66a2a06b65477fb3f9845a34a3213c26"
ROOT = Path(__file__).parents[3]


def made(write: Callable[[LayerWriter], object]) -> tuple[bytes, str]:
    """A layer's blob and its diff_id."""
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    write(writer)
    diff_id, size = writer.finish()
    stream = gzip.decompress(out.getvalue())
    assert diff_id == f"sha256:{hashlib.sha256(stream).hexdigest()}"
    assert size == len(stream)
    return out.getvalue(), diff_id


def entries(blob: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as archive:
        return {entry.name: (entry, archive.extractfile(entry).read() if entry.isreg() else b"") for entry in archive}  # type: ignore[union-attr]


def first_entry(header: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(header + tar.END)) as archive:
        entry = archive.next()
    assert entry is not None
    return entry


def packed(data: bytes, level: int = 6) -> bytes:
    stream = zlib.compressobj(level, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


def everything(writer: LayerWriter) -> None:
    writer.directory("opt")
    writer.directory("opt/shared", 0o2775, 0, 50)
    writer.file("opt/a.txt", b"hello\n" * 100)
    writer.file("opt/empty", b"", 0o600, 1000, 1000)
    writer.stream("opt/big", (bytes(3_000_000), b"abc" * 100_000, bytes(5)), size=3_300_005, mode=0o755)
    data = b"xyz" * 500_000
    writer.deflated("opt/deflated", (packed(data),), size=len(data), crc32=zlib.crc32(data), mode=0o755)
    writer.deflated("opt/nothing", (b"\x03\x00",), size=0, crc32=0)
    writer.symlink("opt/link", "../" * 60 + "far")
    writer.hardlink("opt/again", "opt/a.txt")
    writer.whiteout("opt/old")
    writer.file("opt/" + "long/" * 40 + "n" * 120, b"far")
    writer.file("opt/größe-日本", b"named")


def test_entries_are_read_back() -> None:
    blob, _ = made(everything)
    found = entries(blob)
    assert {name: (entry.type, entry.mode, entry.uid, entry.gid) for name, (entry, _) in found.items()} == {
        "opt": (tarfile.DIRTYPE, 0o755, 0, 0),
        "opt/shared": (tarfile.DIRTYPE, 0o2775, 0, 50),
        "opt/a.txt": (tarfile.REGTYPE, 0o644, 0, 0),
        "opt/empty": (tarfile.REGTYPE, 0o600, 1000, 1000),
        "opt/big": (tarfile.REGTYPE, 0o755, 0, 0),
        "opt/deflated": (tarfile.REGTYPE, 0o755, 0, 0),
        "opt/nothing": (tarfile.REGTYPE, 0o644, 0, 0),
        "opt/link": (tarfile.SYMTYPE, 0o777, 0, 0),
        "opt/again": (tarfile.LNKTYPE, 0o644, 0, 0),
        "opt/.wh.old": (tarfile.REGTYPE, 0o644, 0, 0),
        "opt/" + "long/" * 40 + "n" * 120: (tarfile.REGTYPE, 0o644, 0, 0),
        "opt/größe-日本": (tarfile.REGTYPE, 0o644, 0, 0),
    }
    assert all(entry.mtime == EPOCH and not entry.uname and not entry.gname for entry, _ in found.values())
    assert found["opt/big"][1] == bytes(3_000_000) + b"abc" * 100_000 + bytes(5)
    assert found["opt/deflated"][1] == b"xyz" * 500_000
    assert found["opt/link"][0].linkname == "../" * 60 + "far"
    assert found["opt/again"][0].linkname == "opt/a.txt"
    assert found["opt/größe-日本"][1] == b"named"


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_the_bytes_are_these_for_ever_everywhere(python: str) -> None:
    """A change here changes the digest of every layer that was made before."""
    code = (
        "import hashlib, sys; sys.path[:0] = sys.argv[1:]; from envsnap.layers.writer import LayerWriter\n"
        "h = hashlib.sha256(); w = LayerWriter(h.update)\n"
        "w.directory('opt'); w.file('opt/text', b'one two\\n' * 900); w.stream('opt/b', [bytes(range(256)) * 9000], size=2304000)\n"
        "w.symlink('opt/l', 'text'); w.file('opt/gr\\u00f6\\u00dfe', bytes(90) + b'x')\n"
        "w.deflated('opt/d', [b'\\x03\\x00'], size=0, crc32=0); w.whiteout('opt/gone'); w.file('opt/' + 'y/' * 90 + 'z', b'deep')\n"
        "w.finish(); print('sha256:' + h.hexdigest())"
    )
    found = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{python}.*/bin/python"))
    if not found and sys.version_info[:2] != tuple(map(int, python.split("."))):
        pytest.skip(f"no Python {python} here")
    program = str(found[-1]) if found else sys.executable
    odd = {"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PATH": os.environ["PATH"]}
    done = subprocess.run([program, "-I", "-c", code, str(ROOT)], env=odd, capture_output=True, text=True, check=True, umask=0o077)
    assert done.stdout.strip() == GOLDEN


def test_where_a_stream_is_cut_does_not_matter() -> None:
    data = os.urandom(100_000) + bytes(2_000_000) + os.urandom(500)

    def pieces(size: int) -> Iterator[bytes]:
        return (data[start : start + size] for start in range(0, len(data), size))

    def blob(step: int) -> bytes:
        return made(lambda writer: writer.stream("f", pieces(step), size=len(data)))[0]

    assert len({blob(step) for step in (999, 65_536, 1 << 20, 1 << 22)}) == 1


def test_where_deflated_bytes_are_cut_does_not_matter() -> None:
    data = b"a line of text\n" * 9000
    stream, size, crc = packed(data), len(data), zlib.crc32(data)
    whole = made(lambda writer: writer.deflated("f", (stream,), size=size, crc32=crc))
    bytewise = made(lambda writer: writer.deflated("f", (stream[n : n + 1] for n in range(len(stream))), size=size, crc32=crc))
    assert whole == bytewise


@pytest.mark.parametrize(
    "path", ["", "/", "/etc/passwd", "..", "../x", "a/../b", "a//b", "a/", "./a", "a/.", ".wh.a", "a/.wh.b/c", "a/.wh..wh..opq", "a\0b"]
)
def test_paths_that_leave_or_mean_something_else_are_refused(path: str) -> None:
    writer = LayerWriter(lambda _: None)
    for write in (writer.directory, lambda p: writer.file(p, b""), lambda p: writer.symlink(p, "x"), lambda p: writer.hardlink(p, "x")):
        with pytest.raises(InputError, match="refused the path"):
            write(path)
    with pytest.raises(InputError, match="refused"):
        writer.hardlink("fine", path)


def test_nothing_passes_through_what_is_no_directory() -> None:
    writer = LayerWriter(lambda _: None)
    writer.symlink("a/link", "/etc")
    with pytest.raises(InputError, match="below 'a/link'"):
        writer.file("a/link/passwd", b"")
    writer.file("a/file", b"")
    with pytest.raises(InputError, match="below 'a/file'"):
        writer.directory("a/file/x/y")
    writer.file("b/c/d", b"")
    with pytest.raises(InputError, match="'b/c'"):
        writer.symlink("b/c", "/etc")


def test_a_path_is_written_once_and_a_directory_counts_as_it_came_first() -> None:
    writer = LayerWriter(lambda _: None)
    writer.file("f", b"1")
    with pytest.raises(InputError, match="'f'"):
        writer.file("f", b"2")
    with pytest.raises(InputError, match="directory 'f'"):
        writer.directory("f")

    def twice(writer: LayerWriter) -> None:
        writer.directory("d", 0o700)
        writer.directory("d", 0o755)

    assert entries(made(twice)[0])["d"][0].mode == 0o700
    assert writer.content("f") == hashlib.sha256(b"1").hexdigest()
    assert writer.content("g") is None


@pytest.mark.parametrize("size", [9, 11, 0, 1 << 40])
def test_a_stream_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InputError) as caught:
        LayerWriter(lambda _: None).stream("f", (b"0123456789",), size=size)
    assert "announced" in caught.value.why


GOOD = packed(b"content" * 1000)


@pytest.mark.parametrize(
    ("stream", "size", "crc32", "why"),
    [
        (GOOD, 7000, 1, "CRC-32"),
        (GOOD, 6999, None, "more than"),
        (GOOD, 0, None, "more than"),
        (GOOD, 7001, None, "less than"),
        (GOOD[:-3], 7000, None, "cut off"),
        (b"", 7000, None, "cut off"),
        (GOOD + b"\0", 7000, None, "more after the end"),
        (GOOD + GOOD, 7000, None, "more after the end"),
        (b"\xff" * 50, 7000, None, "no deflate"),
        (packed(bytes(200 << 20)), 1 << 20, None, "more than"),
    ],
)
@pytest.mark.parametrize("step", [1 << 30, 7])
def test_what_deflated_bytes_say_must_be_true(stream: bytes, size: int, crc32: int | None, why: str, step: int) -> None:
    true = zlib.crc32(b"content" * 1000) if crc32 is None else crc32
    pieces = (stream[start : start + step] for start in range(0, len(stream), step))
    with pytest.raises(InputError) as caught:
        LayerWriter(lambda _: None).deflated("f", pieces, size=size, crc32=true)
    assert why in caught.value.why


def test_sizes_and_owners_beyond_a_header_are_extended() -> None:
    raw = tar.header("large", tar.FILE, size=9 << 30, mode=0o644, mtime=EPOCH, uid=3_000_000, gid=4_000_000)
    entry = first_entry(raw)
    assert (entry.size, entry.uid, entry.gid) == (9 << 30, 3_000_000, 4_000_000)
    assert len(tar.header("plain", tar.FILE, size=8**11 - 1, mode=0o644, mtime=EPOCH)) == 512


@pytest.mark.parametrize("length", [*range(95, 106), 150, 199, 253, 254, 255, 256, 257, 300])
@pytest.mark.parametrize("part", [1, 30, 99, 100, 101, 200])
def test_paths_of_every_length(length: int, part: int) -> None:
    path = "/".join(["p" * part] * length)[:length].rstrip("/")
    for kind in (tar.FILE, tar.DIRECTORY):
        assert first_entry(tar.header(path, kind, size=0, mode=0o644, mtime=EPOCH)).name == path


def test_memory_stays_flat() -> None:
    code = (
        "import zlib; from pathlib import Path; from envsnap.layers.writer import LayerWriter\n"
        # Not ru_maxrss, which knows of the process that this one was before the exec.
        "peak = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) >> 10\n"
        "w, z, c, mib, n = LayerWriter(len), zlib.compressobj(1, zlib.DEFLATED, -15), 0, bytes(range(256)) * 4096, 120\n"
        "piece = z.compress(mib) + z.flush(zlib.Z_FULL_FLUSH)\n"
        "for _ in range(n): c = zlib.crc32(mib, c)\n"
        "before = peak(); w.stream('a', (mib for _ in range(n)), size=n << 20)\n"
        "w.deflated('b', (piece * n, b'\\3\\0'), size=n << 20, crc32=c); w.finish(); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 24
