"""An image that is here is told of as it is here; a registry is asked where it is meant."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from envsnap.cli import main
from envsnap.errors import EngineError
from envsnap.oci.documents import Descriptor
from envsnap.oci.image import Image
from envsnap.registry.client import Registry
from envsnap.workflows import local
from tests.fakes import layered, registry


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    """One in envsnap's own store, with all of its layers, as yolo:1; no engine answers, and no network beyond this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENVSNAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return remember(tmp_path, "yolo:1", place="here")


def remember(home: Path, name: str, last: bytes = b"b", *, place: local.Whereabouts = "registry") -> Image:
    image, store, below = layered.make_image(home / "cache/blobs", last=last)
    for blob in below.by_digest.values():
        store.put(blob)
    local.remember(image, [name], home / "cache", place=place)
    return image


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, dict[str, Any]]:
    with pytest.raises(SystemExit) as ended:
        main.main([*map(str, words), "--json"])
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)


def test_what_is_here_alone_is_not_looked_for_in_a_public_registry(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    assert image.manifest is not None
    for name in ("yolo:1", image.config.digest, image.manifest.digest, image.config.digest.removeprefix("sha256:")):
        code, checked = run(capsys, "check", name)
        assert (code, checked["config_digest"], checked["manifest_digest"]) == (0, image.config.digest, image.manifest.digest)
        code, seen = run(capsys, "bases", "inspect", name)
        assert (code, seen["config_digest"], seen["digest"]) == (0, image.config.digest, image.manifest.digest)
    code, seen = run(capsys, "bases", "inspect", "yolo:1", "--deep")
    assert code == 0 and seen["inventory"]["complete"]
    code, saved = run(capsys, "save", image.config.digest.removeprefix("sha256:"), "by-id.tar")
    assert (code, saved["image"]["config_digest"]) == (0, image.config.digest)
    assert run(capsys, "push", image.config.digest.removeprefix("sha256:"))[0] == 2  # where to?
    code, document = run(capsys, "check", "sha256:" + "0" * 64)
    assert code == 6 and "there is no image" in document["error"]["what"]


def test_a_registry_that_is_named_has_the_word_where_it_has_one(image: Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with registry.running() as served:
        name = f"{served.address}/vision/yolo:1"
        assert run(capsys, "push", "yolo:1", name)[0] == 0
        newer = remember(tmp_path, name, last=b"c")
        assert run(capsys, "check", name)[1]["config_digest"] == image.config.digest  # what a pull would bring
        other = f"{served.address}/vision/other:1"
        local.remember(newer, [other], tmp_path / "cache", place="registry")
        for words in (("check", other), ("bases", "inspect", other)):
            code, document = run(capsys, *words)
            assert (code, document["config_digest"]) == (0, newer.config.digest)


@pytest.mark.parametrize("place", ["engine", "registry"])
def test_what_is_elsewhere_is_looked_for_in_its_registry_first_however_its_name_is_spelt(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: local.Whereabouts
) -> None:
    """myorg/yolo:1 is Docker Hub's, though it does not say so: an old copy here is not what the tag names."""
    assert image.manifest is not None
    asked: list[str] = []
    there: dict[str, Descriptor] = {"myorg/yolo:1": Descriptor(media_type="", digest=image.manifest.digest, size=1)}

    def head(_: Registry, name: str) -> Descriptor | None:
        asked.append(name)
        return there.get(name)

    monkeypatch.setattr(Registry, "head", head)
    client, cache = Registry({}), tmp_path / "cache"
    older = remember(tmp_path, "myorg/yolo:1", last=b"o", place=place)
    assert local.here("myorg/yolo:1", client, cache) is None
    there.clear()
    assert local.here("myorg/yolo:1", client, cache) == older
    assert local.here("yolo:1", client, cache) == image
    assert asked == ["myorg/yolo:1"] * 2  # and never for what is here alone


def test_a_name_that_says_its_registry_is_asked_of_it_though_the_image_is_here_alone(
    image: Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where a build was never pushed: what others get by that name is judged, not what will be sent there some day."""
    with registry.running() as served:
        name = f"{served.address}/vision/yolo:1"
        assert run(capsys, "push", "yolo:1", name)[0] == 0
        local.forget(name, tmp_path / "cache")
        ours = remember(tmp_path, name, last=b"c", place="here")
        for words in (("check", name), ("bases", "inspect", name)):
            assert run(capsys, *words)[1]["config_digest"] == image.config.digest
        served.manifests.clear()
        for words in (("check", name), ("bases", "inspect", name)):
            code, document = run(capsys, *words)
            assert (code, document["config_digest"]) == (0, ours.config.digest)


@pytest.mark.parametrize("name", ["yolo:2", "registry.example.com/yolo:2"])
def test_a_registry_that_does_not_answer_has_no_word_about_what_it_was_never_sent(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def denied(_: Registry, name: str) -> Descriptor | None:
        raise EngineError(f"cannot look up {name}", why="access is denied")

    monkeypatch.setattr(Registry, "head", denied)
    places: tuple[local.Whereabouts, ...] = ("here", "engine")
    for place in places:
        built = remember(tmp_path, name, place=place)
        assert local.here(name, Registry({}), tmp_path / "cache") == built
    remember(tmp_path, name, place="registry")
    remember(tmp_path, name, place="engine")  # built again, and not pushed
    with pytest.raises(EngineError, match=name):
        local.here(name, Registry({}), tmp_path / "cache")


def test_a_base_that_is_made_here_is_told_as_it_was_made_here(image: Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = run(capsys, "bases", "inspect", "debian:bookworm")
    assert code == 6 and "was never made here" in document["error"]["what"] and "--base debian:bookworm" in document["error"]["hint"]
    older = remember(tmp_path, "envsnap/debian:bookworm-0123456789ab", b"1")
    for file in (tmp_path / "cache/images").iterdir():
        os.utime(file, (1, 1))
    assert run(capsys, "bases", "inspect", "debian:bookworm")[1]["config_digest"] == older.config.digest
    made = remember(tmp_path, "envsnap/debian:bookworm-ba9876543210", b"2")
    code, seen = run(capsys, "bases", "inspect", "debian:bookworm")
    assert (code, seen["config_digest"]) == (0, made.config.digest)  # the last one


@pytest.mark.parametrize(
    "words",
    [
        ("check", "A B"),
        ("bases", "inspect", "A B"),
        ("bases", "export", "A B", "file"),
        ("pull", "A B"),
        ("pull", "A B", "--to", "cache"),
        ("push", "A B"),
        ("push", "yolo:1", "A B"),
        ("save", "A B", "file.tar"),
        ("verify", "A B"),
        ("sign", "A B", "--key", "key.pem"),
        ("verify-signature", "A B", "--key", "key.pub"),
        ("capture", "--image", "A B"),
    ],
)
def test_what_is_no_name_is_a_wrong_word_for_every_command(
    image: Image, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    (tmp_path / "key.pub").write_bytes(key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    code, document = run(capsys, *words)
    assert (code, document["error"]["code"]) == (2, 2)
    assert "'A B' is not the name of an image" in document["error"]["what"] and document["error"]["hint"]
