"""L3: the smoke-train, and the guards against one that cannot fail (parity §2)."""

from __future__ import annotations

import math
from collections.abc import Callable

from envsnap.model.lock import Smoke
from envsnap.model.parity import SmokeRun
from envsnap.parity.check import Case, Check, Finding, equal, finished_run, inconclusive
from envsnap.parity.fingerprint import bit_equality_expected, run_status

FIRST_STEP = 1e-5
"""Relative difference of the first step's losses; a change of threads gives 4e-7, TF32 2e-4. Later steps grow chaotically."""
LAST_QUARTER = 0.25
"""Relative difference of the mean loss over the last quarter of the steps."""
MAP50 = 0.8
"""What a training that learned both classes reaches; one class alone gives 0.497."""

_Look = Callable[[Smoke, SmokeRun, Case], Finding | None]


def _of_finished(look: _Look) -> Callable[[Case], Finding | None]:
    """A question to a run that ended; without one the answer is not known."""

    def ask(case: Case) -> Finding | None:
        if case.reference is None:
            return None
        both = finished_run(case)
        return inconclusive("a finished smoke-train", "there is none") if both is None else look(*both, case)

    return ask


def _device(_: Smoke, run: SmokeRun, case: Case) -> Finding:
    return equal(
        f"{case.device}, as asked", f"{run.device_used}, {'as asked' if run.device_asked == case.device else f'asked {run.device_asked}'}"
    )


def _steps(reference: Smoke, run: SmokeRun, _: Case) -> Finding:
    found = {run.steps, run.expected_steps, len(run.losses)}
    told = str(run.steps) if len(found) == 1 else f"{run.steps} done, {run.expected_steps} configured, {len(run.losses)} with losses"
    return equal(str(reference.steps), told)


def _amp(_: Smoke, run: SmokeRun, __: Case) -> Finding:
    return equal(run.amp_asked, run.amp_used)


def _batch(_: Smoke, run: SmokeRun, __: Case) -> Finding:
    return equal(str(run.batch_asked), str(run.batch_used))


def _nan(_: Smoke, run: SmokeRun, __: Case) -> Finding:
    values = [_number(text) for row in run.losses for text in row]
    broken = sum(not math.isfinite(value) for value in values)
    clean = not broken and not run.nan_recoveries
    told = "none" if clean else f"{broken} losses are not finite, {run.nan_recoveries} recoveries"
    return Finding(status="pass" if clean else "fail", expected="none", actual=told)


def _data(reference: Smoke, run: SmokeRun, _: Case) -> Finding:
    if reference.labels is None:
        return inconclusive("the reference's data", "the lock does not say which data it was")
    return equal(f"seed {reference.seed}, {reference.labels}", f"seed {run.seed}, {run.labels}", told=f"seed {run.seed}, equal")


def _losses(reference: Smoke, run: SmokeRun, case: Case) -> Finding:
    if _repeats(reference, run, case):
        return _losses_exact(reference, run)
    if not run.losses or len(run.losses[0]) != len(reference.losses[0]):
        return Finding(status="fail", expected=f"{len(reference.losses)} rows of losses", actual=f"{len(run.losses)} rows")
    first = max(_relative(_number(left), _number(right)) for left, right in zip(reference.losses[0], run.losses[0], strict=True))
    end = _relative(_end(reference.losses), _end(run.losses))
    return Finding(
        status="pass" if first <= FIRST_STEP and end <= LAST_QUARTER else "fail",
        expected=f"step 1 within {FIRST_STEP:g}, last quarter within {LAST_QUARTER:.0%}",
        actual=f"step 1 {first:.1e}, last quarter {end:.1%}",
        rule="step 1 and the mean of the last quarter: between them differences grow chaotically",
    )


def _losses_exact(reference: Smoke, run: SmokeRun) -> Finding:
    rule = "bit-equal: the key is equal, one device, and the reference repeats bit for bit"
    if reference.losses == run.losses:
        return Finding(status="pass", expected="bit-equal", actual=f"{len(run.losses)} bit-equal", rule=rule)
    pairs = enumerate(zip(reference.losses, run.losses, strict=False), start=1)
    step = next((step for step, (left, right) in pairs if left != right), min(len(reference.losses), len(run.losses)) + 1)
    return Finding(
        status="fail", expected=_row(reference.losses, step), actual=f"{_row(run.losses, step)} (the first step that differs)", rule=rule
    )


def _row(losses: tuple[tuple[str, ...], ...], step: int) -> str:
    if step > len(losses):
        return f"step {step} missing"
    return f"step {step}: {', '.join(f'{_number(text):.9g}' for text in losses[step - 1])}"


def _state(reference: Smoke, run: SmokeRun, case: Case) -> Finding | None:
    """Only bit-equal training ends in equal weights; of any other the weights say nothing."""
    return equal(reference.state, run.state, told="bit-equal") if _repeats(reference, run, case) else None


def _map50(reference: Smoke, run: SmokeRun, case: Case) -> Finding:
    if _repeats(reference, run, case):
        return equal(f"{reference.map50:.6g}", f"{run.map50:.6g}")
    return Finding(
        status="pass" if run.map50 >= MAP50 else "fail",
        expected=f"≥ {MAP50:g}",
        actual=f"{run.map50:.3f}",
        rule=f"≥ {MAP50:g}: both classes were learned",
    )


def _wandb(reference: Smoke, run: SmokeRun, _: Case) -> Finding:
    if reference.wandb_rows == 0:
        return inconclusive("a W&B run as the reference has it", "no row of the reference's own could be read back")
    expected = f"{reference.wandb_rows} history rows, exit code 0"
    if run.wandb is None:
        return Finding(status="fail", expected=expected, actual="no W&B run was written")
    ended = "not finished" if run.wandb.exit_code is None else f"exit code {run.wandb.exit_code}"
    return equal(expected, f"{run.wandb.rows} history rows, {ended}", told=f"{run.wandb.rows} rows")


def _repeats(reference: Smoke, run: SmokeRun, case: Case) -> bool:
    """Training on several GPUs is not bit-exact, whatever the key."""
    return bit_equality_expected(case) and max(reference.gpus, run.gpus) <= 1


def _number(text: str) -> float:
    try:
        return float.fromhex(text)
    except (ValueError, OverflowError):
        return math.nan


def _relative(reference: float, found: float) -> float:
    """|found - reference| / |reference|; infinite where there is no such number."""
    if not (math.isfinite(reference) and math.isfinite(found)):
        return math.inf
    if reference == found:
        return 0.0
    return abs(found - reference) / abs(reference) if reference else math.inf


def _end(losses: tuple[tuple[str, ...], ...]) -> float:
    """Mean over the last quarter of the steps of a step's summed losses."""
    last = losses[-max(1, len(losses) // 4) :]
    return sum(_number(text) for row in last for text in row) / len(last)


_COMPARE = "L0 and L2 name what differs; mend those first"


def _check(id_: str, look: _Look, *, rule: str, usually: str, hint: str = _COMPARE) -> Check:
    return Check(id=id_, layer="L3", rule=rule, usually=usually, hint=hint, look=_of_finished(look))


CHECKS = (
    Check(
        id="training.run",
        layer="L3",
        rule="the smoke-train runs to its end",
        usually="something that training needs is missing",
        hint="envsnap verify -v shows what the smoke-train printed",
        look=run_status,
    ),
    _check(
        "training.device",
        _device,
        rule="trained on the device that was asked for",
        usually="torch found no GPU it can use and fell back to the CPU",
        hint="envsnap doctor looks at the driver and the container toolkit",
    ),
    _check("training.steps", _steps, rule="as many steps as configured, and as the reference", usually="training ended early"),
    _check(
        "training.amp",
        _amp,
        rule="trained in the precision that was asked for",
        usually="ultralytics switched mixed precision on or off by itself",
    ),
    _check(
        "training.batch",
        _batch,
        rule="trained with the batch size that was asked for",
        usually="ultralytics halved the batch when memory ran out, which it does silently",
        hint="free memory on the device, then verify again",
    ),
    _check(
        "training.nan",
        _nan,
        rule="no loss but finite ones, and no recovery from NaN",
        usually="numbers overflow: precision or kernels differ",
    ),
    _check(
        "training.data",
        _data,
        rule="same seed, and same digest of the generated pictures and labels",
        usually="another version of the smoke-train, or its data was changed",
        hint="capture and verify with the same version of envsnap",
    ),
    _check("training.losses", _losses, rule="bit-equal, or near at both ends", usually="other kernels, other precision or other data"),
    _check(
        "training.state",
        _state,
        rule="bit-equal: same digest of the trained weights",
        usually="training went another way after the same losses",
    ),
    _check(
        "training.map50",
        _map50,
        rule="equal, or both classes learned",
        usually="training learned something else, or the evaluation differs",
    ),
    _check(
        "training.wandb",
        _wandb,
        rule="as many history rows as the reference, and a finished run",
        usually="W&B is switched off or broken there",
        hint="look at WANDB_MODE and WANDB_DISABLED there",
    ),
)
