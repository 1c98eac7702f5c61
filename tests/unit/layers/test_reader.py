from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from envsnap.errors import EnvsnapError, InputError
from envsnap.layers import inflate
from envsnap.layers.reader import LayerReader, Member, inflated
from envsnap.layers.writer import LayerWriter
from tests.fakes import tars

WHAT = "layer sha256:0"


@pytest.fixture(params=["fastest", "zlib"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever library inflates, the answer is the same."""
    if request.param == "zlib":
        monkeypatch.setattr(inflate, "_engine", zlib)


def read(tar: bytes, size: int = 700) -> list[tuple[Member, bytes]]:
    reader = LayerReader(tars.pieces(tar, size), what=WHAT)
    return [(member, b"".join(bytes(piece) for piece in reader.content())) for member in reader]


def test_what_the_writer_wrote_is_read() -> None:
    blob = bytearray()
    writer = LayerWriter(blob.extend)
    writer.directory("opt/env", 0o750, uid=7, gid=3_000_000)
    writer.file("opt/env/a" * 40, b"content" * 300, 0o755)
    writer.symlink("opt/env/link", "../ä")
    writer.hardlink("opt/env/twin", "opt/env/link")
    writer.whiteout("opt/old")
    diff_id, _ = writer.finish()
    tar = b"".join(inflated(tars.pieces(bytes(blob), 17), what=WHAT))
    assert diff_id == tars.diff_id(tar)
    found = read(tar)
    assert [(member.path, member.kind, member.target) for member, _ in found] == [
        ("opt/env", "directory", ""),
        ("opt/env/a" * 40, "file", ""),
        ("opt/env/link", "link", "../ä"),
        ("opt/env/twin", "hard link", "opt/env/link"),
        ("opt/.wh.old", "file", ""),
    ]
    assert found[0][0] == Member(path="opt/env", kind="directory", mode=0o750, uid=7, gid=3_000_000, mtime=315532800, size=0)
    assert found[1][1] == b"content" * 300


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_each_form_of_tar_says_the_same(form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name in ("./short", "/absolute", "d" * 60 + "/" + "f" * 90):
            header = tarfile.TarInfo(name)
            header.size, header.mode, header.mtime = 3, 0o4755, 7
            archive.addfile(header, io.BytesIO(b"abc"))
    found = read(out.getvalue())
    assert [member.path for member, _ in found] == ["short", "absolute", "d" * 60 + "/" + "f" * 90]
    assert {(member.mode, member.mtime, content) for member, content in found} == {(0o4755, 7, b"abc")}


def test_long_names_large_numbers_and_undecodable_bytes() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        header = tarfile.TarInfo("n" * 300 + "\udcff")
        header.type, header.linkname, header.uid = tarfile.SYMTYPE, "t" * 300, 1 << 40
        archive.addfile(header)
    [(member, _)] = read(out.getvalue())
    assert member.path == "n" * 300 + "\udcff"
    assert (member.target, member.uid) == ("t" * 300, 1 << 40)


def test_content_that_nobody_wants_is_passed_over() -> None:
    tar = tars.tar(tars.file("a", b"1" * 5000), tars.file("b", b"2"), tars.special("dev/null"), tars.file("c", b""))
    reader = LayerReader(tars.pieces(tar), what=WHAT)
    assert [member.path for member in reader] == ["a", "b", "dev/null", "c"]


def test_it_reads_to_the_end_of_the_stream_padding_and_all() -> None:
    tar = tars.tar(tars.file("a")) + bytes(100_000)
    left = tars.pieces(tar)
    list(LayerReader(left, what=WHAT))
    assert next(left, None) is None


@pytest.mark.usefixtures("engine")
def test_a_plain_tar_and_any_number_of_members_give_the_same_pieces() -> None:
    tar = tars.tar(*(tars.file(f"f{number}", bytes([number]) * 900) for number in range(40)))
    for blob in (tar, tars.zipped(tar), tars.zipped(tar, 60), tars.zipped(tar, 3) + bytes(512)):
        assert b"".join(inflated(tars.pieces(blob), what=WHAT)) == tar


@pytest.mark.usefixtures("engine")
def test_what_inflates_to_much_comes_in_small_pieces() -> None:
    sizes = [len(piece) for piece in inflated(iter([gzip.compress(bytes(30 << 20))]), what=WHAT)]
    assert sum(sizes) == 30 << 20
    assert max(sizes) <= 1 << 20


def header(name: bytes = b"a", size: bytes = b"00000000000", kind: bytes = b"0", target: bytes = b"") -> bytes:
    block = bytearray(512)
    block[:100], block[100:108], block[108:116], block[116:124] = name.ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0"
    block[124:136], block[136:148], block[148:156], block[156:157] = size.ljust(12, b"\0"), b"00000000000\0", b" " * 8, kind
    block[157:257], block[257:265] = target.ljust(100, b"\0"), b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extended(body: bytes) -> bytes:
    return header(b"x", b"%011o" % len(body), b"x") + body + bytes(-len(body) % 512) + header()


@pytest.mark.parametrize(
    ("tar", "why"),
    [
        (header(b"../up"), "leads out"),
        (header(b"a/../../up"), "leads out"),
        (header(b"a", kind=b"1", target=b"../up"), "leads out"),
        (header(b"a", kind=b"2"), "link to nowhere"),
        (header(b"a", kind=b"S"), "kind b'S'"),
        (header(b"a", kind=b"M"), "kind b'M'"),
        (header(size=b"0000000000z"), "a number"),
        (header(size=b"00000010000"), "cut off"),
        (header(size=b"\x8f" + b"\xff" * 11), "impossible size"),
        (header()[:300], "cut off"),
        (b"x" + header()[1:], "checksum"),
        (header(b"x", b"77777777777", b"x"), "extended header has more"),
        (extended(b"9 path=a"), "a record"),
        (extended(b"4294967296 path=a\n"), "a record"),
        (extended(b"-5 path=a\n"), "a record"),
        (extended(b"13 size=none\n"), "a number"),
        (extended(b"14 path=../up\n"), "leads out"),
        (extended(b"12 path=a\0b\n"), "leads out"),
        (extended(b"25 GNU.sparse.realsize=1\n"), "sparse"),
    ],
)
def test_what_no_layer_may_say_is_refused(tar: bytes, why: str) -> None:
    with pytest.raises(InputError, match="refused layer") as caught:
        read(tar)
    assert why in caught.value.why


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (gzip.compress(b"x" * 100_000)[:-20], "cut off"),
        (gzip.compress(b"x" * 1000)[:5], "cut off"),
        (gzip.compress(b"x") + b"garbage" * 9, "no gzip"),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 100, "no gzip"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 100, "no zstd"),
        (zstd.compress(b"x" * 100_000)[:-3], "cut off"),
        (zstd.compress(b"x") + b"garbage" * 9, "no zstd"),
    ],
)
def test_a_damaged_blob_is_refused(blob: bytes, why: str) -> None:
    with pytest.raises(InputError, match="refused layer") as caught:
        list(inflated(tars.pieces(blob, 3), what=WHAT))
    assert why in caught.value.why


def test_zstd_in_frames_is_read_in_bounded_pieces() -> None:
    contents = [bytes(5 << 20), b"second", b""]
    blob = b"".join(map(zstd.compress, contents))
    for size in (3, 1 << 20):
        pieces = list(inflated(tars.pieces(blob, size), what=WHAT))
        assert b"".join(pieces) == b"".join(contents)
        assert max(map(len, pieces)) <= 1 << 20


def test_a_zstd_window_that_no_tool_needs_is_refused() -> None:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 30})
    blob = compressor.compress(b"x" * 1000) + compressor.flush()
    with pytest.raises(InputError, match="refused layer"):
        list(inflated(iter([blob]), what=WHAT))


@pytest.mark.usefixtures("engine")
def test_a_wrong_checksum_of_gzip_is_refused() -> None:
    blob = bytearray(gzip.compress(b"x" * 1000))
    blob[-6] ^= 1
    with pytest.raises(InputError, match="refused layer"):
        list(inflated(iter([bytes(blob)]), what=WHAT))


@given(st.binary(max_size=3000), st.integers(0, 3000), st.binary(max_size=60))
def test_any_damage_ends_in_our_errors_only(noise: bytes, place: int, patch: bytes) -> None:
    tar = bytearray(tars.tar(tars.directory("d"), tars.file("d/" + "n" * 200, b"content"), tars.link("l", "d")))
    tar[place : place + len(patch)] = patch
    for data in (bytes(tar), noise, gzip.compress(tar), gzip.compress(tar)[: place + 1]):
        try:
            reader = LayerReader(inflated(tars.pieces(data), what=WHAT), what=WHAT)
            for member in reader:
                assert ".." not in member.path.split("/")
                assert sum(len(piece) for piece in reader.content()) == member.size
        except EnvsnapError:
            pass


def test_an_empty_stream_is_an_empty_layer(tmp_path: Path) -> None:
    assert read(b"") == []
    assert read(bytes(1024)) == []
