"""What an image says of itself, and that what is malformed counts as not said."""

from __future__ import annotations

import json

import pytest

from envsnap.compat import needs_of

NGC = {
    "NVIDIA_PYTORCH_VERSION": "26.07",
    "PYTORCH_VERSION": "2.13.0a0+9186a08",
    "CUDA_VERSION": "13.3.1.008",
    "CUDA_DRIVER_VERSION": "610.43.02",
    "TORCH_CUDA_ARCH_LIST": "7.5 8.0 12.0+PTX",
}
ENTRYPOINT = ("/opt/nvidia/nvidia_entrypoint.sh",)
OURS = {"dev.envsnap.schema": "1", "dev.envsnap.torch": "2.12.1+cu130", "dev.envsnap.cuda": "13.0"}
ARCHITECTURES = "dev.envsnap.cuda.architectures"


def test_ngcs_own_image() -> None:
    needs = needs_of(NGC, {}, ENTRYPOINT)
    assert (needs.cuda, needs.says_cuda, needs.release) == ("13.3.1.008", "CUDA_VERSION", "26.07")
    assert (needs.compat, needs.compat_cuda) == ("entrypoint", "13.3.1.008")
    assert needs.code == {"torch": ("sm_75", "sm_80", "sm_120", "compute_120")}


def test_an_environment_of_its_own_on_ngc() -> None:
    needs = needs_of(NGC, OURS, ENTRYPOINT)
    assert (needs.cuda, needs.says_cuda, needs.release) == ("13.0", "the label dev.envsnap.cuda", None)
    assert (needs.compat, needs.compat_cuda) == ("entrypoint", "13.3.1.008")
    assert needs.code is None and "do not speak for the environment" in needs.says_code


@pytest.mark.parametrize("torch", ["2.13.0a0+9186a08", "2.13.0a0+9186a08b2c.nv26.07", "2.13.0a0+9186a08b2c.nv26.7.63802676"])
def test_a_torch_that_is_the_bases_is_spoken_for_by_it(torch: str) -> None:
    labels = {"dev.envsnap.schema": "1", "dev.envsnap.torch": torch}
    needs = needs_of(NGC, labels, ENTRYPOINT)
    assert (needs.cuda, needs.release) == ("13.3.1.008", "26.07") and needs.code is not None
    other = needs_of(NGC, {**labels, "dev.envsnap.torch": torch.replace("9186a08", "9186a09")}, ENTRYPOINT)
    assert (other.cuda, other.code, other.gpu) == (None, None, False)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"torch":1}', '{"torch":""}', '{"torch":"sm_9x"}', '{"torch":"sm_90; rm"}', "[" * 9999]
)
def test_a_label_that_cannot_be_read_says_nothing(text: str) -> None:
    needs = needs_of({}, OURS | {ARCHITECTURES: text}, ())
    assert needs.code is None and needs.says_code == f"the label {ARCHITECTURES} cannot be read"
    assert needs_of({}, OURS | {ARCHITECTURES: '{"torch":"sm_90"}'}, ()).code == {"torch": ("sm_90",)}


def test_a_label_of_any_size_is_not_read() -> None:
    large = json.dumps({"torch": "sm_90 " * 20_000})
    assert needs_of({}, OURS | {ARCHITECTURES: large}, ()).code is None


@pytest.mark.parametrize("text", ["8", "8.0 9.0+JIT", "all", "8.0 x", "Ampere"])
def test_a_list_that_is_none_says_nothing(text: str) -> None:
    needs = needs_of({**NGC, "TORCH_CUDA_ARCH_LIST": text}, {}, ENTRYPOINT)
    assert needs.code is None and "cannot be read" in needs.says_code


@pytest.mark.parametrize(
    ("env", "entrypoint", "compat"),
    [
        (NGC, ENTRYPOINT, "entrypoint"),
        (NGC, ("/usr/bin/env", "/opt/nvidia/nvidia_entrypoint.sh"), "entrypoint"),
        (NGC, (), "bypassed"),
        ({"_CUDA_COMPAT_PATH": "/usr/local/cuda/compat"}, ("bash",), "bypassed"),
        ({"CUDA_VERSION": "12.2.2", "NV_CUDA_COMPAT_PACKAGE": "cuda-compat-12-2"}, (), "toolkit"),
        ({"CUDA_VERSION": "12.2.2", "CUDA_DRIVER_VERSION": "535.54.03"}, (), "none"),
        ({}, ENTRYPOINT, "none"),
    ],
)
def test_who_puts_the_compatibility_libraries_into_effect(env: dict[str, str], entrypoint: tuple[str, ...], compat: str) -> None:
    assert needs_of(env, {}, entrypoint).compat == compat


@pytest.mark.parametrize(("value", "requires"), [(None, "cuda>=12.4"), ("0", "cuda>=12.4"), ("1", ""), ("true", "")])
def test_a_requirement_that_is_switched_off(value: str | None, requires: str) -> None:
    env = {"NVIDIA_REQUIRE_CUDA": "cuda>=12.4"} | ({"NVIDIA_DISABLE_REQUIRE": value} if value is not None else {})
    assert needs_of(env, {}, ()).requires == requires


@pytest.mark.parametrize(
    ("env", "release"),
    [({"NVIDIA_TENSORFLOW_VERSION": "23.01"}, "23.01"), ({"NVIDIA_BUILD_VERSION": "1.2.3", "MONTH": "26.07"}, None), ({}, None)],
)
def test_the_release_that_an_image_says_it_is(env: dict[str, str], release: str | None) -> None:
    assert needs_of(env, {}, ()).release == release


def test_an_image_that_asks_for_a_driver_is_for_gpus_whatever_else_it_says() -> None:
    env = {"NVIDIA_REQUIRE_CUDA": "cuda>=12.4"}
    assert needs_of(env, {}, ()).gpu and not needs_of({}, {}, ()).gpu
    assert not needs_of(env, {"dev.envsnap.schema": "1"}, ()).gpu  # the base's words, on an environment without CUDA
