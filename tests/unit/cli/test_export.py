"""export of a lock's packages, as people and scripts meet it: no image, no engine, and nothing asked that is not needed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from envsnap import registry
from envsnap.engines.docker import DockerEngine
from envsnap.lockfile.digest import seal
from envsnap.model.origins import VcsOrigin
from envsnap.workflows import places
from tests import samples
from tests.fakes.index_server import IndexServer, entry, serving
from tests.unit.cli.test_run import envsnap

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMS = ("pylock", "requirements", "conda", "cyclonedx")
LOCK = "lockfiles/yolo-train.yaml"
COMMIT = "9b1c4f0e77d25a83c0ffee00aa11bb22cc33dd44"
KEPT = "./yolo-train.wheels/ultralytics_thop-2.2.3-py3-none-any.whl"
LOGIN = "reader:s3cr3t-password"


@pytest.fixture
def index() -> Iterator[IndexServer]:
    with serving() as server:
        for package in samples.lock().packages:
            if package.sha256 is not None:
                server.json(package.name, entry(package.file or "", sha256=package.sha256))
        yield server


@pytest.fixture
def home(tmp_path: Path, index: IndexServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a lock and the wheels that it keeps; pip's index wants a login, and nobody may ask for an image."""
    lock = samples.lock()
    blobs = places.blobs_of(tmp_path / LOCK)
    packages = [replace(one, blob=blobs.put(one.name.encode())) if one.blob is not None else one for one in lock.packages]
    places.write_lock(seal(replace(lock, packages=tuple(packages))), tmp_path / LOCK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENVSNAP_CACHE", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    index.login = LOGIN
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.with_login(LOGIN))

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("somebody asked for an image")

    monkeypatch.setattr(DockerEngine, "__init__", asked)
    monkeypatch.setattr(registry.client.Registry, "__init__", asked)
    return tmp_path


def requirements(text: str) -> None:
    assert "numpy==2.4.6 --hash=sha256:" in text


def pylock(text: str) -> None:
    found = {one["name"]: one for one in tomllib.loads(text)["packages"]}
    assert found["numpy"]["wheels"][0]["url"].startswith("http://127.0.0.1:")
    assert found["ultralytics-thop"]["wheels"][0]["path"] == "yolo-train.wheels/ultralytics_thop-2.2.3-py3-none-any.whl"


def conda(text: str) -> None:
    assert yaml.safe_load(text)["dependencies"][0] == "python=3.11.7"


def cyclonedx(text: str) -> None:
    assert json.loads(text)["bomFormat"] == "CycloneDX"


CHECKS = (pylock, requirements, conda, cyclonedx)


@pytest.mark.parametrize("check", CHECKS, ids=FORMS)
def test_each_format_of_a_lock_alone(home: Path, capsys: pytest.CaptureFixture[str], check: Callable[[str], None]) -> None:
    form = check.__name__
    code, out, err = envsnap(capsys, "export", LOCK, "--format", form)
    assert code == 0, err
    check(out)
    assert "s3cr3t-password" not in out + err and "reader" not in out
    assert envsnap(capsys, "export", LOCK, "--format", form)[1] == out
    code, out_json, _ = envsnap(capsys, "export", LOCK, "--format", form, "--json")
    document = json.loads(out_json)
    assert (code, document["format"], document["file"], document["text"], document["wheels"]) == (0, form, None, out, [])
    assert document["lock"] == LOCK and document["lock_digest"] == places.read_lock(home / LOCK).digest
    assert any("yolotools" in warning for warning in document["warnings"]) is (form != "cyclonedx")


def test_the_wheels_that_a_lock_keeps_lie_beside_the_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = envsnap(capsys, "export", LOCK, "--format", "requirements", "-o", "deploy/requirements.txt")
    assert (code, out) == (0, "wrote deploy/requirements.txt, and 1 wheel beside it\n")
    page, wheel = sorted((home / "deploy/yolo-train.wheels").iterdir())
    assert (wheel.name, wheel.read_bytes()) == ("ultralytics_thop-2.2.3-py3-none-any.whl", b"ultralytics-thop")
    listed = f"{wheel.name}#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    assert page.name == "index.html" and f'<a href="{listed}">{wheel.name}</a>' in page.read_text()
    assert "looked for in" not in err
    document = json.loads(envsnap(capsys, "export", LOCK, "--format", "pylock", "-o", "deploy/pylock.toml", "--json")[1])
    assert document["wheels"] == ["deploy/yolo-train.wheels/ultralytics_thop-2.2.3-py3-none-any.whl"]
    assert "yolo-train.wheels, where -o FILE puts" in envsnap(capsys, "export", LOCK, "--format", "requirements")[2]


def test_a_wheel_that_is_damaged_or_gone_is_an_error(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And there is no file that would name it."""
    (blob,) = [path for path in (home / "lockfiles/yolo-train.blobs/sha256").iterdir() if path.read_bytes() == b"ultralytics-thop"]
    for spoil in (lambda: blob.write_bytes(b"evil"), blob.unlink):
        spoil()
        code, _, err = envsnap(capsys, "export", LOCK, "--format", "pylock", "-o", "deploy/pylock.toml")
        assert code == 4 and "error:" in err
        assert not [path for path in (home / "deploy").rglob("*") if path.is_file()]


def test_offline_nobody_is_asked(home: Path, index: IndexServer, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = envsnap(capsys, "export", LOCK, "--format", "pylock", "--offline")
    assert code == 0 and not index.asked
    assert all("url" not in one["wheels"][0] for one in tomllib.loads(out)["packages"])
    assert "no address of numpy, nvidia-cublas, nvidia-cuda-runtime, nvidia-cudnn-cu13 and 8 more: offline" in err
    with_addresses = envsnap(capsys, "export", LOCK, "--format", "pylock")[1]
    assert envsnap(capsys, "export", LOCK, "--format", "pylock", "--offline")[1] == with_addresses  # as they were answered


@pytest.mark.parametrize("form", ["requirements", "conda", "cyclonedx"])
def test_only_pylock_asks_an_index(home: Path, index: IndexServer, capsys: pytest.CaptureFixture[str], form: str) -> None:
    assert envsnap(capsys, "export", LOCK, "--format", form)[0] == 0 and not index.asked


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, f"ultralytics-thop @ git+https://git.example.com/vision/thop.git@{COMMIT}"),
        ({"url": "git@git.example.com:vision/thop.git"}, f"ultralytics-thop @ git+ssh://git@git.example.com/vision/thop.git@{COMMIT}"),
        ({"subdirectory": "a b/c"}, f"ultralytics-thop @ git+https://git.example.com/vision/thop.git@{COMMIT}#subdirectory=a%20b/c"),
        ({"url": "/home/user/thop"}, KEPT),
        ({"url": "file:///home/user/thop"}, KEPT),
        ({"vcs": "hg", "commit": "1 evil"}, KEPT),
        (None, KEPT),
    ],
)
def test_a_repository_that_others_reach_and_that_is_all_of_it(
    home: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any] | None, line: str
) -> None:
    """None: of one that was edited after it was installed from there."""
    lock = places.read_lock(home / LOCK)
    thop = next(one for one in lock.packages if one.name == "ultralytics-thop")
    assert isinstance(thop.origin, VcsOrigin)
    edited = replace(thop, provenance="rebuilt", modified=("thop/profile.py",))
    thop = edited if changes is None else replace(thop, origin=replace(thop.origin, **changes))
    packages = tuple(thop if one.name == thop.name else one for one in lock.packages)
    places.write_lock(seal(replace(lock, packages=packages)), home / LOCK)
    code, out, err = envsnap(capsys, "export", LOCK, "--format", "conda")
    assert code == 0, err
    assert line in yaml.safe_load(out)["dependencies"][-1]["pip"]
    assert ("git+" in envsnap(capsys, "export", LOCK, "--format", "requirements")[1]) is ("git+" in line)


@pytest.mark.parametrize(
    ("name", "told"),
    [("pylock.toml", False), ("pylock.gpu.toml", False), ("lock.toml", True), ("pylock.a.b.toml", True), ("pylock..toml", True)],
)
def test_a_name_that_tools_do_not_take(home: Path, capsys: pytest.CaptureFixture[str], name: str, told: bool) -> None:
    err = envsnap(capsys, "export", LOCK, "--format", "pylock", "--offline", "-o", name)[2]
    assert ("tools look for pylock.toml or pylock.NAME.toml" in err) is told


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--gpus", "8"), "--gpus: nothing that --format {} could say"),
        (("--data", ".", "--env", "A=b"), "--data, --env: nothing"),
        (("--no-project",), "--no-project: nothing"),
        (("--user", "root", "--shm-size", "8g", "-p", "80"), "--publish, --user, --shm-size: nothing"),
        (("--plain-http", "localhost"), "--plain-http: nothing"),
        (("--", "python", "train.py"), "a command to run: nothing"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_what_means_nothing_there_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], form: str, words: tuple[str, ...], what: str
) -> None:
    code, out, err = envsnap(capsys, "export", LOCK, "--format", form, *words)
    assert (code, out) == (2, "") and what.format(form) in err and "--format compose|devcontainer|k8s|slurm" in err


@pytest.mark.parametrize(
    ("form", "words", "what"),
    [
        ("compose", ("--offline",), "or --format pylock|requirements|conda|cyclonedx"),
        ("k8s", ("--pip-conf", LOCK), "or --format pylock\n"),
        ("conda", ("--pip-conf", LOCK), "or --format pylock\n"),
        ("conda", ("--pip-conf", LOCK, "--gpus", "1"), "leave it out\n"),
    ],
)
def test_so_is_what_indexes_are_asked_with(
    home: Path, capsys: pytest.CaptureFixture[str], form: str, words: tuple[str, ...], what: str
) -> None:
    code, out, err = envsnap(capsys, "export", LOCK, "--format", form, *words)
    assert (code, out) == (2, "") and what in err


def test_a_setting_for_all_exports_is_passed_over(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVSNAP_EXPORT_GPUS", "8")
    assert envsnap(capsys, "export", LOCK, "--format", "requirements")[0] == 0


@pytest.mark.parametrize("form", FORMS)
def test_an_image_is_no_lock(home: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    code, out, err = envsnap(capsys, "export", "registry.example.com/vision/yolo:1", "--format", form)
    assert (code, out) == (2, "") and f"--format {form} is made of a lock" in err and "/opt/envsnap/lock.yaml" in err
    assert envsnap(capsys, "export", "nowhere.yaml", "--format", form)[0] == 4


def test_every_format_of_a_lock_is_tested() -> None:
    assert tuple(check.__name__ for check in CHECKS) == FORMS
