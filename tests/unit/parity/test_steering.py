"""Which variables steer numbers, and when two values mean the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import envsnap.catalog
from envsnap.parity.steering import steering, steers

STEER = [
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
    "NCCL_P2P_DISABLE",
    "NCCL_TOPO_FILE",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "KMP_AFFINITY",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TRITON_PTXAS_PATH",
    "PYTHONHASHSEED",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "FLAGS_cudnn_deterministic",
    "TF_CUDNN_DETERMINISTIC",
    "XLA_FLAGS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF2_BEHAVIOR",
    "KERAS_BACKEND",
]
INERT = [
    "NCCL_VERSION",
    "CUBLAS_VERSION",
    "CUDNN_VERSION",
    "PYTORCH_BUILD_NUMBER",
    "PYTORCH_HOME",
    "TORCH_CUDA_ARCH_LIST",
    "TORCH_HOME",
    "NCCL_DEBUG",
    "NCCL_DEBUG_FILE",
    "TORCH_LOGS",
    "TORCH_CPP_LOG_LEVEL",
    "TORCH_DISTRIBUTED_DEBUG",
    "TF_CPP_MIN_LOG_LEVEL",
    "TF_CONFIG",
    "KERAS_HOME",
    "FLAGS_selected_gpus",
    "PADDLE_TRAINER_ID",
    "NVIDIA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "PATH",
    "LANG",
    "PYTHONUNBUFFERED",
    "UCC_CL_BASIC_TLS",
]


@pytest.mark.parametrize("name", STEER)
def test_steers(name: str) -> None:
    assert steers(name)


@pytest.mark.parametrize("name", INERT)
def test_does_not_steer(name: str) -> None:
    assert not steers(name)


@pytest.mark.parametrize(
    ("name", "value", "effective"),
    [
        ("NVIDIA_TF32_OVERRIDE", "0", "0"),  # forces TF32 off: not the same as leaving it out
        ("NVIDIA_TF32_OVERRIDE", "", None),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "0", None),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1", "1"),
        ("CUDA_MODULE_LOADING", "EAGER", "EAGER"),
        ("OMP_NUM_THREADS", " 4 ", "4"),
        ("LD_LIBRARY_PATH", "/usr/local/cuda/compat/lib.real:/usr/local/cuda-13.0/compat:/usr/local/nvidia/lib64/", None),
        ("LD_LIBRARY_PATH", "/usr/local/nvidia/lib:/opt/x/lib/::/y", "/opt/x/lib:/y"),
        ("LD_LIBRARY_PATH", "/usr/local/cuda/compatible", "/usr/local/cuda/compatible"),
        ("LANG", "C", None),
        ("NCCL_X", None, None),
    ],
)
def test_the_effective_value(name: str, value: str | None, effective: str | None) -> None:
    assert steering({name: value}).get(name) == effective


def test_what_a_plan_sets_to_quieten_a_base_does_not_steer() -> None:
    rules = yaml.safe_load(Path(envsnap.catalog.__file__).with_name("data").joinpath("variables.yaml").read_text(encoding="utf-8"))[
        "variables"
    ]
    quietened = {rule["pattern"].replace("*", "X"): rule["value"] for rule in rules if rule["treatment"] == "neutral"}
    assert len(quietened) > 20
    assert steering(quietened) == {}
