"""Layers on layers: what is left is what an engine would show."""

from __future__ import annotations

import contextlib
import random
import tarfile
from collections.abc import Callable

import pytest

from envsnap.errors import InputError
from envsnap.inventory import files as module
from envsnap.inventory import wanted
from envsnap.inventory.files import Directory, FileSystem, Link
from tests.unit.inventory.conftest import device, directory, file, hard_link, layer, link, opaque, pieces, whiteout

Put = Callable[..., FileSystem]
STATUS = "var/lib/dpkg/status"


def test_a_later_layer_replaces_content(put: Put) -> None:
    files = put(layer(file(STATUS, b"old")), layer(file(STATUS, b"new and longer")), layer(file("etc/os-release", b"ID=x")))
    assert (files.text(STATUS), files.text("etc/os-release")) == ("new and longer", "ID=x")


def test_paths_are_the_same_however_they_are_spelt(put: Put) -> None:
    files = put(layer(directory("./etc/", 0o700), file("./etc/os-release", b"a"), file("/var/lib/dpkg/status", b"b")))
    assert (files.text("/etc/os-release"), files.text(STATUS)) == ("a", "b")
    assert isinstance(files.root.children["etc"], Directory)
    assert files.root.children["etc"].mode == 0o700


def test_a_whiteout_takes_a_file_a_link_and_a_directory_away(put: Put) -> None:
    below = layer(file(STATUS, b"x"), directory("opt/a", 0o700), file("opt/a/lib/liba.so", b"x"), link("opt/b", "a"))
    files = put(below, layer(whiteout(STATUS), whiteout("opt/a"), whiteout("opt/b"), whiteout("nowhere/at/all")))
    assert files.text(STATUS) is None
    assert files.children("opt") == {}


def test_an_opaque_directory_hides_the_layers_below_and_not_its_own(put: Put) -> None:
    below = layer(directory("opt/x", 0o700), file("opt/x/lib/libold.so"), file("opt/x/both/lib/libold.so"))
    above = layer(file("opt/x/lib/libnew.so"), file("opt/x/both/lib/libnew.so"), opaque("opt/x"))
    for order in (above, layer(opaque("opt/x"), file("opt/x/lib/libnew.so"), file("opt/x/both/lib/libnew.so"))):
        files = put(below, order)
        assert set(files.children("opt/x/lib")) == {"libnew.so"}
        assert set(files.children("opt/x/both/lib")) == {"libnew.so"}
        put(layer(whiteout("opt")))


def test_a_whiteout_spares_what_its_own_layer_puts_there(put: Put) -> None:
    files = put(layer(file("opt/lib/liba.so"), file("opt/lib/libb.so")), layer(file("opt/lib/liba.so"), whiteout("opt")))
    assert set(files.children("opt/lib")) == {"liba.so"}


def test_what_aufs_left_behind_is_no_whiteout(put: Put) -> None:
    assert put(layer(file(STATUS, b"x")), layer(file(".wh..wh.plnk"), directory(".wh..wh.aufs"))).text(STATUS) == "x"


def test_a_file_goes_through_a_link_to_a_directory(put: Put) -> None:
    usr_merged = layer(directory("usr/lib"), link("lib", "usr/lib"), link("run", "/var/run"))
    files = put(usr_merged, layer(file("lib/x86_64-linux-gnu/libz.so.1", b"z"), file("run/lib/libr.so", b"r")))
    assert isinstance(files.root.children["lib"], Link)
    for path in ("usr/lib/x86_64-linux-gnu/libz.so.1", "lib/x86_64-linux-gnu/libz.so.1"):
        found = files.file(path)
        assert found is not None
        assert files.bytes_of(found) == b"z"
    assert set(files.children("var/run/lib")) == {"libr.so"}


def test_a_directory_takes_the_place_of_a_link_and_the_other_way_round(put: Put) -> None:
    below = layer(directory("usr/lib"), file("usr/lib/os-release", b"x"), link("lib", "usr/lib"), directory("etc"), file("etc/os-release"))
    files = put(below, layer(directory("lib"), link("etc", "usr/lib")))
    assert files.children("lib") == {}
    assert files.text("etc/os-release") == "x"


def test_a_file_takes_the_place_of_a_directory(put: Put) -> None:
    files = put(layer(file("opt/x/lib/liba.so")), layer(file("opt/x")), layer(device("etc")))
    assert files.walk("opt/x") is None
    assert put(layer(file("opt/x/lib/libb.so"))).children("opt/x/lib").keys() == {"libb.so"}


def test_a_directory_that_is_named_again_keeps_what_is_in_it(put: Put) -> None:
    files = put(layer(directory("opt"), file("opt/lib/liba.so")), layer(directory("opt", 0o2775, 3, 50)))
    found = files.root.children["opt"]
    assert isinstance(found, Directory)
    assert (found.mode, found.uid, found.gid, set(found.children)) == (0o2775, 3, 50, {"lib"})


def test_hard_links_share_content_and_outlive_their_first_name(put: Put) -> None:
    first = layer(file("opt/bin/python3.11", b"program", 0o755), hard_link("usr/bin/python3", "opt/bin/python3.11"))
    files = put(first, layer(whiteout("opt"), hard_link("usr/bin/gone", "opt/bin/python3.11"), hard_link("usr/bin/never", "a/b")))
    found = files.file("usr/bin/python3")
    assert found is not None
    assert (files.bytes_of(found), found.mode) == (b"program", 0o755)
    assert set(files.children("usr/bin")) == {"python3"}
    assert files.text("usr/bin/python3") == "program"


def test_a_hard_link_to_what_nobody_knew_to_be_needed_is_filled_later(put: Put) -> None:
    files = put(layer(file("opt/same", b"lower")))
    data = layer(
        file("opt/same", b"program", 0o755),
        file("opt/large", b"x"),
        hard_link("usr/bin/python3.11", "opt/same"),
        hard_link("usr/bin/python3.12", "opt/same"),
        hard_link("usr/lib/liba.so", "opt/large"),
        hard_link("usr/share/doc", "opt/same"),
    )
    unfilled = files.apply(pieces(data), what="layer")
    assert {path: [place for place, _ in links] for path, links in unfilled.items()} == {
        "opt/same": ["usr/bin/python3.11", "usr/bin/python3.12"],
        "opt/large": ["usr/lib/liba.so"],
    }
    files.fill(pieces(data), unfilled, what="layer")
    for path, content in (("usr/bin/python3.11", b"program"), ("usr/bin/python3.12", b"program"), ("usr/lib/liba.so", b"x")):
        found = files.file(path)
        assert found is not None
        assert files.bytes_of(found) == content


def test_contents_come_in_parts(put: Put) -> None:
    data = bytes(range(256)) * 20
    files = put(layer(file("usr/lib/libx.so", data)))
    found = files.file("usr/lib/libx.so")
    assert found is not None
    assert files.bytes_of(found) == data
    assert files.bytes_of(found, 10, 5115) == data[5115:]
    assert (files.bytes_of(found, 10, 6000), files.bytes_of(found, -1), files.bytes_of(found, 4, -3)) == (b"", b"", b"")


def test_what_nobody_needs_is_not_remembered(put: Put) -> None:
    files = put(layer(file("usr/share/doc/x", b"x"), file("data.bin", b"x"), file("usr/lib/python3/dist-packages/x/y.so", b"x")))
    assert [path for path, node in files.tree() if not isinstance(node, Directory)] == []


def test_names_that_take_long_to_look_at_are_not_looked_at() -> None:
    assert wanted.content("a/" * 200 + "bin/python3", 1)
    assert not wanted.content("a/" * 300 + "bin/python3", 1)


def test_what_a_runtime_mounts_over_is_not_seen(put: Put) -> None:
    files = put(
        layer(directory("dev", 0o755), directory("dev/shm", 0o1777), link("proc/self", "1"), link("sys/x", "y"), link("device", "dev"))
    )
    assert [path for path, _ in files.tree()] == ["", "dev", "device"]


def test_links_that_go_round_lead_nowhere(put: Put) -> None:
    files = put(layer(link("a", "b"), link("b", "/a"), link("c", "c/d"), link("up", "../../../etc"), file("etc/os-release", b"x")))
    assert (files.walk("a"), files.walk("c/x")) == (None, None)
    assert files.text("up/os-release") == "x"
    assert files.text("nowhere/../etc/os-release") is None
    assert files.text("etc/../etc/./os-release/") == "x"


def test_a_layer_that_writes_through_links_that_go_round_is_refused(put: Put) -> None:
    with pytest.raises(InputError, match="layer 1") as caught:
        put(layer(link("a", "b"), link("b", "a"), file("a/lib/liba.so")))
    assert "circles" in caught.value.why


@pytest.mark.parametrize("entry", [file("../etc/os-release"), file("a/../../b"), hard_link("a", "../x"), file("a/" * 3000)])
def test_a_path_that_leads_out_or_is_none_is_refused(put: Put, entry: tuple[str, tarfile.TarInfo, bytes]) -> None:
    with pytest.raises(InputError, match="layer 1"):
        put(layer(entry))


def test_too_much_of_anything_is_refused(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, entries in (
        ("_MAX_NODES", 3, [directory(f"d{number}") for number in range(4)]),
        ("_MAX_NAME_BYTES", 100, [link("a", "b" * 100)]),
        ("_MAX_SPOOL_BYTES", 10, [file(STATUS, b"12345678901")]),
        ("_MAX_STEPS", 20, [link("a", "/" + "./" * 30), file("a/b")]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            with pytest.raises(InputError, match="layer 1"):
                put(layer(*entries))


def test_random_layers_end_in_a_tree_or_our_error(put: Put) -> None:
    """Against a plain reading of the same layers: a dictionary of paths."""
    chance = random.Random(20)
    names = ["a", "b", "lib", "c"]
    for _ in range(60):
        model: dict[str, str] = {}
        layers = []
        for _ in range(3):
            entries, here = [], dict[str, str]()
            for _ in range(12):
                parts = [chance.choice(names) for _ in range(chance.randint(1, 3))]
                path = "/".join(parts)
                if any(path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in here):
                    continue
                kind = chance.choice(["file", "directory", "whiteout"])
                here[path] = kind
                if kind == "file":
                    entries.append(file(f"{path}.so"))
                elif kind == "directory":
                    entries.append(directory(path))
                else:
                    entries.append(whiteout(f"{path}.so"))
            for path, kind in here.items():
                if kind == "whiteout":
                    model.pop(f"{path}.so", None)
            for path, kind in here.items():
                if kind == "file":
                    model[f"{path}.so"] = "file"
            layers.append(layer(*entries))
        files = put(*layers)
        seen = {path for path, node in files.tree() if not isinstance(node, Directory)}
        assert seen == set(model)
        files = put(layer(*(whiteout(name) for name in names), *(whiteout(f"{name}.so") for name in names)))


def test_damaged_layers_end_in_our_error_only(put: Put) -> None:
    good = layer(file(STATUS, b"x" * 2000), link("lib", "usr/lib"), directory("d" * 120), hard_link("usr/bin/python3", STATUS))
    chance = random.Random(7)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        cut = bytes(data[: chance.randrange(len(data))]) if chance.random() < 0.3 else bytes(data)
        with contextlib.suppress(InputError):
            put(cut)


def test_every_byte_is_read(put: Put) -> None:
    """Also what follows the archive, so that whoever hashes the stream hashes all of it."""
    read = 0

    def counted() -> object:
        nonlocal read
        for piece in pieces(layer(file(STATUS, b"x")) + bytes(5000)):
            read += len(piece)
            yield piece

    put(layer())
    files = put()
    files.apply(counted(), what="layer")  # type: ignore[arg-type]
    assert read == len(layer(file(STATUS, b"x"))) + 5000
