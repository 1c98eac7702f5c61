"""What `--gpus` means, and what an engine's refusal means."""

from __future__ import annotations

from typing import Any

import pytest

from envsnap.engines.gpus import refusal, ways_to_gpus
from envsnap.errors import UsageError
from envsnap.model.gpu_request import GpuRequest, parse_gpus


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("none", None),
        ("all", GpuRequest(count=-1)),
        ("2", GpuRequest(count=2)),
        ("device=0", GpuRequest(devices=("0",))),
        ("device=0,2", GpuRequest(devices=("0", "2"))),
        ("device=GPU-3a2b-11,MIG-9", GpuRequest(devices=("GPU-3a2b-11", "MIG-9"))),
        ("device=0:1", GpuRequest(devices=("0:1",))),
    ],
)
def test_gpus_as_docker_reads_them(text: str, request_: GpuRequest | None) -> None:
    assert parse_gpus(text) == request_


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "two", "device=", "device=0,", "device=a b", "ALL", "1\n", "device=0\n", "device=x", "device=GPU", "device=0,x"]
)
def test_what_is_not_understood(text: str) -> None:
    with pytest.raises(UsageError, match="not understood"):
        parse_gpus(text)


@pytest.mark.parametrize(
    ("info", "ways"),
    [
        ({}, ()),
        ({"Runtimes": {"runc": {}}, "CDISpecDirs": ["/etc/cdi"], "DiscoveredDevices": None}, ()),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, ("runtime nvidia",)),
        (
            {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}, {"Source": "cdi", "ID": "example.com/nic=0"}]},
            ("1 CDI devices",),
        ),
    ],
)
def test_how_an_engine_can_hand_them_out(info: dict[str, Any], ways: tuple[str, ...]) -> None:
    assert ways_to_gpus(info) == ways


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "no NVIDIA runtime"),
        ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all", "no NVIDIA runtime"),
        ("nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown", "no working NVIDIA driver"),
        (
            "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file",
            "no working NVIDIA driver",
        ),
        ("nvidia-container-cli: device error: 7: unknown device: unknown", "no such device"),
    ],
)
def test_a_refusal_has_its_remedy(said: str, why: str) -> None:
    error = refusal("all", said)
    assert error is not None
    assert error.exit_code == 3
    assert error.what == "the engine cannot give --gpus all"
    assert why in error.why
    assert error.hint


def test_other_failures_are_not_blamed_on_gpus() -> None:
    assert refusal("all", 'exec: "true": executable file not found in $PATH') is None
