"""A lock of a run of W&B: which source it takes, what it leaves out and says, what it does not ask offline."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from envsnap import lockfile
from envsnap.blobs import BlobStore
from envsnap.errors import TargetError
from envsnap.model.lock import EnvLock
from envsnap.progress import SILENT
from envsnap.workflows import wandb_run

NOWHERE = "https://git.invalid/yolo.git"
METADATA: dict[str, Any] = {"os": "Linux-6.1.0-x86_64-with-glibc2.36", "python": "CPython 3.11.7", "cudaVersion": "13.0"}


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    return subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clone with one commit that was pushed, and one that was not: HEAD."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q")
    for text in ("one\n", "one\ntwo\n"):
        (root / "train.py").write_text(text)
        git(root, "add", ".")
        git(root, "commit", "-qm", text)
    return root


class Said:
    """A run's lock as a reader gets it."""

    def __init__(self, lock: EnvLock) -> None:
        self.lock = lockfile.loads(lockfile.dumps(lock))
        self.problems = {problem.where: problem.what for problem in lock.capture.problems}


def read(tmp_path: Path, project: Path, metadata: dict[str, Any], files: dict[str, bytes], *, offline: bool = True) -> Said:
    folder = tmp_path / "run/files"
    folder.mkdir(parents=True)
    (folder / "wandb-metadata.json").write_text(json.dumps({**METADATA, **metadata}))
    for name, data in {"requirements.txt": b"", **files}.items():
        (folder / name).write_bytes(data)
    return Said(
        wandb_run.lock_of_run(
            tmp_path / "run", "yolo", project, BlobStore(tmp_path / "blobs"), offline=offline, cache=tmp_path / "cache", progress=SILENT
        )
    )


def test_the_commit_with_its_patch(tmp_path: Path, project: Path) -> None:
    head = git(project, "rev-parse", "HEAD")
    (project / "train.py").write_text("one\ntwo\nthree\n")
    patch = git(project, "diff", "HEAD").encode() + b"\n"
    said = read(tmp_path, project, {"git": {"remote": NOWHERE, "commit": head}}, {"diff.patch": patch})
    source = said.lock.source
    assert source is not None and (source.commit, source.dirty) == (head, True) and source.patch is not None
    assert BlobStore(tmp_path / "blobs").read(source.patch) == patch and said.problems == {}


def test_a_commit_that_was_not_pushed_is_had_from_upstream(tmp_path: Path, project: Path) -> None:
    pushed, head = git(project, "rev-parse", "HEAD~"), git(project, "rev-parse", "HEAD")
    (project / "train.py").write_text("one\ntwo\nthree\n")
    patches = {name: git(project, "diff", base).encode() + b"\n" for name, base in ((f"diff_{pushed}.patch", pushed), ("diff.patch", head))}
    git(project, "reset", "-q", "--hard", pushed)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", project.as_uri(), str(clone))
    said = read(tmp_path, clone, {"git": {"remote": NOWHERE, "commit": head}}, patches)
    source = said.lock.source
    assert source is not None and (source.commit, source.dirty) == (pushed, True)
    assert source.patch is not None and b"+two\n+three\n" in BlobStore(tmp_path / "blobs").read(source.patch)
    assert f"taken instead: {pushed[:12]}" in said.problems["source"]


def test_a_patch_with_a_secret_stays_out_and_the_lock_does_not_call_it_clean(tmp_path: Path, project: Path) -> None:
    head, token = git(project, "rev-parse", "HEAD"), "ghp" + "_" + "a1B2" * 9
    (project / "train.py").write_text(f"one\ntwo\ntoken = '{token}'\n")
    patch = git(project, "diff", "HEAD").encode() + b"\n"
    said = read(tmp_path, project, {"git": {"remote": NOWHERE, "commit": head}}, {"diff.patch": patch})
    source = said.lock.source
    assert source is not None and source.patch is None and source.dirty
    assert "looks like a secret" in said.problems["diff.patch"] and list(said.lock.capture.withheld) == ["diff.patch"]
    assert not any(token.encode() in path.read_bytes() for path in tmp_path.glob("blobs/sha256/*"))


@pytest.mark.parametrize(("offline", "reason"), [(True, "no remote is asked offline"), (False, "unable to access")])
def test_offline_asks_no_remote(tmp_path: Path, project: Path, offline: bool, reason: str) -> None:
    said = read(tmp_path, project, {"git": {"remote": NOWHERE, "commit": "a" * 40}}, {}, offline=offline)
    assert said.lock.source is None and reason in said.problems["source"]


def test_what_the_driver_supports_is_not_what_was_loaded(tmp_path: Path, project: Path) -> None:
    observed = read(tmp_path, project, {"gpu": "NVIDIA H100", "gpu_count": 1}, {}).lock.observed
    assert observed.cuda.runtime is None and observed.gpu.cuda_driver == "13.0"


def test_entries_of_conda_are_named(tmp_path: Path, project: Path) -> None:
    conda = b"dependencies:\n  - mkl=2024.0=h2\n  - cudatoolkit=11.8\n"
    said = read(tmp_path, project, {}, {"conda-environment.yaml": conda})
    assert said.problems["conda-environment.yaml"] == "2 entries of conda are not in the lock: mkl=2024.0=h2, cudatoolkit=11.8"


def test_halves_of_characters_in_a_remote_reach_no_digest(tmp_path: Path, project: Path) -> None:
    said = read(tmp_path, project, {"git": {"remote": "https://x.invalid/\ud800", "commit": "a" * 40}, "cpu": {"model": "\ud800"}}, {})
    assert said.lock.source is None and said.lock.observed.platform.cpu == ""


def test_metadata_that_is_damaged_is_said_to_be(tmp_path: Path, project: Path) -> None:
    (tmp_path / "run/files").mkdir(parents=True)
    (tmp_path / "run/files/requirements.txt").write_text("numpy==2.2.6\n")
    (tmp_path / "run/files/wandb-metadata.json").write_text('{"os": "Linux-6.1')
    with pytest.raises(TargetError, match="does not say what it ran on") as caught:
        wandb_run.lock_of_run(
            tmp_path / "run", "yolo", project, BlobStore(tmp_path / "blobs"), offline=True, cache=tmp_path / "cache", progress=SILENT
        )
    assert caught.value.why.startswith("wandb-metadata.json cannot be read: ") and "fetch it again" in caught.value.hint
