"""The screen of `capture`, to the letter, for an environment with every kind of trouble; at the width of the terminal."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from msgspec.structs import replace

from envsnap.cli.console import Console
from envsnap.lockfile.doubts import doubts
from envsnap.model.facts import DeviceCode, Problem
from envsnap.model.lock import EnvLock
from envsnap.model.origins import UnknownOrigin
from envsnap.report import capture
from tests import samples

EDITED = tuple(f"tool-{number:02}" for number in range(12))


def troubled() -> EnvLock:
    lock = samples.lock(device="cuda")
    gpu = replace(lock.observed.gpu, cuda_driver="12.8", driver="570.86.10")
    observed = replace(lock.observed, gpu=gpu, imports_failed={"cv2": "ImportError: libGL.so.1: cannot open shared object file"})
    unknown = UnknownOrigin(reason="no index that was asked has a file with these contents")
    packages = (
        *lock.packages,
        replace(samples.index_package("lost", "0.3"), provenance="unproven", origin=unknown, sha256=None),
        *(replace(samples.index_package(name, "1.0"), provenance="rebuilt", modified=("a.py",)) for name in EDITED),
    )
    problems = (
        Problem(where="path", what="PYTHONPATH puts /home/user/hacks in front of the environment's own packages"),
        Problem(where="six-1.16.0.dist-info", what="has no RECORD, so its files cannot be told"),
        Problem(where="env.HF_TOKEN", what="value left out: it looks like a secret", hint="give it at run time: docker run -e HF_TOKEN"),
        *doubts(observed, packages),
        *(
            Problem(where=f"packages.{name}", what=f"rebuilt from what is installed: files were edited after it was installed: {name}/a.py")
            for name in EDITED
        ),
    )
    return replace(lock, packages=packages, observed=observed, capture=replace(lock.capture, problems=problems))


WIDE = """\
yolo-train  ·  python /home/user/yolo/.venv/bin/python  ·  Python 3.11.7
  GPU       2 × NVIDIA H200 (sm_90, 151 GB), driver 570.86.10, CUDA ≤ 12.8, NVLink
  CUDA      runtime 13.0.96 · cuDNN 9.20.0 · NCCL 2.29.7 · cuBLAS 13.1.1      as loaded by torch 2.12.1+cu130
  packages  27   12 proven against the index · 1 from version control · 1 from the project's source · 12 rebuilt here ·
            1 unproven
  source    git@git.example.com:vision/yolo.git@3f2c1d9, dirty: changes kept as a patch, 1 new file
  smoke     160 steps in 15.4 s on cuda, mAP50 0.995, bit-equal when repeated
  withheld  WANDB_API_KEY    give them at run time

  ! lost 0.3 is unproven: no index that was asked has a file with these contents
      capture … --rescue lost keeps what is installed;   or build … --allow-unproven lost
  ! driver 570.86.10 supports CUDA up to 12.8, and the runtime that is loaded is 13.0.96: nothing computes on the GPU
    without a newer driver or the forward-compatibility package
      update the driver, or train with an older CUDA
  ! cv2 does not import here: ImportError: libGL.so.1: cannot open shared object file
      an image is not asked to import it either
  ! env.HF_TOKEN: value left out: it looks like a secret                   give it at run time: docker run -e HF_TOKEN
  ! tool-00 1.0: files were edited after it was installed: tool-00/a.py    rebuilt as a wheel, edits included
  ! tool-01 1.0: files were edited after it was installed: tool-01/a.py    rebuilt as a wheel, edits included
  ! tool-02 1.0: files were edited after it was installed: tool-02/a.py    rebuilt as a wheel, edits included
  ! 9 more (tool-03 1.0, tool-04 1.0, tool-05 1.0, tool-06 1.0, tool-07 1.0 and 4 more) are not what an index has, each
    for a reason of its own, which -v tells
      rebuilt as wheels, edits included
  ! six-1.16.0.dist-info: has no RECORD, so its files cannot be told       reinstall that package, and capture again
  ! PYTHONPATH puts /home/user/hacks in front of the environment's own packages

wrote lockfiles/yolo-train.yaml   sha256:81b3…6530              next: envsnap plan lockfiles/yolo-train.yaml
"""
NARROW = """\
yolo-train  ·  python /home/user/yolo/.venv/bin/python  ·  Python 3.11.7
  GPU       2 × NVIDIA H200 (sm_90, 151 GB), driver 570.86.10, CUDA ≤ 12.8,
            NVLink
  CUDA      runtime 13.0.96 · cuDNN 9.20.0 · NCCL 2.29.7 · cuBLAS 13.1.1      as
            loaded by torch 2.12.1+cu130
  packages  27   12 proven against the index · 1 from version control · 1 from
            the project's source · 12 rebuilt here · 1 unproven
  source    git@git.example.com:vision/yolo.git@3f2c1d9, dirty: changes kept as
            a patch, 1 new file
  smoke     160 steps in 15.4 s on cuda, mAP50 0.995, bit-equal when repeated
  withheld  WANDB_API_KEY    give them at run time

  ! lost 0.3 is unproven: no index that was asked has a file with these contents
      capture … --rescue lost keeps what is installed;   or build …
      --allow-unproven lost
  ! driver 570.86.10 supports CUDA up to 12.8, and the runtime that is loaded is
    13.0.96: nothing computes on the GPU without a newer driver or the
    forward-compatibility package
      update the driver, or train with an older CUDA
  ! cv2 does not import here: ImportError: libGL.so.1: cannot open shared object
    file
      an image is not asked to import it either
  ! env.HF_TOKEN: value left out: it looks like a secret
      give it at run time: docker run -e HF_TOKEN
  ! tool-00 1.0: files were edited after it was installed: tool-00/a.py
      rebuilt as a wheel, edits included
  ! tool-01 1.0: files were edited after it was installed: tool-01/a.py
      rebuilt as a wheel, edits included
  ! tool-02 1.0: files were edited after it was installed: tool-02/a.py
      rebuilt as a wheel, edits included
  ! 9 more (tool-03 1.0, tool-04 1.0, tool-05 1.0, tool-06 1.0, tool-07 1.0 and
    4 more) are not what an index has, each for a reason of its own, which -v
    tells
      rebuilt as wheels, edits included
  ! six-1.16.0.dist-info: has no RECORD, so its files cannot be told
      reinstall that package, and capture again
  ! PYTHONPATH puts /home/user/hacks in front of the environment's own packages

wrote lockfiles/yolo-train.yaml   sha256:81b3…6530
  next: envsnap plan lockfiles/yolo-train.yaml
"""


@pytest.mark.parametrize(("width", "expected"), [(120, WIDE), (80, NARROW)])
def test_the_whole_screen(width: int, expected: str) -> None:
    found = capture.screen(troubled(), "lockfiles/yolo-train.yaml", width=width)
    assert found + "\n" == expected
    assert max(map(len, found.splitlines())) <= width


def test_nothing_wrong_is_nothing_said() -> None:
    clean = samples.lock()
    clean = replace(clean, capture=replace(clean.capture, problems=()))
    assert not [line for line in capture.screen(clean, "x.yaml").splitlines() if line.lstrip().startswith("!")]


def test_what_torch_was_built_for_has_a_line() -> None:
    code = DeviceCode(cubins=("sm_80", "sm_90", "sm_90a"), ptx=("compute_90",), partial=("sm_90a",))
    lock = samples.lock()

    def screen(*names: str) -> str:
        return capture.screen(
            replace(lock, packages=tuple(replace(p, device_code=code) if p.name in names else p for p in lock.packages)), "x.yaml"
        )

    assert "  built for  sm_80 sm_90 compute_90      as torch is\n" in screen("torch")
    assert "as torch is; 1 other package has GPU code too\n" in screen("torch", "torchvision")
    assert "built for" not in screen("torchvision")


def test_everything_is_listed_when_asked() -> None:
    folded, full = (capture.screen(troubled(), "x.yaml", full=full) for full in (False, True))
    assert "tool-11" not in folded and all(f"  ! {name} 1.0: files were edited" in full for name in EDITED)


ESCAPE = "\x1b["


@pytest.mark.parametrize(("terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)])
def test_colour_only_for_a_terminal_that_wants_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    screen = capture.screen(troubled(), "x.yaml")
    Console().answer(screen, {})
    said = capsys.readouterr().out
    assert (ESCAPE in said) == coloured
    if not coloured:
        assert said == screen + "\n"


@pytest.mark.parametrize(("terminal", "columns", "width"), [(True, "80", 80), (True, "300", 120), (True, "10", 40), (False, "80", 120)])
def test_the_width_is_the_terminals_up_to_what_can_be_read(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert Console().width == width


def test_warnings_of_the_document_are_all_of_them() -> None:
    document: dict[str, Any] = capture.document(troubled(), "x.yaml")
    assert len([line for line in document["warnings"] if line.startswith("tool-")]) == len(EDITED)
