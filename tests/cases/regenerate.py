"""The exact text of build contexts, one folder a case. Run as a script this writes them anew; read the diff before committing it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from envsnap import catalog, plan, render  # noqa: E402
from envsnap.lockfile import dumps, seal  # noqa: E402
from envsnap.model.base import Base, ImageConfig  # noqa: E402
from envsnap.model.facts import DeviceCode  # noqa: E402
from envsnap.model.lock import EnvLock  # noqa: E402
from tests import samples  # noqa: E402

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NGC_ENV = {
    "PATH": f"/usr/local/nvidia/bin:/usr/local/cuda/bin:{PATH}",
    "CUDA_VERSION": "13.3.1.008",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "PIP_CONSTRAINT": "/etc/pip/constraint.txt",
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_DEFAULT_TIMEOUT": "100",
    "PYTHONIOENCODING": "utf-8",
    "LC_ALL": "C.UTF-8",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
    "LD_LIBRARY_PATH": "/usr/local/lib/python3.12/dist-packages/torch/lib:"
    "/usr/local/cuda/compat/lib:/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
    "LIBRARY_PATH": "/usr/local/cuda/lib64/stubs:",
    "CUDA_MODULE_LOADING": "LAZY",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "TORCH_NCCL_USE_COMM_NONBLOCKING": "0",
    "TRITON_PTXAS_PATH": "/usr/local/cuda/bin/ptxas",
}
"""From the layer history of NGC PyTorch 26.07 (source: the catalogue's row)."""
MANIFEST = [("run.sh", "100755", samples.hex64("run.sh")), ("src/yolotools/__init__.py", "100644", samples.hex64("init"))]


def without_editable(lock: EnvLock) -> EnvLock:
    kept = tuple(package for package in lock.packages if package.name != "yolotools")
    imports = tuple(module for module in lock.observed.imports if module != "yolotools")
    return seal(replace(lock, packages=kept, observed=replace(lock.observed, imports=imports)))


def with_python(lock: EnvLock, version: str) -> EnvLock:
    return seal(replace(lock, python=replace(lock.python, version=version)))


def debian(**changes: object) -> Base:
    config = ImageConfig(architecture="amd64", env={"PATH": PATH, "PYTHON_VERSION": "3.11.2"})
    base = Base(reference="registry.example.com/debian:bookworm-py311", family="other", digest=samples.digest("debian"), config=config)
    return replace(base, **changes)


def ngc() -> Context:
    """NGC's variables, labels and user, on a host with GPUs."""
    known, lock = catalog.load(), with_python(without_editable(samples.lock(device="cuda", smoke=False)), "3.12.3")
    (wanted,) = plan.candidate_references(lock, known, "nvcr.io/nvidia/pytorch:26.07-py3")
    base = replace(wanted, digest=samples.digest("ngc"), config=ImageConfig(architecture="amd64", env=NGC_ENV))
    return context(lock, base)


def plain() -> Context:
    """No source, nothing packed, no system package: the shortest Dockerfile there is."""
    lock = without_editable(samples.lock(smoke=False, source=None, system_packages=(), env={}))
    index_only = tuple(package for package in lock.packages if package.blob is None)
    return context(seal(replace(lock, packages=index_only)), debian())


def editable() -> Context:
    """The whole sample: source, an editable, a package from git, system libraries by soname."""
    (slim,) = plan.candidate_references(samples.lock(), catalog.load(), "slim")
    config = ImageConfig(architecture="amd64", env={"PATH": PATH, "PYTHON_VERSION": "3.11.9"})
    return context(samples.lock(smoke=False), replace(slim, digest=samples.digest("slim"), config=config), source=True)


def no_source() -> Context:
    """The project's files stay out; byte code is not compiled; packages with GPU code."""
    code = DeviceCode(cubins=("sm_80", "sm_90", "sm_90a"), ptx=("compute_120",), partial=("sm_90a",))
    packages = tuple(replace(package, device_code=code) if package.name == "torch" else package for package in samples.packages())
    lock = without_editable(samples.lock(smoke=False, system_packages=(), packages=packages))
    return context(lock, debian(), no_source=True, pyc=False, env={"GREETING": 'a "quoted" $HOME \\ and a trailing \\'})


def steering() -> Context:
    """Variables of every treatment, captured ones among them, a base with a user, and an old protobuf."""
    env = {
        **NGC_ENV,
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "CUDA_VISIBLE_DEVICES": "0",
        "NCCL_DEBUG": "INFO",
        "OMP_NUM_THREADS": "1",
        "PYTHON_VERSION": "3.11.2",
        "UV_SYSTEM_PYTHON": "1",
    }
    captured = {
        **samples.ENV,
        "CUDA_VISIBLE_DEVICES": "1",
        "LD_LIBRARY_PATH": "/opt/mine/lib:/usr/local/cuda/compat/lib",
        "PYTHONHASHSEED": "0",
    }
    lock = without_editable(samples.lock(smoke=False, source=None, system_packages=(), env=captured))
    old = seal(replace(lock, packages=(*lock.packages, samples.index_package("protobuf", "3.20.3"))))
    return context(old, debian(config=ImageConfig(architecture="amd64", env=env, user="trainer")))


Context = Mapping[str, bytes]


def context(lock: EnvLock, base: Base, *, source: bool = False, **options: Any) -> Context:
    made = plan.make_plan(lock, catalog.load(), [base], **options)
    files = render.render(made, lock, dumps(lock), {"__main__.py": b""}, MANIFEST if source else None)
    return {path: data for path, data in files.items() if path != "lock.yaml" and not path.startswith("guest/")}


CASES: Mapping[str, Callable[[], Context]] = {case.__name__: case for case in (ngc, plain, editable, no_source, steering)}


def main() -> None:
    for name, case in CASES.items():
        shutil.rmtree(HERE / name, ignore_errors=True)
        for path, data in case().items():
            file = HERE / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


if __name__ == "__main__":
    main()
