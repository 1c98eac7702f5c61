"""Images that were put together are found again by name, whatever happens between."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envsnap.errors import UsageError
from envsnap.oci.image import Image
from envsnap.workflows import local
from tests.fakes import layered


def test_what_is_remembered_is_found_by_name_and_digest(tmp_path: Path) -> None:
    image, _, _ = layered.make_image(tmp_path / "blobs")
    assert image.manifest is not None
    local.remember(image, ["yolo:1", "registry.example.com/a/b:2"], tmp_path, place="here")
    for name in ("yolo:1", "docker.io/library/yolo:1", "registry.example.com/a/b:2", image.config.digest, image.manifest.digest):
        assert local.find(name, tmp_path) == image
    for name in ("yolo", "yolo:2", "b:2", "sha256:" + "0" * 64):
        assert local.find(name, tmp_path) is None
    assert {named.name for named in local.everything(tmp_path)} == {"yolo:1", "registry.example.com/a/b:2"}
    local.forget("yolo:1", tmp_path)
    local.forget("yolo:1", tmp_path)
    assert local.find("yolo:1", tmp_path) is None
    with pytest.raises(UsageError):
        local.find("Not a Name", tmp_path)
    with pytest.raises(UsageError):
        local.remember(image, ["Not a Name"], tmp_path, place="here")


def test_without_a_manifest_too(tmp_path: Path) -> None:
    image, _, _ = layered.make_image(tmp_path / "blobs", manifest=False)
    local.remember(image, ["yolo:1"], tmp_path, place="here")
    assert local.find("yolo:1", tmp_path) == image
    assert local.find("sha256:" + "0" * 64, tmp_path) is None


def test_a_name_moves_to_the_newest_image(tmp_path: Path) -> None:
    first, _, _ = layered.make_image(tmp_path / "blobs")
    second, _, _ = layered.make_image(tmp_path / "blobs", last=b"c")
    assert first != second
    local.remember(first, ["yolo:1"], tmp_path, place="here")
    local.remember(second, ["yolo:1"], tmp_path, place="here")
    assert local.find("yolo:1", tmp_path) == second


def test_an_image_that_a_registry_has_under_a_name_is_there_still_when_it_is_made_again(tmp_path: Path) -> None:
    """As after a build with --push and the same one without."""
    image, _, _ = layered.make_image(tmp_path / "blobs")
    other, _, _ = layered.make_image(tmp_path / "blobs", last=b"c")

    def place(image: Image, place: local.Whereabouts, name: str = "yolo:1") -> str:
        local.remember(image, [name], tmp_path, place=place)
        named = local.named(name, tmp_path)
        assert named is not None and named.image == image
        return named.place

    assert [place(image, "here"), place(image, "engine"), place(image, "here")] == ["here", "engine", "here"]
    assert [place(image, "registry"), place(image, "here"), place(image, "engine")] == ["registry"] * 3
    assert place(image, "here", "docker.io/library/yolo:1") == "registry"  # the same name
    assert place(image, "here", "yolo:2") == "here"  # which was never sent
    assert [place(other, "here"), place(image, "engine")] == ["here", "engine"]  # the registry's word was about another image


def test_its_layers_count_as_used(tmp_path: Path) -> None:
    image, store, _ = layered.make_image(tmp_path / "blobs")
    paths = [store.path(layer.digest) for layer in image.layers]
    for path in paths:
        os.utime(path, (1, 1))
    local.remember(image, ["yolo:1"], tmp_path, place="here")
    assert all(path.stat().st_mtime > 1 for path in paths)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"name": "x"}', b"\xff"])
def test_a_damaged_file_is_no_image(tmp_path: Path, damage: bytes) -> None:
    image, _, _ = layered.make_image(tmp_path / "blobs")
    local.remember(image, ["yolo:1"], tmp_path, place="here")
    (path,) = (tmp_path / local.FOLDER).iterdir()
    path.write_bytes(damage)
    assert local.find("yolo:1", tmp_path) is None
    assert list(local.everything(tmp_path)) == []


def test_manifest_and_config_of_two_images_are_none(tmp_path: Path) -> None:
    first, _, _ = layered.make_image(tmp_path / "blobs")
    second, _, _ = layered.make_image(tmp_path / "blobs", last=b"c")
    mixed = type(first)(config=first.config, manifest=second.manifest, base=first.base, layers=first.layers)
    local.remember(mixed, ["yolo:1"], tmp_path, place="here")
    assert local.find("yolo:1", tmp_path) is None


def test_many_at_once_leave_one_of_them(tmp_path: Path) -> None:
    images = [layered.make_image(tmp_path / "blobs", last=bytes([65 + n]))[0] for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda image: local.remember(image, ["yolo:1"], tmp_path, place="here"), images * 4))
    assert local.find("yolo:1", tmp_path) in images
    assert len(list((tmp_path / local.FOLDER).iterdir())) == 1
