"""The sabotage table: each check is made to fail, alone, by the fault that it is for; and verdicts are honest about what was not judged."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from envsnap.lockfile import seal
from envsnap.model.facts import Distribution, FrameworkFacts, LoadedLibrary, SourceCheck, SystemOwner
from envsnap.model.frameworks import Framework
from envsnap.model.lock import EnvLock, LockedFramework
from envsnap.model.origins import SystemOrigin
from envsnap.model.parity import CheckResult, Fingerprint, Layer, Verdict
from envsnap.parity import judge
from envsnap.parity.judge import CHECKS
from tests import samples
from tests.samples import digest, fingerprint

LOCK = samples.lock()
GPU_LOCK = samples.lock(device="cuda")
Sabotage = Callable[[], Fingerprint]


def verdict(found: Fingerprint, lock: EnvLock = LOCK, *, device: str = "cpu", required: set[Layer] | None = None, **told: Any) -> Verdict:
    return judge(lock, found, device=device, required=None if required is None else frozenset(required), **told)


def failed(of: Verdict) -> list[str]:
    return [check.id for check in of.checks if check.status == "fail"]


def check(of: Verdict, name: str) -> CheckResult:
    return next(check for check in of.checks if check.id == name)


def with_facts(**changes: Any) -> Fingerprint:
    return fingerprint(facts=samples.facts(**changes))


def with_run(**changes: Any) -> Fingerprint:
    return fingerprint(smoke=samples.smoke_run(**changes))


def with_distribution(name: str, **changes: Any) -> Fingerprint:
    changed: tuple[Distribution, ...] = tuple(
        replace(found, **changes) if found.name == name else found for found in samples.distributions()
    )
    return with_facts(distributions=changed)


def test_an_edit_of_the_capture_that_is_not_in_the_image_is_found() -> None:
    """Let in by --allow-unproven, a package comes as its index has it: that is not what ran."""
    lock = samples.lock()
    packages = tuple(replace(p, modified=("wandb/x.py",)) if p.name == "wandb" else p for p in lock.packages)
    verdict = judge(replace(lock, packages=packages), samples.fingerprint(), device="cpu", required=None)
    (failed,) = [check for check in verdict.checks if check.status == "fail"]
    assert (failed.id, failed.actual) == ("identity.edited", "wandb without the edit of wandb/x.py")


def test_a_stale_record_of_what_the_system_has_as_it_brought_it_is_no_edit() -> None:
    owner = SystemOwner(manager="dpkg", package="python3-wandb", version="1-1", arch="all", files=samples.digest("there"), modified=())
    stale = with_distribution("wandb", modified=("wandb/x.py",), system=owner)
    assert failed(judge(samples.lock(), stale, device="cpu", required=None)) == []


def test_an_edit_of_what_the_system_has_is_found_without_a_record() -> None:
    owner = SystemOwner(manager="dpkg", package="python3-wandb", version="1-1", arch="all", files=samples.digest("there"))
    origin = SystemOrigin(package="python3-wandb", version="1-1", arch="all", files=samples.digest("there"))
    lock = samples.lock()
    packages = tuple(replace(p, origin=origin, provenance="system") if p.name == "wandb" else p for p in lock.packages)

    def edited(modified: tuple[str, ...] | None) -> CheckResult:
        there = with_distribution("wandb", modified=None, system=replace(owner, modified=modified))
        return check(judge(replace(lock, packages=packages), there, device="cpu", required=None), "identity.edited")

    assert [edited(words).status for words in ((), ("wandb/x.py",), None)] == ["pass", "fail", "inconclusive"]


def with_library(soname: str, **changes: Any) -> tuple[LoadedLibrary, ...]:
    return tuple(replace(found, **changes) if found.soname == soname else found for found in samples.libraries())


def with_interpreter(**changes: Any) -> Fingerprint:
    return with_facts(interpreter=replace(samples.facts().interpreter, **changes))


def with_env(**changes: str) -> Fingerprint:
    return with_facts(env={**samples.ENV, **changes})


def without_system_library(soname: str) -> Fingerprint:
    return with_facts(
        system_libraries=tuple(replace(found, path=None) if found.soname == soname else found for found in samples.facts().system_libraries)
    )


def with_losses(step: int, factor: float) -> tuple[tuple[str, ...], ...]:
    rows = list(samples.losses())
    rows[step] = tuple((float.fromhex(text) * factor).hex() for text in rows[step])
    return tuple(rows)


def far(precision: str, distance: float) -> Fingerprint:
    return fingerprint(
        gradient_distance={"amp": 0.0, "fp32": 0.0, precision: distance}, gradient_equal={"amp": True, "fp32": True, precision: False}
    )


NEW_CUDNN = {
    "version": "9.19.0",
    "owner": "dpkg:libcudnn9",
    "path": "/usr/lib/x86_64-linux-gnu/libcudnn.so.9.19.0",
    "sha256": samples.hex64("old"),
}

SABOTAGE: list[tuple[str, Sabotage]] = [
    ("identity.python", lambda: with_interpreter(version="3.12.1")),
    ("identity.python", lambda: with_interpreter(machine="aarch64")),
    ("identity.packages", lambda: with_distribution("numpy", version="2.4.7")),
    ("identity.packages", lambda: with_facts(distributions=samples.distributions()[1:])),
    ("identity.packages", lambda: with_facts(distributions=(*samples.distributions(), samples.distribution("zzz", "1")))),
    ("identity.files", lambda: with_distribution("numpy", files=digest("another build"))),
    ("identity.files", lambda: with_distribution("numpy", files=None)),
    ("identity.edited", lambda: with_distribution("wandb", modified=("wandb/sdk/wandb_run.py",))),
    ("identity.imports", lambda: with_facts(imports={**dict.fromkeys(samples.IMPORTS, ""), "cv2": "ImportError: libGL.so.1"})),
    ("identity.imports", lambda: with_facts(imports=dict.fromkeys(samples.IMPORTS[1:], ""))),
    ("identity.libraries", lambda: with_facts(libraries=with_library("libcudnn.so.9", **NEW_CUDNN))),
    ("identity.libraries", lambda: with_facts(libraries=with_library("libcudnn.so.9", sha256=samples.hex64("patched")))),
    ("identity.libraries", lambda: with_facts(libraries=with_library("libcudnn.so.9", owner=None))),
    ("identity.libraries", lambda: with_facts(libraries=samples.libraries()[1:])),
    ("identity.libraries", lambda: with_facts(libraries=(*samples.libraries(), replace(samples.libraries()[-1], soname="libmkl_rt.so.2")))),
    ("identity.libraries", lambda: with_facts(libraries=())),
    ("identity.system-libraries", lambda: without_system_library("libGL.so.1")),
    ("identity.system-libraries", lambda: with_facts(system_libraries=())),
    ("identity.torch", lambda: with_facts(torch=samples.torch_facts(git="0" * 40))),
    ("identity.torch", lambda: with_facts(torch=None)),
    ("identity.flags", lambda: with_facts(torch=samples.torch_facts(flags={**samples.FLAGS, "backends.cuda.matmul.allow_tf32": "True"}))),
    ("identity.env", lambda: with_env(TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="1")),
    ("identity.env", lambda: with_env(NVIDIA_TF32_OVERRIDE="1")),
    ("identity.env", lambda: with_env(NCCL_P2P_DISABLE="")),
    ("identity.env", lambda: with_env(OMP_NUM_THREADS="3")),
    ("identity.env", lambda: with_env(LD_LIBRARY_PATH="/usr/local/cuda/compat/lib:/opt/hpcx/lib")),
    ("identity.source", lambda: with_facts(source_files=SourceCheck(digest=digest("manifest"), differing=("train.py",)))),
    ("identity.source", lambda: with_facts(source_files=SourceCheck(digest=digest("another")))),
    ("identity.source", lambda: with_facts(source_files=None)),
    ("fingerprint.fp32", lambda: far("fp32", 5e-4)),
    ("fingerprint.fp32", lambda: fingerprint(smoke=samples.smoke_run(gradients={"amp": "a"}))),
    ("fingerprint.amp", lambda: far("amp", 2e-6)),
    ("training.device", lambda: with_run(device_used="cuda")),
    ("training.device", lambda: with_run(device_asked="cuda")),
    ("training.steps", lambda: with_run(steps=80)),
    ("training.steps", lambda: with_run(expected_steps=320)),
    ("training.amp", lambda: with_run(amp_asked="amp")),
    ("training.batch", lambda: with_run(batch_used=4)),
    ("training.nan", lambda: with_run(nan_recoveries=1)),
    ("training.data", lambda: with_run(labels=digest("labels shuffled"))),
    ("training.data", lambda: with_run(seed=1)),
    ("training.losses", lambda: with_run(losses=with_losses(3, 1.0 + 1e-15))),
    ("training.state", lambda: with_run(state=digest("another"))),
    ("training.map50", lambda: with_run(map50=0.497)),
    ("training.wandb", lambda: with_run(wandb=None)),
    ("training.wandb", lambda: with_run(wandb=replace(samples.smoke_run().wandb, rows=20))),  # type: ignore[type-var]
    ("training.wandb", lambda: with_run(wandb=replace(samples.smoke_run().wandb, exit_code=None))),  # type: ignore[type-var]
]


@pytest.mark.parametrize(("name", "sabotage"), SABOTAGE, ids=[f"{name}-{n}" for n, (name, _) in enumerate(SABOTAGE)])
def test_a_fault_fails_the_check_made_for_it_and_no_other(name: str, sabotage: Sabotage) -> None:
    judged = verdict(sabotage())
    assert failed(judged) == [name]
    assert judged.verdict == "fail"
    found = check(judged, name)
    assert found.expected and found.actual and found.rule and found.usually and found.hint


OTHERS: list[Framework] = ["tensorflow", "paddle"]
OF_OTHERS = {f"identity.{framework}" for framework in OTHERS}


def lock_of(framework: Framework) -> EnvLock:
    """The same environment, if that were its framework instead of torch."""
    there = samples.cpu_framework()
    known = {framework: LockedFramework(version=there.version, git=there.git, flags=there.flags)}
    kept = samples.reference()
    observed = replace(
        LOCK.observed,
        cuda=replace(samples.cuda(), torch=None, **known),
        reference=replace(kept, smoke=replace(kept.smoke, framework=framework)),
    )
    return seal(replace(LOCK, observed=observed))


def found_with(framework: Framework, there: FrameworkFacts | None, **changes: Any) -> Fingerprint:
    return fingerprint(facts=samples.facts(torch=None, **{framework: there}), **changes)


@pytest.mark.parametrize("framework", OTHERS)
def test_another_framework_is_judged_as_torch_is(framework: Framework) -> None:
    lock = lock_of(framework)
    judged = verdict(found_with(framework, samples.cpu_framework()), lock)
    assert judged.verdict == "pass"
    assert "identity.torch" not in {check.id for check in judged.checks}
    faults: dict[str, Fingerprint] = {
        f"identity.{framework}": found_with(framework, samples.cpu_framework(git="another build")),
        "identity.flags": found_with(framework, samples.cpu_framework(flags={"onednn": "False"})),
        "training.losses": found_with(framework, samples.cpu_framework(), smoke=samples.smoke_run(losses=with_losses(3, 1.0 + 1e-15))),
    }
    for name, found in faults.items():
        assert failed(verdict(found, lock)) == [name]
    assert failed(verdict(found_with(framework, None), lock)) == [f"identity.{framework}"]
    of_torch = fingerprint(facts=samples.facts(**{framework: None}))  # torch came into the image, and is the one that is asked
    assert failed(verdict(of_torch, lock)) == ["identity.torch", f"identity.{framework}"]


@pytest.mark.parametrize("framework", OTHERS)
def test_a_lock_of_before_says_nothing_of_another_framework(framework: Framework) -> None:
    lock = lock_of(framework)
    before = seal(replace(lock, observed=replace(lock.observed, cuda=replace(lock.observed.cuda, **{framework: None}))))
    assert verdict(found_with(framework, samples.cpu_framework()), before).verdict == "pass"


@pytest.mark.parametrize("status", ["failed", "absent"])
def test_a_run_that_did_not_end_well_fails_each_layer_that_needs_it(status: str) -> None:
    found = fingerprint(smoke=replace(samples.smoke_run(), status=status, reason="the training failed: no kernel image"))
    assert failed(verdict(found)) == ["fingerprint.run", "training.run"]
    assert failed(verdict(found, required={"L2"})) == ["fingerprint.run"]
    assert failed(verdict(found, required={"L3"})) == ["training.run"]
    assert check(verdict(found), "training.run").actual == "the training failed: no kernel image"


def test_every_check_has_its_sabotage() -> None:
    assert {name for name, _ in SABOTAGE} | {"fingerprint.run", "training.run", *OF_OTHERS} == {made.id for made in CHECKS}


def test_check_ids_are_unique() -> None:
    assert len({made.id for made in CHECKS}) == len(CHECKS)


def test_the_same_environment_passes() -> None:
    judged = verdict(fingerprint())
    assert (judged.verdict, judged.not_judged) == ("pass", ())
    assert [made.id for made in CHECKS if made.id not in OF_OTHERS] == [found.id for found in judged.checks]
    assert {found.status for found in judged.checks} == {"pass"}
    assert not any(found.usually or found.hint for found in judged.checks)


def test_everything_is_collected_and_not_the_first_alone() -> None:
    found = fingerprint(
        facts=samples.facts(env={**samples.ENV, "NVIDIA_TF32_OVERRIDE": "1"}, libraries=with_library("libcudnn.so.9", **NEW_CUDNN)),
        smoke=samples.smoke_run(batch_used=4),
    )
    assert failed(verdict(found)) == ["identity.libraries", "identity.env", "training.batch"]


def test_an_interpreter_of_the_host_is_told_nothing_of_images() -> None:
    env = with_env(TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="1", OMP_NUM_THREADS="")
    env_check = check(verdict(env, source="not asked"), "identity.env")
    assert env_check.hint == "env -u TORCH_ALLOW_TF32_CUBLAS_OVERRIDE OMP_NUM_THREADS=2 envsnap verify --python …"
    gone = check(verdict(with_facts(distributions=samples.distributions()[1:]), source="not asked"), "identity.packages")
    assert "envsnap diff LOCK" in gone.hint
    for each in CHECKS:
        told = each.on_host or (each.usually, each.hint)
        assert each.id == "identity.source" or not re.search(r"\b(image|base|build again|envsnap build)\b", " ".join(told)), each.id


def test_a_failure_tells_both_values_and_the_way_out() -> None:
    found = check(verdict(with_facts(libraries=with_library("libcudnn.so.9", **NEW_CUDNN))), "identity.libraries")
    assert found.expected.startswith("libcudnn.so.9 9.20.0 from nvidia-cudnn-cu13")
    assert found.actual.startswith("libcudnn.so.9 9.19.0 from dpkg:libcudnn9")
    assert found.usually == "LD_LIBRARY_PATH of the base comes before the package's own directory"
    found = check(verdict(with_env(TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="1", OMP_NUM_THREADS="")), "identity.env")
    assert found.actual == "OMP_NUM_THREADS: none; TORCH_ALLOW_TF32_CUBLAS_OVERRIDE = 1"
    assert found.hint == "envsnap build … --env OMP_NUM_THREADS=2 --env TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="


@pytest.mark.parametrize(
    "found",
    [
        with_interpreter(version="3.11.2"),
        with_env(TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="", NVIDIA_TF32_OVERRIDE=" ", CUDA_MODULE_LOADING="LAZY", TORCH_CUDA_ARCH_LIST="9.0"),
        with_env(LD_LIBRARY_PATH="/usr/local/cuda/compat/lib:/usr/local/nvidia/lib:/usr/local/nvidia/lib64:", NCCL_VERSION="2.29.7"),
        with_facts(libraries=with_library("libcuda.so.1", version="590.1", sha256=samples.hex64("newer driver"))),
        with_facts(libraries=with_library("libcudnn.so.9", sha256=None)),
        with_facts(imports={**dict.fromkeys(samples.IMPORTS, ""), "new": "ImportError"}),
    ],
    ids=["patch level", "blanked variables", "driver plumbing", "driver", "unreadable library", "other import"],
)
def test_what_must_not_matter_does_not(found: Fingerprint) -> None:
    assert verdict(found).verdict == "pass"


# ------------------------------------------------------------------------------------------------ what cannot be judged


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (with_distribution("numpy", modified=None), "identity.edited"),
        (with_facts(imports=None), "identity.imports"),
        (fingerprint(gradient_distance={"fp32": 0.0}), "fingerprint.amp"),
    ],
    ids=["not checked", "not imported", "no blob"],
)
def test_what_was_not_looked_at_is_not_a_pass(found: Fingerprint, name: str) -> None:
    judged = verdict(found)
    assert (judged.verdict, failed(judged)) == ("incomplete", [])
    assert check(judged, name).status == "inconclusive"
    assert any(sentence.startswith(f"{name}: ") for sentence in judged.not_judged)


def test_a_run_that_was_not_made_is_not_a_pass() -> None:
    judged = verdict(fingerprint(smoke=None, gradient_distance={}, gradient_equal={}))
    assert (judged.verdict, failed(judged)) == ("incomplete", [])
    assert {found.status for found in judged.checks if found.layer != "L0"} == {"inconclusive"}


def test_without_the_anchor_there_is_no_gradient_and_no_failure() -> None:
    judged = verdict(fingerprint(smoke=samples.smoke_run(gradients={}), gradient_distance={}, gradient_equal={}))
    assert (judged.verdict, failed(judged)) == ("incomplete", [])
    for precision in ("amp", "fp32"):
        found = check(judged, f"fingerprint.{precision}")
        assert found.status == "inconclusive"
        assert found.actual == "the anchor's blob is not beside the lock: copy lockfiles/yolo-train.blobs too"


def test_a_precision_that_the_device_cannot_do_is_a_failure() -> None:
    judged = verdict(fingerprint(smoke=samples.smoke_run(gradients={"fp32": "f"}), gradient_distance={"fp32": 0.0}))
    assert (judged.verdict, failed(judged)) == ("fail", ["fingerprint.amp"])
    assert check(judged, "fingerprint.amp").usually == "the device cannot compute in this precision"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("left out", "identity.source: the image was built without the project's files"),
        ("not asked", "identity.source: the project's files: an interpreter of the host is judged, not an image"),
    ],
)
def test_the_project_s_files_are_not_judged_where_they_are_not_meant_to_be(source: str, told: str) -> None:
    judged = verdict(with_facts(source_files=None), source=source)
    assert (judged.verdict, judged.not_judged) == ("pass", (told,))
    bare = tuple(package for package in samples.packages() if package.name != "yolotools")
    without = samples.lock(source=None, packages=bare)
    assert not any("identity.source" in sentence for sentence in verdict(fingerprint(), without, source=source).not_judged)


def test_without_a_reference_only_l0_is_judged_and_it_says_so() -> None:
    lock = samples.lock(smoke=False)
    judged = verdict(fingerprint(smoke=None), lock)
    assert judged.verdict == "incomplete"
    assert {found.layer for found in judged.checks} == {"L0"}
    assert judged.not_judged == (
        "L2 fingerprint: the lock has no smoke-train: captured without --smoke",
        "L3 training: the lock has no smoke-train: captured without --smoke",
    )
    assert verdict(fingerprint(smoke=None), lock, required={"L0"}).verdict == "pass"


def test_without_torch_the_reason_is_told() -> None:
    bare = samples.lock(smoke=False)
    lock = samples.lock(observed=replace(bare.observed, cuda=replace(bare.observed.cuda, torch=None, loaded=())), smoke=False)
    judged = verdict(fingerprint(facts=samples.facts(torch=None, libraries=()), smoke=None), lock)
    assert (
        "L2 fingerprint: the lock has no smoke-train: the environment has no torch, TensorFlow or PaddlePaddle to train with"
        in judged.not_judged
    )
    assert failed(judged) == []


def test_a_gpu_reference_on_a_gpu() -> None:
    judged = verdict(fingerprint("cuda"), GPU_LOCK, device="cuda")
    assert judged.verdict == "pass"
    assert [sentence[:2] for sentence in judged.not_judged] == ["L1", "L4", "L5"]


def test_a_gpu_reference_on_a_cpu_is_incomplete_unless_less_suffices() -> None:
    judged = verdict(fingerprint("cpu"), GPU_LOCK)
    assert judged.verdict == "incomplete"
    assert judged.not_judged[0] == "L2 fingerprint: the reference ran on a GPU, this ran on a CPU (--require names the layers that suffice)"
    assert verdict(fingerprint("cpu"), GPU_LOCK, required={"L0"}).verdict == "pass"


def test_cpu_asked_to_be_cuda() -> None:
    fallen_back = fingerprint("cuda", smoke=replace(samples.smoke_run("cuda"), device_used="cpu"))
    assert failed(verdict(fallen_back, GPU_LOCK, device="cuda")) == ["training.device"]


@pytest.mark.parametrize("layer", ["L1", "L4", "L5"])
def test_a_layer_that_this_version_does_not_judge_cannot_be_had_by_asking(layer: Layer) -> None:
    judged = verdict(fingerprint(), required={"L0", layer})
    assert judged.verdict == "incomplete"
    assert any(sentence.startswith(layer) and sentence.endswith("this version does not judge it") for sentence in judged.not_judged)


def test_nothing_required_is_nothing_judged() -> None:
    assert verdict(fingerprint(), required=set()).verdict == "incomplete"


def test_layers_that_were_not_asked_for_are_named_and_not_listed() -> None:
    judged = verdict(fingerprint(smoke=None), required={"L0"})
    assert {found.layer for found in judged.checks} == {"L0"}
    assert judged.not_judged == ("L2 fingerprint: not asked for", "L3 training: not asked for")


# ------------------------------------------------------------------------------------ libraries that only a GPU run loads


def fewer(*, owner: str | None = "nvidia-nccl-cu13") -> tuple[EnvLock, Fingerprint]:
    """Captured on a GPU, found on a CPU, where NCCL was not loaded."""
    lock = samples.lock(
        device="cuda",
        observed=replace(GPU_LOCK.observed, cuda=replace(GPU_LOCK.observed.cuda, loaded=with_library("libnccl.so.2", owner=owner))),
    )
    return lock, with_facts(libraries=tuple(found for found in samples.libraries() if found.soname != "libnccl.so.2"))


def test_a_library_that_only_a_gpu_loads_is_there_when_its_package_is() -> None:
    lock, found = fewer()
    judged = verdict(found, lock, required={"L0"})
    assert judged.verdict == "pass"
    assert check(judged, "identity.libraries").actual == "6 equal, 1 only with a GPU"


def test_a_library_of_the_system_that_was_not_loaded_is_not_known() -> None:
    lock, found = fewer(owner="dpkg:libnccl2")
    judged = verdict(found, lock, required={"L0"})
    assert (judged.verdict, check(judged, "identity.libraries").status) == ("incomplete", "inconclusive")


def test_nothing_loaded_is_a_failure_on_a_cpu_too() -> None:
    assert failed(verdict(with_facts(libraries=()), GPU_LOCK, required={"L0"})) == ["identity.libraries"]


def test_a_base_s_own_library_is_not_excused_by_a_gpu() -> None:
    extra = LoadedLibrary(
        soname="libcudnn_cnn.so.9", version="9.19.0", path="/usr/lib/libcudnn_cnn.so.9", sha256=None, owner="dpkg:libcudnn9"
    )
    torch = samples.torch_facts(cuda_available=True)
    judged = verdict(with_facts(libraries=(*samples.libraries(), extra), torch=torch), required={"L0"})
    assert failed(judged) == ["identity.libraries"]
    ours = replace(extra, owner="nvidia-cudnn-cu13")
    assert verdict(with_facts(libraries=(*samples.libraries(), ours), torch=torch), required={"L0"}).verdict == "pass"


# ------------------------------------------------------------------------------------ where bits cannot be expected to be equal


def elsewhere(fp32: float = 4e-6, amp: float = 0.05, **changes: Any) -> Fingerprint:
    """Another processor: the key differs."""
    run = samples.smoke_run(
        key={**samples.key(), "cpu": "AMD EPYC 9654"}, losses=samples.losses(1 + 1e-6), state=digest("another"), map50=0.981
    )
    return fingerprint(
        smoke=replace(run, **changes), gradient_distance={"amp": amp, "fp32": fp32}, gradient_equal={"amp": False, "fp32": False}
    )


def test_another_processor_passes_by_tolerance() -> None:
    judged = verdict(elsewhere())
    assert judged.verdict == "pass"
    assert "because these differ: cpu" in check(judged, "fingerprint.fp32").rule
    assert "training.state" not in {found.id for found in judged.checks}


WRONG = "bf16-class or wrong"


@pytest.mark.parametrize(("distance", "said"), [(5.1e-5, "TF32-class"), (2e-3, "TF32-class"), (2.1e-3, WRONG), (float("inf"), WRONG)])
def test_the_class_of_a_distance_is_told(distance: float, said: str) -> None:
    judged = verdict(elsewhere(distance))
    assert failed(judged) == ["fingerprint.fp32"]
    assert said in check(judged, "fingerprint.fp32").actual


def test_a_step_without_amp_is_not_one_with_it() -> None:
    judged = verdict(elsewhere(amp=0.2))
    assert failed(judged) == ["fingerprint.amp"]
    assert check(judged, "fingerprint.amp").actual == "2.0e-01 (another precision or wrong)"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"losses": samples.losses(1 + 2e-5)}, "training.losses"),
        ({"losses": (*samples.losses()[:120], *samples.losses(1.3)[120:])}, "training.losses"),
        ({"map50": 0.79}, "training.map50"),
    ],
    ids=["first step", "last quarter", "mAP50"],
)
def test_tolerances_have_ends(changes: dict[str, Any], name: str) -> None:
    assert failed(verdict(elsewhere(**changes))) == [name]


@pytest.mark.parametrize(
    "losses", [(), (("zz", "zz", "zz"),) * samples.STEPS, (("nan", "inf", "0x1p+0"),) * samples.STEPS], ids=["none", "text", "nan"]
)
def test_losses_that_are_no_numbers_never_pass(losses: tuple[tuple[str, ...], ...]) -> None:
    for found in (elsewhere(losses=losses), with_run(losses=losses)):
        assert "training.losses" in failed(verdict(found))


def test_a_reference_that_did_not_repeat_is_judged_by_tolerance() -> None:
    lock = samples.lock(observed=replace(LOCK.observed, reference=samples.reference(self_exact=False)))
    judged = verdict(far("fp32", 3e-6), lock)
    assert judged.verdict == "pass"
    assert "the reference did not repeat bit for bit" in check(judged, "fingerprint.fp32").rule


def test_several_gpus_are_not_held_to_bits() -> None:
    reference = samples.reference("cuda")
    lock = samples.lock(
        device="cuda", observed=replace(GPU_LOCK.observed, reference=replace(reference, smoke=replace(reference.smoke, gpus=4)))
    )
    found = fingerprint("cuda", smoke=samples.smoke_run("cuda", gpus=4, losses=samples.losses(1 + 1e-7), state=digest("x")))
    assert verdict(found, lock, device="cuda").verdict == "pass"


def test_a_reference_without_amp_or_rows_is_not_held_to_them() -> None:
    reference = samples.reference()
    poor = replace(reference.smoke, gradient={"fp32": digest("gradient fp32")}, wandb_rows=0, labels=None)
    judged = verdict(fingerprint(), samples.lock(observed=replace(LOCK.observed, reference=replace(reference, smoke=poor))))
    assert judged.verdict == "incomplete"
    assert "fingerprint.amp" not in {found.id for found in judged.checks}
    assert {found.id for found in judged.checks if found.status == "inconclusive"} == {"training.data", "training.wandb"}
