"""The command line of docker."""

from __future__ import annotations

import csv
import subprocess
from itertools import pairwise

import pytest
from msgspec.structs import replace

from envsnap.launch import docker
from envsnap.model.gpu_request import GpuRequest, parse_gpus
from envsnap.model.launch import Launch, Mount
from tests.unit.launch.sample import DIGEST, FULL, HOSTILE, PLAIN


def test_the_least() -> None:
    assert docker.argv(PLAIN, tty=False) == [
        *("docker", "run", "--rm", "--init", "--interactive", "--ipc=host", "--ulimit", "memlock=-1", "--ulimit", "stack=67108864"),
        *(f"registry.example.com/vision/yolo:1@{DIGEST}", "python", "train.py"),
    ]
    assert "--tty" in docker.argv(PLAIN, tty=True)


def test_everything() -> None:
    words = docker.argv(FULL, tty=False)
    start = words.index(FULL.image)
    assert words[start + 1 :] == ["python", *HOSTILE]  # after the image nothing is an option of docker's
    options = dict(pairwise(words))
    assert (options["--gpus"], options["--user"], options["--workdir"]) == ("2", "1000:100", "/workspace/yolo/src")
    given = [words[place + 1] for place, word in enumerate(words[:start]) if word == "--env"]
    assert given == ["WANDB_API_KEY", *(f"H{number}={value}" for number, value in enumerate(HOSTILE))]
    assert [words[place + 1] for place, word in enumerate(words) if word == "--publish"] == ["80:8888", "127.0.0.1::6006/udp"]
    assert "--entrypoint" not in words[:start] and "--privileged" not in words[:start]


def test_a_mount_is_a_line_of_csv() -> None:
    words = docker.argv(FULL, tty=False)
    mounts = [next(csv.reader([words[place + 1]])) for place, word in enumerate(words) if word == "--mount"]
    assert mounts == [
        ["type=bind", "source=/home/me/yolo $x", "target=/workspace/yolo"],
        ["type=bind", 'source=/mnt/a,b "c" $d', "target=/data/it's", "readonly"],
        ["type=bind", "source=/runs", "target=/runs"],
    ]
    assert docker.mount(Mount(source="/a", target="/b")) == "type=bind,source=/a,target=/b"


@pytest.mark.parametrize(("asked", "word"), [("all", "all"), ("2", "2"), ("device=0", "device=0"), ("device=0,2", '"device=0,2"')])
def test_gpus(asked: str, word: str) -> None:
    request = parse_gpus(asked)
    assert request is not None and (docker.gpus(request), str(request)) == (word, asked)


@pytest.mark.parametrize("launch", [PLAIN, FULL, replace(FULL, gpus=GpuRequest(devices=("0", "2")), shm_size=1 << 30)])
def test_what_is_shown_is_what_is_run(launch: Launch) -> None:
    script = f'docker() {{ printf "%s\\0" docker "$@"; }}; {docker.shown(launch, tty=True)}'
    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    assert said.decode().split("\0")[:-1] == docker.argv(launch, tty=True)


def test_shared_memory_of_its_own() -> None:
    words = docker.argv(replace(PLAIN, shm_size=8 << 30), tty=False)
    assert "--shm-size=8589934592" in words and "--ipc=host" not in words
