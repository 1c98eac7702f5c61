"""What `--gpus` means, and whether an engine can give it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envsnap.errors import TargetError, UsageError

_NO_TOOLKIT = ("could not select device driver", "unknown runtime", "cdi device injection failed", "unresolvable cdi devices")
_NO_DRIVER = ("nvml error", "libnvidia-ml", "driver not loaded", "driver rpc error", "libcuda")
_NO_DEVICE = ("unknown device", "device error", "no such device")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRequest:
    """Attributes: count: how many, -1 for all, 0 where `devices` names them by index or UUID."""

    count: int = 0
    devices: tuple[str, ...] = ()


def parse_gpus(text: str) -> GpuRequest | None:
    """Read docker's `--gpus`: "all", a count, or "device=0,2"; None for "none".

    Raises:
        UsageError: it is none of these.
    """
    if text == "none":
        return None
    if text == "all":
        return GpuRequest(count=-1)
    if re.fullmatch(r"[1-9]\d{0,2}", text):
        return GpuRequest(count=int(text))
    if match := re.fullmatch(r"device=([A-Za-z0-9:-]+(?:,[A-Za-z0-9:-]+)*)", text):
        return GpuRequest(devices=tuple(match[1].split(",")))
    raise UsageError(f"--gpus {text}: not understood", hint="all, none, a count such as 2, or device=0,2")


def ways_to_gpus(info: Mapping[str, Any]) -> tuple[str, ...]:
    """How the engine says it can hand out NVIDIA GPUs, from its `info`: its runtimes and the CDI devices that it found."""
    runtimes = ["runtime nvidia"] if "nvidia" in (info.get("Runtimes") or {}) else []
    found = [device["ID"] for device in info.get("DiscoveredDevices") or () if str(device.get("ID", "")).startswith("nvidia.com/gpu")]
    return (*runtimes, *([f"{len(found)} CDI devices"] if found else []))


def refusal(asked: str, said: str) -> TargetError | None:
    """What it means when a container with GPUs does not start; None when the GPUs were not the cause."""
    lower = said.lower()
    what = f"the engine cannot give --gpus {asked}"
    if any(phrase in lower for phrase in _NO_TOOLKIT):
        return TargetError(
            what,
            why="it has no NVIDIA runtime and no CDI device",
            hint="install the NVIDIA Container Toolkit, then   sudo nvidia-ctk runtime configure && sudo systemctl restart docker"
            "   or --gpus none",
        )
    if any(phrase in lower for phrase in _NO_DRIVER):
        return TargetError(what, why="the host has no working NVIDIA driver", hint="nvidia-smi on that host   or --gpus none")
    if any(phrase in lower for phrase in _NO_DEVICE):
        return TargetError(what, why="the host has no such device", hint="nvidia-smi -L   lists those that it has")
    return None
