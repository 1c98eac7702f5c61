"""Disk, the way to hand GPUs to containers, limits, and what the container toolkit holds a host to."""

from __future__ import annotations

import pytest

from envsnap import catalog
from envsnap.compat import Disk, Host, ImageNeeds, judge
from envsnap.compat.architecture import runs
from envsnap.compat.requirement import judge as required
from envsnap.model.facts import GpuDevice, GpuFacts
from envsnap.model.host import Ability
from envsnap.model.image import CheckReason

KNOWN = catalog.load()
H100 = GpuFacts(driver="580.95.05", devices=(GpuDevice(name="NVIDIA H100 PCIe", compute_capability="9.0", memory_mib=1),))
NEEDS = ImageNeeds(cuda="13.0", says_cuda="x", gpu=True, torch=True, code={"torch": ("sm_90",)})
TOOLKIT = Ability(name="GPUs in containers", state="ok", found="runtime nvidia")
GB = 10**9


def reasons(host: Host, needs: ImageNeeds = NEEDS) -> dict[str, CheckReason]:
    return {reason.id: reason for reason in judge(needs, "linux", "amd64", host, KNOWN)}


def disk(free: int | None, missing: int = 2 * GB) -> Disk:
    count = 3 if missing else 0
    return Disk(place="Docker, at /var", free_bytes=free, unseen="cannot be seen", missing_bytes=missing, missing=count, layers=5)


@pytest.mark.parametrize(
    ("free", "missing", "status"),
    [
        (6 * GB, 2 * GB, "pass"),
        (6 * GB - 1, 2 * GB, "unknown"),
        (2 * GB, 2 * GB, "unknown"),
        (2 * GB - 1, 2 * GB, "fail"),
        (0, 0, "pass"),
        (None, 2 * GB, "unknown"),
    ],
)
def test_disk_is_sure_at_both_ends_only(free: int | None, missing: int, status: str) -> None:
    found = reasons(Host(machine="x86_64", gpus=H100, disk=disk(free, missing)))["disk"]
    assert found.status == status
    assert not missing or "6.0 GB for 3 of 5 layers: 2.0 GB as they arrive, and about 2 times that unpacked" in found.needed


def test_limits_are_told_and_never_a_no() -> None:
    found = reasons(Host(machine="x86_64", gpus=H100, shm_bytes=64 << 20, memlock=8 << 20, stack=-1, gpu_containers=TOOLKIT))
    assert (found["shm"].status, found["ulimits"].status) == ("pass", "pass")
    assert (
        found["shm"].hint == "docker run --ipc=host, as envsnap run does" and "memlock 8 MiB, stack without limit" in found["ulimits"].found
    )
    assert "--ulimit memlock=-1 --ulimit stack=67108864" in found["ulimits"].hint


def test_no_way_to_gpus_is_a_no_where_there_are_gpus() -> None:
    missing = Ability(name="GPUs in containers", state="missing", found="no NVIDIA runtime", hint="install it")
    found = reasons(Host(machine="x86_64", gpus=H100, gpu_containers=missing))["runtime"]
    assert (found.status, found.found, found.hint) == ("fail", "no NVIDIA runtime", "install it")
    assert reasons(Host(machine="x86_64", gpus=H100, gpu_containers=TOOLKIT))["runtime"].status == "pass"
    assert "runtime" not in reasons(Host(machine="x86_64", gpus=GpuFacts(unavailable="none"), gpu_containers=missing))
    assert "runtime" not in reasons(Host(machine="x86_64", gpus=H100, gpu_containers=missing), ImageNeeds())


def test_of_another_host_only_its_driver_and_gpus_are_judged() -> None:
    assert list(reasons(Host(machine="x86_64", gpus=H100, here=False))) == ["platform", "driver", "architecture"]


@pytest.mark.parametrize(("machine", "status"), [("x86_64", "pass"), ("aarch64", "fail"), ("riscv64", "fail")])
def test_platform(machine: str, status: str) -> None:
    assert reasons(Host(machine=machine, gpus=H100))["platform"].status == status


def on(driver: str, *names: str, cuda: str | None = None) -> GpuFacts:
    devices = tuple(GpuDevice(name=name, compute_capability="8.0", memory_mib=1) for name in names)
    return GpuFacts(driver=driver, cuda_driver=cuda, devices=devices)


@pytest.mark.parametrize(
    ("text", "gpus", "status"),
    [
        ("cuda>=9.0", on("580.65.06"), "pass"),
        ("cuda>=12.2", on("525.147.05"), "fail"),
        ("cuda>=12.2", on("525.147.05", cuda="12.2"), "pass"),  # what the driver itself says comes first
        ("cuda=13.0", on("580.65.06"), "pass"),
        ("cuda!=13.0", on("580.65.06"), "fail"),
        ("driver>=470,driver<471", on("470.256.02"), "pass"),
        ("driver>=470,driver<471", on("471.0"), "fail"),
        ("cuda>=13 driver>=470,driver<471", on("470.256.02"), "pass"),
        ("brand=geforce,driver>=470 brand=geforcertx,driver>=470", on("470.256.02", "NVIDIA GeForce RTX 3090"), "pass"),
        ("brand=tesla,driver>=470 brand=nvidia,driver>=470", on("470.256.02", "NVIDIA A100"), "pass"),
        ("brand=tesla,driver>=470", on("470.256.02", "NVIDIA A100"), "unknown"),
        ("brand=tesla,driver>=470", on("470.256.02", "NVIDIA GeForce RTX 3090"), "fail"),
        ("brand=tesla,driver>=470", on("470.256.02", "NVIDIA A100", "NVIDIA GeForce RTX 3090"), "fail"),
        ("brand=tesla,driver>=470", on("470.256.02", "NVIDIA A10G"), "unknown"),
        ("brand=tesla,driver>=470", on("470.256.02"), "unknown"),
        ("arch>=8.0", on("580.65.06", "NVIDIA A100"), "pass"),
        ("arch>=9.0", on("580.65.06", "NVIDIA A100"), "fail"),
        ("brand!=tesla", on("580.65.06", "NVIDIA A100"), "unknown"),
        ("memory>=80000", on("580.65.06", "NVIDIA A100"), "unknown"),
    ],
)
def test_what_the_container_toolkit_holds_a_host_to(text: str, gpus: GpuFacts, status: str) -> None:
    found = required(text, gpus, KNOWN)
    assert found is not None and found.status == status
    assert bool(found.hint) == (status != "pass")


def test_nothing_asked_and_nothing_known_is_no_reason() -> None:
    assert required("", H100, KNOWN) is None and required("cuda>=9.0", GpuFacts(unavailable="none"), KNOWN) is None


@pytest.mark.parametrize(
    ("code", "gpu", "how"),
    [
        ("sm_80", "8.0", "cubin"),
        ("sm_80", "8.9", "cubin"),
        ("sm_86", "8.0", "not"),
        ("sm_80", "9.0", "not"),
        ("compute_80", "8.0", "ptx"),
        ("compute_80", "12.0", "ptx"),
        ("compute_90", "8.9", "not"),
        ("sm_90a", "9.0", "cubin"),
        ("sm_100a", "10.3", "not"),
        ("sm_100f", "10.3", "cubin"),
        ("sm_103f", "10.0", "not"),
        ("sm_120f", "12.1", "cubin"),
        ("compute_90a", "10.0", "not"),
        ("compute_90a", "9.0", "ptx"),
        ("compute_100f", "10.3", "ptx"),
        ("compute_100f", "12.0", "not"),
        ("sm_80 compute_80", "8.6", "cubin"),
    ],
)
def test_what_runs_where(code: str, gpu: str, how: str) -> None:
    assert runs(code.split(), gpu) == how


def test_a_system_on_a_chip_runs_its_own_machine_code_alone() -> None:
    assert (runs(["sm_80"], "8.7", tegra=True), runs(["sm_87"], "8.7", tegra=True)) == ("not", "cubin")


def test_of_several_gpus_all_that_pass_are_named_and_else_the_worst() -> None:
    names = {"NVIDIA H100 PCIe": "9.0", "NVIDIA B200": "10.0", "Tesla T4": "7.5"}
    devices = tuple(GpuDevice(name=name, compute_capability=number, memory_mib=1) for name, number in names.items())
    needs = ImageNeeds(cuda="13.0", says_cuda="x", gpu=True, torch=True, code={"torch": ("sm_90", "compute_90")})
    gpus = GpuFacts(driver="580.95.05", devices=devices[:2])
    found = reasons(Host(machine="x86_64", gpus=gpus, here=False), needs)["architecture"]
    assert (found.status, found.found) == ("pass", "NVIDIA H100 PCIe (9.0); NVIDIA B200 (10.0), by PTX") and "first use" in found.hint
    found = reasons(Host(machine="x86_64", gpus=GpuFacts(driver="580.95.05", devices=devices), here=False), needs)["architecture"]
    assert found.status == "fail" and found.found.startswith("Tesla T4 (7.5), for which") and "sm_75" in found.hint


@pytest.mark.parametrize(("name", "said"), [("NVIDIA TITAN V", "TITAN cards"), ("NVIDIA GeForce RTX 3090", "GeForce cards")])
def test_cards_that_forward_compatibility_is_not_for_are_named(name: str, said: str) -> None:
    needs = ImageNeeds(cuda="12.8", says_cuda="x", gpu=True, compat="entrypoint", compat_cuda="12.8")
    found = reasons(Host(machine="x86_64", gpus=on("470.256.02", name), here=False), needs)["driver"]
    assert (
        found.status == "fail"
        and f"not for {said} ({name})" in found.found
        and found.needed.startswith("525.60.13 or newer, for CUDA 12.8")
    )
