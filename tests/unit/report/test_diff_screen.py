"""The screen of `diff`, to the letter: both sides, what changed by weight, why that matters; at the width of the terminal."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from envsnap import lockfile, parity
from envsnap.model.lock import EnvLock, LockedFramework
from envsnap.report import diff
from tests import samples

LEFT = samples.lock()


def right() -> EnvLock:
    """LEFT with a change of each kind."""
    changed: dict[str, dict[str, Any]] = {
        "nvidia-cudnn-cu13": {"version": "9.21.0.1"},
        "opencv-python": {"modified": ("cv2/config.py",), "files": samples.digest("edited")},
        "typing-extensions": {"version": "4.17.0"},
        "wandb": {"provenance": "rebuilt", "sha256": None},
    }
    packages = tuple(replace(package, **changed.get(package.name, {})) for package in LEFT.packages if package.name != "ultralytics-thop")
    cuda = LEFT.observed.cuda
    assert isinstance(cuda.torch, LockedFramework) and LEFT.source is not None
    loaded = tuple(replace(one, version="9.21.0", sha256=samples.hex64("new")) if "cudnn" in one.soname else one for one in cuda.loaded)
    flags = {**cuda.torch.flags, "backends.cuda.matmul.allow_tf32": "True"}
    platform = replace(LEFT.observed.platform, kernel="6.11.0", instruction_sets=("avx2", "fma"))
    observed = replace(
        LEFT.observed,
        platform=platform,
        gpu=replace(LEFT.observed.gpu, driver="590.48.01"),
        cuda=replace(cuda, cudnn="9.21.0", loaded=loaded, torch=replace(cuda.torch, flags=flags)),
    )
    source = replace(LEFT.source, files=samples.digest("other"), commit="8" * 40, untracked=())
    return lockfile.seal(replace(LEFT, packages=packages, observed=observed, source=source, env={**LEFT.env, "OMP_NUM_THREADS": "8"}))


def screen(**options: Any) -> str:
    other = right()
    return diff.screen(parity.diff(LEFT, other), "a.yaml", "b.yaml", locks=(LEFT, other), **options)


WIDE = """\
  A  a.yaml  sha256:81b3…6530  2026-11-20 23:01:02Z  python /home/user/yolo/.venv/bin/python on node17
  B  b.yaml  sha256:f638…490c  2026-11-20 23:01:02Z  python /home/user/yolo/.venv/bin/python on node17

breaking: may not run, or is not the same code
  opencv-python      edited: cv2/config.py
      why  the same version, but other code
  typing-extensions  4.16.0 → 4.17.0
      why  other code runs
  ultralytics-thop   2.2.3  → -       removed
      why  only one side has it
  project files      not in git: scripts/run.sh
      why  the project's files differ

numeric: may change numbers
  OMP_NUM_THREADS                        2         → 8
      why  sums are split over other threads and added in another order: the last digits change, and training makes them
           grow
  cuDNN loaded                           9.20.0    → 9.21.0
  libcudnn.so.9                          9.20.0    → 9.21.0
  libcudnn_ops.so.9                      9.20.0    → 9.21.0
  nvidia-cudnn-cu13                      9.20.0.48 → 9.21.0.1
      why  cuDNN picks kernels for convolutions by heuristics of its version: another one adds in another order, maybe
           in another precision
  torch.backends.cuda.matmul.allow_tf32  False     → True
      why  TF32 keeps 10 bits of a factor's fraction where fp32 has 23: products are off by about 1e-3 instead of 1e-7
  GPU driver                             -         → 590.48.01
      why  the driver compiles PTX, and libraries ask for its version before they choose kernels
  host instruction sets                  without amx_tile, avx512f
      why  math libraries choose kernels by instruction set: wider vectors and fused multiply-adds add and round in
           another order

cosmetic: should change nothing
  host kernel       6.8.0-87-generic → 6.11.0
  wandb sha256      8c64…07e8        → -
  wandb provenance  index            → rebuilt
      why  says how well it is proven, not what it is
  project commit    3f2c1d9          → 8888888
      why  history; whether the files differ is said by source.files

differ: a.yaml → b.yaml: 4 breaking, 8 numeric, 4 cosmetic
"""
NARROW = """\
  A  a.yaml  sha256:81b3…6530
     2026-11-20 23:01:02Z  python /home/user/yolo/.venv/bin/python on node17
  B  b.yaml  sha256:f638…490c
     2026-11-20 23:01:02Z  python /home/user/yolo/.venv/bin/python on node17

breaking: may not run, or is not the same code
  opencv-python      edited: cv2/config.py
      why  the same version, but other code
  typing-extensions  4.16.0 → 4.17.0
      why  other code runs
  ultralytics-thop   2.2.3  → -       removed
      why  only one side has it
  project files      not in git: scripts/run.sh
      why  the project's files differ

numeric: may change numbers
  OMP_NUM_THREADS                        2         → 8
      why  sums are split over other threads and added in another order: the
           last digits change, and training makes them grow
  cuDNN loaded                           9.20.0    → 9.21.0
  libcudnn.so.9                          9.20.0    → 9.21.0
  libcudnn_ops.so.9                      9.20.0    → 9.21.0
  nvidia-cudnn-cu13                      9.20.0.48 → 9.21.0.1
      why  cuDNN picks kernels for convolutions by heuristics of its version:
           another one adds in another order, maybe in another precision
  torch.backends.cuda.matmul.allow_tf32  False     → True
      why  TF32 keeps 10 bits of a factor's fraction where fp32 has 23: products
           are off by about 1e-3 instead of 1e-7
  GPU driver                             -         → 590.48.01
      why  the driver compiles PTX, and libraries ask for its version before
           they choose kernels
  host instruction sets                  without amx_tile, avx512f
      why  math libraries choose kernels by instruction set: wider vectors and
           fused multiply-adds add and round in another order

cosmetic: should change nothing
  host kernel       6.8.0-87-generic → 6.11.0
  wandb sha256      8c64…07e8        → -
  wandb provenance  index            → rebuilt
      why  says how well it is proven, not what it is
  project commit    3f2c1d9          → 8888888
      why  history; whether the files differ is said by source.files

differ: a.yaml → b.yaml: 4 breaking, 8 numeric, 4 cosmetic
"""


@pytest.mark.parametrize(("width", "expected"), [(120, WIDE), (80, NARROW)])
def test_the_whole_screen(width: int, expected: str) -> None:
    found = screen(width=width)
    assert found + "\n" == expected
    assert max(map(len, found.splitlines())) <= width


def test_many_packages_are_folded_and_listed_when_asked() -> None:
    packages = tuple(samples.index_package(f"package-{number:02}", "1.0") for number in range(40))
    left, other = replace(LEFT, packages=packages), replace(LEFT, packages=tuple(replace(one, version="2.0") for one in packages))
    differences = parity.diff(left, other)
    folded = diff.screen(differences, "a", "b", width=80).splitlines()
    assert folded[1].startswith("  40 things: package-00 1.0 → 2.0, package-01 1.0 → 2.0,")
    assert folded[-4].endswith("package-11 1.0 → 2.0 and 28 more; -v lists them")
    assert max(map(len, folded)) <= 80
    full = diff.screen(differences, "a", "b", width=80, full=True)
    assert all(f"  {package.name}  1.0 → 2.0" in full.splitlines() for package in packages)


def test_a_side_says_what_it_is() -> None:
    first, second = screen().splitlines()[:2]
    assert first.split()[:2] == ["A", "a.yaml"] and second.split()[:2] == ["B", "b.yaml"]
    for told in ("2026-11-20", LEFT.capture.target, LEFT.capture.host):
        assert told in first


def test_what_was_not_compared_is_said_before_the_answer() -> None:
    lines = diff.screen([], "a", "b", not_compared=["the smoke-train"]).splitlines()
    assert lines == ["not compared: the smoke-train", "equal: a and b describe the same environment"]
