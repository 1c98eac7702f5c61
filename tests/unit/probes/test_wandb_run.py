"""What a run of W&B wrote down, in each of its forms, whole and damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap.errors import InputError
from envsnap.probes import wandb_run
from envsnap.probes.wandb_run import Damaged, Gpu
from tests.fakes import wandb_log

OS = "Linux-6.1.0-x86_64-with-glibc2.36"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
METADATA = {
    "os": OS,
    "python": "CPython 3.11.7",
    "args": ["--lr", "0.1"],
    "git": {"remote": "https://me:secret@git.example.com/yolo.git", "commit": COMMIT},
    "gpu": "NVIDIA H100 80GB HBM3",
    "gpu_count": 2,
    "gpu_nvidia": [{"name": "NVIDIA H100 80GB HBM3", "memoryTotal": "85520809984", "architecture": "Hopper"}] * 2,
    "cudaVersion": "12.4",
}


def environment(*more: tuple[int, int | bytes | str]) -> bytes:
    git = wandb_log.message([(1, "https://me:secret@git.example.com/yolo.git"), (2, COMMIT)])
    card = wandb_log.message([(1, "NVIDIA H100 80GB HBM3"), (2, 85520809984), (4, "Hopper")])
    cpu = wandb_log.message([(1, 96), (3, "AMD EPYC 9654")])
    said: list[tuple[int, int | bytes | str]] = [(1, OS), (2, "CPython 3.11.7"), (5, "--lr"), (25, "12.4")]
    fields = [*said, (9, git), (22, cpu), (24, card), (24, card), *more]
    return wandb_log.message([(16, wandb_log.message([(9, "x")])), (1, 3), (26, wandb_log.message(fields))])


def offline(directory: Path, data: bytes) -> Path:
    (directory / "files").mkdir(exist_ok=True)
    (directory / "files/requirements.txt").write_text("numpy==2.2.6\n\ntorch==2.7.1+cu128\n")
    (directory / "run-x.wandb").write_bytes(data)
    return directory


def test_an_offline_run_and_an_online_run_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "online/files").mkdir(parents=True)
    (tmp_path / "online/files/wandb-metadata.json").write_text(json.dumps({**METADATA, "cpu": {"model": "AMD EPYC 9654"}}))
    (tmp_path / "online/files/requirements.txt").write_text("numpy==2.2.6\n\ntorch==2.7.1+cu128\n")
    (tmp_path / "offline").mkdir()
    history = wandb_log.message([(2, b"x" * 70_000)])  # longer than a block of the log
    run = wandb_run.read(offline(tmp_path / "offline", wandb_log.log(history, environment(), history)))
    assert run == wandb_run.read(tmp_path / "online") == wandb_run.read(tmp_path / "online/files")
    assert (run.os, run.python, run.implementation, run.cpu, run.cuda) == (OS, "3.11.7", "cpython", "AMD EPYC 9654", "12.4")
    assert run.gpus == (Gpu(name="NVIDIA H100 80GB HBM3", memory_bytes=85520809984),) * 2
    assert (run.remote, run.commit) == ("https://git.example.com/yolo.git", COMMIT)
    assert run.requirements == ((1, "numpy==2.2.6"), (2, ""), (3, "torch==2.7.1+cu128"))
    assert not run.arguments_hold_secrets and run.problems == ()


@pytest.mark.parametrize("argument", ["ghp" + "_" + "a1B2" * 9, "--api-key=abc", "--url=https://me:pass@host"])
def test_an_argument_that_looks_like_a_secret_is_told_and_not_kept(tmp_path: Path, argument: str) -> None:
    run = wandb_run.read(offline(tmp_path, wandb_log.log(environment((5, argument)))))
    assert run.arguments_hold_secrets and argument not in repr(run)


@pytest.mark.parametrize("older", [{"python": "3.9.7", "gpu_nvidia": None}, {"gpu_nvidia": "x"}, {"gpu_count": None, "gpu_nvidia": []}])
def test_names_of_older_releases(tmp_path: Path, older: dict[str, Any]) -> None:
    (tmp_path / "wandb-metadata.json").write_text(json.dumps({**METADATA, **older}))
    run = wandb_run.read(tmp_path)
    assert run.gpus[0].name == "NVIDIA H100 80GB HBM3" and run.python == older.get("python", "3.11.7")
    assert [problem.where for problem in run.problems] == ["requirements.txt"]


def test_a_log_that_ends_in_the_middle_says_what_it_says(tmp_path: Path) -> None:
    whole = wandb_log.log(environment(), wandb_log.message([(2, b"x" * 50_000)]))
    run = wandb_run.read(offline(tmp_path, whole[:-100]))
    assert run.python == "3.11.7" and run.problems == ()


@pytest.mark.parametrize("place", [3, 9, 20, 200])
def test_a_damaged_log_is_named_and_the_files_count(tmp_path: Path, place: int) -> None:
    data = bytearray(wandb_log.log(wandb_log.message([(2, b"x" * 100)]), environment()))
    data[place] ^= 0x10
    run = wandb_run.read(offline(tmp_path, bytes(data)))
    assert [problem.where for problem in run.problems] == ["run-x.wandb"] and len(run.requirements) == 3


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run of W&B"):
        wandb_run.read(tmp_path)


@given(st.binary(max_size=400))
def test_no_log_ends_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "x.wandb"
    for whole in (data, b":W&B\xe1\xbe\0" + data, wandb_log.log(data)):
        path.write_bytes(whole)
        problems: list[Any] = []
        wandb_run._from_log(wandb_run.WandbRun(), path, problems)
        assert len(problems) <= 1


@given(st.binary(max_size=200))
def test_a_message_is_read_or_damaged(data: bytes) -> None:
    try:
        fields = wandb_run.message(data)
    except Damaged:
        return
    assert all(isinstance(value, int | bytes) for values in fields.values() for value in values)


LEAVES = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.dictionaries(st.sampled_from(list(METADATA)), JSON))
def test_no_metadata_ends_the_reader(document: dict[str, Any]) -> None:
    problems: list[Any] = []
    wandb_run._from_metadata(wandb_run.WandbRun(), json.dumps(document).encode(), problems)
    assert problems == []
