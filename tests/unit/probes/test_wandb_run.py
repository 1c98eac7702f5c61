"""What a run of W&B wrote down, in each of its forms, whole and damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envsnap.errors import InputError
from envsnap.model.facts import Problem
from envsnap.probes import wandb_run
from envsnap.probes.wandb_run import Damaged, Gpu
from tests.fakes import wandb_log

SAMPLES = Path(__file__).parents[2] / "data/wandb"
"""What wandb 0.31.0 itself wrote; paths, kernel and host are others, of the same length, and the log's checksums were made anew."""
OFFLINE = SAMPLES / "offline-run-20261121_072205-jeye0ti6"
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


def test_a_secret_as_the_next_argument_is_told(tmp_path: Path) -> None:
    run = wandb_run.read(offline(tmp_path, wandb_log.log(environment((5, "--api_key"), (5, "abc")))))
    assert run.arguments_hold_secrets
    flag = wandb_run.read(offline(tmp_path, wandb_log.log(environment((5, "--auth"), (5, "--fast")))))
    assert not flag.arguments_hold_secrets


@pytest.mark.parametrize("older", [{"python": "3.9.7", "gpu_nvidia": None}, {"gpu_nvidia": "x"}, {"gpu_count": None, "gpu_nvidia": []}])
def test_names_of_older_releases(tmp_path: Path, older: dict[str, Any]) -> None:
    (tmp_path / "wandb-metadata.json").write_text(json.dumps({**METADATA, **older}))
    run = wandb_run.read(tmp_path)
    assert run.gpus[0].name == "NVIDIA H100 80GB HBM3" and run.python == older.get("python", "3.11.7")
    assert [problem.where for problem in run.problems] == ["requirements.txt"]


def test_what_wandb_writes() -> None:
    offline, online = wandb_run.read(OFFLINE), wandb_run.read(SAMPLES / "run-20261121_072726-q3v1b609")
    for run in (offline, online):
        assert (run.os, run.python, run.cpu) == ("Linux-6.12.44-generic-x86_64-with-glibc2.36", "3.11.7", "AMD EPYC")
        assert run.remote == "https://git.example.com/demo.git" and run.gpus == () and run.problems == ()
        assert (5, "torch==2.12.1") in run.requirements and len(run.requirements) == 8
    assert offline.commit == "ead82bb04e8aad8746dae0e30de99a8c323e018e" and offline.arguments_hold_secrets
    assert online.commit == "9ee0ba03c133f8867fa073d1c95d41b18eeb3c36" and not online.arguments_hold_secrets


def test_a_log_cut_off_anywhere_is_read_so_far_and_named(tmp_path: Path) -> None:
    (log,) = OFFLINE.glob("*.wandb")
    whole, path = log.read_bytes(), tmp_path / log.name
    ends, place = {7, len(whole)}, 7
    while place < len(whole):
        place += 7 + int.from_bytes(whole[place + 4 : place + 6], "little")
        ends.add(place)
    run = wandb_run.WandbRun()
    for size in sorted({*ends, *range(7, len(whole), 9)}):
        path.write_bytes(whole[:size])
        problems: list[Problem] = []
        run = wandb_run._from_log(wandb_run.WandbRun(), path, problems)
        assert (problems == []) is (size in ends) and all("ends in the middle" in problem.what for problem in problems)
        assert run.python in ("", "3.11.7")
    assert run.python == "3.11.7"


@settings(max_examples=300)
@given(st.data())
def test_a_bit_that_flipped_is_named(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    (log,) = OFFLINE.glob("*.wandb")
    whole = bytearray(log.read_bytes())
    whole[data.draw(st.integers(7, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("log") / log.name
    path.write_bytes(whole)
    problems: list[Problem] = []
    wandb_run._from_log(wandb_run.WandbRun(), path, problems)
    assert [problem.where for problem in problems] == [log.name]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_nothing_but_the_runs_own_files_is_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "private").write_text("-----BEGIN")
    offline(tmp_path, wandb_log.log(environment()))
    place = tmp_path / "files/diff.patch"
    match kind:
        case "link":
            place.symlink_to(tmp_path / "private")
        case "pipe":
            os.mkfifo(place)
        case _:
            place.mkdir()
    run = wandb_run.read(tmp_path)
    assert run.patch is None and [problem.where for problem in run.problems] == ["diff.patch"]


def test_half_a_character_does_not_reach_the_lock(tmp_path: Path) -> None:
    (tmp_path / "wandb-metadata.json").write_text(json.dumps({**METADATA, "gpu_nvidia": [{"name": "a\ud800b"}] * 1000}))
    run = wandb_run.read(tmp_path)
    assert len(run.gpus) == 64 and run.gpus[0].name == "a b"


def test_conda_and_the_patch_from_upstream_are_read(tmp_path: Path) -> None:
    offline(tmp_path, wandb_log.log(environment()))
    conda = "name: x\nchannels:\n  - defaults\ndependencies:\n  - python=3.11.7=h1\n  - mkl=2024.0=h2\n  - pip:\n    - numpy==2.2.6\n"
    (tmp_path / "files/conda-environment.yaml").write_text(conda)
    (tmp_path / f"files/diff_{COMMIT}.patch").write_text("diff")
    (tmp_path / "files/requirements.txt").write_bytes(b"\xef\xbb\xbfnumpy==2.2.6\n")
    run = wandb_run.read(tmp_path)
    assert run.conda == ("python=3.11.7=h1", "mkl=2024.0=h2") and run.upstream == (COMMIT, b"diff")
    assert run.requirements == ((1, "numpy==2.2.6"),) and run.problems == ()


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
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def test_a_size_that_is_no_number_is_not_said() -> None:
    run, problems = wandb_run.WandbRun(), list[Any]()
    told = wandb_run._from_metadata(run, json.dumps({"gpu_nvidia": [{"name": "H100", "memoryTotal": "²"}]}).encode(), problems)
    assert problems == [] and [gpu.memory_bytes for gpu in told.gpus] == [0]


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text that is drawn in a fresh checkout takes a second
@given(st.dictionaries(st.sampled_from(list(METADATA)), JSON))
def test_no_metadata_ends_the_reader(document: dict[str, Any]) -> None:
    problems: list[Any] = []
    wandb_run._from_metadata(wandb_run.WandbRun(), json.dumps(document).encode(), problems)
    assert problems == []
