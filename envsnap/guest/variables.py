"""Variables that steer a training, and those that hold a secret."""

from __future__ import annotations

import re
from typing import Mapping

STEERING = re.compile(
    r"(?:AOT_|ATEN_|BLIS_|CUBLAS_|CUBLASLT_|CUDA_|CUDNN_|CUFFT_|CUPY_|CUSOLVER_|CUSPARSE_|DNNL_|FLAGS_|GOMP_|GOTO_|HIP_|HSA_|JAX_|KINETO_"
    r"|KERAS_|KMP_|MALLOC_|MIMALLOC_|MIOPEN_|MKL_|NCCL_|NUMBA_|NUMEXPR_|NVPL_|NVSHMEM_|NVTE_|OMP_|ONEDNN_|OPENBLAS_|PYTHON|PYTORCH_|TCMALLOC_"
    r"|TF_|TF2_|TORCH_|TORCHDYNAMO_|TORCHINDUCTOR_|TRITON_|UCX_|VECLIB_|XLA_)[A-Za-z0-9_]*\Z"
    r"|(?:GLIBC_TUNABLES|LD_LIBRARY_PATH|LD_PRELOAD|LD_BIND_NOW|NVIDIA_TF32_OVERRIDE)\Z"
)
# These point at this host or describe its image, and would be wrong in another one; PYTHONDONTWRITEBYTECODE is our own doing;
# most TF_ names here belong to Terraform, not to TensorFlow; TF_CONFIG and the rest of FLAGS_ and KERAS_ name the processes of one job
# and their devices, as all of PADDLE_ does.
NOT_STEERING = re.compile(
    r"(?:CUDA_(?:CACHE_PATH|DEVICE_ORDER|HOME|PATH|ROOT|VISIBLE_DEVICES|MPS_[A-Z_]+)|PYTHONDONTWRITEBYTECODE|PYTHON_GET_PIP_[A-Z0-9]+"
    r"|PYTHON_SHA256|[A-Z0-9_]+_VERSION|TF_CONFIG|FLAGS_(?:selected_[a-z]+|START_PORT)|KERAS_(?:HOME|DISTRIBUTION_[A-Z_]+)"
    r"|TF_DATA_DIR|TF_(?:CLI|IN|INPUT|LOG|PLUGIN|REGISTRY|STATE|TOKEN|VAR|WORKSPACE)(?:_.*)?)\Z"
)
SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|ACCESS_?KEY|SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|PRIVATE_?KEY|AUTH)(?:_|$)",
    re.IGNORECASE,
)
SECRET_VALUE = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{30,}|nvapi-[A-Za-z0-9_-]{20,}"
    r"|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|wandb_v1_[A-Za-z0-9_]{20,}|pypi-[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+)"
)
URL_USERINFO = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@'\"]*@")
FIXED_USERS = ("ssh://git@", "git+ssh://git@")


def is_secret(name: str, value: str) -> bool:
    """Whether a variable holds one; `envsnap.redaction` has the same rules from here, and more of its own."""
    if not value or name == "SSH_AUTH_SOCK":
        return False
    return bool(
        SECRET_NAME.search(name) or SECRET_VALUE.search(value) or any(m.group(0) not in FIXED_USERS for m in URL_USERINFO.finditer(value))
    )


def without_secrets(text: str) -> str:
    text = URL_USERINFO.sub(lambda m: m.group(0) if m.group(0) in FIXED_USERS else m.group("scheme") + "****@", text)
    return SECRET_VALUE.sub("****", text)


def steering_variables(variables: Mapping[str, str]) -> dict[str, str | None]:
    return {
        name: None if is_secret(name, value) else value
        for name, value in sorted(variables.items())
        if STEERING.match(name) and not NOT_STEERING.match(name)
    }


def withheld_variables(variables: Mapping[str, str]) -> list[str]:
    return sorted(name for name, value in variables.items() if is_secret(name, value))
