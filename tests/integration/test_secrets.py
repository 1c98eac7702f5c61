"""Secrets planted in nine places: in no lock, blob, log, build context or image."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsnap.engines.docker import DockerEngine
from tests.fakes import index_server, wheels
from tests.fakes.secrets import token

pytestmark = pytest.mark.engine

TAG = "envsnap-test/secrets:1"
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


def below(directory: Path) -> dict[str, list[str]]:
    found = {str(path): leaks(path.read_bytes()) for path in directory.rglob("*") if path.is_file() and not path.is_symlink()}
    return {path: places for path, places in found.items() if places}


def test_the_search_can_fail(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(f"a {SECRETS['patch']} b")
    assert list(below(tmp_path).values()) == [["patch"]]


def test_no_planted_secret_leaves_its_place(engine: DockerEngine, root: Path, debian_base: str) -> None:
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
    said += run(root, "capture", "--python", str(root / "env"), "--name", "secrets", "-v", "--rescue", "all")
    said += run(root, "build", "lockfiles/secrets.yaml", "--base", debian_base, "-t", TAG, "--ca-bundle", CA_BUNDLE, "-v")
    try:
        for place in ("project/lockfiles", "project/images", "cache"):
            assert below(root / place) == {}, place
        assert leaks(said.encode()) == []
        for command in (["history", "--no-trunc", TAG], ["inspect", TAG]):
            assert leaks(subprocess.run(["docker", *command], capture_output=True, check=True).stdout) == []
        assert in_layers(TAG) == []
    finally:
        built = engine.image(TAG)
        if built is not None:
            subprocess.run(["docker", "image", "rm", "--force", built.image_id], capture_output=True)


def in_layers(image: str) -> list[str]:
    """Whatever `docker save` writes, layer by layer, opened."""
    found: list[str] = []
    saved = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
    assert saved.stdout is not None
    with saved.stdout, tarfile.open(fileobj=saved.stdout, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                continue
            data = content.read()
            found += leaks(data)
            try:
                with tarfile.open(fileobj=io.BytesIO(data)) as layer:
                    for inner in layer:
                        file = layer.extractfile(inner) if inner.isreg() else None
                        found += leaks(file.read()) if file is not None else []
            except tarfile.TarError:
                continue
    saved.wait()
    return found
