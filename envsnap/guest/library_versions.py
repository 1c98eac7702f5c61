"""What a mapped library says of its version when it is asked."""

from __future__ import annotations

import os
import re
from typing import Any, Callable


def cudnn_text(number: int | None) -> str | None:
    """92000 -> "9.20.0", 8907 -> "8.9.7" (CUDNN_VERSION in cudnn_version.h)."""
    if not number:
        return None
    base = 10000 if number >= 90000 else 1000
    return f"{number // base}.{number % base // 100}.{number % 100}"


def nccl_text(number: int | None) -> str | None:
    """22907 -> "2.29.7", 2708 -> "2.7.8" (NCCL_VERSION in nccl.h)."""
    if not number:
        return None
    base = 10000 if number >= 10000 else 1000
    return f"{number // base}.{number % base // 100}.{number % 100}"


def cuda_text(number: int) -> str | None:
    """13000 -> "13.0" (CUDART_VERSION)."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


def version_from_library(path: str) -> str | None:
    """What a mapped library says of itself when asked; None when it cannot be asked."""
    name = os.path.basename(path)
    for pattern, ask in QUESTIONS:
        if re.match(pattern, name):
            import ctypes

            try:
                return ask(ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW))
            except (OSError, AttributeError):
                return None
    return None


def by_number(function: str, text: Callable[[int], str | None]) -> Callable[[Any], str | None]:
    """For functions that write one integer and return 0."""

    def ask(library: Any) -> str | None:
        import ctypes

        value = ctypes.c_int()
        return text(value.value) if getattr(library, function)(ctypes.byref(value)) == 0 else None

    return ask


def by_two_numbers(function: str) -> Callable[[Any], str | None]:
    def ask(library: Any) -> str | None:
        import ctypes

        major, minor = ctypes.c_int(), ctypes.c_int()
        return f"{major.value}.{minor.value}" if getattr(library, function)(ctypes.byref(major), ctypes.byref(minor)) == 0 else None

    return ask


def by_property(function: str) -> Callable[[Any], str | None]:
    """For `xGetProperty(libraryPropertyType, int *)`: MAJOR_VERSION, MINOR_VERSION and PATCH_LEVEL are 0, 1 and 2."""

    def ask(library: Any) -> str | None:
        import ctypes

        values = [ctypes.c_int() for _ in range(3)]
        codes = [getattr(library, function)(number, ctypes.byref(value)) for number, value in enumerate(values)]
        return None if any(codes) else ".".join(str(value.value) for value in values)

    return ask


def ask_cudnn(library: Any) -> str | None:
    import ctypes

    library.cudnnGetVersion.restype = ctypes.c_size_t
    return cudnn_text(library.cudnnGetVersion())


def ask_openblas(library: Any) -> str | None:
    import ctypes

    for name in ("openblas_get_config", "openblas_get_config64_", "scipy_openblas_get_config", "scipy_openblas_get_config64_"):
        function = getattr(library, name, None)
        if function is not None:
            function.restype = ctypes.c_char_p
            match = re.match(r"OpenBLAS (\S+)", (function() or b"").decode("ascii", "replace"))
            return match.group(1) if match else None
    return None


QUESTIONS: tuple[tuple[str, Callable[[Any], str | None]], ...] = (
    (r"libcuda\.so", by_number("cuDriverGetVersion", cuda_text)),
    (r"libcudart[-.]", by_number("cudaRuntimeGetVersion", cuda_text)),
    (r"libcudnn[-.]", ask_cudnn),
    (r"libnccl[-.]", by_number("ncclGetVersion", nccl_text)),
    (r"libcublasLt[-.]", by_property("cublasLtGetProperty")),
    (r"libcublas[-.]", by_property("cublasGetProperty")),
    (r"libcufft[-.]", by_property("cufftGetProperty")),
    (r"libcurand[-.]", by_property("curandGetProperty")),
    (r"libcusolver[-.]", by_property("cusolverGetProperty")),
    (r"libcusparse[-.]", by_property("cusparseGetProperty")),
    (r"libcusparseLt[-.]", by_property("cusparseLtGetProperty")),
    (r"libnvrtc[-.]", by_two_numbers("nvrtcVersion")),
    (r"libnvJitLink[-.]", by_two_numbers("nvJitLinkVersion")),
    (r"lib(?:scipy_)?openblas", ask_openblas),
)
