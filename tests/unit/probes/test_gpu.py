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
LOSSES = """
import json, os, sys, pynvml
from envsnap.guest import gpu
def read(after, error):
    os.environ.update(FAKE_NVML_LOST_AFTER=str(after), FAKE_NVML_LOST_AS=str(error))
    return gpu.read(pynvml, "salt")
def losses(error):  # one question later each time, until none is lost
    found = [read(0, error)]
    while found[-1]["problems"]:
        found.append(read(len(found), error))
    return found
print(json.dumps([read(-1, 0), *(losses(int(error)) for error in sys.argv[1:])]))
"""
SHUTDOWN_LOG = "shutdown.log"

Probe = Callable[..., GpuProbe]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return nvml.build_library(tmp_path_factory.mktemp("nvml"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


def run(program: str, *arguments: str, library_path: Path, tmp_path: Path, scenario: nvml.Scenario) -> bytes:
    env = os.environ | {
        "LD_LIBRARY_PATH": str(library_path),
        "PYTHONPATH": str(ROOT),
        "FAKE_NVML": str(nvml.write(scenario, tmp_path / "scenario")),
        "FAKE_NVML_SHUTDOWN": str(tmp_path / SHUTDOWN_LOG),
    }
    return subprocess.run([sys.executable, "-c", program, *arguments], env=env, stdout=subprocess.PIPE, check=True).stdout


def run_probe(library_path: Path, tmp_path: Path, scenario: nvml.Scenario, salt: str = "salt") -> GpuProbe:
    return msgspec.json.decode(run(PROBE, salt, library_path=library_path, tmp_path=tmp_path, scenario=scenario), type=GpuProbe)


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
    assert {link.split(" ", 1)[1] for link in found.facts.topology} == {"18x NVLink"}
    assert found.facts.topology == tuple(sorted(found.facts.topology))
    assert found.readings["gpu3.temperature_c"] == 33
    assert found.readings["gpu0.power_draw_w"] == pytest.approx(71.504)
    assert found.readings["gpu7.nvlinks_active"] == 18
    assert (found.readings["gpu0.ecc"], found.readings["gpu0.ecc_uncorrected"]) == ("on", 0)
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
    assert device.power_limit_w == 70
    assert not {"gpu0.ecc", "gpu0.ecc_corrected", "gpu0.ecc_uncorrected"} & found.readings.keys()
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


def test_a_slice_in_a_container_that_may_not_read_the_whole_card(probe: Probe) -> None:
    card = {**nvml.mig(nvml.h100(0), "1g.10gb"), "memory_mib": nvml.NO_PERMISSION}
    found = probe(nvml.host(card))
    assert found.facts.devices[0].mig == "1g.10gb"
    assert [(p.where, p.what) for p in found.problems] == [("nvml gpu0", "nvmlDeviceGetMemoryInfo: Insufficient Permissions")]


def test_one_card_in_slices_beside_a_whole_one(probe: Probe) -> None:
    found = probe(nvml.host(nvml.mig(nvml.h100(0), *["1g.10gb"] * 2, "4g.40gb"), nvml.h100(1), pairs=nvml.PCIE))
    assert [device.mig for device in found.facts.devices] == ["1g.10gb,1g.10gb,4g.40gb", ""]
    assert found.facts.topology == ("0-1 PCIe PHB",)
    assert found.problems == ()


def test_a_mesh_counts_the_links_of_each_pair(probe: Probe) -> None:
    def joined(one: int, other: int) -> nvml.Scenario:
        return {f"gpu{one}-gpu{other}.{field}": value for field, value in nvml.NVSWITCH.items()}

    cards = (nvml.v100(0, ["gpu1", "gpu2", "gpu2"]), nvml.v100(1, ["gpu0"]), nvml.v100(2, ["gpu0", "gpu0"]))
    found = probe({**nvml.host(*cards, pairs=nvml.PCIE), **joined(0, 1), **joined(0, 2)})
    assert found.facts.topology == ("0-1 1x NVLink", "0-2 2x NVLink", "1-2 PCIe PHB")
    assert (found.readings["gpu0.nvlinks_active"], found.readings["gpu0.ecc"]) == (3, "off")


def test_links_that_are_down_are_not_counted(probe: Probe) -> None:
    hurt = {**nvml.h100(1), "nvlink3.off": 1, "nvlink17.off": 1}
    found = probe(nvml.host(nvml.h100(0), hurt, nvml.h100(2), pairs=nvml.NVSWITCH))
    assert found.facts.topology == ("0-1 16x NVLink", "0-2 18x NVLink", "1-2 16x NVLink")
    assert found.readings["gpu1.nvlinks_active"] == 16


def test_an_old_driver_that_lacks_questions(tmp_path: Path) -> None:
    cards = (nvml.h100(0), nvml.h100(1))
    found = run_probe(nvml.build_library(tmp_path, "OLD_DRIVER"), tmp_path, nvml.host(*cards, pairs=nvml.NVSWITCH))
    assert found.problems == ()
    assert (found.facts.driver, found.facts.cuda_driver) == ("580.159.04", None)
    assert [(device.sm_count, device.mig, device.power_limit_w) for device in found.facts.devices] == [(None, "", 700)] * 2
    assert found.facts.topology == ("0-1 NVLink",)


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
    assert found.facts.topology == ("0-2 18x NVLink",)
    assert [(p.where, p.what) for p in found.problems] == [("nvml gpu1", "the device does not answer: GPU is lost")]
    assert not any(name.startswith("gpu1.") for name in found.readings)


def test_what_fails_everywhere_is_said_once(probe: Probe) -> None:
    found = probe(nvml.host(*(nvml.h100(index) for index in range(4)), pairs={**nvml.NVSWITCH, "p2p_nvlink": nvml.UNKNOWN_ERROR}))
    assert [(p.where, p.what) for p in found.problems] == [("nvml gpu0-gpu1 and 5 more", "nvmlDeviceGetP2PStatus: Unknown Error")]


def test_a_card_that_cannot_say_its_name_is_none(probe: Probe) -> None:
    found = probe(nvml.host({**nvml.h100(0), "name": nvml.UNKNOWN_ERROR}, nvml.h100(1)))
    assert [device.name for device in found.facts.devices] == ["NVIDIA H100 80GB HBM3"]
    assert [(p.where, p.what) for p in found.problems] == [("nvml gpu0", "the device does not answer: Unknown Error")]


def test_a_driver_lost_in_the_middle_leaves_a_part_of_the_truth_and_says_so(library: Path, tmp_path: Path) -> None:
    """After each number of answers, and as each of the errors that drivers give then."""
    short = nvml.nvlinks(["switch"] * 2)
    full_host = nvml.host(*({**nvml.h100(index), "nvlinks": 2, **short} for index in range(2)), pairs=nvml.NVSWITCH)
    errors = (9, 15, 999)  # driver not loaded, GPU is lost, unknown
    output = run(LOSSES, *map(str, errors), library_path=library, tmp_path=tmp_path, scenario=full_host)
    whole, *by_error = msgspec.convert(msgspec.json.decode(output), type=tuple[GpuProbe, list[GpuProbe], list[GpuProbe], list[GpuProbe]])

    assert whole.problems == () and len(whole.facts.devices) == 2
    for found in by_error:
        assert found.pop() == whole and len(found) > 40
    parts = [part for found in by_error for part in found]
    assert len({len(part.readings) for part in parts}) > 2
    for part in parts:
        assert part.problems and part != whole
        assert part.facts.driver in (None, whole.facts.driver)
        assert part.readings.items() <= whole.readings.items()
        assert bool(part.facts.unavailable) is not bool(part.facts.devices)
        for device, complete in zip(part.facts.devices, whole.facts.devices, strict=False):
            said = {field: value for field in device.__struct_fields__ if (value := getattr(device, field))}
            assert said.items() <= {field: getattr(complete, field) for field in complete.__struct_fields__}.items()
        assert set(part.facts.topology) <= {"0-1 2x NVLink", "0-1 NVLink", "0-1 unknown"}
    late = [part for part in parts if part.facts.unavailable and part.facts.driver]
    assert late, "what was known of the driver is kept when its devices are lost"


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
    assert (found.facts.driver, found.facts.cuda_driver) == ("580.159.04", "13.0")
    assert (tmp_path / SHUTDOWN_LOG).read_text() == "shutdown\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "file too short"),  # left in an image by a container runtime that mounted the driver over it
        (b"#!/bin/sh\n" * 100, "invalid ELF header"),
    ],
)
def test_a_library_that_is_there_and_cannot_be_loaded(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(content)
    found = run_probe(tmp_path, tmp_path, {})
    assert found.facts.unavailable.startswith("the NVIDIA driver's library cannot be loaded: ") and why in found.facts.unavailable
    assert [p.where for p in found.problems] == ["nvml"]


def test_a_driver_that_dies_ends_no_capture(tmp_path: Path) -> None:
    source = tmp_path / "crash.c"
    source.write_text("int nvmlInitWithFlags(unsigned flags) { (void)flags; __builtin_trap(); }\n")
    nvml.compile_library(source, tmp_path / "libnvidia-ml.so.1")
    found = run_probe(tmp_path, tmp_path, {})
    assert found.facts.unavailable == "NVML could not be asked"
    assert [p.where for p in found.problems] == ["nvml"]


def test_no_driver_is_one_sentence_and_no_problem(tmp_path: Path) -> None:
    if any(
        Path(place, "libnvidia-ml.so.1").exists() for place in ("/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")
    ):
        pytest.skip("this host has an NVIDIA driver")
    found = run_probe(tmp_path, tmp_path, {}, "salt")

    assert found.facts.unavailable == "no NVIDIA driver: libnvidia-ml.so.1 not found"
    assert found.problems == ()
