# ruff: noqa: E501 - the table: one case, one line
"""Differences of two locks: all of them, readable, graded."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from envsnap.model.facts import DeviceCode
from envsnap.model.lock import EnvLock, LockedConda, LockedCondaPackage, LockedPackage, Measurements
from envsnap.model.origins import SystemOrigin
from envsnap.model.parity import Difference
from envsnap.parity import diff
from tests import samples

LOCK = samples.lock()


def observed(**changes: Any) -> EnvLock:
    return samples.lock(observed=replace(LOCK.observed, **changes))


def cuda(**changes: Any) -> EnvLock:
    return observed(cuda=replace(LOCK.observed.cuda, **changes))


def package(name: str, **changes: Any) -> EnvLock:
    changed: tuple[LockedPackage, ...] = tuple(replace(one, **changes) if one.name == name else one for one in LOCK.packages)
    return samples.lock(packages=changed)


def library(soname: str, **changes: Any) -> EnvLock:
    return cuda(loaded=tuple(replace(one, **changes) if one.soname == soname else one for one in LOCK.observed.cuda.loaded))


def smoke(**changes: Any) -> EnvLock:
    reference = samples.reference()
    return observed(reference=replace(reference, smoke=replace(reference.smoke, **changes)))


FLAGS = {**samples.FLAGS, "backends.cudnn.allow_tf32": "False"}
PATCHED = "sha256:" + "0" * 64

CASES: list[tuple[EnvLock, tuple[str, str | None, str | None, str]]] = [
    (package("numpy", version="2.4.7"), ("packages.numpy.version", "2.4.6", "2.4.7", "numeric")),
    (package("nvidia-cudnn-cu13", version="9.21.0.1"), ("packages.nvidia-cudnn-cu13.version", "9.20.0.48", "9.21.0.1", "numeric")),
    (package("wandb", version="0.32.0"), ("packages.wandb.version", "0.31.0", "0.32.0", "breaking")),
    (package("pip", files=PATCHED), ("packages.pip.files", samples.digest("files pip 23.2.1"), PATCHED, "breaking")),
    (package("pip", requested=False), ("packages.pip.requested", "true", None, "cosmetic")),
    (package("pip", provenance="unproven"), ("packages.pip.provenance", "index", "unproven", "cosmetic")),
    (package("pip", modified=("a.py", "b.py")), ("packages.pip.modified", None, "a.py, b.py", "breaking")),
    (samples.lock(packages=LOCK.packages[:-1]), ("packages.yolotools", "0.3.1.dev4", None, "breaking")),
    (samples.lock(python=replace(LOCK.python, version="3.12.1")), ("python.version", "3.11.7", "3.12.1", "breaking")),
    (samples.lock(python=replace(LOCK.python, version="3.11.9")), ("python.version", "3.11.7", "3.11.9", "cosmetic")),
    (samples.lock(python=replace(LOCK.python, kind="conda")), ("python.kind", "venv", "conda", "cosmetic")),
    (samples.lock(system_packages=LOCK.system_packages[1:]), ("system_packages.libgl1", "1.6.0-1", None, "breaking")),
    (samples.lock(system_packages=(replace(LOCK.system_packages[0], version="1.7"), LOCK.system_packages[1])), ("system_packages.libgl1.version", "1.6.0-1", "1.7", "cosmetic")),
    (samples.lock(env={**LOCK.env, "NCCL_P2P_DISABLE": "0"}), ("env.NCCL_P2P_DISABLE", "1", "0", "numeric")),
    (samples.lock(env={**LOCK.env, "LANG": "de_DE.UTF-8"}), ("env.LANG", "C.UTF-8", "de_DE.UTF-8", "cosmetic")),
    (samples.lock(env={**LOCK.env, "LD_PRELOAD": "/x.so"}), ("env.LD_PRELOAD", None, "/x.so", "breaking")),
    (samples.lock(source=replace(samples.source(), files=PATCHED)), ("source.files", samples.digest("manifest"), PATCHED, "breaking")),
    (samples.lock(source=replace(samples.source(), branch="dev")), ("source.branch", "main", "dev", "cosmetic")),
    (samples.lock(source=replace(samples.source(), untracked=())), ("source.untracked.scripts/run.sh", samples.digest("run.sh"), None, "breaking")),
    (samples.lock(source=None), ("source", samples.digest("manifest"), None, "breaking")),
    (samples.lock(name="other"), ("name", "yolo-train", "other", "cosmetic")),
    (cuda(cudnn="9.21.0"), ("observed.cuda.cudnn", "9.20.0", "9.21.0", "numeric")),
    (cuda(cublas=None), ("observed.cuda.cublas", "13.1.1", None, "numeric")),
    (cuda(torch=replace(LOCK.observed.cuda.torch, git="0" * 40)), ("observed.cuda.torch.git", samples.TORCH_GIT, "0" * 40, "numeric")),  # type: ignore[type-var]
    (cuda(torch=replace(LOCK.observed.cuda.torch, flags=FLAGS)), ("observed.cuda.torch.flags.backends.cudnn.allow_tf32", "True", "False", "numeric")),  # type: ignore[type-var]
    (library("libcudnn.so.9", version="9.1"), ("observed.cuda.loaded.libcudnn.so.9.version", "9.20.0", "9.1", "numeric")),
    (library("libcudnn.so.9", path="/x"), ("observed.cuda.loaded.libcudnn.so.9.path", "<prefix>/lib/python3.11/site-packages/nvidia/cudnn/lib/libcudnn.so.9", "/x", "cosmetic")),
    (cuda(loaded=LOCK.observed.cuda.loaded[:-1]), ("observed.cuda.loaded.libnccl.so.2", "2.29.7", None, "numeric")),
    (observed(platform=samples.platform(kernel="7.0")), ("observed.platform.kernel", "6.8.0-87-generic", "7.0", "cosmetic")),
    (observed(platform=samples.platform(cpu="AMD EPYC")), ("observed.platform.cpu", samples.platform().cpu, "AMD EPYC", "numeric")),
    (observed(imports=LOCK.observed.imports[1:]), ("observed.imports.cv2", "cv2", None, "breaking")),
    (observed(reference=None), ("observed.reference", samples.digest("anchor"), None, "numeric")),
    (smoke(map50=0.9), ("observed.reference.smoke.map50", "0.995", "0.9", "numeric")),
    (smoke(wandb_rows=20), ("observed.reference.smoke.wandb_rows", "21", "20", "cosmetic")),
]  # fmt: skip


@pytest.mark.parametrize(("right", "difference"), CASES, ids=[difference[0] for _, difference in CASES])
def test_one_change_is_one_difference(right: EnvLock, difference: tuple[str, str | None, str | None, str]) -> None:
    assert [(found.field, found.left, found.right, found.grade) for found in diff(LOCK, right)] == [difference]
    field, left, other, grade = difference
    assert [(found.field, found.left, found.right, found.grade) for found in diff(right, LOCK)] == [(field, other, left, grade)]


def test_what_can_change_numbers_says_how() -> None:
    told = [found for right, _ in CASES for found in diff(LOCK, right) if found.grade == "numeric"]
    assert told and all(found.why for found in told)


def test_every_grade_has_its_cases() -> None:
    assert {difference[3] for _, difference in CASES} == {"breaking", "numeric", "cosmetic"}


def test_a_lock_is_equal_to_itself_and_to_another_capture() -> None:
    assert diff(LOCK, LOCK) == ()
    assert diff(LOCK, samples.lock(capture=replace(samples.capture(), at="2027-01-01T00:00:00Z", host="x", readings={}))) == ()
    slower = replace(samples.reference(), measurements=Measurements(step_ms=1.0, seconds=1.0, peak_memory_mib=1.0))
    assert diff(LOCK, observed(reference=slower)) == ()


def test_gpu_code_is_told_by_the_files_that_have_it() -> None:
    """Equal files have equal code: a lock that does not say it is one of an envsnap that did not look."""
    code = DeviceCode(cubins=("sm_90",), ptx=("compute_90",))
    assert diff(LOCK, package("torch", device_code=code)) == ()
    assert diff(package("torch", device_code=code), package("torch", device_code=replace(code, ptx=()))) == ()
    both = diff(LOCK, package("torch", device_code=code, files=PATCHED))
    assert [difference.field for difference in both] == ["packages.torch.files"]


def test_of_many_losses_the_first_that_differs_is_told() -> None:
    losses = (*samples.losses()[:5], *samples.losses(1.1)[5:])
    (found,) = diff(LOCK, smoke(losses=losses))
    assert found.field == "observed.reference.smoke.losses"
    assert found.left is not None and found.left.startswith("160 entries, no. 6: 0x")
    (found,) = diff(LOCK, smoke(losses=samples.losses()[:100]))
    assert found.right == "100 entries, no. 101: none"


def test_gpus_are_told_one_by_one() -> None:
    gpu = samples.gpu_facts()
    left, right = observed(gpu=gpu), observed(gpu=replace(gpu, driver="590.1", devices=(replace(gpu.devices[0], name="NVIDIA H100"),)))
    assert [(found.field, found.grade) for found in diff(left, right)] == [
        ("observed.gpu.devices[0].name", "numeric"),
        ("observed.gpu.devices[1]", "numeric"),
        ("observed.gpu.driver", "numeric"),
    ]


def test_two_libraries_of_one_soname_are_told_apart() -> None:
    twice = (*LOCK.observed.cuda.loaded, replace(LOCK.observed.cuda.loaded[-1], path="/other"))
    (found,) = diff(LOCK, cuda(loaded=twice))
    assert (found.field, found.left) == ("observed.cuda.loaded.libnccl.so.2#2", None)


def conda(*packages: LockedCondaPackage, tree: str) -> EnvLock:
    return samples.lock(python=replace(LOCK.python, kind="conda", conda=LockedConda(packages=packages, tree=samples.digest(tree))))


def test_conda_packages_are_told_by_name_and_what_follows_from_them_is_not_told() -> None:
    one = LockedCondaPackage(name="demo.pkg", version="1.0", build="h0", sha256=samples.hex64("1"), files=samples.digest("1"))
    other = replace(one, build="h1", sha256=samples.hex64("2"), files=samples.digest("2"))
    edited = replace(one, files=samples.digest("edited"), modified=("lib/x.so",))
    left = conda(one, tree="a")

    def told(right: EnvLock) -> list[tuple[str, str]]:
        return [(found.field, found.grade) for found in diff(left, right)]

    assert told(conda(replace(other, version="2.0"), tree="b")) == [("python.conda.packages.demo.pkg.version", "breaking")]
    assert told(conda(other, tree="b")) == [("python.conda.packages.demo.pkg.build", "breaking")]
    assert told(conda(tree="b")) == [("python.conda.packages.demo.pkg", "breaking")]
    assert told(conda(one, tree="b")) == [("python.conda.tree", "cosmetic")]
    assert told(conda(edited, tree="b")) == [
        ("python.conda.packages.demo.pkg.files", "breaking"),
        ("python.conda.packages.demo.pkg.modified", "breaking"),
    ]


def test_sorted_by_grade_then_field() -> None:
    found = diff(LOCK, samples.lock(device="cuda", packages=LOCK.packages[1:-1], env={}, name="x"))
    order = {"breaking": 0, "numeric": 1, "cosmetic": 2}
    assert [order[one.grade] for one in found] == sorted(order[one.grade] for one in found)
    for grade in order:
        fields = [one.field for one in found if one.grade == grade]
        assert fields == sorted(fields)
    assert all(isinstance(one, Difference) for one in found)


def test_a_variable_that_was_withheld_is_not_one_that_is_absent() -> None:
    lock = samples.lock()
    without = {name: value for name, value in lock.env.items() if name != "WANDB_API_KEY"}
    assert lock.env["WANDB_API_KEY"] is None
    (found,) = diff(lock, replace(lock, env=without))
    assert (found.field, found.left, found.right) == ("env.WANDB_API_KEY", "(withheld)", None)


def test_another_build_of_a_package_of_the_system_is_other_code() -> None:
    """Its version for Python is the same, and it may have no RECORD."""
    one = SystemOrigin(package="python3-pip", version="23.2.1-1", arch="all", files=samples.digest("one"))
    other = replace(one, version="23.2.1-2", files=samples.digest("other"))
    left, right = (package("pip", origin=origin, provenance="system") for origin in (one, other))
    found = {difference.field: difference.grade for difference in diff(left, right)}
    assert found == {"packages.pip.origin.files": "breaking", "packages.pip.origin.version": "cosmetic"}
    edited = package("pip", origin=other, modified=("pip/x.py",), provenance="unproven")
    assert "packages.pip.origin.files" not in {difference.field for difference in diff(left, edited)}
