"""Variables that steer numbers: which they are, and when two values of one mean the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

_STEERING = re.compile(
    r"NVIDIA_TF32_OVERRIDE|TORCH_.*|PYTORCH_.*|TORCHINDUCTOR_.*|TORCHDYNAMO_.*|TRITON_.*|NVTE_.*|CUBLAS.*|CUDNN_.*|CUDA_LAUNCH_BLOCKING|CUDA_DEVICE_MAX_CONNECTIONS"
    r"|CUDA_MODULE_LOADING|CUDA_(?:FORCE|DISABLE)_PTX_JIT|NCCL_.*|OMP_.*|GOMP_.*|KMP_.*|MKL_.*|NVPL_.*|OPENBLAS_.*|BLIS_.*|NUMEXPR_.*|VECLIB_.*|ONEDNN_.*|DNNL_.*"
    r"|ATEN_CPU_CAPABILITY|NPY_.*|TF2?_.*|KERAS_.*|XLA_.*|FLAGS_.*|PYTHONHASHSEED|LD_LIBRARY_PATH|LD_PRELOAD"
)
_INERT = re.compile(
    # What an image says of itself, where things lie, and how much is logged: none of it changes a number.
    r".*_(?:VERSION|HOME|ROOT|DIR|BUILD_NUMBER|ARCH_LIST)|NCCL_DEBUG.*|TORCH_LOGS.*|TORCH_(?:CPP|DISTRIBUTED)_.*|TORCH_NCCL_TRACE_.*|TF_CPP_.*LOG.*|TF_CONFIG|FLAGS_selected_.*"
)
_SEARCH_PATHS = {"LD_LIBRARY_PATH", "LD_PRELOAD"}

NEUTRAL: Mapping[str, frozenset[str]] = {
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": frozenset({"0"}),
    "TORCH_BLAS_PREFER_CUBLASLT": frozenset({"0"}),
    "TORCH_NCCL_USE_COMM_NONBLOCKING": frozenset({"0"}),
    "CUDA_LAUNCH_BLOCKING": frozenset({"0"}),
    "CUDA_MODULE_LOADING": frozenset({"DEFAULT", "LAZY"}),
    "TRITON_PTXAS_PATH": frozenset({"/nonexistent"}),
    "TRITON_PTXAS_BLACKWELL_PATH": frozenset({"/nonexistent"}),
    "TRITON_CUOBJDUMP_PATH": frozenset({"/nonexistent"}),
    "TRITON_NVDISASM_PATH": frozenset({"/nonexistent"}),
}
"""Values that mean what leaving the variable out means: those that a plan gives a base's variables are among them (a test says so).

NVIDIA_TF32_OVERRIDE=0 is not: it forces TF32 off, whatever a program sets.
"""

_DRIVER_PLUMBING = re.compile(r"/usr/local/cuda(?:-[\d.]+)?/compat(?:/.*)?|/usr/local/nvidia(?:/.*)?")


def steers(name: str) -> bool:
    """Whether a variable of this name can change what is computed."""
    return name in _SEARCH_PATHS or (_STEERING.fullmatch(name) is not None and _INERT.fullmatch(name) is None)


def steering(env: Mapping[str, str | None]) -> dict[str, str]:
    """The variables that steer, each with its effective value; neutral ones and withheld secrets are left out."""
    effective = {name: _effective(name, value) for name, value in env.items() if value is not None and steers(name)}
    return {name: value for name, value in sorted(effective.items()) if value}


def _effective(name: str, value: str) -> str:
    value = value.strip()
    if value in NEUTRAL.get(name, ()):
        return ""
    if name not in _SEARCH_PATHS:
        return value
    # The container runtime and the base's entrypoint put the driver's directories here; they hold nothing else.
    entries = (entry.strip().rstrip("/") for entry in value.split(":"))
    return ":".join(entry for entry in entries if entry and not _DRIVER_PLUMBING.fullmatch(entry))
