"""TensorFlow, asked from inside."""

from __future__ import annotations

import functools
import re
from typing import Any, Callable, Sequence

from .text import answer, flag_value

LIBRARIES: re.Pattern[str] = re.compile(r"libtensorflow|_pywrap_tensorflow")

FLAGS = (
    "config.experimental.tensor_float_32_execution_enabled",
    "config.get_soft_device_placement",
    "config.optimizer.get_jit",
    "executing_eagerly",
    "keras.backend.floatx",
    "keras.backend.image_data_format",
)


def facts(tensorflow: Any) -> dict[str, Any]:
    build = answer(tensorflow.sysconfig.get_build_info) or {}
    flags = {name: answer(functools.partial(flag_value, tensorflow, name)) for name in FLAGS}
    flags["onednn"] = answer(uses_onednn)
    flags["keras.version"] = answer(lambda: tensorflow.keras.__version__)
    architectures = build.get("cuda_compute_capabilities", ())
    return {
        "version": str(tensorflow.__version__),
        "git": str(answer(lambda: tensorflow.version.GIT_VERSION) or ""),
        "cuda": build.get("cuda_version") or None,
        "cudnn": build.get("cudnn_version") or None,
        "nccl": None,  # it does not say
        "cuda_available": bool(answer(lambda: tensorflow.config.list_physical_devices("GPU"))),
        "arch_list": [str(name) for name in architectures],
        "flags": {name: str(value) for name, value in flags.items() if value is not None},
    }


def uses_onednn() -> bool:
    """Whether its kernels on a CPU are oneDNN's: nothing public says so."""
    from tensorflow.python.util import _pywrap_util_port as port

    return bool(port.IsMklEnabled())


def exercise_one_device(tensorflow: Any) -> None:
    """A convolution, forward and backward, and a matrix product, on a GPU where there is one: libraries are loaded at first use."""
    cuda = bool(tensorflow.config.list_physical_devices("GPU"))
    for dtype in (tensorflow.float32, tensorflow.float16) if cuda else (tensorflow.float32,):
        image, weight = tensorflow.ones((2, 16, 16, 8), dtype), tensorflow.ones((3, 3, 8, 8), dtype)
        with tensorflow.GradientTape() as tape:
            tape.watch([image, weight])
            total = tensorflow.reduce_mean(tensorflow.nn.conv2d(image, weight, strides=1, padding="SAME"))
        for gradient in tape.gradient(total, [image, weight]):
            gradient.numpy()
        square = tensorflow.ones((64, 64), dtype)
        tensorflow.reduce_mean(square @ square).numpy()


STEPS: Sequence[Callable[[Any], None]] = (exercise_one_device,)
