"""What the machine and the loaded libraries say of themselves, for the key that bit-exactness depends on."""

from __future__ import annotations

import platform
import re
import resource
import sys
from typing import Dict, Tuple

DISPATCHED_SETS = re.compile(r"sse4_[12]|fma|avx\w*|amx\w*|asimd\w*|sve\w*|bf16|i8mm")


def cpu() -> Dict[str, str]:
    """The part of the key that is the same for every framework on a CPU."""
    model, sets = processor(read_text("/proc/cpuinfo"))
    return {"cpu": model or platform.machine(), "instruction_sets": sets}


def processor(cpuinfo: str) -> Tuple[str, str]:
    """Model and the instruction sets that math libraries dispatch on, from /proc/cpuinfo."""
    names = first_match(r"(?m)^(?:flags|Features)\s*:\s*(.*)$", cpuinfo).split()
    sets = sorted({name for name in names if DISPATCHED_SETS.fullmatch(name)})
    return first_match(r"(?m)^model name\s*:\s*(.*)$", cpuinfo), " ".join(sets)


def cublas_version(maps: str) -> str:
    """Of the library that is loaded, whoever advertises another; "" when none is."""
    path = first_match(r"(?m)\s(/\S*/libcublas\.so\S*)$", maps)
    if not path:
        return ""
    import ctypes

    library = ctypes.CDLL(path)
    numbers = []
    for which in range(3):  # libraryPropertyType: major, minor, patch
        number = ctypes.c_int()
        if library.cublasGetProperty(which, ctypes.byref(number)) != 0:
            return ""
        numbers.append(str(number.value))
    return ".".join(numbers)


def first_match(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1).strip() if match else ""


def read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def process_memory_mib() -> float:
    """The most that this process had at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def report_progress(step: int, total: int) -> None:
    print(f"progress {step} {total}", file=sys.stderr, flush=True)
