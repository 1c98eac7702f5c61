"""Files that anybody may have written end in an image of which every byte was hashed, or in an error of ours."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envsnap.errors import EnvsnapError, InputError
from envsnap.model.plan import BASE_DIGEST, BASE_NAME
from envsnap.oci.documents import OCI_INDEX, OCI_MANIFEST, canonical, digest_of
from envsnap.oci.image import Image
from envsnap.progress import SILENT
from envsnap.publish import files, read, write
from envsnap.publish.content import FirstOf, Stored
from envsnap.publish.layout import LEFT_OUT, REF_NAME, blob_path, contents
from tests.fakes import layered
from tests.fakes.layered import REFERENCE, tar_of

Change = Callable[[dict[str, bytes], Image], object]


@pytest.fixture
def image_files(tmp_path: Path) -> tuple[Image, dict[str, bytes]]:
    """An image, and the files of its archive by name."""
    image, store, below = layered.make_image(tmp_path / "blobs")
    archive = b"".join(write.stream(contents(image, [REFERENCE], docker=True), FirstOf(Stored(store), below)))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return image, {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]


def as_tar(found: dict[str, bytes], place: Path) -> Path:
    with tarfile.open(place, "w") as tar:
        for name, data in found.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return place


def as_directory(found: dict[str, bytes], place: Path) -> Path:
    for name, data in found.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def verified(place: Path) -> Image:
    with read.opened(place, architecture="amd64") as carried:
        carried.verify(SILENT)
        return carried.image


def edit_json(found: dict[str, bytes], name: str, change: Callable[[Any], object]) -> None:
    document = json.loads(found[name])
    change(document)
    found[name] = canonical(document)


def edit_manifest(found: dict[str, bytes], image: Image, change: Callable[[Any], object]) -> None:
    """A manifest that somebody changed, and named truly in the index."""
    assert image.manifest is not None
    document = json.loads(found.pop(blob_path(image.manifest.digest)))
    change(document)
    raw = canonical(document)
    found[blob_path(digest_of(raw))] = raw
    edit_json(found, "index.json", lambda index: index["manifests"][0].update(digest=digest_of(raw), size=len(raw)))


def first_layer(image: Image) -> str:
    assert image.manifest is not None
    return blob_path(image.manifest.layers[0].digest)


def flip(found: dict[str, bytes], name: str) -> None:
    data = bytearray(found[name])
    data[len(data) // 2] ^= 1
    found[name] = bytes(data)


def add(found: dict[str, bytes], data: bytes) -> dict[str, Any]:
    found[blob_path(digest_of(data))] = data
    return {"mediaType": OCI_MANIFEST, "digest": digest_of(data), "size": len(data)}


def nested(found: dict[str, bytes], depth: int) -> None:
    for _ in range(depth):
        entry = add(found, found["index.json"]) | {"mediaType": OCI_INDEX}
        found["index.json"] = canonical({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})


def another_layer(found: dict[str, bytes], image: Image, blob: bytes) -> None:
    """In place of the first one, named truly by the manifest; the config names what was there."""
    path = blob_path(digest_of(blob))
    found[path] = blob
    edit_manifest(found, image, lambda manifest: manifest["layers"][0].update(digest=digest_of(blob), size=len(blob)))
    edit_json(found, "index.json", lambda index: index["manifests"][0]["annotations"].pop(BASE_DIGEST))


HOSTILE: dict[str, tuple[Change, str]] = {
    "no index": (lambda found, _: (found.pop("index.json"), found.pop("manifest.json")), "neither index.json nor manifest.json"),
    "index is no JSON": (lambda found, _: found.update({"index.json": b"{"}), "not JSON"),
    "index is deep": (lambda found, _: found.update({"index.json": b"[" * 500_000}), "not JSON"),
    "index is a list": (lambda found, _: found.update({"index.json": b"[]"}), "not a JSON object"),
    "index is large": (lambda found, _: found.update({"index.json": b" " * (9 << 20)}), "bytes"),
    "index is empty": (lambda found, _: edit_json(found, "index.json", lambda index: index.update(manifests=[])), "0 images"),
    "index names what is not there": (
        lambda found, image: found.pop(blob_path(image.manifest.digest)),  # type: ignore[union-attr]
        "0 images",
    ),
    "indexes without end": (lambda found, _: nested(found, 9), "ever more indexes"),
    "another machine's": (
        lambda found, _: edit_json(found, "index.json", lambda index: index["manifests"][0]["platform"].update(architecture="arm64")),
        "0 images for amd64",
    ),
    "manifest changed": (lambda found, image: flip(found, blob_path(image.manifest.digest)), "damaged"),  # type: ignore[union-attr]
    "manifest is longer than said": (
        lambda found, _: edit_json(found, "index.json", lambda index: index["manifests"][0].update(size=5)),
        "should have 5",
    ),
    "config changed": (lambda found, image: flip(found, blob_path(image.config.digest)), "damaged"),
    "config missing": (lambda found, image: found.pop(blob_path(image.config.digest)), "is missing"),
    "layer changed": (lambda found, image: flip(found, first_layer(image)), "damaged"),
    "layer cut": (lambda found, image: found.update({first_layer(image): found[first_layer(image)][:-1]}), "damaged"),
    "layer missing": (lambda found, image: found.pop(first_layer(image)), "is missing"),
    "a path as digest": (
        lambda found, image: edit_manifest(found, image, lambda doc: doc["layers"][0].update(digest="sha256:../../../etc/passwd")),
        "no sha256 digest",
    ),
    "fewer layers than diff_ids": (lambda found, image: edit_manifest(found, image, lambda doc: doc["layers"].pop()), "its config 4"),
    "another layer's content": (lambda found, image: another_layer(found, image, gzip.compress(tar_of("evil", b"x"))), "not the image's"),
    "a layer of garbage": (lambda found, image: another_layer(found, image, b"\x1f\x8bgarbage"), "damaged"),
    "a layer that ends early": (
        lambda found, image: another_layer(found, image, gzip.compress(tar_of("a", random.Random(0).randbytes(99999)))[:5000]),
        "ends in the middle",
    ),
    "says that layers are left out, more than it has": (
        lambda found, _: edit_json(found, "index.json", lambda index: index["manifests"][0]["annotations"].update({LEFT_OUT: "5"})),
        "'5'",
    ),
    "says that no number of layers is left out": (
        lambda found, _: edit_json(found, "index.json", lambda index: index["manifests"][0]["annotations"].update({LEFT_OUT: "-1"})),
        "'-1'",
    ),
    "another's base": (
        lambda found, image: edit_json(
            found,
            "index.json",
            lambda index: index["manifests"][0]["annotations"].update(
                {BASE_DIGEST: add(found, canonical(json.loads(image.base.manifest.raw) | {"layers": []}))["digest"]}  # type: ignore[union-attr]
            ),
        ),
        "not below it",
    ),
    "a base without a name": (
        lambda found, _: edit_json(found, "index.json", lambda index: index["manifests"][0]["annotations"].update({BASE_NAME: "a b\nc"})),
        "is not the name of an image",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", [as_tar, as_directory], ids=["archive", "directory"])
def test_what_is_not_true_is_refused(
    tmp_path: Path, image_files: tuple[Image, dict[str, bytes]], name: str, place: Callable[..., Path]
) -> None:
    image, found = image_files
    change, said = HOSTILE[name]
    change(found, image)
    with pytest.raises(InputError) as failed:
        verified(place(found, tmp_path / "hostile"))
    assert said in f"{failed.value.what}: {failed.value.why}"
    assert str(tmp_path / "hostile") in f"{failed.value.what}: {failed.value.why}"


def test_what_docker_saves_of_an_image_with_an_attestation_is_read(tmp_path: Path, image_files: tuple[Image, dict[str, bytes]]) -> None:
    image, found = image_files
    attestation = add(found, canonical({"schemaVersion": 2, "config": {}, "layers": []}))
    attestation["platform"] = {"os": "unknown", "architecture": "unknown"}
    other = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 5, "platform": {"os": "linux", "architecture": "amd64"}}
    edit_json(found, "index.json", lambda index: index["manifests"].extend([attestation, other]))
    nested(found, 1)
    edit_json(found, "index.json", lambda index: index["manifests"][0].update(annotations={REF_NAME: "outer:1"}))
    with read.opened(as_tar(found, tmp_path / "a.tar"), architecture="amd64") as carried:
        assert (carried.image.config, carried.names) == (image.config, ("outer:1",))


def test_two_images_in_one_file_are_not_told_apart_by_luck(tmp_path: Path, image_files: tuple[Image, dict[str, bytes]]) -> None:
    image, found = image_files
    other = canonical(json.loads(image.manifest.raw) | {"annotations": {"a": "b"}})  # type: ignore[union-attr]
    edit_json(found, "index.json", lambda index: index["manifests"].append(add(found, other)))
    with pytest.raises(InputError) as failed:
        verified(as_tar(found, tmp_path / "a.tar"))
    assert "2 images" in failed.value.why and failed.value.hint


def legacy(found: dict[str, bytes], image: Image, *, compressed: bool = False) -> dict[str, bytes]:
    """As docker before 25 saves."""
    kept = {"config.json": image.config.raw}
    paths = []
    for number, layer in enumerate(image.manifest.layers):  # type: ignore[union-attr]
        blob = found[blob_path(layer.digest)]
        kept[path := f"{number}/layer.tar"] = blob if compressed else zlib_all(blob)
        paths.append(path)
    kept["manifest.json"] = canonical([{"Config": "config.json", "RepoTags": [REFERENCE], "Layers": paths}])
    return kept


def zlib_all(blob: bytes) -> bytes:
    inflated = b""
    while blob:
        inflater = zlib.decompressobj(wbits=31)
        inflated += inflater.decompress(blob)
        blob = inflater.unused_data
    return inflated


@pytest.mark.parametrize("compressed", [False, True])
def test_archives_of_older_dockers_are_read(tmp_path: Path, image_files: tuple[Image, dict[str, bytes]], compressed: bool) -> None:
    image, found = image_files
    place = as_tar(legacy(found, image, compressed=compressed), tmp_path / "a.tar")
    with read.opened(place, architecture="amd64") as carried:
        carried.verify(SILENT)
        assert (carried.image.config, carried.names, carried.image.manifest) == (image.config, (REFERENCE,), None)
        assert [layer.diff_id for layer in carried.image.layers] == list(image.config.diff_ids)
        again = b"".join(write.stream(contents(carried.image, docker=True), carried))
    (tmp_path / "b.tar").write_bytes(again)
    assert verified(tmp_path / "b.tar").config == image.config


def test_a_layer_that_an_image_has_twice_is_a_link_in_older_archives(tmp_path: Path, image_files: tuple[Image, dict[str, bytes]]) -> None:
    image, found = image_files
    kept = legacy(found, image)
    data = kept.pop("1/layer.tar")
    kept["x/layer.tar"] = data
    place = as_tar(kept, tmp_path / "a.tar")
    with tarfile.open(place, "a") as tar:
        link = tarfile.TarInfo("1/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../x/layer.tar"
        tar.addfile(link)
    assert verified(place).config == image.config


LEGACY_HOSTILE: dict[str, tuple[Change, str]] = {
    "a layer outside": (
        lambda kept, _: edit_json(kept, "manifest.json", lambda doc: doc[0]["Layers"].__setitem__(0, "../outside")),
        "is missing",
    ),
    "a config outside": (lambda kept, _: edit_json(kept, "manifest.json", lambda doc: doc[0].update(Config="/etc/passwd")), "is missing"),
    "an odd config": (lambda kept, _: edit_json(kept, "manifest.json", lambda doc: doc[0].update(Config=7)), "is missing"),
    "no list": (lambda kept, _: kept.update({"manifest.json": b"{}"}), "not what docker writes"),
    "two": (lambda kept, _: edit_json(kept, "manifest.json", lambda doc: doc.append(doc[0])), "2 images"),
    "odd layers": (lambda kept, _: edit_json(kept, "manifest.json", lambda doc: doc[0].update(Layers=[1])), "not what docker writes"),
    "too few": (lambda kept, _: edit_json(kept, "manifest.json", lambda doc: doc[0].update(Layers=[])), "its config 4"),
    "a changed layer": (lambda kept, _: flip(kept, "0/layer.tar"), "damaged"),
    "a changed config": (lambda kept, image: kept.update({"config.json": b"{}"}), "names no layers"),
}


@pytest.mark.parametrize("name", LEGACY_HOSTILE)
@pytest.mark.parametrize("place", [as_tar, as_directory], ids=["archive", "directory"])
def test_what_is_not_true_in_older_archives_is_refused(
    tmp_path: Path, image_files: tuple[Image, dict[str, bytes]], name: str, place: Callable[..., Path]
) -> None:
    image, found = image_files
    kept = legacy(found, image)
    change, said = LEGACY_HOSTILE[name]
    change(kept, image)
    (tmp_path / "outside").write_bytes(found[first_layer(image)])
    with pytest.raises(InputError) as failed:
        verified(place(kept, tmp_path / "hostile"))
    assert said in f"{failed.value.what}: {failed.value.why}"


def test_links_and_pipes_of_a_directory_are_no_files(tmp_path: Path, image_files: tuple[Image, dict[str, bytes]]) -> None:
    image, found = image_files
    place = as_directory(found, tmp_path / "layout")
    layer = place / first_layer(image)
    (tmp_path / "elsewhere").write_bytes(layer.read_bytes())
    layer.unlink()
    layer.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="cannot read the image"):
        verified(place)
    layer.unlink()
    os.mkfifo(layer)
    with pytest.raises(InputError, match="cannot read the image"):
        verified(place)
    layer.unlink()
    layer.write_bytes((tmp_path / "elsewhere").read_bytes())
    assert verified(place) == image
    (place / "blobs").rename(tmp_path / "moved")
    (place / "blobs").symlink_to(tmp_path / "moved")
    with pytest.raises(InputError):
        verified(place)


def test_archives_that_are_none_are_refused(tmp_path: Path, image_files: tuple[Image, dict[str, bytes]]) -> None:
    place = as_tar(image_files[1], tmp_path / "a.tar")
    whole = place.read_bytes()
    offsets = [len(whole) - 20_000, len(whole) // 2, 700, 100, 0]
    for data in (*(whole[:offset] for offset in offsets), b"x" * 5000, gzip.compress(whole), b"\x28\xb5\x2f\xfd" + whole):
        place.write_bytes(data)
        with pytest.raises(InputError) as refused:
            verified(place)
        assert "again" in refused.value.hint or "decompress" in refused.value.hint
    place.write_bytes(gzip.compress(whole))
    with pytest.raises(InputError) as failed:
        verified(place)
    assert "gzip" in failed.value.why and "decompress" in failed.value.hint
    (tmp_path / "no-index").mkdir()
    for nothing in ("nowhere.tar", "no-index"):
        with pytest.raises(InputError, match="cannot read") as failed:
            verified(tmp_path / nothing)
        assert "envsnap save" in failed.value.hint


def test_a_name_twice_and_too_many_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for data in (b"1", b"2"):
            header = tarfile.TarInfo("./index.json" if data == b"2" else "index.json")
            header.size = 1
            tar.addfile(header, io.BytesIO(data))
    with pytest.raises(InputError) as failed:
        verified(tmp_path / "a.tar")
    assert "twice" in failed.value.why
    monkeypatch.setattr(files, "_MAX_MEMBERS", 1)
    with pytest.raises(InputError) as failed:
        verified(tmp_path / "a.tar")
    assert "more than 1 files" in failed.value.why


def test_a_header_of_any_size_is_not_taken_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 3 << 20
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + b"9" * (4 << 20))
    with pytest.raises(InputError) as failed:
        verified(tmp_path / "a.tar")
    assert "header of" in failed.value.why


def test_a_layer_that_inflates_without_end_is_refused(
    tmp_path: Path, image_files: tuple[Image, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, found = image_files
    another_layer(found, image, gzip.compress(b"\0" * (4 << 20)))
    monkeypatch.setattr(read, "_MAX_TAR_BYTES", 1 << 20)
    with pytest.raises(InputError, match="is refused") as failed:
        verified(as_tar(found, tmp_path / "a.tar"))
    assert "inflates" in failed.value.why


def test_fuzzed_archives_end_in_an_image_or_in_our_errors(tmp_path: Path, image_files: tuple[Image, dict[str, bytes]]) -> None:
    image, found = image_files
    place = tmp_path / "a.tar"
    whole = as_tar(found, place).read_bytes()
    chance = random.Random(7)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3, 30])):
            at = chance.randrange(len(data))
            if chance.random() < 0.3:
                del data[at : at + chance.randrange(1, 2000)]
            else:
                data[at] = chance.randrange(256)
        place.write_bytes(data)
        try:
            assert verified(place).config.digest == image.config.digest
        except EnvsnapError:
            refused += 1
    assert refused > 50
