"""A real run of W&B, offline, in the real training environment: what a lock of it holds, line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envsnap import lockfile
from envsnap.model.origins import IndexOrigin

pytestmark = pytest.mark.torch

RUN = """
import wandb
run = wandb.init(project="demo", config={"lr": 0.1})
run.log({"loss": 1.0})
run.finish()
"""
STRANGE = ["thop @ git+https://git.example.com/thop.git@" + "a" * 40, "python-apt==2.4.0ubuntu4", "==", "local @ file:///home/me/local"]


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    return subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def envsnap(root: Path, *words: str, code: int = 0) -> dict[str, Any]:
    env = {**os.environ, "ENVSNAP_CACHE": str(root.parent / "cache")}
    command = [sys.executable, "-m", "envsnap.cli.main", *words, "--json"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_lock_of_a_run_names_what_it_ran_on(training_python: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "-q")
    (project / "train.py").write_text(RUN)
    (project / ".gitignore").write_text("wandb/\n")
    git(project, "add", ".")
    git(project, "commit", "-qm", "one")
    env = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(tmp_path)}
    subprocess.run([training_python, "train.py"], cwd=project, env=env, check=True, capture_output=True)
    (run,) = (project / "wandb").glob("offline-run-*")
    written = (run / "files/requirements.txt").read_text().splitlines()
    (run / "files/requirements.txt").write_text("\n".join([*written, *STRANGE]) + "\n")

    document = envsnap(project, "capture", "--wandb", str(run), "--name", "run")
    lock = lockfile.loads((project / str(document["lock"])).read_bytes())
    version = subprocess.run([training_python, "-c", "import platform; print(platform.python_version())"], capture_output=True, text=True)
    assert lock.python.version == version.stdout.strip()
    assert lock.source is not None and lock.source.commit == git(project, "rev-parse", "HEAD")
    # Each line is a package or is named.
    packages = {package.name: package for package in lock.packages}
    said = {problem.where: problem.what for problem in lock.capture.problems}
    left_out = [number for number, _ in enumerate([*written, *STRANGE], 1) if f"requirements.txt:{number}" in said]
    assert len(packages) + len(left_out) == len(written) + len(STRANGE)
    assert left_out == [len(written) + 2, len(written) + 3, len(written) + 4]
    assert {package.provenance for package in lock.packages} == {"unproven"}
    # What an index has is the very file that is installed.
    proven = envsnap(project, "capture", "--python", str(training_python), "--name", "live")
    live = lockfile.loads((project / str(proven["lock"])).read_bytes())
    indexed = {package.name: package for package in live.packages if isinstance(package.origin, IndexOrigin)}
    both = [name for name in indexed if name in packages and packages[name].sha256]
    assert len(both) > 60
    assert {name: packages[name].sha256 for name in both} == {name: indexed[name].sha256 for name in both}
    assert {name: packages[name].files for name in both} == {name: indexed[name].files for name in both}

    assert "--allow-unproven all" in envsnap(project, "plan", str(document["lock"]), "--base", "slim", code=5)["error"]["hint"]
