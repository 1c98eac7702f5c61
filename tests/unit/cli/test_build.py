"""build and plan with what cannot be: what is said, why, what to try, and the exit code."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from envsnap import lockfile
from envsnap.cli import main
from envsnap.model.lock import LockedConda
from tests import samples
from tests.fakes import registry

LOCK = "lockfiles/yolo.yaml"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a lock; nothing is known of any base, and no engine answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    write(lockfile.dumps(samples.lock()))
    return tmp_path


def write(data: bytes) -> None:
    Path("lockfiles").mkdir(exist_ok=True)
    Path(LOCK).write_bytes(data)


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> Mapping[str, Any]:
    """What a command that is refused says."""
    with pytest.raises(SystemExit) as ended:
        main.main([*words, "--json"])
    out = capsys.readouterr().out
    error: dict[str, Any] = json.loads(out)["error"]
    assert ended.value.code == error["code"]
    assert error["what"] and error["hint"], error
    return error


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (("--push",), "there is nothing to push", "--push needs -t"),
        (("--sbom",), "documents and signatures lie beside an image in a registry", "need --push"),
        (("-t", "UPPER:1"), "UPPER", "HOST/REPOSITORY:TAG"),
        (("-t", f"example.com/yolo@sha256:{'0' * 64}"), "holds a digest", "HOST/REPOSITORY:TAG"),
        (("--engine", "podman"), "podman", "envsnap build --help"),
        (("--env", "1=2"), "is not NAME=VALUE", "envsnap build --help"),
        (("--engine", "docker", "--vendor"), "what Docker installs is not kept", "--engine oci"),
        (("-t", "example.com/yolo:1", "--push", "--offline"), "--offline asks nobody", "leave one of the two out"),
        (("--refresh-base", "--offline"), "--offline asks nobody", "leave one of the two out"),
    ],
)
def test_words_that_cannot_be_right_together(
    home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], what: str, hint: str
) -> None:
    error = error_of(capsys, "build", LOCK, *words)
    assert error["code"] == 2
    assert what in error["what"]
    assert hint in error["hint"]
    assert not Path("images").exists()


@pytest.mark.parametrize("command", ["plan", "render"])
def test_a_base_is_not_resolved_anew_where_nobody_is_asked(home: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    error = error_of(capsys, command, LOCK, "--refresh-base", "--offline")
    assert (error["code"], error["what"]) == (2, "--refresh-base asks the registry, and --offline asks nobody")


@pytest.mark.parametrize("command", ["build", "plan"])
def test_a_base_that_nobody_has(home: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    with registry.running() as served:
        error = error_of(capsys, command, LOCK, "--base", f"{served.address}/nobody/has:this")
    assert error["code"] == 6
    assert f"{served.address}/nobody/has:this" in error["what"]
    assert not Path("images").exists()


@pytest.mark.parametrize("command", ["build", "plan"])
def test_a_base_that_is_no_name(home: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    error = error_of(capsys, command, LOCK, "--base", "no name at all")
    assert error["code"] in (2, 6)
    assert "no name at all" in error["what"]


def test_offline_and_nothing_is_kept(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = error_of(capsys, "build", LOCK, "--base", "example.com/base:1", "--engine", "oci", "--offline")
    assert (error["code"], error["what"]) == (6, "cannot look up example.com/base:1 offline")
    assert "once without --offline" in error["hint"]


def test_docker_is_asked_for_and_does_not_answer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = error_of(capsys, "build", LOCK, "--base", "example.com/base:1", "--engine", "docker")
    assert error["code"] == 6
    assert "Docker" in error["what"]


def test_what_only_a_shell_can_do_is_not_assembled(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = samples.lock()
    write(lockfile.dumps(lockfile.seal(replace(lock, python=replace(lock.python, conda=LockedConda(packages=()))))))
    error = error_of(capsys, "build", LOCK, "--base", "example.com/base:1", "--engine", "oci")
    assert (error["code"], error["what"]) == (5, "this image cannot be assembled")
    assert "conda" in error["why"] and "--engine docker" in error["hint"]


@pytest.mark.parametrize(
    ("data", "what"), [(b"", "the file is empty"), (b"envsnap: 99\n", "made by a newer envsnap"), (None, "cannot read the lock")]
)
@pytest.mark.parametrize("command", ["build", "plan"])
def test_a_lock_that_is_none(home: Path, capsys: pytest.CaptureFixture[str], command: str, data: bytes | None, what: str) -> None:
    Path(LOCK).unlink()
    if data is not None:
        write(data)
    error = error_of(capsys, command, LOCK, "--base", "example.com/base:1")
    assert error["code"] == 4
    assert what in error["what"]
