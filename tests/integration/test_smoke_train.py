"""The smoke-train itself, in a real training environment on the CPU: it learns, it repeats, and it notices what it must."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from envsnap.model.parity import SmokeRun
from envsnap.probes.local import LocalPython
from envsnap.progress import SILENT
from envsnap.smoke.run import run_smoke

pytestmark = pytest.mark.torch

STEPS = 160
Runner = Callable[..., tuple[SmokeRun, Path]]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    python = os.environ.get("ENVSNAP_TEST_PYTHON")
    if not python:
        pytest.skip("ENVSNAP_TEST_PYTHON does not name an interpreter with torch, torchvision, ultralytics and wandb")

    def go(*, anchor: Path | None = None, negative_control: str = "", device: str = "cpu") -> tuple[SmokeRun, Path]:
        outputs = tmp_path_factory.mktemp("smoke")
        run = run_smoke(
            LocalPython(Path(python)),
            framework="torch",
            seed=0,
            device=device,
            gpus=1 if device == "cuda" else 0,
            threads=1,
            anchor=anchor,
            kit=None,
            keep_weights=anchor is None,
            negative_control=negative_control,
            outputs=outputs,
            progress=SILENT,
        )
        return run, outputs

    return go


@pytest.fixture(scope="module")
def reference(runner: Runner) -> tuple[SmokeRun, Path]:
    run, outputs = runner()
    assert (run.status, run.reason, run.problems) == ("ok", "", ())
    return run, outputs


def gradients(run: SmokeRun, outputs: Path) -> dict[str, bytes]:
    return {precision: (outputs / name).read_bytes() for precision, name in run.gradients.items()}


def distance(reference: bytes, found: bytes) -> float:
    left, right = array("f", reference), array("f", found)
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(left, right, strict=True)) / sum(a * a for a in left))


def test_it_learns(reference: tuple[SmokeRun, Path]) -> None:
    run, outputs = reference
    assert run.steps == run.expected_steps == len(run.losses) == len(run.step_ms) == STEPS
    assert run.map50 >= 0.8
    assert all(math.isfinite(float.fromhex(value)) for row in run.losses for value in row)
    assert (run.device_used, run.gpus, run.batch_used, run.amp_used, run.nan_recoveries) == ("cpu", 0, run.batch_asked, "fp32", 0)
    assert {"cpu", "capability", "threads", "torch_git", "onednn", "flags"} <= set(run.key) and run.key["threads"] == "1"
    sizes = {len(data) for data in gradients(run, outputs).values()}
    assert set(run.gradients) == {"fp32", "amp"} and len(sizes) == 1
    assert (outputs / run.weights).stat().st_size > sizes.pop()  # parameters and what BatchNorm has counted


def test_it_writes_a_wandb_run(reference: tuple[SmokeRun, Path]) -> None:
    wandb = reference[0].wandb
    assert wandb is not None
    assert wandb.rows >= 20 and wandb.exit_code == 0 and "leet inspect" in wandb.reader
    assert {"epoch", "train/box_loss", "metrics/mAP50(B)"} <= set(wandb.keys)


def test_another_process_repeats_it_bit_for_bit(runner: Runner, reference: tuple[SmokeRun, Path]) -> None:
    first, outputs = reference
    again, others = runner(anchor=outputs / first.weights)
    assert (again.losses, again.state, again.map50, again.labels, again.key) == (
        first.losses, first.state, first.map50, first.labels, first.key,
    )  # fmt: skip
    assert gradients(again, others) == gradients(first, outputs)


def test_rounding_like_tf32_moves_the_gradient(runner: Runner, reference: tuple[SmokeRun, Path]) -> None:
    first, outputs = reference
    control, others = runner(anchor=outputs / first.weights, negative_control="tf32")
    moved = distance(gradients(first, outputs)["fp32"], gradients(control, others)["fp32"])
    assert 5e-5 < moved < 2e-3
    assert control.losses[0] != first.losses[0] and control.state != first.state


def test_a_changed_label_shows(runner: Runner, reference: tuple[SmokeRun, Path]) -> None:
    first, outputs = reference
    control, others = runner(anchor=outputs / first.weights, negative_control="labels")
    assert control.status == "ok" and control.labels != first.labels
    assert gradients(control, others) != gradients(first, outputs)


def test_a_missing_wandb_run_shows(runner: Runner) -> None:
    control, _ = runner(negative_control="wandb")
    assert control.status == "ok" and control.wandb is None
    assert [problem.where for problem in control.problems] == ["wandb"]


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this host has a GPU")
def test_a_gpu_that_is_not_there_is_said(runner: Runner) -> None:
    run, _ = runner(device="cuda")
    assert (run.status, run.device_used) == ("failed", "") and run.reason.startswith("CUDA was asked for, but torch cannot use a GPU")
