from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsnap.errors import InputError
from envsnap.progress import SILENT
from envsnap.rootless.unpack import Unpacker
from tests.fakes import tars
from tests.fakes.tars import Member, directory, file, hard_link, link, special


def apply(unpacker: Unpacker, *members: Member) -> None:
    data = tars.tar(*members)
    with SILENT.task("test") as task:
        unpacker.apply(tars.diff_id(data), lambda: tars.pieces(tars.zipped(data, 3)), task)


def tree(root: Path) -> dict[str, str]:
    """Path -> what is there: "/", "-> target", or content."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = f"-> {path.readlink()}" if path.is_symlink() else "/" if path.is_dir() else path.read_text()
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/victim").write_text("untouched")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def untouched(root: Path) -> bool:
    outside = root.parent / "outside"
    return tree(outside) == {"victim": "untouched"} and {path.name for path in root.parent.iterdir()} == {"outside", "root"}


def test_layers_lie_over_each_other(root: Path) -> None:
    unpacker = Unpacker(root)
    apply(unpacker, directory("a"), file("a/one", b"1"), file("a/two", b"2"), link("l", "a"), hard_link("a/twin", "a/one"))
    apply(unpacker, file("a/one", b"new"), file("b/deep/three", b"3"))
    assert tree(root) == {
        "a": "/",
        "a/one": "new",
        "a/two": "2",
        "a/twin": "1",
        "l": "-> a",
        "b": "/",
        "b/deep": "/",
        "b/deep/three": "3",
    }
    assert unpacker.bytes == 6


def test_whiteouts_hide_what_lies_below_and_nothing_of_their_own_layer(root: Path) -> None:
    unpacker = Unpacker(root)
    apply(unpacker, file("gone"), file("kept"), file("d/old"), file("d/sub/old"), file("e/old"), file("f/x"), file("f/y"))
    apply(
        unpacker,
        file("d/new", b"n"),
        file("d/sub/new", b"n"),
        file("d/.wh..wh..opq", b""),
        file(".wh.gone", b""),
        file(".wh.never", b""),
        file("nowhere/.wh.x", b""),
        file(".wh.e", b""),
        directory("e"),
        file("f/y", b"mine"),
        file(".wh.f", b""),
        file(".wh..wh.plnk", b""),
    )
    assert tree(root) == {
        "kept": "x",
        "d": "/",
        "d/new": "n",
        "d/sub": "/",
        "d/sub/new": "n",
        "e": "/",
        "f": "/",
        "f/y": "mine",
    }


def test_one_kind_of_thing_replaces_another(root: Path) -> None:
    unpacker = Unpacker(root)
    apply(unpacker, file("f"), directory("d"), file("d/x"), link("l", "d"), link("m", "d"), file("n"))
    apply(unpacker, directory("f"), file("d", b"file"), file("l", b"file"), directory("m"), special("n"))
    assert tree(root) == {"f": "/", "d": "file", "l": "file", "m": "/"}


def test_modes_are_kept_without_what_gives_others_power(root: Path) -> None:
    old = os.umask(0o077)
    try:
        unpacker = Unpacker(root)
        apply(
            unpacker,
            file("suid", mode=0o6755),
            file("open", mode=0o666),
            file("closed", mode=0),
            directory("tmp", 0o1777),
            directory("locked", 0),
            file("locked/x", mode=0o640),
            file("made/x"),
        )
    finally:
        os.umask(old)
    modes = {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    assert modes == {
        "suid": 0o755,
        "open": 0o644,
        "closed": 0o400,
        "tmp": 0o755,
        "locked": 0o700,
        "locked/x": 0o640,
        "made": 0o755,
        "made/x": 0o644,
    }
    assert (root / "suid").stat().st_mtime == 315532800


def test_what_anybody_may_write_is_remembered(root: Path) -> None:
    unpacker = Unpacker(root)
    apply(unpacker, directory("tmp", 0o1777), directory("home", 0o777), directory("home/in", 0o777), directory("home2", 0o777))
    apply(unpacker, directory("home2", 0o755), directory("gone", 0o777), directory("var/tmp", 0o1777))
    apply(unpacker, file(".wh.gone", b""))
    assert unpacker.writable() == ("/home", "/tmp", "/var/tmp")


def test_links_in_the_names_of_directories_lead_to_places_of_the_image(root: Path) -> None:
    unpacker = Unpacker(root)
    apply(
        unpacker,
        directory("usr/lib"),
        link("lib", "usr/lib"),
        link("abs", "/usr"),
        link("var/up", "../../../usr"),
        link("dangling", "/new"),
    )
    apply(unpacker, file("lib/a", b"a"), file("abs/lib/b", b"b"), file("var/up/c", b"c"), file("dangling/d", b"d"))
    assert {name: what for name, what in tree(root).items() if len(what) == 1} == {
        "usr": "/",
        "usr/lib": "/",
        "usr/lib/a": "a",
        "usr/lib/b": "b",
        "usr/c": "c",
        "var": "/",
        "new": "/",
        "new/d": "d",
    }


def test_nothing_gets_out_through_a_link(root: Path) -> None:
    outside = str(root.parent / "outside")
    unpacker = Unpacker(root)
    apply(
        unpacker,
        link("abs", outside),
        link("up", "../outside"),
        link("victim", f"{outside}/victim"),
        link("chain", "up"),
        file("abs/victim", b"evil"),
        file("up/victim", b"evil"),
        file("chain/more", b"evil"),
        file("victim", b"evil"),
        directory("up", 0o777),
        file("up/again", b"evil"),
        link("late", outside),
        file("late/.wh.victim", b""),
        file("late/.wh..wh..opq", b""),
        special("abs/victim"),
    )
    assert untouched(root)


def test_a_hard_link_is_of_the_image_and_nothing_is_written_through_it(root: Path) -> None:
    outside = root.parent / "outside"
    unpacker = Unpacker(root)
    apply(unpacker, link("out", str(outside)), link("to", str(outside / "victim")), hard_link("twin", "to"), file("twin", b"evil"))
    assert untouched(root)
    with pytest.raises(InputError, match="refused layer"):
        apply(unpacker, hard_link("stolen", "out/victim"))
    apply(unpacker, file("a", b"first"), hard_link("b", "a"), file("b", b"second"))
    assert (root / "a").read_text() == "first"


@pytest.mark.parametrize(
    "members",
    [
        (file("../up"),),
        (file("a/../../up"),),
        (hard_link("a", "../outside/victim"),),
        (hard_link("a", "missing"),),
        (directory("d"), hard_link("a", "d")),
        (file(".wh..", b""),),
        (file("a/.wh...", b""),),
        (file(".wh.", b""),),
        (link("a", "b"), link("b", "a"), file("a/x")),
        (file("f"), file("f/x")),
        (file("n" * 300),),
        (file("/".join(["n" * 100] * 60)),),
        (file("d/" * 300 + "x"),),
        (link("l", "t" * 5000),),
    ],
    ids=lambda members: str([name[:12] for name, *_ in members]),
)
def test_what_cannot_be_is_refused_with_the_layers_name(root: Path, members: tuple[Member, ...]) -> None:
    with pytest.raises(InputError, match="refused layer sha256:"):
        apply(Unpacker(root), *members)
    assert untouched(root)


def test_a_layer_that_is_not_what_its_digest_says_is_refused(root: Path) -> None:
    data = tars.tar(file("a"))
    with pytest.raises(InputError) as caught, SILENT.task("test") as task:
        Unpacker(root).apply("sha256:" + "0" * 64, lambda: tars.pieces(data), task)
    assert "other bytes than its digest says" in caught.value.why


def test_too_much_of_anything_is_refused(root: Path) -> None:
    with pytest.raises(InputError) as caught:
        apply(Unpacker(root, max_bytes=1000), file("a", bytes(600)), file("b", bytes(600)))
    assert "1,000 bytes" in caught.value.why
    with pytest.raises(InputError) as caught:
        apply(Unpacker(root, max_members=2), *(directory(str(number)) for number in range(3)))
    assert "2 files" in caught.value.why


def test_what_opening_a_layer_raises_is_raised(root: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield tars.tar(file("a", bytes(5 << 20)))[:100_000]
        raise ConnectionResetError("the registry went away")

    with pytest.raises(ConnectionResetError), SILENT.task("test") as task:
        Unpacker(root).apply("sha256:" + "0" * 64, broken, task)


def test_a_refusal_in_the_middle_ends_the_reading(root: Path) -> None:
    """A layer that goes on for ever is not read for ever."""
    head = tars.tar(file("../up"))[:1024]

    def endless() -> Iterator[bytes]:
        yield head
        while True:
            yield bytes(1 << 16)

    with pytest.raises(InputError), SILENT.task("test") as task:
        Unpacker(root).apply("sha256:" + "0" * 64, endless, task)


NAMES = st.lists(st.sampled_from(["a", "b", ".", "..", ".wh.a", ".wh..wh..opq", ".wh..", "abs", ""]), min_size=1, max_size=4).map("/".join)
TARGETS = st.sampled_from(["a", "b", "..", "../../outside", "/", "a/b", "../outside/victim", "/a"]) | NAMES
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])


@settings(max_examples=300)
@given(st.lists(st.lists(st.tuples(NAMES, KINDS, TARGETS), max_size=8), max_size=3))
def test_no_layer_gets_out(tmp_path_factory: pytest.TempPathFactory, layers: list[list[tuple[str, bytes, str]]]) -> None:
    place = tmp_path_factory.mktemp("hostile")
    (place / "outside").mkdir()
    (place / "outside/victim").write_text("untouched")
    root = place / "root"
    root.mkdir()
    unpacker = Unpacker(root)
    for layer in layers:
        links = {tarfile.SYMTYPE, tarfile.LNKTYPE}
        members: list[Member] = [
            (name, kind, (target or "a") if kind in links else b"x" if kind == tarfile.REGTYPE else b"", 0o777)
            for name, kind, target in layer
        ]
        try:
            apply(unpacker, *members)
        except InputError:
            break
    assert untouched(root)
