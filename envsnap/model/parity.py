"""Fingerprints of two runs, the differences of two locks, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from envsnap.model.facts import CollectedFacts, Problem
from envsnap.model.kinds import Value

Grade = Literal["breaking", "numeric", "cosmetic"]
Layer = Literal["L0", "L1", "L2", "L3", "L4", "L5"]
Status = Literal["pass", "fail", "skip", "inconclusive"]


class Difference(Value, frozen=True, kw_only=True):
    """One difference of two locks. `field` is a path such as "packages.numpy.version"; a missing side is None.

    `why`: what a change here can do ("cuDNN picks other kernels: numbers change"), "" where nothing is to be said.
    """

    field: str
    left: str | None
    right: str | None
    grade: Grade
    why: str = ""


class SmokeRun(Value, frozen=True, kw_only=True):
    """The document of `guest/smoke.py`: one training and, with an anchor, one fingerprint.

    Attributes:
        schema: 1.
        status: "ok"; "absent" when the framework, or torchvision beside torch, is missing (then only `reason` holds); "failed".
        reason: one sentence when not ok.
        device_asked, device_used: "cuda" or "cpu".
        key, steps, losses, state, map50: as in lock.Smoke.
        expected_steps: what the configuration implies.
        batch_asked, batch_used: ultralytics halves the batch silently when memory runs out.
        amp_asked, amp_used: precision asked for and what the trainer really used.
        nan_recoveries: how often the trainer fell back to an earlier checkpoint.
        labels: digest of the generated data set's labels and images, so that a changed one is seen.
        step_ms: every step's time, milliseconds; seconds: whole training; peak_memory_mib.
        weights: file name, beside the document, of the trained weights; "" when not asked for.
        gradients: precision -> file name of the gradient at the anchor.
        wandb: what was read back from the W&B run.
    """

    schema: int
    status: Literal["ok", "absent", "failed"]
    reason: str = ""
    seed: int = 0
    device_asked: str = ""
    device_used: str = ""
    gpus: int = 0
    key: Mapping[str, str] = {}
    expected_steps: int = 0
    steps: int = 0
    losses: tuple[tuple[str, ...], ...] = ()
    state: str = ""
    map50: float = 0.0
    batch_asked: int = 0
    batch_used: int = 0
    amp_asked: str = ""
    amp_used: str = ""
    nan_recoveries: int = 0
    labels: str = ""
    step_ms: tuple[float, ...] = ()
    seconds: float = 0.0
    peak_memory_mib: float = 0.0
    weights: str = ""
    gradients: Mapping[str, str] = {}
    wandb: WandbRun | None = None
    problems: tuple[Problem, ...] = ()


class WandbRun(Value, frozen=True, kw_only=True):
    """Read back with W&B's own reader. Attributes: rows: history rows; exit_code: of the run, None while unfinished."""

    rows: int
    keys: tuple[str, ...] = ()
    exit_code: int | None = None
    reader: str = ""


class Fingerprint(Value, frozen=True, kw_only=True):
    """All that is compared of one side.

    Attributes:
        gradient_distance: precision -> relative L2 distance of the gradient from the reference's; 0.0 means bit-equal.
    """

    facts: CollectedFacts
    smoke: SmokeRun | None = None
    gradient_distance: Mapping[str, float] = {}
    gradient_equal: Mapping[str, bool] = {}


class CheckResult(Value, frozen=True, kw_only=True):
    """One check: what was expected, what was found, by which rule.

    Attributes:
        id: "identity.packages", "fingerprint.fp32" …
        usually, hint: what a failure usually means and what to try; "" when it passed.
    """

    id: str
    layer: Layer
    status: Status
    expected: str
    actual: str
    rule: str
    usually: str = ""
    hint: str = ""


class Verdict(Value, frozen=True, kw_only=True):
    """Attributes:
    verdict: pass: every required layer was judged and passed; fail: something failed; incomplete: nothing failed, but
        something that was asked for was not judged.
    not_judged: one sentence for each layer or check that was not.
    """

    verdict: Literal["pass", "fail", "incomplete"]
    checks: tuple[CheckResult, ...]
    not_judged: tuple[str, ...] = ()
