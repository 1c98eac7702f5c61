"""Builds the fake NVML library and writes the scenarios that it answers from (see nvml.c)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

Scenario = Mapping[str, object]

NO_PERMISSION = "error:4"
GPU_IS_LOST = "error:15"
UNKNOWN_ERROR = "error:999"
NO_PEER_ACCESS = 1


def build_library(directory: Path, *defines: str) -> Path:
    """Compile nvml.c to DIRECTORY/libnvidia-ml.so.1; returns the directory. Raises FileNotFoundError without a C compiler."""
    compile_library(Path(__file__).with_name("nvml.c"), directory / "libnvidia-ml.so.1", *(f"-D{define}" for define in defines))
    return directory


def compile_library(source: Path, library: Path, *options: str) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *options, "-o", library, source], check=True)
    return library


def host(*devices: Scenario, pairs: Scenario | None = None, driver: str = "580.159.04", cuda: int = 13000) -> Scenario:
    """A host with these devices; `pairs` holds for every two of them."""
    answers: dict[str, object] = {"init": "ok", "driver": driver, "cuda": cuda, "count": len(devices)}
    for index, device in enumerate(devices):
        answers |= {f"gpu{index}.{field}": value for field, value in device.items()}
    for one, other in combinations(range(len(devices)), 2):
        answers |= {f"gpu{one}-gpu{other}.{field}": value for field, value in (pairs or {}).items()}
    return answers


def h100(index: int) -> Scenario:
    return {
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": f"GPU-11111111-2222-3333-4444-{index:012d}",
        "capability": "9.0",
        "memory_mib": 81559,
        "power_limit_mw": 700000,
        "power_mw": 71504,
        "temperature_c": 30 + index,
        "sm_mhz": 1980,
        "memory_mhz": 2619,
        "ecc": 1,
        "ecc_corrected": 0,
        "ecc_uncorrected": 0,
        "sm_count": 132,
        "mig_mode": 0,
        **nvlinks(["switch"] * 18),
    }


def nvlinks(remotes: Sequence[str]) -> Scenario:
    """The NVLinks of a card, each to "switch" or to a card: "gpu3"."""
    return {"nvlinks": len(remotes)} | {f"nvlink{link}.remote": remote for link, remote in enumerate(remotes)}


def v100(index: int, remotes: Sequence[str]) -> Scenario:
    return {
        "name": "Tesla V100-SXM2-16GB",
        "uuid": f"GPU-77777777-2222-3333-4444-{index:012d}",
        "capability": "7.0",
        "memory_mib": 16384,
        "power_limit_mw": 300000,
        "ecc": 0,
        **nvlinks(remotes),
    }


def mig(card: Scenario, *profiles: str) -> Scenario:
    """The card cut into instances, in every second of its slots, as after some were taken away."""
    slots = {f"mig{2 * slot}.name": f"{card['name']} MIG {profile}" for slot, profile in enumerate(profiles)}
    return {**card, **nvlinks([]), "mig_mode": 1, "mig_slots": 7, **slots}


def t4() -> Scenario:
    """As a cloud's T4 answers: no MIG, no NVLink, no attributes."""
    return {
        "name": "Tesla T4",
        "uuid": "GPU-99999999-2222-3333-4444-555555555555",
        "capability": "7.5",
        "memory_mib": 15360,
        "power_limit_mw": 70000,
        "power_mw": 9876,
        "temperature_c": 41,
        "sm_mhz": 300,
        "memory_mhz": 405,
    }


NVSWITCH: Scenario = {"ancestor": 50, "p2p_nvlink": 0, "p2p_read": 0}
PCIE: Scenario = {"ancestor": 30, "p2p_nvlink": 5, "p2p_read": 0}


def write(scenario: Scenario, path: Path) -> Path:
    path.write_text("".join(f"{key}={value}\n" for key, value in scenario.items()), encoding="utf-8")
    return path
