"""What a Docker engine says of itself, for `envsnap doctor`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from envsnap.engines.gpus import ways_to_gpus
from envsnap.model.host import Ability

_GET_GPUS = "only for GPUs: install the NVIDIA Container Toolkit, then   sudo nvidia-ctk runtime configure && sudo systemctl restart docker"
_LOW_DISK_BYTES = 30 << 30


def uses_containerd_store(info: Mapping[str, Any]) -> bool:
    """Whether images lie in containerd: then the engine's `info` names a snapshotter as its storage driver."""
    return any("io.containerd.snapshotter" in str(value) for _, value in info.get("DriverStatus") or ())


def describe_engine(version: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    store = f"containerd store with {info.get('Driver')}" if uses_containerd_store(info) else str(info.get("Driver"))
    return f"{version.get('Version')} (API {version.get('ApiVersion')}), {store}, {info.get('Architecture')}"


def gpu_ability(info: Mapping[str, Any]) -> Ability:
    ways = ways_to_gpus(info)
    if ways:
        return Ability(name="GPUs in containers", state="ok", found=", ".join(ways))
    return Ability(name="GPUs in containers", state="missing", found="no NVIDIA runtime and no CDI device in the engine", hint=_GET_GPUS)


def disk_ability(root: str, *, local: bool) -> Ability:
    """Free space where the engine keeps its images; only a local engine's disk can be seen."""
    name = "engine's disk"
    try:
        if not local:
            raise FileNotFoundError
        free = shutil.disk_usage(root).free
    except OSError:
        return Ability(name=name, state="ok", found=f"{root} of the engine's machine cannot be seen from here")
    found = f"{free / 1e9:,.0f} GB free at {root}"
    if free < _LOW_DISK_BYTES:
        return Ability(name=name, state="broken", found=found, hint="an NGC image takes 20 GB: docker system prune, or another disk")
    return Ability(name=name, state="ok", found=found)
