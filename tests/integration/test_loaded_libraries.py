"""What was really loaded: real shared objects, mapped by a real interpreter, with their owners; and what a person is told of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from envsnap import lockfile
from envsnap.model.lock import EnvLock
from tests.fakes import cuda_libraries, nvml, wheels

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")


@dataclass(frozen=True)
class Ground:
    """An environment with a fake torch, and the libraries of pip and of the system that it may load."""

    root: Path

    @property
    def site(self) -> Path:
        return wheels.site_of(self.root / "env")

    def installed(self, name: str, version: str, *files: Path) -> None:
        """Make what lies in the site directory a distribution with its RECORD."""
        info = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: py3-none-manylinux2014_x86_64\n")
        lines = []
        for file in (*files, info / "METADATA", info / "WHEEL"):
            digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
            lines.append(f"{file.relative_to(self.site)},sha256={digest},{file.stat().st_size}")
        (info / "RECORD").write_text("\n".join([*lines, f"{info.name}/RECORD,,", ""]))

    def capture(self, *loaded: Path, env: Mapping[str, str] = {}) -> tuple[EnvLock, list[str]]:
        """The lock, and the warnings that a person sees."""
        (self.root / "project").mkdir(exist_ok=True)
        variables = {**os.environ, "LOADED": os.pathsep.join(map(str, loaded)), "ENVSNAP_CACHE": str(self.root / "cache"), **env}
        command = [sys.executable, "-m", "envsnap.cli.main", "capture", "--python", str(self.root / "env"), "--offline", "--json"]
        done = subprocess.run(command, cwd=self.root / "project", env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        warnings = [warning for warning in document["warnings"] if "unproven" not in warning and "computes nothing" not in warning]
        return lockfile.loads((self.root / "project" / document["lock"]).read_bytes()), warnings


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    made = Ground(tmp_path)
    wheels.make_environment(tmp_path / "env")
    (made.site / "torch").mkdir()
    (made.site / "torch/__init__.py").write_text(cuda_libraries.TORCH)
    made.installed("torch", "2.7.1+cu128", made.site / "torch/__init__.py")
    return made


def test_two_runtimes_at_once_are_both_listed_with_their_owners(ground: Ground) -> None:
    twelve = cuda_libraries.runtime(ground.site / "nvidia/cuda_runtime/lib/libcudart.so.12", 12080)
    ground.installed("nvidia-cuda-runtime-cu12", "12.8.90", twelve)
    thirteen = cuda_libraries.runtime(ground.root / "system/libcudart.so.13", 13000)
    lock, warnings = ground.capture(twelve, thirteen)
    found = {(library.soname, library.version, library.owner) for library in lock.observed.cuda.loaded}
    assert found == {("libcudart.so.12", "12.8", "nvidia-cuda-runtime-cu12"), ("libcudart.so.13", "13.0", None)}
    (warning,) = warnings
    assert warning.startswith(
        "2 CUDA runtimes are loaded at once: libcudart.so.12 12.8 of nvidia-cuda-runtime-cu12, libcudart.so.13 13.0 of "
    )
    # With one, nobody is told anything.
    assert ground.capture(twelve)[1] == []


def test_the_cudnn_that_counts_is_the_one_that_is_mapped(ground: Ground) -> None:
    of_pip = cuda_libraries.cudnn(ground.site / "nvidia/cudnn/lib/libcudnn.so.9", 92000)
    ground.installed("nvidia-cudnn-cu12", "9.20.0.48", of_pip)
    of_system = cuda_libraries.cudnn(ground.root / "system/libcudnn.so.9", 91900)
    lock, warnings = ground.capture(of_pip)
    assert lock.observed.cuda.cudnn == "9.20.0" and warnings == []
    lock, warnings = ground.capture(of_system)
    assert lock.observed.cuda.cudnn == "9.19.0"
    (library,) = lock.observed.cuda.loaded
    assert (library.owner, library.sha256) == (None, hashlib.sha256(of_system.read_bytes()).hexdigest())
    (warning,) = warnings
    assert warning.startswith(f"libcudnn.so.9 9.19.0 of {of_system} is loaded, and nvidia-cudnn-cu12 9.20.0.48 is installed")
    assert "unset LD_LIBRARY_PATH" in warning


def test_a_driver_that_is_too_old_for_what_is_loaded_is_said(ground: Ground) -> None:
    thirteen = cuda_libraries.runtime(ground.site / "nvidia/cu13/lib/libcudart.so.13", 13000)
    ground.installed("nvidia-cuda-runtime", "13.0.96", thirteen)
    nvml.build_library(ground.root)

    def with_driver(driver: str, cuda: int) -> tuple[EnvLock, list[str]]:
        host = nvml.host(*(nvml.h100(index) for index in range(8)), pairs=nvml.NVSWITCH, driver=driver, cuda=cuda)
        scenario = nvml.write(host, ground.root / "scenario")
        return ground.capture(thirteen, env={"LD_LIBRARY_PATH": str(ground.root), "FAKE_NVML": str(scenario)})

    lock, warnings = with_driver("550.54.15", 12040)
    assert len(lock.observed.gpu.devices) == 8 and len(lock.observed.gpu.topology) == 28
    assert {link.split(" ", 1)[1] for link in lock.observed.gpu.topology} == {"18x NVLink"}
    (warning,) = warnings
    assert warning.startswith("driver 550.54.15 supports CUDA up to 12.4, and the runtime that is loaded is 13.0")
    assert "update the driver" in warning
    assert with_driver("580.65.06", 13000)[1] == []


@pytest.mark.parametrize(
    ("before_the_variable", "variable", "version", "warned"),
    [
        (True, True, "9.20.0", False),  # as PyTorch's wheels are linked
        (False, True, "9.19.0", True),
        (False, False, "9.20.0", False),
    ],
)
def test_the_linker_decides_which_cudnn_torch_gets(
    ground: Ground, before_the_variable: bool, variable: bool, version: str, warned: bool
) -> None:
    of_pip = cuda_libraries.cudnn(ground.site / "nvidia/cudnn/lib/libcudnn.so.9", 92000)
    ground.installed("nvidia-cudnn-cu12", "9.20.0.48", of_pip)
    of_system = cuda_libraries.cudnn(ground.root / "système, old/libcudnn.so.9", 91900)
    torch = cuda_libraries.torch_library(
        ground.site / "kernels/lib/libtorch_cuda.so", of_pip, "$ORIGIN/../../nvidia/cudnn/lib", before_the_variable=before_the_variable
    )
    ground.installed("kernels", "1.0", torch)
    lock, warnings = ground.capture(torch, env={"LD_LIBRARY_PATH": str(of_system.parent)} if variable else {})
    assert lock.observed.cuda.cudnn == version
    (cudnn,) = (library for library in lock.observed.cuda.loaded if library.soname == "libcudnn.so.9")
    assert (cudnn.owner, cudnn.path) == (
        (None, str(of_system)) if warned else ("nvidia-cudnn-cu12", f"<prefix>/{of_pip.relative_to(ground.root / 'env')}")
    )
    assert [warning.startswith(f"libcudnn.so.9 {version} of {of_system} is loaded") for warning in warnings] == [True] * warned


def test_the_drivers_own_library_is_listed_and_never_compared(ground: Ground) -> None:
    of_driver = cuda_libraries.driver(ground.root / "driver/libcuda.so.1", 12040)
    lock, warnings = ground.capture(of_driver)
    (library,) = lock.observed.cuda.loaded
    assert (library.soname, library.version, library.owner, library.injected) == ("libcuda.so.1", "12.4", None, True)
    assert lock.observed.cuda.runtime is None and warnings == []


def test_of_two_runtimes_the_one_that_the_driver_cannot_serve_is_said(ground: Ground) -> None:
    twelve = cuda_libraries.runtime(ground.root / "system/libcudart.so.12", 12080)
    thirteen = cuda_libraries.runtime(ground.root / "system/libcudart.so.13", 13000)
    nvml.build_library(ground.root)
    scenario = nvml.write(nvml.host(nvml.h100(0), driver="550.54.15", cuda=12040), ground.root / "scenario")
    _, warnings = ground.capture(twelve, thirteen, env={"LD_LIBRARY_PATH": str(ground.root), "FAKE_NVML": str(scenario)})
    assert [warning for warning in warnings if "supports CUDA up to 12.4, and the runtime that is loaded is 13.0" in warning]


def test_of_two_cudnn_the_one_that_torch_uses_is_named(ground: Ground) -> None:
    of_pip = cuda_libraries.cudnn(ground.site / "nvidia/cudnn/lib/libcudnn.so.9", 92000)
    ground.installed("nvidia-cudnn-cu12", "9.20.0.48", of_pip)
    of_system = cuda_libraries.cudnn(ground.root / "system/libcudnn.so.9", 91900)
    lock, warnings = ground.capture(of_pip, of_system, env={"TORCH_CUDNN": "92000"})
    assert [library.version for library in lock.observed.cuda.loaded] == ["9.19.0", "9.20.0"]
    assert len(warnings) == 1
    assert lock.observed.cuda.cudnn == "9.20.0"


def test_the_screen_names_the_cards_and_their_links(ground: Ground) -> None:
    nvml.build_library(ground.root)
    scenario = nvml.write(nvml.host(*(nvml.h100(index) for index in range(8)), pairs=nvml.NVSWITCH), ground.root / "scenario")
    (ground.root / "project").mkdir()
    variables = {**os.environ, "LOADED": "", "LD_LIBRARY_PATH": str(ground.root), "FAKE_NVML": str(scenario)}
    command = [sys.executable, "-m", "envsnap.cli.main", "capture", "--python", str(ground.root / "env"), "--offline"]
    done = subprocess.run(command, cwd=ground.root / "project", env=variables, capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stdout.splitlines() if line.strip().startswith("GPU "))
    assert "8 × NVIDIA H100 80GB HBM3" in line and "driver 580.159.04" in line and line.endswith("NVLink all-to-all")
