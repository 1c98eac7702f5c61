"""torch, asked from inside."""

from __future__ import annotations

import functools
import re
from typing import Any, Callable, Sequence

from .library_versions import cudnn_text, nccl_text
from .text import answer, flag_value

LIBRARIES: re.Pattern[str] = re.compile(r"lib(?:torch|c10|caffe2|shm)")

FLAGS = (
    "are_deterministic_algorithms_enabled",
    "backends.cuda.cudnn_sdp_enabled",
    "backends.cuda.flash_sdp_enabled",
    "backends.cuda.math_sdp_enabled",
    "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_fp16_accumulation",
    "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_tf32",
    "backends.cuda.matmul.fp32_precision",
    "backends.cuda.mem_efficient_sdp_enabled",
    "backends.cuda.preferred_blas_library",
    "backends.cuda.preferred_linalg_library",
    "backends.cudnn.allow_tf32",
    "backends.cudnn.benchmark",
    "backends.cudnn.benchmark_limit",
    "backends.cudnn.conv.fp32_precision",
    "backends.cudnn.deterministic",
    "backends.cudnn.enabled",
    "backends.cudnn.rnn.fp32_precision",
    "backends.fp32_precision",
    "backends.mkl.is_available",
    "backends.mkldnn.deterministic",
    "backends.mkldnn.enabled",
    "backends.mkldnn.fp32_precision",
    "backends.mkldnn.is_available",
    "backends.openmp.is_available",
    "get_default_dtype",
    "get_float32_matmul_precision",
    "is_deterministic_algorithms_warn_only_enabled",
)


def facts(torch: Any) -> dict[str, Any]:
    flags = {name: answer(functools.partial(flag_value, torch, name)) for name in FLAGS}
    nccl = answer(torch.cuda.nccl.version)
    architectures = answer(lambda: torch._C._cuda_getArchFlags()) or ""  # noqa: PLW0108, SLF001  (get_arch_list() is empty without a GPU)
    return {
        "version": str(torch.__version__),
        "git": str(answer(lambda: torch.version.git_version) or ""),
        "cuda": torch.version.cuda,
        "cudnn": cudnn_text(answer(torch.backends.cudnn.version)),
        "nccl": ".".join(map(str, nccl)) if isinstance(nccl, tuple) else nccl_text(nccl),
        "cuda_available": bool(torch.cuda.is_available()),
        "arch_list": architectures.split(),
        "flags": {name: str(value) for name, value in flags.items() if value is not None},
    }


def exercise_one_device(torch: Any) -> None:
    """A convolution, forward and backward, and a matrix product: cuDNN and cuBLAS load most of themselves at first use."""
    cuda = torch.cuda.is_available()
    for dtype in (torch.float32, torch.float16) if cuda else (torch.float32,):
        options = {"device": "cuda" if cuda else "cpu", "dtype": dtype}
        image = torch.ones((2, 8, 16, 16), requires_grad=True, **options)
        weight = torch.ones((8, 8, 3, 3), requires_grad=True, **options)
        torch.nn.functional.conv2d(image, weight, padding=1).mean().backward()
        square = torch.ones((64, 64), **options)
        (square @ square).mean().item()


def exercise_all_devices(torch: Any) -> None:
    """An all-reduce: NCCL loads its network plugins at first use."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count > 1:
        torch.cuda.nccl.all_reduce([torch.ones(1, device=f"cuda:{number}") for number in range(count)])
        for number in range(count):
            torch.cuda.synchronize(number)


STEPS: Sequence[Callable[[Any], None]] = (exercise_one_device, exercise_all_devices)
