"""Reading .deb files: what is in them, and what is refused."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsnap.debian import deb as module
from envsnap.debian.deb import Deb
from envsnap.errors import InputError
from envsnap.model.debian import DebFile
from tests.unit.debian.conftest import Made, ar, as_file, entry, folder, link, make, tarred


def opened(made: Made) -> Deb:
    return Deb(io.BytesIO(made.data), made.file)


def contents(deb: Deb) -> list[tuple[str, str, int, str, bytes]]:
    return [(member.path, member.kind, member.mode, member.target, b"".join(content)) for member, content in deb.members()]


def raw(parts: Sequence[tuple[str, bytes]]) -> Made:
    data = ar(parts)
    return Made(data=data, file=as_file("x", "1", "all", data), control="")


CONTROL = ("control.tar", tarred([folder("./"), entry("./control", b"Package: x\nVersion: 1\nArchitecture: all\n")]))
BINARY = ("debian-binary", b"2.0\n")
EMPTY = ("data.tar", tarred([]))


@pytest.mark.parametrize("compress", [".xz", ".gz", ".zst", ""])
def test_what_is_in_it(compress: str) -> None:
    name = "usr/share/" + "long/" * 30 + "näme"
    large = bytes(range(256)) * 5000
    made = make(
        "hello",
        [
            folder("./"),
            folder("./usr/", 0o2775),
            entry("./usr/large", large, mode=0o4755),
            link("./usr/link", "../usr/large"),
            link("./usr/absolute", "/etc/alternatives/x"),
            entry("./usr/twin", kind=tarfile.LNKTYPE, target="./usr/large"),
            entry(f"./{name}", b"x"),
        ],
        compress=compress,
        scripts={"postinst": "#!/bin/sh\n"},
    )
    found = opened(made)
    assert found.text("postinst") == "#!/bin/sh\n" and found.text("prerm") == "" and found.fields["Package"] == "hello"
    assert contents(found) == [
        ("", "directory", 0o755, "", b""),
        ("usr", "directory", 0o2775, "", b""),
        ("usr/large", "file", 0o4755, "", large),
        ("usr/link", "link", 0o644, "../usr/large", b""),
        ("usr/absolute", "link", 0o644, "/etc/alternatives/x", b""),
        ("usr/twin", "hard link", 0o644, "usr/large", b""),
        (name, "file", 0o644, "", b"x"),
    ]
    assert contents(found) == contents(found)


def test_other_bytes_than_the_index_names_are_refused() -> None:
    made = make("hello")
    with pytest.raises(InputError, match=r"refused hello 1\.0-1") as caught:
        Deb(io.BytesIO(made.data + b"\n"), made.file)
    assert "not those that the signed index names" in caught.value.why
    other = as_file("bye", "1.0-1", "amd64", made.data)
    with pytest.raises(InputError) as caught:
        Deb(io.BytesIO(made.data), other)
    assert caught.value.why == "it says that it is hello 1.0-1 amd64"


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([entry("../x")], "leads out"),
        ([entry("./a/../../x")], "leads out"),
        ([entry("./a", kind=tarfile.CHRTYPE)], "is a device"),
        ([entry("./a", kind=tarfile.FIFOTYPE)], "is a device or a pipe"),
        ([entry("./a"), entry("./a")], "is there twice"),
        ([folder("./a"), entry("./a")], "is there twice"),
        ([link("./a", "/etc"), entry("./a/passwd")], "leads through 'a'"),
        ([entry("./a"), entry("./a/b")], "leads through 'a'"),
        ([link("./a", "../etc/passwd")], "leads out, to"),
        ([folder("./a/"), link("./a/b", "x/../../../y")], "leads out, to"),
        ([entry("./a", kind=tarfile.LNKTYPE, target="./b")], "which is no file before it"),
        ([entry("./a", kind=tarfile.LNKTYPE, target="../../etc/passwd")], "leads out"),
        ([entry("./a\nb")], "is no name of a file"),
        ([link("./a", "b\nc")], "is no name of a file"),
    ],
)
def test_hostile_members_are_refused_by_name(members: list[tuple[tarfile.TarInfo, bytes]], why: str) -> None:
    with pytest.raises(InputError, match=r"refused hello 1\.0-1") as caught:
        contents(opened(make("hello", members)))
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([], "not a package of format 2.0"),
        ([BINARY, CONTROL], "not a package of format 2.0"),
        ([CONTROL, BINARY, EMPTY], "not a package of format 2.0"),
        ([BINARY, ("control.tar.bz2", b""), EMPTY], "compressed as '.bz2'"),
        ([BINARY, ("control.tar.xz", b"xyz" * 20), EMPTY], "cannot be decompressed"),
        ([BINARY, ("control.tar.xz", lzma.compress(b"x" * 600)[:-8]), EMPTY], ""),
        ([BINARY, ("control.tar", tarred([entry("./control", b"Package: x")])), EMPTY], "says that it is x None None"),
        ([BINARY, ("control.tar", tarred([link("./control", "x")])), EMPTY], "its control archive holds 'control'"),
        ([BINARY, ("control.tar", tarred([entry("./a/control")])), EMPTY], "its control archive holds 'a/control'"),
        ([BINARY, CONTROL, ("data.tar.gz", gzip.compress(tarred([entry("./a", b"x" * 600)]))[:-12])], "cut off"),
        ([BINARY, CONTROL, ("data.tar.xz", lzma.compress(tarred([entry("./a", b"x" * 600)]))[:-12])], "compressed data end early"),
        ([BINARY, CONTROL, ("data.tar.xz", lzma.compress(tarred([])) + b"more" * 100_000)], "something follows"),
        ([BINARY, CONTROL, ("data.tar.gz", gzip.compress(tarred([])) + b"more" * 100_000)], "it is no gzip"),
        ([BINARY, CONTROL, ("data.tar", tarred([entry("./a", b"x" * 600)])[:700])], "cut off"),
    ],
)  # fmt: skip
def test_damaged_packages_are_refused(parts: list[tuple[str, bytes]], why: str) -> None:
    with pytest.raises(InputError, match=r"refused x 1|cannot read x 1") as caught:
        contents(opened(raw(parts)))
    assert why in caught.value.why


def test_bombs_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DATA_LIMIT", 1 << 20)
    bomb = make("bomb", [entry("./zeros", bytes(8 << 20))])
    assert len(bomb.data) < 10_000
    seen: list[int] = []
    with pytest.raises(InputError, match="refused bomb") as caught:
        seen.extend(len(piece) for _, content in opened(bomb).members() for piece in content)
    assert "more than" in caught.value.why and sum(seen) <= 1 << 20
    monkeypatch.setattr(module, "_CONTROL_LIMIT", 1000)
    with pytest.raises(InputError) as caught:
        opened(make("bomb", scripts={"postinst": "x" * 100_000}))
    assert "its control has more than 1000 bytes" in caught.value.why
    monkeypatch.undo()
    monkeypatch.setattr(module, "_MEMBER_LIMIT", 3)
    with pytest.raises(InputError, match="refused many") as caught:
        contents(opened(make("many", {f"{number}": b"" for number in range(5)})))
    assert "more than 3 files" in caught.value.why


WHOLE = make("hello", {"usr/bin/hello": b"#!/bin/sh\n" * 40, "usr/share/x": b"x"}, compress=".gz").data


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_fuzzed_packages_end_in_our_errors_alone(data: Any) -> None:
    broken = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(broken[: data.draw(st.integers(0, len(broken)))]) if data.draw(st.booleans()) else bytes(broken)
    file: DebFile = as_file("hello", "1.0-1", "amd64", cut)
    try:
        contents(Deb(io.BytesIO(cut), file))
        said = "refused hello"
    except InputError as error:
        said = error.what
    assert said.startswith(("refused hello", "cannot read hello"))
