"""What doctor says of hosts of each kind; a host is a directory here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from envsnap.engines.host import host_abilities
from envsnap.model.host import Ability

VERSION = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (dvs-builder)\nGCC version: 12.2.0\n"
PEM = "-----BEGIN CERTIFICATE-----\n"


def put(path: Path, text: str = "", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def ability(name: str, root: Path, *, loads: Callable[[str], bool] = lambda _: False, **env: str) -> Ability:
    given = {"PATH": str(root / "bin"), "HOME": str(root / "home"), **env}
    return next(found for found in host_abilities(given, root=root, loads=loads) if found.name == name)


def test_every_line_says_what_to_do_unless_all_is_well(tmp_path: Path) -> None:
    found = host_abilities({}, root=tmp_path)
    assert [line.name for line in found] == ["NVIDIA driver", "NVIDIA container toolkit", "disk", "cache", "CA bundle", "W&B key", "git"]
    assert all(bool(line.hint) is (line.state != "ok") for line in found)


@pytest.mark.parametrize(
    ("module", "library", "state", "found"),
    [
        (True, True, "ok", "580.159.04"),
        (True, False, "broken", "the kernel module is loaded, libnvidia-ml.so.1 is not found"),
        (False, True, "broken", "libnvidia-ml.so.1 is there, the kernel module is not loaded"),
        (False, False, "missing", "none"),
    ],
)
def test_half_a_driver_is_broken_and_none_is_missing(tmp_path: Path, module: bool, library: bool, state: str, found: str) -> None:
    if module:
        put(tmp_path / "proc/driver/nvidia/version", VERSION)
    line = ability("NVIDIA driver", tmp_path, loads=lambda _: library)
    assert (line.state, line.found) == (state, found)


def test_the_container_toolkit_by_its_program_or_its_specification(tmp_path: Path) -> None:
    assert ability("NVIDIA container toolkit", tmp_path).state == "missing"
    put(tmp_path / "etc/cdi/notes.txt")
    assert ability("NVIDIA container toolkit", tmp_path).state == "missing"
    specification = put(tmp_path / "var/run/cdi/nvidia.yaml")
    assert ability("NVIDIA container toolkit", tmp_path).found == f"CDI: {specification}"
    program = put(tmp_path / "bin/nvidia-ctk", "#!/bin/sh\n", 0o755)
    assert ability("NVIDIA container toolkit", tmp_path).found == f"{program}, {specification}"


def test_a_named_bundle_must_be_one(tmp_path: Path) -> None:
    bundle = put(tmp_path / "ca.pem", PEM)
    assert ability("CA bundle", tmp_path, SSL_CERT_FILE=str(bundle)).state == "ok"
    for wrong in (str(tmp_path / "none"), str(put(tmp_path / "text", "no certificate"))):
        line = ability("CA bundle", tmp_path, REQUESTS_CA_BUNDLE=wrong)
        assert line.state == "broken"
        assert "unset REQUESTS_CA_BUNDLE" in line.hint


def test_the_systems_bundle(tmp_path: Path) -> None:
    assert ability("CA bundle", tmp_path).state == "missing"
    put(tmp_path / "etc/pki/tls/certs/ca-bundle.crt", PEM)
    assert ability("CA bundle", tmp_path).state == "ok"
    put(tmp_path / "etc/ssl/certs/ca-certificates.crt", "")
    assert ability("CA bundle", tmp_path).state == "broken"


def test_the_key_is_named_and_never_shown(tmp_path: Path) -> None:
    secret = "f00d" * 10
    assert ability("W&B key", tmp_path).state == "missing"
    line = ability("W&B key", tmp_path, WANDB_API_KEY=secret)
    assert (line.state, line.found) == ("ok", "WANDB_API_KEY")
    file = put(tmp_path / "home/.netrc", f"machine wandb.example.com login user password {secret}\n", 0o600)
    assert ability("W&B key", tmp_path).state == "missing"
    line = ability("W&B key", tmp_path, WANDB_BASE_URL="https://wandb.example.com")
    assert (line.state, line.found) == ("ok", f"{file} has an entry for wandb.example.com")


@pytest.mark.parametrize("text", ["f00dsecret\n", "machine x f00dsecret y\n"])
def test_a_netrc_that_cannot_be_read_is_broken_and_not_quoted(tmp_path: Path, text: str) -> None:
    put(tmp_path / "home/.netrc", text)
    line = ability("W&B key", tmp_path)
    assert line.state == "broken"
    assert "f00dsecret" not in repr(line)


def test_git(tmp_path: Path) -> None:
    assert ability("git", tmp_path).state == "missing"
    program = put(tmp_path / "bin/git", "#!/bin/sh\n", 0o755)
    assert ability("git", tmp_path).found == str(program)


def test_disks_are_told_by_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ability("disk", tmp_path).found.endswith(f"free at {tmp_path}")
    assert ability("cache", tmp_path, XDG_CACHE_HOME=str(tmp_path / "not" / "yet")).found.endswith(f"free at {tmp_path}")
