"""Tiny shared objects under the names of CUDA's, which answer the questions that tell their versions; and a torch that loads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

TORCH = """
import ctypes, os
__version__ = "2.7.1+cu128"
for name in os.environ["LOADED"].split(os.pathsep):
    ctypes.CDLL(name, mode=os.RTLD_GLOBAL if "cudart" not in name else os.RTLD_LOCAL)
class version:
    git_version, cuda = "abc", "12.8"
class cuda:
    @staticmethod
    def is_available(): return False
    class nccl:
        @staticmethod
        def version(): return None
class backends:
    class cudnn:
        enabled = True
        @staticmethod
        def version(): return None
def ones(*_, **__): raise RuntimeError("computes nothing")
float32 = float16 = None
"""


def runtime(place: Path, number: int) -> Path:
    """A libcudart that says it is `number` (12080: 12.8)."""
    return build(place, f"int cudaRuntimeGetVersion(int *version) {{ *version = {number}; return 0; }}")


def cudnn(place: Path, number: int) -> Path:
    return build(place, f"unsigned long cudnnGetVersion(void) {{ return {number}; }}")


def build(place: Path, source: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{place.name}", "-x", "c", "-o", str(place), "-"]
    subprocess.run(command, input=source.encode(), check=True)
    return place
