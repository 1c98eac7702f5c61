"""How registries are asked is said to every command alike: what was sent to one can be had from it again."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import click
import pytest

from envsnap.cli import main
from envsnap.workflows import local
from tests.fakes import layered, registry
from tests.fakes.registry import FakeRegistry

COMMANDS = ("plan", "render", "build", "verify", "check", "sign", "verify-signature", "push", "pull", "save", "load", "bases")
HOST = "registry.example.com"


@pytest.fixture
def served() -> Iterator[FakeRegistry]:
    with registry.running() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image by the name example.com/yolo:1, in a cache of its own; HOST is this machine, by a name that does not tell."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: resolve("127.0.0.1" if host == HOST else host, *rest, **more))
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENVSNAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    image, store, below = layered.make_image(tmp_path / "cache/blobs")
    for blob in below.by_digest.values():
        store.put(blob)
    local.remember(image, ["example.com/yolo:1"], tmp_path / "cache", place="registry")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(SystemExit) as ended:
        main.main([*words, "--json"])
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_may_ask_a_registry_is_told_how(name: str) -> None:
    command = main.group.get_command(click.Context(main.group), name)
    assert command is not None
    spelt = [word for parameter in command.params for word in parameter.opts]
    assert [spelt.count(word) for word in ("--ca-bundle", "--registry-mirror", "--plain-http")] == [1, 1, 1]


def test_what_was_pushed_without_encryption_is_pulled_and_looked_at_so(
    home: Path, served: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    host = f"{HOST}:{served.address.rpartition(':')[2]}"
    name, plain = f"{host}/vision/yolo:1", ("--plain-http", host)
    code, pushed = run(capsys, "push", "example.com/yolo:1", name, *plain)
    assert code == 0, pushed
    code, pulled = run(capsys, "pull", name, "--to", "oci:layout", *plain)
    assert (code, pulled["image"]["manifest_digest"]) == (0, pushed["pushed"][0]["digest"])
    code, seen = run(capsys, "bases", "inspect", name, *plain)
    assert (code, seen["config_digest"]) == (0, pulled["image"]["config_digest"])
    code, checked = run(capsys, "check", name, *plain)
    assert "error" not in checked and code in (0, 7), checked
    asked = len(served.asked)
    code, refused = run(capsys, "pull", name, "--to", "oci:other")  # not by itself: encryption is not dropped for who did not ask for it
    assert (code, len(served.asked)) == (6, asked)
    assert host in refused["error"]["what"] + refused["error"]["why"]


def test_an_image_is_pulled_from_a_mirror(home: Path, served: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    _, pushed = run(capsys, "push", "example.com/yolo:1", f"{served.address}/mirrored/vision/yolo:1")
    mirror = f"example.com={served.address}/mirrored"
    code, pulled = run(capsys, "pull", "example.com/vision/yolo:1", "--to", "oci:layout", "--registry-mirror", mirror)
    assert (code, pulled["image"]["manifest_digest"]) == (0, pushed["pushed"][0]["digest"])


def test_a_settings_file_says_it_too(home: Path, served: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "push", "example.com/yolo:1", f"{served.address}/vision/yolo:1")
    (home / "envsnap.toml").write_text(f'[pull]\nregistry-mirror = ["example.com={served.address}"]\n')
    assert run(capsys, "pull", "example.com/vision/yolo:1", "--to", "oci:layout")[0] == 0
    rows = {row["setting"]: row for row in run(capsys, "config")[1]["settings"]}
    assert rows["pull.registry-mirror"]["source"] == "file"
    assert rows["push.plain-http"]["source"] == "default"


def test_the_ca_bundle_that_is_named_comes_before_the_one_of_the_environment(
    home: Path, served: FakeRegistry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{served.address}/vision/yolo:1"
    run(capsys, "push", "example.com/yolo:1", name)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(home / "nowhere.pem"))
    code, refused = run(capsys, "pull", name, "--to", "oci:layout")
    assert (code, "no CA bundle at" in refused["error"]["why"]) == (6, True)
    code, _ = run(capsys, "pull", name, "--to", "oci:layout", "--ca-bundle", certifi.where())
    assert code == 0


def test_a_mirror_of_no_registry_is_wrong_usage(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, refused = run(capsys, "save", "example.com/yolo:1", "yolo.tar", "--registry-mirror", "mirror.example.com")
    assert (code, "'mirror.example.com' is not HOST=MIRROR" in refused["error"]["what"]) == (2, True)
    assert not (home / "yolo.tar").exists()


@pytest.mark.parametrize("spelt", ["--ca-bundle=nope.pem", "ENVSNAP_PULL_CA_BUNDLE"])
def test_a_file_that_is_not_there_is_bad_input(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, spelt: str
) -> None:
    if not spelt.startswith("-"):
        monkeypatch.setenv(spelt, "nope.pem")
    code, said = run(capsys, "pull", "example.com/yolo:1", *([spelt] if spelt.startswith("-") else []))
    assert (code, said["error"]["what"], said["error"]["why"]) == (4, "cannot read --ca-bundle", "File 'nope.pem' does not exist")
    assert said["error"]["hint"]
