"""Tar streams: what goes in comes out, and nothing that a container made up gets out of its directory."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap import archive
from envsnap.archive import Entry, entries_of, pack, read_single, unpack
from envsnap.errors import TargetError


def tar(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as out:
        for member in members:
            if isinstance(member, tuple):
                header = tarfile.TarInfo(member[0])
                header.size = len(member[1])
                out.addfile(header, io.BytesIO(member[1]))
            else:
                out.addfile(member)
    return file.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


def chunks(data: bytes, size: int = 700) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=60).filter(
    lambda name: name not in {".", ".."} and len(name.encode()) < 200
)


@given(st.dictionaries(NAMES, st.binary(max_size=2000), max_size=6), st.integers(1, 5000))
def test_what_goes_in_comes_out(content: dict[str, bytes], size: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, result = Path(scratch, "source"), Path(scratch, "result")
        (source / "below").mkdir(parents=True)
        result.mkdir()
        for name, data in content.items():
            (source / "below" / name).write_bytes(data)
        unpack(chunks(b"".join(pack(entries_of("top", source))), size), result)
        assert files(result) == files(source)


def test_everyone_may_read_what_goes_in_and_root_owns_it(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "d" / "secretive").touch(mode=0o600)
    (tmp_path / "d" / "program").touch(mode=0o700)
    (tmp_path / "d" / "link").symlink_to("program")
    data = b"".join(pack([Entry("run/out", None, 0o777), *entries_of("run/d", tmp_path / "d")]))
    with tarfile.open(fileobj=io.BytesIO(data)) as members:
        found = {member.name: (member.mode, member.uid, member.gid, member.linkname) for member in members}
    assert found == {
        "run/out": (0o777, 0, 0, ""),
        "run/d": (0o755, 0, 0, ""),
        "run/d/link": (0o644, 0, 0, "program"),
        "run/d/program": (0o755, 0, 0, ""),
        "run/d/secretive": (0o644, 0, 0, ""),
    }


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 20)
    assert max(len(piece) for piece in pack(entries_of("x", tmp_path))) <= 1 << 20


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (3 << 20))
    pieces = pack(entries_of("file", path))
    next(pieces)
    next(pieces)
    os.truncate(path, 1 << 20)
    with pytest.raises(TargetError, match="cannot read"):
        list(pieces)


def test_a_source_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot read"):
        list(pack([Entry("x", tmp_path / "gone", 0o644)]))


@pytest.mark.parametrize(
    "member",
    [
        ("../evil", b"x"),
        ("out/../../evil", b"x"),
        ("/evil", b"x"),
        special("out/link", tarfile.SYMTYPE, "/etc/passwd"),
        special("out/link", tarfile.LNKTYPE, "out/a"),
        special("out/pipe", tarfile.FIFOTYPE),
        special("out/device", tarfile.CHRTYPE),
    ],
    ids=lambda member: member[0] if isinstance(member, tuple) else f"{member.type}",
)
def test_what_could_lead_out_is_refused(tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes]) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(TargetError, match="refused"):
        unpack(chunks(tar(("out/a", b"1"), member)), inside)
    assert files(tmp_path) == {"inside/a": b"1"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_file_cannot_be_written_twice(tmp_path: Path) -> None:
    with pytest.raises(TargetError):
        unpack(chunks(tar(("out/a", b"1"), ("out/a", b"2"))), tmp_path)
    assert files(tmp_path) == {"a": b"1"}


def test_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="refused"):
        unpack(chunks(tar(("out/a", b"1" * 600), ("out/b", b"1" * 600))), tmp_path, max_bytes=1000)
    with pytest.raises(TargetError, match="refused"):
        unpack(chunks(tar(*((f"out/{n}", b"") for n in range(20)))), tmp_path / "many", max_entries=10)


@pytest.mark.parametrize("data", [b"", b"no archive at all" * 100, tar(("out/a", b"x" * 5000))[:3000]], ids=["empty", "garbage", "cut"])
def test_a_damaged_archive_is_an_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(TargetError, match="cannot read"):
        unpack(chunks(data), tmp_path)


def test_the_archive_is_read_forward_alone() -> None:
    stream = archive.as_file(iter([b"ab", b"", b"cde"]))
    assert stream.read() == b"abcde"


def test_a_single_file() -> None:
    assert read_single(chunks(tar(("lock.yaml", b"x" * 2000))), max_bytes=2000) == b"x" * 2000
    assert read_single(chunks(tar(special("lock.yaml", tarfile.SYMTYPE, "/etc/passwd"))), max_bytes=2000) is None
    assert read_single(chunks(tar(special("lock.yaml", tarfile.DIRTYPE))), max_bytes=2000) is None
    with pytest.raises(TargetError, match="refused"):
        read_single(chunks(tar(("lock.yaml", b"x" * 2001))), max_bytes=2000)
    with pytest.raises(TargetError, match="cannot read"):
        read_single(chunks(b"garbage" * 200), max_bytes=2000)
