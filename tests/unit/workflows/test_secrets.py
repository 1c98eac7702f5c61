"""Secrets planted where people have them: in nothing that a capture or a render leaves behind or says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envsnap.errors import InputError
from envsnap.progress import SILENT
from envsnap.workflows import places
from envsnap.workflows.plan import PlanRequest, _write_source
from tests.fakes import wheels
from tests.fakes.secrets import token

PLACES = ("variable", "steering", "pip", "remote", "direct", "argv", "patch", "untracked", "committed", "branch")
SECRETS = {place: token(place) for place in PLACES}


def git(directory: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *identity, *words], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An environment and a project with something planted in each place."""
    environment = wheels.make_environment(tmp_path / "env")
    wheels.install(environment, wheels.write_wheel(tmp_path / wheels.DEMO_FILE, wheels.DEMO))
    (environment / "pip.conf").write_text(f"[global]\nindex-url = https://me:{SECRETS['pip']}@packages.example.com/simple\n")
    url = f"https://{SECRETS['direct']}@git.example.com/demo.git"
    [metadata] = wheels.site_of(environment).glob("demo_pkg-*.dist-info")
    (metadata / "direct_url.json").write_text(json.dumps({"url": url, "vcs_info": {"vcs": "git", "commit_id": "0" * 40}}))
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "-q")
    (project / "train.py").write_text("print('train')\n")
    git(project, "add", ".")
    git(project, "commit", "-qm", "one")
    git(project, "remote", "add", "origin", f"https://me:{SECRETS['remote']}@git.example.com/project.git")
    (project / "train.py").write_text(f"print('train')\nkey = '{SECRETS['patch']}'\n")
    (project / "notes.py").write_text(f"key = '{SECRETS['untracked']}'\n")
    (project / "fine.py").write_text("FINE = 1\n")
    return tmp_path


def run(root: Path, *words: str, code: int = 0) -> str:
    """Returns all that was said, on both streams."""
    planted = {"MY_API_TOKEN": SECRETS["variable"], "NCCL_DEBUG_FILE": SECRETS["steering"]}
    path = os.pathsep.join(filter(None, (str(Path(places.__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, **planted, "PYTHONPATH": path, "ENVSNAP_CACHE": str(root / "cache")}
    command = [sys.executable, "-m", "envsnap.cli.main", *words]
    done = subprocess.run(command, cwd=root / "project", env=env, capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def leaks(data: bytes) -> list[str]:
    return [place for place, secret in SECRETS.items() if secret.encode() in data]


def below(directory: Path) -> dict[str, list[str]]:
    found = {str(path): leaks(path.read_bytes()) for path in directory.rglob("*") if path.is_file() and not path.is_symlink()}
    return {path: where for path, where in found.items() if where}


def test_the_search_can_fail(root: Path) -> None:
    assert {place for found in below(root).values() for place in found} >= {"pip", "direct", "remote", "patch", "untracked"}


def test_no_planted_secret_leaves_its_place(root: Path) -> None:
    capture = ("capture", "--python", str(root / "env"), "--offline")
    said = run(root, *capture, "--name", "secrets", "-vv")
    said += run(root, *capture, "--name", f"x-{SECRETS['argv']}", code=4)
    lock = (root / "project/lockfiles/secrets.yaml").read_text()
    for name in ("MY_API_TOKEN", "NCCL_DEBUG_FILE", "notes.py", "train.py", "fine.py"):
        assert name in lock, name
    assert "https://git.example.com/project.git" in lock and "https://git.example.com/demo.git" in lock
    git(root / "project", "checkout", "-q", "-b", f"me/{SECRETS['branch']}")
    said += run(root, *capture, "--name", "other", code=4)
    assert leaks(said.encode()) == [] and "lockfiles/secrets" not in said.partition("not in git")[2].partition("\n")[0]
    assert below(root / "project/lockfiles") == below(root / "cache") == {}


def test_the_rendered_project_has_none_and_a_committed_one_stops_it(root: Path) -> None:
    project, context = root / "project", root / "context"

    def render(name: str) -> None:
        run(root, "capture", "--python", str(root / "env"), "--offline", "--name", name)
        file = project / f"lockfiles/{name}.yaml"
        lock, request = places.read_lock(file), PlanRequest(project=project)
        _write_source(lock, places.blobs_of(file), request, context / name, root / "cache", SILENT, offline=True)

    render("clean")
    assert (context / "clean/fine.py").exists() and below(context) == {}

    (project / "old.py").write_text(f"one = 1\nkey = '{SECRETS['committed']}'\n")
    git(project, "add", "old.py")
    git(project, "commit", "-qm", "two")
    with pytest.raises(InputError) as error:
        render("committed")
    assert error.value.what.endswith("in old.py") and error.value.why.startswith("line 2: GitHub Token")
    assert "--no-source" in error.value.hint and not leaks(str(error.value.__dict__).encode())

    (project / "old.py").write_text(f"one = 1\nkey = '{SECRETS['committed']}'  # pragma: allowlist secret\n")
    git(project, "commit", "-qm", "three", "old.py")
    render("allowed")
