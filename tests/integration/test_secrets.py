"""Secrets planted in nine places: in no lock, blob, log, build context or image, whoever builds it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from envsnap.engines.docker import DockerEngine
from tests import opened
from tests.fakes import index_server, wheels
from tests.fakes.secrets import token
from tests.integration.conftest import forget

pytestmark = pytest.mark.engine

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
PLACES = ("variable", "steering", "pip", "remote", "direct", "argv", "patch", "untracked", "edited")
SECRETS = {place: token(place) for place in PLACES}


def git(root: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("secrets")
    venv.create(root / "env", with_pip=True)
    demo = wheels.write_wheel(root / wheels.DEMO_FILE, wheels.DEMO)
    wheels.install(root / "env", demo)
    site = wheels.site_of(root / "env")
    (site / "demo_module.py").write_text(f"def main(): ...\nkey = '{SECRETS['edited']}'\n")
    url = f"https://{SECRETS['direct']}@git.example.com/demo.git"
    other = "other-1.0.dist-info"
    files = {
        "other.py": "",
        f"{other}/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n",
        f"{other}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    wheels.install(root / "env", wheels.write_wheel(root / "other-1.0-py3-none-any.whl", files))
    (site / other / "direct_url.json").write_text(json.dumps({"url": url, "vcs_info": {"vcs": "git", "commit_id": "0" * 40}}))
    project = root / "project"
    project.mkdir()
    git(project, "init", "-q")
    (project / "train.py").write_text("print('train')\n")
    git(project, "add", ".")
    git(project, "commit", "-qm", "one")
    git(project, "remote", "add", "origin", f"https://me:{SECRETS['remote']}@git.example.com/project.git")
    (project / "train.py").write_text(f"print('train')\nkey = '{SECRETS['patch']}'\n")
    (project / "notes.py").write_text(f"key = '{SECRETS['untracked']}'\n")
    (project / "fine.py").write_text("FINE = 1\n")
    with index_server.serving() as server:
        server.login = f"me:{SECRETS['pip']}"
        server.html("demo-pkg")
        (root / "env/pip.conf").write_text(f"[global]\nindex-url = {server.with_login(server.login)}\n")
        yield root


def run(root: Path, *words: str, code: int = 0) -> str:
    """Returns all that was said, on both streams."""
    planted = {"MY_API_TOKEN": SECRETS["variable"], "NCCL_DEBUG_FILE": SECRETS["steering"]}
    env = {**os.environ, **planted, "ENVSNAP_CACHE": str(root / "cache")}
    command = [sys.executable, "-m", "envsnap.cli.main", *words]
    done = subprocess.run(command, cwd=root / "project", env=env, capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def leaks(data: bytes) -> list[str]:
    return [place for place, secret in SECRETS.items() if secret.encode() in data]


def leaking(content: Iterable[tuple[str, bytes]], *, control: bytes = b"") -> dict[str, list[str]]:
    """Name -> places whose secrets are in it. Args: control: what is in one of them if all was opened."""
    found: dict[str, list[str]] = {}
    seen = False
    for name, data in content:
        seen = seen or control in data
        if places := leaks(data):
            found.setdefault(name, []).extend(places)
    assert seen, "the search did not look everywhere"
    return found


@pytest.mark.parametrize("packed", [bytes, gzip.compress, lambda data: gzip.compress(data[:9], 0) + gzip.compress(data[9:])])
def test_the_search_can_fail(tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
    (tmp_path / "x").write_bytes(packed(f"a {SECRETS['patch']} b".encode()))
    assert list(leaking(opened.below(tmp_path)).values()) == [["patch"]]


@pytest.fixture(scope="module")
def said(root: Path, debian_base: str) -> str:
    """All that was said while the environment was captured."""
    said = run(root, "capture", "--python", str(root / "env"), "--name", "secrets", "-vv")
    said += run(root, "capture", "--python", str(root / "env"), "--name", "secrets", "--json")
    lock = (root / "project/lockfiles/secrets.yaml").read_text()
    # What stays behind is named, with where to give it.
    for name in ("MY_API_TOKEN", "NCCL_DEBUG_FILE", "notes.py", "train.py"):
        assert name in lock, name
    assert "fine.py" in lock and "demo_module.py, line 2" in lock
    allowed = ("--allow-unproven", "demo-pkg", "--allow-unproven", "other")
    said += run(root, "build", "lockfiles/secrets.yaml", "--base", debian_base, "--env", f"API={SECRETS['argv']}", *allowed, code=2)
    # The edited package cannot be built without its edit; the rest can.
    run(root, "capture", "--python", str(root / "env"), "--name", "unbuilt")
    wheels.install(root / "env", "--force-reinstall", root / wheels.DEMO_FILE)
    (wheels.site_of(root / "env") / "other-1.0.dist-info/direct_url.json").unlink()
    return said + run(root, "capture", "--python", str(root / "env"), "--name", "secrets", "-v", "--rescue", "all")


@pytest.mark.parametrize("which", ["docker", "oci"])
def test_no_planted_secret_leaves_its_place(
    engine: DockerEngine, root: Path, said: str, debian_base: str, registry: str, which: str
) -> None:
    """Neither for the engine nor for a registry."""
    tag = f"{registry}/envsnap-test/secrets:{which}"
    words = ("build", "lockfiles/secrets.yaml", "--engine", which, "--base", debian_base, "-t", tag, "--push", "--load", "-v")
    said += run(root, *words, "--ca-bundle", CA_BUNDLE)
    try:
        assert leaks(said.encode()) == []
        for place in ("project/lockfiles", "project/images", "cache"):
            assert leaking(opened.below(root / place)) == {}, place
        assert leaking(opened.in_engine(tag), control=b"FINE = 1") == {}
        assert leaking(opened.in_registry(tag), control=b"FINE = 1") == {}
    finally:
        forget(engine, tag)
