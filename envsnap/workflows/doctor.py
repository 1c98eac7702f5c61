"""doctor: what this host can do, from its engine, its files and its GPUs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from envsnap.engines.docker import DockerEngine
from envsnap.engines.host import host_abilities
from envsnap.model.host import Ability
from envsnap.probes import gpu
from envsnap.probes.local import LocalPython
from envsnap.rootless import runtime


def abilities(env: Mapping[str, str]) -> tuple[Ability, ...]:
    """Every line of the screen, the engine first. Never raises for what is merely missing or broken."""
    return (*DockerEngine(env).abilities(), runtime.ability(env), _gpu(), *host_abilities(env))


def _gpu() -> Ability:
    facts = gpu.read(LocalPython(Path(sys.executable)), salt="").facts
    if facts.unavailable:
        return Ability(name="GPU", state="missing", found=facts.unavailable, hint="not needed to capture, build, or verify on the CPU")
    names = ", ".join(f"{device.name} (sm_{device.compute_capability.replace('.', '')})" for device in facts.devices)
    return Ability(name="GPU", state="ok", found=f"{names}, driver {facts.driver}, CUDA ≤ {facts.cuda_driver}")
