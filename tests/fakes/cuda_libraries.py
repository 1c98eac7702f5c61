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
        def version(): return int(os.environ["TORCH_CUDNN"]) if "TORCH_CUDNN" in os.environ else None
def ones(*_, **__): raise RuntimeError("computes nothing")
float32 = float16 = None
"""


def runtime(place: Path, number: int) -> Path:
    """A libcudart that says it is `number` (12080: 12.8)."""
    return build(place, f"int cudaRuntimeGetVersion(int *version) {{ *version = {number}; return 0; }}")


def cudnn(place: Path, number: int) -> Path:
    return build(place, f"unsigned long cudnnGetVersion(void) {{ return {number}; }}")


def driver(place: Path, number: int) -> Path:
    return build(place, f"int cuDriverGetVersion(int *version) {{ *version = {number}; return 0; }}")


def torch_library(place: Path, needed: Path, search: str, *, before_the_variable: bool) -> Path:
    """Torch's own library, which needs another and names a directory to look for it.

    Args:
        search: "$ORIGIN/../../nvidia/cudnn/lib".
        before_the_variable: the directory comes before LD_LIBRARY_PATH (RPATH), as in the wheels of PyTorch; else after it (RUNPATH).
    """
    tags = "--disable-new-dtags" if before_the_variable else "--enable-new-dtags"
    linked = ("-Wl,--no-as-needed", str(needed), f"-Wl,{tags},-rpath,{search}")
    return build(place, "void torch_cuda(void) {}", *linked)


def build(place: Path, source: str, *options: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{place.name}", "-o", str(place), "-x", "c", "-", "-x", "none", *options]
    subprocess.run(command, input=source.encode(), check=True)
    return place
