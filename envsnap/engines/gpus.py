"""Whether an engine can give GPUs, and what it means when it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envsnap.errors import TargetError

_NO_TOOLKIT = ("could not select device driver", "unknown runtime", "cdi device injection failed", "unresolvable cdi devices")
_NO_DRIVER = ("nvml error", "libnvidia-ml", "driver not loaded", "driver rpc error", "libcuda")
_NO_DEVICE = ("unknown device", "device error", "no such device")


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
