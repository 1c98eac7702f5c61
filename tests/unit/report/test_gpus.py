"""The line about the GPUs: nothing in it that the facts do not say."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap.model.facts import GpuDevice, GpuFacts
from envsnap.report.gpus import gpu_line, links

H100 = GpuDevice(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", memory_mib=81559)
T4 = GpuDevice(name="Tesla T4", compute_capability="7.5", memory_mib=15360)


def every_pair(devices: int, link: str) -> tuple[str, ...]:
    return tuple(f"{one}-{other} {link}" for one, other in combinations(range(devices), 2))


def line(*devices: GpuDevice, topology: tuple[str, ...] = ()) -> str:
    return gpu_line(GpuFacts(driver="580.159.04", cuda_driver="13.0", devices=devices, topology=topology))


def sliced(mig: str) -> GpuDevice:
    return GpuDevice(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", memory_mib=81559, mig=mig)


def test_eight_cards_behind_a_switch() -> None:
    said = line(*[H100] * 8, topology=every_pair(8, "18x NVLink"))
    assert said == "8 × NVIDIA H100 80GB HBM3 (sm_90, 86 GB), driver 580.159.04, CUDA ≤ 13.0, NVLink all-to-all"


def test_one_card_has_no_links() -> None:
    assert line(T4) == "1 × Tesla T4 (sm_75, 16 GB), driver 580.159.04, CUDA ≤ 13.0"


def test_mixed_cards_are_counted_by_kind_in_their_order() -> None:
    said = line(H100, T4, H100, topology=every_pair(3, "PCIe PHB"))
    cards = "2 × NVIDIA H100 80GB HBM3 (sm_90, 86 GB), 1 × Tesla T4 (sm_75, 16 GB)"
    assert said == f"{cards}, driver 580.159.04, CUDA ≤ 13.0, no NVLink"


@pytest.mark.parametrize(
    ("mig", "said"),
    [
        ("1g.10gb", "MIG 1g.10gb"),
        ("3g.40gb,1g.10gb,1g.10gb", "MIG 3g.40gb + 2 × 1g.10gb"),
        ("none", "MIG without instances"),
    ],
)
def test_slices(mig: str, said: str) -> None:
    assert line(sliced(mig)).startswith(f"1 × NVIDIA H100 80GB HBM3 (sm_90, 86 GB, {said}), driver")


def test_a_sliced_card_is_another_kind_than_a_whole_one() -> None:
    assert line(H100, sliced("1g.10gb")).count("1 × NVIDIA H100") == 2


def test_what_is_unknown_is_left_out() -> None:
    bare = GpuDevice(name="NVIDIA GB10", compute_capability="", memory_mib=0)
    assert gpu_line(GpuFacts(devices=(bare,))) == "1 × NVIDIA GB10"


def test_why_there_is_none() -> None:
    assert gpu_line(GpuFacts(unavailable="no NVIDIA driver: libnvidia-ml.so.1 not found")) == (
        "none: no NVIDIA driver: libnvidia-ml.so.1 not found"
    )


@pytest.mark.parametrize(
    ("devices", "topology", "said"),
    [
        (2, ("0-1 4x NVLink",), "NVLink"),
        (3, every_pair(3, "NVLink"), "NVLink all-to-all"),  # of a driver that does not count them
        (3, ("0-1 16x NVLink", "0-2 18x NVLink", "1-2 16x NVLink"), "NVLink between all pairs, 16 to 18 links"),
        (3, ("0-1 NVLink", "0-2 18x NVLink", "1-2 18x NVLink"), "NVLink between all pairs"),
        (3, ("0-1 1x NVLink", "0-2 2x NVLink", "1-2 PCIe PHB"), "NVLink 0-1, 0-2, 1 to 2 links"),
        (4, ("0-1 4x NVLink", "0-2 PCIe SYS", "0-3 PCIe SYS", "1-2 PCIe SYS", "1-3 PCIe SYS", "2-3 4x NVLink"), "NVLink 0-1, 2-3"),
        (2, ("0-1 PCIe PHB, no peer access",), "no peer access"),
        (3, ("0-1 PCIe PHB, no peer access", "0-2 PCIe PHB", "1-2 PCIe PHB"), "no NVLink"),
        (3, ("0-1 18x NVLink", "0-2 unknown", "1-2 unknown"), "NVLink 0-1, 2 unknown"),
        (2, ("0-1 unknown",), ""),
        (1, (), ""),
    ],
)
def test_links(devices: int, topology: tuple[str, ...], said: str) -> None:
    assert links(topology, devices) == said


def test_many_pairs_are_counted() -> None:
    topology = (*every_pair(6, "2x NVLink")[:-1], "4-5 PCIe SYS")
    assert links(topology, 6) == "NVLink between 14 of 15 pairs"


NAMES = st.sampled_from(["18x NVLink", "16x NVLink", "NVLink", "PCIe SYS", "PCIe PHB, no peer access", "unknown"])


@given(
    devices=st.integers(3, 4),
    names=st.lists(NAMES, min_size=1, max_size=2).flatmap(lambda few: st.lists(st.sampled_from(few), min_size=6, max_size=6)),
    kept=st.sampled_from([6, 6, 6, 3, 1]),
)
def test_all_to_all_is_said_of_equal_links_between_all_and_of_nothing_else(devices: int, names: list[str], kept: int) -> None:
    pairs = list(combinations(range(devices), 2))
    topology = tuple(f"{one}-{other} {name}" for (one, other), name in zip(pairs, names, strict=False))[:kept]
    equal = len(topology) == len(pairs) and len({link.split(" ", 1)[1] for link in topology}) == 1 and topology[0].endswith("NVLink")
    assert ("all-to-all" in links(topology, devices)) is equal
