"""Inventories that are remembered, and those that travel."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from envsnap.errors import InputError
from envsnap.inventory import remembered
from envsnap.inventory.remembered import all_of, blobs_of, export, load, recall, remember
from envsnap.model.base import BaseInventory, Remembered
from tests.unit.inventory.conftest import file, gzipped, layer
from tests.unit.inventory.test_read import blobs, inventory, system

CONFIG = f"sha256:{'c' * 64}"


@pytest.fixture
def known(tmp_path: Path) -> Remembered:
    status = file("var/lib/dpkg/status", b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n")
    found = inventory(tmp_path, system(), [status])
    return remember(found, config=CONFIG, reference="base:1", cache=tmp_path)


def place(cache: Path) -> Path:
    return cache / "inventories" / f"{'c' * 64}.json"


def test_what_is_remembered_comes_back(tmp_path: Path, known: Remembered) -> None:
    assert recall(CONFIG, tmp_path) == known
    assert all_of(tmp_path) == [known]
    assert recall(f"sha256:{'d' * 64}", tmp_path) is None


def test_what_a_shell_saw_does_not_replace_what_was_read(tmp_path: Path, known: Remembered) -> None:
    shallow = BaseInventory(distribution="debian 12")
    assert remember(shallow, config=CONFIG, reference="x", cache=tmp_path) == known
    other = f"sha256:{'d' * 64}"
    assert remember(shallow, config=other, reference="x", cache=tmp_path).inventory == shallow
    assert remember(known.inventory, config=other, reference="x", cache=tmp_path).inventory.complete


def change(document: dict[str, object], **values: object) -> bytes:
    return json.dumps({**document, **values}).encode()


def test_what_was_changed_or_is_of_another_format_is_not_believed(tmp_path: Path, known: Remembered) -> None:
    document = json.loads(place(tmp_path).read_bytes())
    other = {**document["inventory"], "python": "3.11.9"}
    for data in (
        b"",
        b"{",
        change(document, inventory=other),
        change(document, format=2),
        change(document, surprise=1),
        change(document, config=f"sha256:{'d' * 64}"),
        json.dumps(document["inventory"]).encode(),  # what an earlier envsnap kept
    ):
        place(tmp_path).write_bytes(data)
        assert recall(CONFIG, tmp_path) is None
    assert all_of(tmp_path) == []
    place(tmp_path).write_bytes(change(document))
    assert recall(CONFIG, tmp_path) == known


def test_without_its_blobs_it_is_as_good_as_unknown(tmp_path: Path, known: Remembered) -> None:
    assert len(blobs_of(known.inventory)) == 3  # dpkg's status, the loader's cache, the interpreter
    for digest in blobs_of(known.inventory):
        path = blobs(tmp_path).path(digest)
        data = path.read_bytes()
        path.unlink()
        assert recall(CONFIG, tmp_path) is None
        path.write_bytes(data)
    assert recall(CONFIG, tmp_path) == known


def test_one_file_carries_all_of_it(tmp_path: Path, known: Remembered) -> None:
    export(known, tmp_path, tmp_path / "x/one.inventory")
    export(known, tmp_path, tmp_path / "x/two.inventory")
    assert (tmp_path / "x/one.inventory").read_bytes() == (tmp_path / "x/two.inventory").read_bytes()
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"one.inventory", "two.inventory"}
    there = tmp_path / "there"
    assert load(tmp_path / "x/one.inventory", there) == imported(known)
    assert recall(CONFIG, there) == imported(known)
    for digest in blobs_of(known.inventory):
        assert blobs(there).read(digest) == blobs(tmp_path).read(digest)


def imported(known: Remembered) -> Remembered:
    return replace(known, read_here=False)


def test_what_was_imported_is_not_said_to_be_read_here_whatever_the_file_says(tmp_path: Path, known: Remembered) -> None:
    assert known.read_here
    members = [(f"blobs/sha256/{digest[7:]}", blobs(tmp_path).read(digest)) for digest in blobs_of(known.inventory)]
    said = [file("inventory.json", msgspec.json.encode(known)), *(file(path, data) for path, data in members)]
    assert b'"read_here":true' in said[0][2]
    (tmp_path / "forged").write_bytes(gzipped(layer(*said)))
    assert load(tmp_path / "forged", tmp_path / "there") == imported(known) == recall(CONFIG, tmp_path / "there")
    assert remember(known.inventory, config=CONFIG, reference="base:1", cache=tmp_path / "there") == known  # and now it was


def test_a_note_that_does_not_say_it_was_not_read_here(tmp_path: Path, known: Remembered) -> None:
    """As every note that an earlier envsnap kept, those of imports among them."""
    document = json.loads(place(tmp_path).read_bytes())
    assert document.pop("read_here") is True
    place(tmp_path).write_bytes(json.dumps(document).encode())
    assert recall(CONFIG, tmp_path) == imported(known)


def test_what_was_read_here_stays_when_an_import_says_otherwise(tmp_path: Path, known: Remembered) -> None:
    other = remember(replace(known.inventory, libc="glibc 9"), config=CONFIG, reference="base:1", cache=tmp_path)
    export(other, tmp_path, tmp_path / "other.inventory")
    there = tmp_path / "there"
    assert load(tmp_path / "other.inventory", there).inventory.libc == "glibc 9"
    export(known, tmp_path, tmp_path / "one.inventory")
    assert load(tmp_path / "one.inventory", there) == imported(known)  # one import takes the place of another
    remember(other.inventory, config=CONFIG, reference="base:1", cache=there)
    assert load(tmp_path / "one.inventory", there) == other == recall(CONFIG, there)


def test_a_changed_blob_is_not_exported(tmp_path: Path, known: Remembered) -> None:
    blobs(tmp_path).path(blobs_of(known.inventory)[0]).write_bytes(b"changed")
    with pytest.raises(InputError, match="changed") as caught:
        export(known, tmp_path, tmp_path / "x/one.inventory")
    assert list((tmp_path / "x").iterdir()) == []
    assert "reads the base anew" in caught.value.hint and recall(CONFIG, tmp_path) is None


def test_files_that_are_not_what_export_wrote_are_refused(tmp_path: Path, known: Remembered) -> None:
    raw = msgspec.json.encode(known)
    first, second, third = blobs_of(known.inventory)
    store = blobs(tmp_path)

    def carried(digest: str, data: bytes | None = None) -> tuple[str, bytes]:
        return f"blobs/sha256/{digest.removeprefix('sha256:')}", data if data is not None else store.read(digest)

    def packed(*members: tuple[str, bytes]) -> bytes:
        return gzipped(layer(*(file(path, data) for path, data in members)))

    whole = packed(("inventory.json", raw), carried(first), carried(second), carried(third))
    shallow = remember(BaseInventory(distribution="x"), config=f"sha256:{'5' * 64}", reference="x", cache=tmp_path / "other")
    changed = raw.replace(b'"3.11.2"', b'"3.11.3"')
    source = tmp_path / "given"
    there = tmp_path / "there"
    for data in (
        b"",
        b"{}",
        gzipped(b""),
        whole[:-20],
        packed(carried(first), ("inventory.json", raw)),
        packed(("inventory.json", raw), carried(first), carried(second)),
        packed(("inventory.json", raw), carried(first), carried(first), carried(third)),
        packed(("inventory.json", raw), carried(first), carried(second, b"other bytes"), carried(third)),
        packed(("inventory.json", raw), carried(first), carried(second), carried(third), ("blobs/sha256/" + "0" * 64, b"")),
        packed(("inventory.json", raw), carried(first), carried(second), carried(third), ("../x", b"")),
        packed(("inventory.json", msgspec.json.encode(shallow))),
        packed(("inventory.json", changed), carried(first), carried(second), carried(third)),
    ):
        source.write_bytes(data)
        with pytest.raises(InputError) as caught:
            load(source, there)
        assert "bases export" in caught.value.hint or "copy it again" in caught.value.hint
        assert ("no inventory of a base" in caught.value.why) == (data[:2] != whole[:2])  # what is none is not called cut off
        assert recall(CONFIG, there) is None
    source.write_bytes(whole)
    assert load(source, there) == imported(known)
    with pytest.raises(InputError, match="cannot read") as missing:
        load(tmp_path / "nowhere", there)
    assert "bases export" in missing.value.hint


def test_what_is_too_large_is_refused(tmp_path: Path, known: Remembered, monkeypatch: pytest.MonkeyPatch) -> None:
    export(known, tmp_path, tmp_path / "one.inventory")
    for name in ("_MAX_DOCUMENT_BYTES", "_MAX_BLOB_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(remembered, name, 10)
            with pytest.raises(InputError):
                load(tmp_path / "one.inventory", tmp_path / "there")


@pytest.mark.parametrize(
    "values", [{"python": "3.11/../../../tmp/evil"}, {"python_path": "/usr/bin/python3\nhome = /tmp"}, {"distribution": "debian 12\n"}]
)
def test_what_could_lead_elsewhere_is_refused_where_an_inventory_comes_in(
    tmp_path: Path, known: Remembered, values: dict[str, str]
) -> None:
    """The version names directories of this host, the path is written into a file: both come from whoever exported it."""
    forged = msgspec.structs.replace(known.inventory, **values)
    remember(forged, config=CONFIG, reference="base:1", cache=tmp_path)
    assert recall(CONFIG, tmp_path) is None
