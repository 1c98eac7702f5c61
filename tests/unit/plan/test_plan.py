"""The isolated strategy: what stops it, what it installs, and that it does not depend on who looked."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from envsnap import catalog
from envsnap.errors import PlanError
from envsnap.lockfile import seal
from envsnap.model.base import Base, BaseInventory, ImageConfig
from envsnap.model.facts import DeviceCode, Problem
from envsnap.model.lock import EnvLock, LockedConda, LockedCondaPackage, LockedPackage, LockedSystemPackage
from envsnap.model.origins import EditableOrigin, IndexOrigin, SystemOrigin, UnknownOrigin, WheelOrigin
from envsnap.model.plan import (
    AptInstall,
    BuildPlan,
    Check,
    CopySource,
    InstallPacked,
    InstallWheels,
    MakeCondaEnvironment,
    MakeEnvironment,
    SetEnv,
)
from envsnap.plan import make_plan
from envsnap.plan.labels import cuda_of
from envsnap.report.troubles import troubles
from tests import samples

KNOWN = catalog.load()
BASE = Base(
    reference="x.example.com/b:1",
    family="slim",
    digest=samples.digest("b"),
    config=ImageConfig(architecture="amd64", env={"PATH": "/bin", "PYTHON_VERSION": "3.11.9"}),
)


def planned(lock: EnvLock | None = None, base: Base = BASE, **options: Any) -> BuildPlan:
    return make_plan(lock or samples.lock(), KNOWN, [base], **options)


def with_package(**changes: Any) -> EnvLock:
    package = replace(samples.index_package("odd", "1.0"), **changes)
    return seal(replace(samples.lock(), packages=(*samples.packages(), package)))


def variables(plan: BuildPlan) -> dict[str, str]:
    return {step.name: step.value for step in plan.steps if isinstance(step, SetEnv)}


def step(plan: BuildPlan, kind: type[Any]) -> Any:
    return next((step for step in plan.steps if isinstance(step, kind)), None)


def of_conda(tree: str | None = None, **changes: Any) -> EnvLock:
    known = {"url": "https://conda.example.com/main/linux-64/demo-1.0-0.conda", "sha256": samples.hex64("demo"), "md5": "0" * 32}
    package = LockedCondaPackage(name="demo", version="1.0", build="0", **{**known, **changes})
    conda = LockedConda(packages=(package,), tree=tree)
    return replace(samples.lock(), python=replace(samples.lock().python, kind="conda", version="3.99.1", conda=conda))


def test_conda_brings_its_own_python() -> None:
    plan = planned(of_conda())
    made = step(plan, MakeCondaEnvironment)
    assert step(plan, MakeEnvironment) is None and plan.candidates[0].possible
    assert made.explicit == (f"https://conda.example.com/main/linux-64/demo-1.0-0.conda#{'0' * 32}",)
    assert {s.name for s in plan.steps if isinstance(s, SetEnv)} >= {"CONDA_PREFIX"}
    by_sha256 = step(planned(of_conda(md5=None)), MakeCondaEnvironment).explicit
    assert by_sha256[0].endswith(f"#sha256:{samples.hex64('demo')}")
    kept = step(planned(of_conda(tree=samples.digest("tree"), modified=("x",))), MakeCondaEnvironment)
    assert (kept.tree, kept.explicit) == (samples.digest("tree"), ())


# ---- what stops it


@pytest.mark.parametrize(
    ("lock", "what", "why"),
    [
        (replace(samples.lock(), python=replace(samples.lock().python, kind="conda")), "what conda installed", "python.conda"),
        (of_conda(url=None), "cannot be had again", "demo"),
        (of_conda(modified=("x",)), "cannot be had again", "demo"),
        (with_package(name="torch", version="2.7.0a0+7c8ec84dab.nv25.3"), "NVIDIA's own build", "no index"),
        (with_package(provenance="system"), "operating system's", "odd 1.0"),
        (
            with_package(origin=UnknownOrigin(reason="a local build"), provenance="unproven"),
            "nothing vouches for odd 1.0",
            "odd: a local build",
        ),
        (with_package(modified=("odd.py",), provenance="unproven"), "nothing vouches", "edited in place (odd.py)"),
        (with_package(origin=WheelOrigin(url="file:///x.whl"), provenance="unproven"), "nothing vouches", "file:///x.whl"),
    ],
)
def test_what_stops_a_build(lock: EnvLock, what: str, why: str) -> None:
    with pytest.raises(PlanError) as caught:
        planned(lock)
    assert what in caught.value.what and why in caught.value.why and caught.value.hint


def test_what_is_the_system_s_has_three_ways_out() -> None:
    origin = SystemOrigin(package="python3-odd", version="1.0-1", arch="all", files=samples.digest("odd"))
    names = [f"p{number}" for number in range(9)]
    many = [replace(samples.index_package(name, "1.0"), origin=origin, provenance="system") for name in names]

    def hint(*packages: LockedPackage) -> str:
        with pytest.raises(PlanError) as caught:
            planned(seal(replace(samples.lock(), packages=packages)))
        return caught.value.what + ": " + caught.value.hint

    venv = "capture an environment made without --system-site-packages"
    assert hint(many[0]) == (
        f"1 package is the operating system's, not a wheel: {venv};   or again with --rescue p0 to keep what is installed;   "
        "or --allow-unproven p0 to leave it out"
    )
    assert hint(*many[:2]).endswith(
        f"{venv};   or again with --rescue p0 --rescue p1 to keep what is installed;   "
        "or --allow-unproven p0 --allow-unproven p1 to leave them out"
    )
    assert hint(*many).endswith("--rescue all to keep what is installed;   or --allow-unproven all to leave them out")
    with pytest.raises(PlanError, match="1 package is the operating system's"):
        planned(seal(replace(samples.lock(), packages=tuple(many[:2]))), allow_unproven=frozenset({"p1"}))


def test_what_is_the_system_s_may_be_left_out() -> None:
    origin = SystemOrigin(package="python3-odd", version="1.0-1", arch="all", files=samples.digest("odd"))
    lock = with_package(origin=origin, provenance="system", file=None, sha256=None)
    plan = planned(lock, allow_unproven=frozenset({"odd"}))
    assert "odd" not in {wheel.name for wheel in step(plan, InstallWheels).wheels}
    assert any("left out, as nothing can be installed for them: odd 1.0" in note for note in plan.notes)


def test_all_unproven_packages_are_named_at_once_each_with_its_flag() -> None:
    odd = tuple(replace(samples.index_package(name, "1"), provenance="unproven") for name in ("one", "two", "three"))
    with pytest.raises(PlanError) as caught:
        planned(seal(replace(samples.lock(), packages=odd)), allow_unproven=frozenset({"two"}))
    assert caught.value.hint.endswith("--allow-unproven one   --allow-unproven three")


def test_a_doubt_is_told_as_the_capture_told_it() -> None:
    one = with_package(provenance="unproven")  # an index has its file
    said = Problem(where="packages.odd", what="unproven: offline, and its wheel was never seen here")
    told = []
    for lock in (one, replace(one, capture=replace(one.capture, problems=(said,)))):
        with pytest.raises(PlanError) as caught:
            planned(lock)
        told.append(caught.value.why.removeprefix("odd: "))
        assert troubles(lock)[0].what == f"odd 1.0 is unproven: {told[-1]}"
    assert told[1] == "offline, and its wheel was never seen here"


def test_nothing_of_a_run_can_be_rescued() -> None:
    lock = with_package(provenance="unproven")
    lock = replace(lock, capture=replace(lock.capture, target="W&B run run-x"))
    with pytest.raises(PlanError) as caught:
        planned(lock)
    assert caught.value.hint == "--allow-unproven odd" and troubles(lock)[0].do == "build … --allow-unproven odd"


def test_an_allowed_package_with_a_file_goes_in_as_its_index_has_it() -> None:
    plan = planned(with_package(modified=("odd.py",), provenance="unproven"), allow_unproven=frozenset({"odd"}))
    assert "odd" in {wheel.name for wheel in step(plan, InstallWheels).wheels}
    assert any("odd 1.0 is unproven" in note for note in plan.notes)


def test_an_allowed_package_without_a_file_is_left_out_and_said() -> None:
    lock = with_package(origin=UnknownOrigin(reason="no RECORD"), provenance="unproven", file=None, sha256=None)
    plan = planned(lock, allow_unproven=frozenset({"all"}))
    assert "odd" not in {wheel.name for wheel in step(plan, InstallWheels).wheels}
    assert any("left out, as nothing can be installed for them: odd 1.0" in note for note in plan.notes)


def test_an_editable_needs_its_source() -> None:
    with pytest.raises(PlanError) as caught:
        planned(no_source=True)
    assert "yolotools" in caught.value.what and "--no-source" in caught.value.why
    with pytest.raises(PlanError, match="project was not captured"):
        planned(with_package(origin=EditableOrigin(path=None), blob=samples.digest("x"), provenance="source"))


# ---- what it does


def test_steps_in_order() -> None:
    kinds = [type(step) for step in planned().steps]
    order = [MakeEnvironment, InstallWheels, InstallPacked, AptInstall, CopySource, *([SetEnv] * 7), Check]
    assert kinds == order
    assert all(step.reason for step in planned().steps)


def test_every_package_is_installed_once() -> None:
    plan = planned()
    names = [wheel.name for wheel in step(plan, InstallWheels).wheels] + [package.name for package in step(plan, InstallPacked).packages]
    assert sorted(names) == [package.name for package in samples.packages()]


def test_an_editable_is_at_its_place() -> None:
    packed = {package.name: package for package in step(planned(), InstallPacked).packages}
    assert packed["yolotools"].import_paths == ("/workspace/yolo/src",)
    assert packed["ultralytics-thop"].import_paths == ()
    assert planned().workdir == "/workspace/yolo"


def test_other_indexes_are_mentioned() -> None:
    lock = with_package(origin=IndexOrigin(index="torch@download.example.com"))
    assert "1 wheel of torch@download.example.com" in planned(lock).notes[0]


def test_system_packages_go_by_soname_and_distribution() -> None:
    ubuntu = replace(BASE, inventory=BaseInventory(distribution="ubuntu 24.04", python="3.11.9"))
    needs = (
        LockedSystemPackage(name="libglib2.0-0", sonames=("libglib-2.0.so.0", "libgthread-2.0.so.0"), needed_by=("opencv-python",)),
        LockedSystemPackage(name="libc6", sonames=("libc.so.6",), needed_by=("numpy",)),
        LockedSystemPackage(name=None, sonames=("libcuda.so.1",), needed_by=("torch",)),
        LockedSystemPackage(name="libpython3.11", sonames=("libpython3.11.so.1.0",)),
    )
    apt = step(planned(seal(replace(samples.lock(), system_packages=needs)), ubuntu), AptInstall)
    assert apt.packages == ("libglib2.0-0t64",)
    assert "libglib2.0-0t64 for libglib-2.0.so.0, libgthread-2.0.so.0 (opencv-python)" in apt.reason


def test_an_unknown_library_goes_by_its_captured_name_if_there_is_one_of_that_name() -> None:
    needs = (LockedSystemPackage(name="libodd1", sonames=("libodd.so.1",), needed_by=("torch",)), *samples.system_packages())
    lock = seal(replace(samples.lock(), system_packages=needs))
    for distribution in ("debian 12", "debian 13"):
        plan = planned(lock, replace(BASE, inventory=BaseInventory(distribution=distribution, python="3.11.9")))
        assert (step(plan, AptInstall).packages, step(plan, AptInstall).captured) == (("libgl1", "libxcb1"), ("libodd1",))
        assert any(f"libodd.so.1 (torch): nobody is known to package it in {distribution}; its captured" in note for note in plan.notes)


def test_a_name_that_apt_would_read_as_a_removal_is_not_used() -> None:
    lock = seal(replace(samples.lock(), system_packages=(LockedSystemPackage(name="libc6-", sonames=("libodd.so.1",)),)))
    assert step(planned(lock), AptInstall) is None


def test_libraries_without_a_known_distribution() -> None:
    unknown = replace(BASE, family="other", reference="x.example.com/unknown:1")
    with pytest.raises(PlanError, match=r"the distribution of x\.example\.com/unknown:1 is not known"):
        planned(base=unknown)
    planned(seal(replace(samples.lock(), system_packages=())), unknown)


# ---- variables


def test_the_environment_is_first_on_path() -> None:
    assert variables(planned())["PATH"] == "/opt/envsnap/env/bin:/bin"
    assert variables(planned(env={"PATH": "/mine"}))["PATH"] == "/opt/envsnap/env/bin:/mine"


def test_captured_variables_go_with_it_and_secrets_do_not() -> None:
    plan = planned()
    assert variables(plan)["NCCL_P2P_DISABLE"] == "1" and "WANDB_API_KEY" not in variables(plan)
    assert any("WANDB_API_KEY is a secret" in note for note in plan.notes)


def test_what_was_asked_for_wins() -> None:
    assert variables(planned(env={"OMP_NUM_THREADS": "8", "HOME": "/h"})) | {"OMP_NUM_THREADS": "8", "HOME": "/h"} == variables(
        planned(env={"OMP_NUM_THREADS": "8", "HOME": "/h"})
    )


def quieted(base_env: dict[str, str], lock: EnvLock | None = None) -> BuildPlan:
    return planned(lock, replace(BASE, config=ImageConfig(architecture="amd64", env={"PYTHON_VERSION": "3.11.9", **base_env})))


def test_the_base_does_not_steer() -> None:
    plan = quieted(
        {
            "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
            "LD_LIBRARY_PATH": "/x/torch/lib::/usr/local/cuda/compat/lib",
            "NVIDIA_VISIBLE_DEVICES": "all",
        }
    )
    assert plan.steps[0] == SetEnv(
        name="TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
        value="0",
        reason="1 turns TF32 on for every float32 matrix product; torch warns about an empty one",
    )
    assert variables(plan)["LD_LIBRARY_PATH"] == "/usr/local/cuda/compat/lib"
    assert "NVIDIA_VISIBLE_DEVICES" not in variables(plan)


def test_a_value_that_is_neutral_already_needs_no_step() -> None:
    assert "CUDA_MODULE_LOADING" not in variables(quieted({"CUDA_MODULE_LOADING": "LAZY"}))


def test_a_captured_value_wins_over_the_neutral_one_and_keeps_the_driver_in_reach() -> None:
    lock = seal(replace(samples.lock(), env={"LD_LIBRARY_PATH": "/opt/mine", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}))
    plan = quieted({"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "LD_LIBRARY_PATH": "/x/torch/lib:/usr/local/nvidia/lib64"}, lock)
    assert variables(plan)["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"] == "1"
    assert variables(plan)["LD_LIBRARY_PATH"] == "/opt/mine:/usr/local/nvidia/lib64"


def test_what_nobody_can_neutralise_is_said() -> None:
    plan = quieted({"NVIDIA_TF32_OVERRIDE": "1"})
    assert "NVIDIA_TF32_OVERRIDE" not in variables(plan)
    assert any("NVIDIA_TF32_OVERRIDE" in note and "it stays" in note for note in plan.notes)


@pytest.mark.parametrize(("version", "value"), [("3.20.3", "cpp"), ("7.36.2", "upb"), (None, "upb")])
def test_protobuf_gets_its_own_default(version: str | None, value: str) -> None:
    lock = with_package(name="protobuf", version=version) if version else samples.lock()
    assert variables(quieted({"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}, lock))["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] == value


def test_which_gpus_is_left_to_the_run() -> None:
    plan = planned(seal(replace(samples.lock(), env={"CUDA_VISIBLE_DEVICES": "3"})))
    assert "CUDA_VISIBLE_DEVICES" not in variables(plan)
    assert any("CUDA_VISIBLE_DEVICES" in note for note in plan.notes)


# ---- labels, and who looked


@pytest.mark.parametrize(
    ("packages", "cuda"),
    [
        ({"torch": "2.12.1+cu130", "nvidia-cuda-runtime": "13.1.9"}, "13.0"),
        ({"torch": "2.4.0+cu121"}, "12.1"),
        ({"torch": "2.4.0", "nvidia-cuda-runtime-cu12": "12.1.105"}, "12.1"),
        ({"torch": "2.12.1", "nvidia-cuda-runtime": "13.0.96"}, "13.0"),
        ({"nvidia-cuda-runtime": "13.0.96"}, "13.0"),
        ({"torch": "2.4.0+cpu", "nvidia-cuda-runtime": "13.0.96"}, None),
        ({"torch": "2.4.0"}, None),
        ({"tensorflow": "2.21.0", "nvidia-cuda-runtime-cu12": "12.5.82"}, "12.5"),
        ({"tensorflow": "2.21.0"}, None),
        ({"paddlepaddle-gpu": "2.6.2.post117"}, "11.7"),
        ({"paddlepaddle-gpu": "3.3.1", "nvidia-cuda-runtime-cu12": "12.6.77"}, "12.6"),
        ({"paddlepaddle-gpu": "2.6.2.post1"}, None),
        ({"paddlepaddle": "3.3.1"}, None),
        ({}, None),
    ],
)
def test_cuda_is_that_of_the_packages(packages: dict[str, str], cuda: str | None) -> None:
    locked = tuple(samples.index_package(name, version) for name, version in packages.items())
    assert cuda_of(seal(replace(samples.lock(), packages=locked))) == cuda


def test_labels() -> None:
    labels = planned().labels
    assert labels["dev.envsnap.lock.digest"] == samples.lock().digest
    assert labels["dev.envsnap.driver.min"] == "580.65.06"
    assert labels["org.opencontainers.image.base.digest"] == BASE.digest
    assert labels["dev.envsnap.source"] == samples.source().files
    assert "org.opencontainers.image.created" not in labels


def test_the_architectures_of_gpu_code_are_labels_of_canonical_json() -> None:
    codes = {
        "torch": DeviceCode(cubins=("sm_80", "sm_90", "sm_90a"), ptx=("compute_120",), partial=("sm_90a",)),
        "torchvision": DeviceCode(cubins=("sm_80",)),
    }
    lock = seal(replace(samples.lock(), packages=tuple(replace(p, device_code=codes.get(p.name)) for p in samples.packages())))
    labels = planned(lock).labels
    assert labels["dev.envsnap.cuda.architectures"] == '{"torch":"sm_80 sm_90 sm_90a compute_120","torchvision":"sm_80"}'
    assert labels["dev.envsnap.cuda.architectures.partial"] == '{"torch":"sm_90a"}'


def test_labels_of_gpu_code_are_there_where_they_say_something_and_no_longer_than_a_label_is_for() -> None:
    assert not [name for name in planned().labels if "architectures" in name]
    long = DeviceCode(cubins=tuple(f"sm_{number}" for number in range(100, 200)), partial=("sm_100",))
    many = tuple(replace(samples.index_package(f"tool-{number}", "1"), device_code=long) for number in range(30))
    lock = seal(replace(samples.lock(), packages=(*samples.packages(), *many)))
    assert not [name for name in planned(lock).labels if "architectures" in name]


def test_an_image_without_the_project_s_files_says_so() -> None:
    lock = seal(replace(samples.lock(), packages=samples.packages()[:3]))
    assert planned(lock, no_source=True).labels["dev.envsnap.source"] == "none"
    assert planned(seal(replace(lock, source=None))).labels["dev.envsnap.source"] == "none"


def test_looking_inside_the_base_changes_nothing_but_the_candidates() -> None:
    inventory = BaseInventory(
        distribution="debian 12", python="3.11.9", python_path="/usr/local/bin/python3", sonames=frozenset({"libGL.so.1"})
    )
    blind, seen = planned(), planned(base=replace(BASE, inventory=inventory))
    assert replace(blind, base=BASE, candidates=()) == replace(seen, base=BASE, candidates=())


def test_the_order_of_the_lock_does_not_matter() -> None:
    lock = samples.lock()
    turned = seal(replace(lock, packages=tuple(reversed(lock.packages)), env=dict(reversed(list(lock.env.items())))))
    assert planned(turned) == planned(lock)


def test_an_unproven_name_is_not_needed_for_proven_packages() -> None:
    assert planned(allow_unproven=frozenset({"six"})) == planned()


def test_a_wheel_without_hash_is_refused() -> None:
    broken = LockedPackage(name="odd", version="1", origin=IndexOrigin(), file="odd-1-py3-none-any.whl", provenance="index")
    with pytest.raises(PlanError, match="odd 1 cannot be installed"):
        planned(seal(replace(samples.lock(), packages=(broken,))))
