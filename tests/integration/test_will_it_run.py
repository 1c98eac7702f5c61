"""`envsnap check` of an image in a real registry, on hosts whose GPUs a library answers for: in seconds, and without a layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import nvml

pytestmark = pytest.mark.engine
SECONDS = 20  # of one check, on a machine that does other things beside; it takes two or three
NOTHING = 100_000  # bytes; a layer of this image has more


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml.build_library(tmp_path_factory.mktemp("nvml"))


def check(image: str, cache: Path, *words: str, env: dict[str, str] | None = None, code: int) -> tuple[str, dict[str, dict[str, Any]]]:
    """Its verdict, and its reasons by name. No layer may have come here."""
    argv = [sys.executable, "-m", "envsnap.cli.main", "check", image, *words, "--json"]
    begun = time.monotonic()
    done = subprocess.run(argv, env={**os.environ, "ENVSNAP_CACHE": str(cache), **(env or {})}, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert time.monotonic() - begun < SECONDS
    assert sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) < NOTHING
    document = json.loads(done.stdout)
    return document["verdict"], {reason["id"]: reason for reason in document["reasons"]}


@pytest.mark.parametrize(
    ("driver", "cuda", "card", "statuses"),
    [
        ("580.159.04", 13000, nvml.h100(0), ("pass", "pass")),
        ("535.309.01", 12020, nvml.h100(0), ("pass", "pass")),  # by the image's own compatibility libraries
        ("550.163.01", 12040, nvml.h100(0), ("fail", "pass")),
        ("535.309.01", 12020, nvml.mig(nvml.h100(0), "1g.10gb"), ("pass", "pass")),
        ("580.159.04", 13000, nvml.t4(), ("pass", "pass")),
        ("580.159.04", 13000, nvml.v100(0, []), ("pass", "fail")),
    ],
)
def test_this_host_as_nvml_tells_it(
    ngc_base: str, library: Path, tmp_path: Path, driver: str, cuda: int, card: nvml.Scenario, statuses: tuple[str, str]
) -> None:
    scenario = nvml.write(nvml.host(card, driver=driver, cuda=cuda), tmp_path / "scenario")
    env = {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(scenario)}
    # There is no NVIDIA runtime in this engine, so that whatever the GPUs, the answer is no.
    verdict, found = check(ngc_base, tmp_path / "cache", env=env, code=7)
    assert (found["driver"]["status"], found["architecture"]["status"]) == statuses, found
    assert (found["runtime"]["status"], verdict) == ("fail", "fail")
    assert "Docker, at" in found["disk"]["found"]  # whether it suffices is this machine's own affair
    assert str(card["name"]) in found["architecture"]["found"]


def test_a_host_without_a_gpu_asks_for_another(ngc_base: str, tmp_path: Path) -> None:
    verdict, found = check(ngc_base, tmp_path / "cache", code=7)
    assert verdict == "incomplete" and "no NVIDIA driver" in found["driver"]["found"]
    other = ("--driver", "535.309.01", "--gpu")
    verdict, found = check(ngc_base, tmp_path / "cache", *other, "A100,L4", code=0)
    assert verdict == "pass" and "disk" not in found and "compatibility libraries" in found["driver"]["found"]
    verdict, found = check(ngc_base, tmp_path / "cache", *other, "A100,L4", "--gpu", "9.0", code=7)
    assert (verdict, found["driver"]["status"]) == ("incomplete", "unknown")  # of the third nobody said what it is
    verdict, found = check(ngc_base, tmp_path / "cache", *other, "RTX 3090", code=7)
    assert verdict == "fail" and "not for GeForce cards" in found["driver"]["found"]


def test_an_image_without_cuda_is_for_this_host(debian_base: str, tmp_path: Path) -> None:
    assert check(debian_base, tmp_path / "cache", code=0)[0] == "pass"
