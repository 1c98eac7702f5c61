"""GPU architectures, read from shared objects: those of honest compilers, and those that nobody's compiler wrote."""

from __future__ import annotations

import contextlib
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap.guest import fatbin
from envsnap.guest.distributions import Installed
from envsnap.guest.elf import ELF_FAULTS
from envsnap.guest.record import Entry
from envsnap.guest.text import Problems
from envsnap.model.facts import DeviceCode, Problem
from tests.fakes.fatbin import binary, entry, extension, shared_object

TORCH = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda size, offset: data[offset : offset + size]


def read(data: bytes) -> list[frozenset[str]]:
    return list(fatbin.fat_binaries(reader(data)))


def installed(root: Path, name: str = "torch", **files: bytes) -> Installed:
    """A distribution of files below `root`; "__" in their names is "/", and each ends in .so."""
    entries = []
    for key, data in files.items():
        path = key.replace("__", "/") + ".so"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
        entries.append(Entry(path, "", len(data)))
    facts = {"name": name, "location": str(root), "metadata_dir": str(root / f"{name}-1.dist-info"), "editable_paths": [], "modules": []}
    return Installed(facts, sys.prefix, entries)


def code_of(found: Installed) -> tuple[DeviceCode | None, tuple[Problem, ...]]:
    problems = Problems()
    document = fatbin.device_code(found, problems)
    return msgspec.convert(document, DeviceCode | None), msgspec.convert(problems.document(), tuple[Problem, ...])


# ---- one file


def test_each_fat_binary_tells_its_architectures() -> None:
    data = extension([binary("sm_75", "sm_90", "compute_90"), binary("sm_90a", "sm_100f", "compute_120f")])
    assert read(data) == [{"sm_75", "sm_90", "compute_90"}, {"sm_90a", "sm_100f", "compute_120f"}]


def test_code_that_no_gpu_runs_is_not_counted() -> None:
    """LTO-IR (8) is for a linker."""
    assert read(extension([binary("sm_80", entry("compute_80", kind=8)), binary(entry("sm_70", kind=8))])) == [{"sm_80"}]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        b"import torch\n" * 20,
        shared_object({".text": b"\xc3"}),
        shared_object({".nv_fatbin": binary("sm_75")}),
        shared_object({"__nv_relfatbin": binary("sm_75"), ".nvFatBinSegment": bytes(24)}),
        extension([binary("sm_75")])[:4] + b"\x01" + extension([binary("sm_75")])[5:],
    ],
    ids=["empty", "only the magic", "no ELF file", "no GPU code", "nothing registers it", "only for a device linker", "32 bits"],
)
def test_files_without_code_of_the_cuda_runtime_say_nothing(data: bytes) -> None:
    assert read(data) == []


@pytest.mark.parametrize("padding", [0, 1, 8, 12, 1000])
def test_zeros_between_two_are_padding(padding: int) -> None:
    first = binary("sm_75")
    assert read(extension([first + bytes(padding + -(len(first) + padding) % 8), binary("sm_90"), bytes(padding)])) == [
        {"sm_75"},
        {"sm_90"},
    ]


HONEST = binary("sm_75", "sm_90")


@pytest.mark.parametrize(
    "broken",
    [
        b"\xff" * 64,
        HONEST[:16],
        HONEST[:40],
        HONEST[:-8],
        struct.pack("<IHHQ", 0xBA55ED50, 1, 0, 0) + bytes(64),
        struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 63) + HONEST[16:],
        struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 48) + struct.pack("<HHIQIIHHIIIQ", 2, 0x101, 0, 0, 0, 0, 8, 1, 75, 0, 0, 0),
        binary(entry("sm_75")[:8] + struct.pack("<Q", 1 << 62) + entry("sm_75")[16:]),
        binary(entry("sm_75", flags=0x300011)),
        binary("sm_9"),
        binary("sm_1000"),
        HONEST + bytes(5000) + HONEST,
    ],
    ids=[
        "no magic", "ends after its header", "ends in an entry", "ends in code", "a header of no bytes", "larger than the file",
        "an entry's header of no bytes", "an entry larger than the file", "two suffixes", "too small", "too large", "a desert of zeros",
    ],
)  # fmt: skip
def test_what_no_compiler_wrote_is_refused(broken: bytes) -> None:
    with pytest.raises(ELF_FAULTS):
        read(extension([broken]))


def test_a_file_of_entries_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fatbin, "MAX_ENTRIES", 10)
    assert len(read(extension([binary(*["sm_75"] * 10)]))) == 1
    with pytest.raises(ValueError, match="no code at byte"):
        read(extension([binary(*["sm_75"] * 11)]))


@given(st.integers(0, 400), st.binary(min_size=1, max_size=16))
def test_no_damage_does_more_than_a_fault(place: int, damage: bytes) -> None:
    data = extension([HONEST, HONEST])
    damaged = data[:place] + damage + data[place + len(damage) :]
    with contextlib.suppress(*ELF_FAULTS):
        read(damaged)


def test_section_headers_are_held_to_limits() -> None:
    data = bytearray(extension([HONEST]))
    data[60:62] = struct.pack("<H", 20_000)
    with pytest.raises(ELF_FAULTS):
        read(bytes(data))


# ---- one distribution


def test_architectures_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    code, problems = code_of(installed(tmp_path, torch__lib=extension([binary(*reversed(TORCH), "compute_120", "compute_90")])))
    assert code == DeviceCode(cubins=TORCH, ptx=("compute_90", "compute_120"))
    assert code.whole == (*TORCH, "compute_90", "compute_120")
    assert problems == ()


def test_what_no_file_has_in_most_of_its_fat_binaries_is_partial(tmp_path: Path) -> None:
    """As torch itself is built: a few kernels more for one kind of GPU. A second library with fewer architectures changes nothing."""
    main = extension([binary(*TORCH, "sm_90a")] + [binary(*TORCH)] * 2)
    linalg = extension([binary("sm_80", "sm_90")] * 20)
    code, _ = code_of(installed(tmp_path, torch__lib__libtorch_cuda=main, torch__lib__libtorch_cuda_linalg=linalg))
    assert code is not None
    assert code.partial == ("sm_90a",)
    assert code.whole == TORCH


def test_half_is_not_most(tmp_path: Path) -> None:
    code, _ = code_of(installed(tmp_path, ext=extension([binary("sm_80"), binary("sm_90a")])))
    assert code == DeviceCode(cubins=("sm_80", "sm_90a"), partial=("sm_80", "sm_90a"))


def test_nvidias_libraries_are_counted_where_they_are_the_package(tmp_path: Path) -> None:
    found = installed(tmp_path, lib__libcudnn_ops=extension([binary("sm_50")]), lib__libtorch_nvshmem=extension([binary("sm_90")]))
    assert code_of(found)[0] == DeviceCode(cubins=("sm_90",))
    itself = found._replace(facts={**found.facts, "name": "nvidia-cudnn-cu13"})
    assert code_of(itself)[0] == DeviceCode(cubins=("sm_50", "sm_90"))


def test_a_file_of_two_names_is_read_once(tmp_path: Path) -> None:
    found = installed(tmp_path, a=extension([binary("sm_80")]))
    (tmp_path / "b.so").symlink_to("a.so")
    twice = found._replace(entries=[*(found.entries or ()), Entry("b.so", "", 0), Entry("gone.so", "", 0)])
    assert code_of(twice) == (DeviceCode(cubins=("sm_80",)), ())


def test_a_broken_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    code, problems = code_of(installed(tmp_path, bad=extension([b"\xff" * 64]), good=extension([binary("sm_80")])))
    assert code == DeviceCode(cubins=("sm_80",))
    (problem,) = problems
    assert problem.where == str(tmp_path / "bad.so")
    assert problem.what.startswith("the GPU architectures of its code cannot be read: ValueError: no fat binary at byte")


def test_nothing_is_said_of_packages_without_gpu_code(tmp_path: Path) -> None:
    assert code_of(installed(tmp_path, "numpy", core=shared_object({".text": b"\xc3"}), text=b"no ELF file")) == (None, ())
