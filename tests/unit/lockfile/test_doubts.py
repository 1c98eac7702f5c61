"""What is said of the CUDA side: when it should be, and not otherwise."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from envsnap.lockfile.doubts import doubts
from envsnap.model.facts import GpuFacts, LoadedLibrary
from envsnap.model.lock import LockedCuda, Observed
from tests import samples

LOCK = samples.lock(device="cuda")


def observed(*, driver: str | None = "12.8", runtime: str | None = "12.4", loaded: tuple[LoadedLibrary, ...] = ()) -> Observed:
    gpu = GpuFacts(driver="570.10", cuda_driver=driver)
    return replace(LOCK.observed, gpu=gpu, cuda=LockedCuda(runtime=runtime, loaded=loaded))


def library(soname: str, owner: str | None, version: str = "9.1.0") -> LoadedLibrary:
    return LoadedLibrary(soname=soname, version=version, path=f"/usr/lib/{soname}", sha256=None, owner=owner)


@pytest.mark.parametrize(
    ("driver", "runtime", "said"),
    [
        ("12.8", "13.0.96", True),
        ("12.0", "12.8", False),  # minor version compatibility
        ("13.0", "12.4", False),
        ("9.2", "10.1", True),
        (None, "13.0", False),  # without a driver that is what is said already
        ("12.8", None, False),
        ("12.8", "²", False),
    ],
)
def test_a_driver_below_the_runtimes_major_version(driver: str | None, runtime: str | None, said: bool) -> None:
    assert any("supports CUDA up to" in problem.what for problem in doubts(observed(driver=driver, runtime=runtime), ())) is said


def test_two_runtimes_are_both_named_with_their_owners() -> None:
    loaded = (library("libcudart.so.12", "nvidia-cuda-runtime-cu12", "12.4"), library("libcudart.so.13", None, "13.0"))
    (problem,) = doubts(observed(driver="13.0", loaded=loaded), ())
    assert "libcudart.so.12 12.4 of nvidia-cuda-runtime-cu12, libcudart.so.13 13.0 of /usr/lib/libcudart.so.13" in problem.what
    assert doubts(observed(loaded=loaded[:1]), ()) == ()


def test_the_systems_cudnn_before_the_environments_own() -> None:
    package = replace(LOCK.packages[0], name="nvidia-cudnn-cu12", version="9.20.0.48")
    (problem,) = doubts(observed(loaded=(library("libcudnn.so.9", "dpkg:libcudnn9"),)), (package,))
    assert "libcudnn.so.9 9.1.0 of dpkg:libcudnn9 is loaded, and nvidia-cudnn-cu12 9.20.0.48 is installed" in problem.what
    assert doubts(observed(loaded=(library("libcudnn.so.9", "nvidia-cudnn-cu12"),)), (package,)) == ()
    assert doubts(observed(loaded=(library("libcudnn.so.9", "dpkg:libcudnn9"),)), ()) == ()
