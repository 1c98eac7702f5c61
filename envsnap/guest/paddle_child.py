"""PaddlePaddle, asked from inside."""

from __future__ import annotations

import functools
import re
from typing import Any, Callable, Sequence

from .text import answer, flag_value

LIBRARIES: re.Pattern[str] = re.compile(r"lib(?:paddle|phi)")

FLAGS = (
    "FLAGS_conv_workspace_size_limit",
    "FLAGS_cudnn_deterministic",
    "FLAGS_cudnn_exhaustive_search",
    "FLAGS_embedding_deterministic",
    "FLAGS_enable_cublas_tensor_op_math",
    "FLAGS_gemm_use_half_precision_compute_type",
    "FLAGS_use_autotune",
    "FLAGS_use_mkldnn",
)
# The two switches say whether TF32 may be used.
ASKED = ("base.core.get_cublas_switch", "base.core.get_cudnn_switch", "get_default_dtype")


def facts(paddle: Any) -> dict[str, Any]:
    def flag(name: str) -> Any:
        return paddle.get_flags(name)[name]

    flags = {name: answer(functools.partial(flag, name)) for name in FLAGS}
    for name in ASKED:
        flags[name] = answer(functools.partial(flag_value, paddle, name))
    return {
        "version": str(paddle.__version__),
        "git": str(answer(lambda: paddle.version.commit) or ""),
        "cuda": built_with(answer(paddle.version.cuda)),
        "cudnn": built_with(answer(paddle.version.cudnn)),
        "nccl": None,  # it gives a number that its build does not always set
        "cuda_available": bool(paddle.is_compiled_with_cuda() and answer(paddle.device.cuda.device_count)),
        "arch_list": [],
        "flags": {name: str(value) for name, value in flags.items() if value is not None},
    }


def built_with(answered: Any) -> str | None:
    """A version, where the build has one: the others say "False"."""
    text = str(answered or "")
    return text if re.match(r"\d", text) else None


def exercise_one_device(paddle: Any) -> None:
    """A convolution, forward and backward, and a matrix product, on a GPU where there is one: libraries are loaded at first use."""
    cuda = paddle.get_device().startswith("gpu")
    for dtype in ("float32", "float16") if cuda else ("float32",):
        image, weight = paddle.ones([2, 8, 16, 16], dtype), paddle.ones([8, 8, 3, 3], dtype)
        image.stop_gradient = weight.stop_gradient = False
        paddle.nn.functional.conv2d(image, weight, padding=1).mean().backward()
        square = paddle.ones([64, 64], dtype)
        (square @ square).mean().numpy()


STEPS: Sequence[Callable[[Any], None]] = (exercise_one_device,)
