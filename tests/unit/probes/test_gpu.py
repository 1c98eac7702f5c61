"""The NVML probe against a library that answers from a file: pynvml, ctypes and the loader are the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from envsnap.model.facts import GpuProbe
from envsnap.probes import gpu
from envsnap.probes.local import LocalPython
from tests.fakes import nvml

ROOT = Path(__file__).parents[3]
PROBE = """
import sys, msgspec
from pathlib import Path
from envsnap.probes import gpu
from envsnap.probes.local import LocalPython
print(msgspec.json.encode(gpu.read(LocalPython(Path(sys.executable)), salt=sys.argv[1])).decode())
"""
SHUTDOWN_LOG = "shutdown.log"

Probe = Callable[..., GpuProbe]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return nvml.build_library(tmp_path_factory.mktemp("nvml"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


def run_probe(library_path: Path, tmp_path: Path, scenario: nvml.Scenario, salt: str) -> GpuProbe:
    env = os.environ | {
        "LD_LIBRARY_PATH": str(library_path),
        "PYTHONPATH": str(ROOT),
        "FAKE_NVML": str(nvml.write(scenario, tmp_path / "scenario")),
        "FAKE_NVML_SHUTDOWN": str(tmp_path / SHUTDOWN_LOG),
    }
    done = subprocess.run([sys.executable, "-c", PROBE, salt], env=env, capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=GpuProbe)


@pytest.fixture
def probe(library: Path, tmp_path: Path) -> Probe:
    return lambda scenario, salt="salt": run_probe(library, tmp_path, scenario, salt)


def test_eight_cards_behind_a_switch(probe: Probe, tmp_path: Path) -> None:
    found = probe(nvml.host(*(nvml.h100(index) for index in range(8)), pairs=nvml.NVSWITCH))

    assert found.problems == ()
    assert (found.facts.driver, found.facts.cuda_driver, found.facts.unavailable) == ("580.159.04", "13.0", "")
    assert len(found.facts.devices) == 8
    first = found.facts.devices[0]
    assert (first.name, first.compute_capability, first.memory_mib) == ("NVIDIA H100 80GB HBM3", "9.0", 81559)
    assert (first.power_limit_w, first.sm_count, first.mig) == (700, 132, "")
    assert len({device.identity for device in found.facts.devices}) == 8
    assert len(found.facts.topology) == 28
    assert {link.split(" ", 1)[1] for link in found.facts.topology} == {"NVLink"}
    assert found.facts.topology == tuple(sorted(found.facts.topology))
    assert found.readings["gpu3.temperature_c"] == 33
    assert found.readings["gpu0.power_draw_w"] == pytest.approx(71.504)
    assert found.readings["gpu7.nvlinks_active"] == 18
    assert (tmp_path / SHUTDOWN_LOG).read_text() == "shutdown\n"


def test_no_uuid_leaves_the_probe_and_the_salt_decides_the_identity(probe: Probe) -> None:
    scenario = nvml.host(nvml.h100(0))
    first, again, other = probe(scenario), probe(scenario), probe(scenario, salt="another host")

    assert b"11111111" not in msgspec.json.encode(first)
    identity = first.facts.devices[0].identity
    assert len(identity) == 16
    assert identity == again.facts.devices[0].identity != other.facts.devices[0].identity


def test_mixed_cards_keep_their_order_and_their_own_facts(probe: Probe) -> None:
    found = probe(nvml.host(nvml.h100(0), nvml.t4(), nvml.h100(2), pairs=nvml.PCIE)).facts
    assert [(device.name, device.compute_capability, device.sm_count) for device in found.devices] == [
        ("NVIDIA H100 80GB HBM3", "9.0", 132),
        ("Tesla T4", "7.5", None),
        ("NVIDIA H100 80GB HBM3", "9.0", 132),
    ]
    assert found.topology == ("0-1 PCIe PHB", "0-2 PCIe PHB", "1-2 PCIe PHB")


def test_a_binding_that_cannot_be_loaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pynvml.py").write_text("raise RuntimeError('broken binding')")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = gpu.read(LocalPython(Path(sys.executable)), salt="")
    assert found.facts.unavailable == "NVML could not be asked: RuntimeError: broken binding"
    assert [problem.where for problem in found.problems] == ["nvml"]


def test_a_driver_that_hangs_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pynvml.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(gpu, "_TIMEOUT_S", 1.0)
    assert "does not answer within 1 s" in gpu.read(LocalPython(Path(sys.executable)), salt="").facts.unavailable


def test_a_card_that_supports_little_is_no_problem(probe: Probe) -> None:
    found = probe(nvml.host(nvml.t4()))

    assert found.problems == ()
    device = found.facts.devices[0]
    assert (device.name, device.compute_capability, device.sm_count, device.mig) == ("Tesla T4", "7.5", None, "")
    assert "gpu0.ecc_corrected" not in found.readings
    assert "gpu0.nvlinks_active" not in found.readings


def test_cards_on_one_pcie_bridge(probe: Probe) -> None:
    assert probe(nvml.host(nvml.t4(), nvml.t4(), pairs=nvml.PCIE)).facts.topology == ("0-1 PCIe PHB",)


def test_cards_that_cannot_reach_each_other(probe: Probe) -> None:
    pairs = {**nvml.PCIE, "p2p_read": nvml.NO_PEER_ACCESS}
    assert probe(nvml.host(nvml.t4(), nvml.t4(), pairs=pairs)).facts.topology == ("0-1 PCIe PHB, no peer access",)


def test_mig_instances_by_profile(probe: Probe) -> None:
    partitioned = {
        **nvml.h100(0),
        "mig_mode": 1,
        "mig_slots": 7,
        "mig0.name": "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        "mig2.name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    }
    found = probe(nvml.host(partitioned))
    assert found.facts.devices[0].mig == "3g.40gb,1g.10gb"
    assert found.problems == ()


def test_mig_without_instances(probe: Probe) -> None:
    assert probe(nvml.host({**nvml.h100(0), "mig_mode": 1, "mig_slots": 7})).facts.devices[0].mig == "none"


def test_a_refused_field_is_a_named_problem_and_costs_no_other(probe: Probe) -> None:
    found = probe(nvml.host({**nvml.h100(0), "temperature_c": nvml.UNKNOWN_ERROR}))

    assert [(p.where, p.what) for p in found.problems] == [("nvml gpu0", "nvmlDeviceGetTemperature: Unknown Error")]
    assert "gpu0.temperature_c" not in found.readings
    assert found.readings["gpu0.sm_clock_mhz"] == 1980


def test_a_lost_card_leaves_the_others(probe: Probe) -> None:
    lost = {**nvml.h100(1), "capability": nvml.GPU_IS_LOST}
    found = probe(nvml.host(nvml.h100(0), lost, nvml.h100(2), pairs=nvml.NVSWITCH))

    assert found.facts.unavailable == ""
    assert len(found.facts.devices) == 2
    assert found.facts.topology == ("0-2 NVLink",)
    assert [(p.where, p.what) for p in found.problems] == [("nvml gpu1", "the device does not answer: GPU is lost")]
    assert not any(name.startswith("gpu1.") for name in found.readings)


def test_all_cards_lost(probe: Probe) -> None:
    found = probe(nvml.host({"handle": nvml.GPU_IS_LOST}))

    assert found.facts.unavailable == "none of the 1 NVIDIA devices answers"
    assert found.facts.driver == "580.159.04"
    assert "nvml gpu0" in {p.where for p in found.problems}


def test_a_driver_without_devices(probe: Probe) -> None:
    found = probe(nvml.host())
    assert found.facts.unavailable == "the NVIDIA driver is there and sees no device"
    assert found.facts.cuda_driver == "13.0"


def test_a_driver_that_does_not_match_its_library(probe: Probe, tmp_path: Path) -> None:
    found = probe({"init": "error:18"})

    assert found.facts.unavailable == "the NVIDIA driver does not answer: RM has detected an NVML/RM version mismatch."
    assert [p.where for p in found.problems] == ["nvml"]
    assert not (tmp_path / SHUTDOWN_LOG).exists()


def test_a_driver_that_fails_after_its_start_is_shut_down(probe: Probe, tmp_path: Path) -> None:
    found = probe({"init": "ok", "driver": "580.159.04", "cuda": 13000, "count": nvml.UNKNOWN_ERROR})

    assert found.facts.unavailable == "the NVIDIA driver does not answer: Unknown Error"
    assert (tmp_path / SHUTDOWN_LOG).read_text() == "shutdown\n"


def test_no_driver_is_one_sentence_and_no_problem(tmp_path: Path) -> None:
    if any(
        Path(place, "libnvidia-ml.so.1").exists() for place in ("/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")
    ):
        pytest.skip("this host has an NVIDIA driver")
    found = run_probe(tmp_path, tmp_path, {}, "salt")

    assert found.facts.unavailable == "no NVIDIA driver: libnvidia-ml.so.1 not found"
    assert found.problems == ()
