"""The verdict on a screen: one line a layer, every failure with what it usually means and the way out."""

from __future__ import annotations

from typing import Any

from envsnap.model.parity import CheckResult, Layer, Verdict
from envsnap.report import text

_LAYERS: dict[Layer, str] = {
    "L0": "identity",
    "L1": "capability",
    "L2": "fingerprint",
    "L3": "training",
    "L4": "speed",
    "L5": "memory",
}
_TELLING = frozenset(
    {
        *("identity.packages", "identity.libraries", "identity.flags", "identity.system-libraries"),
        *("fingerprint.fp32", "fingerprint.amp"),
        *("training.losses", "training.map50", "training.wandb"),
    }
)
_BESIDE = len("  L2 fingerprint    inconclusive")
"""What a layer's line has beside what is told of its checks, at most."""
_IDENTITY_ALONE = "PASS   {what} holds what the environment held; what it computes was not judged"
_LAST = {
    "pass": "PASS   {what} computes what the environment computed",
    "fail": "FAIL   {what} is not the environment that was captured",
    "incomplete": "INCOMPLETE   nothing failed, but not everything that was asked for could be judged",
}


def screen(verdict: Verdict, what: str, report: str | None, width: int = text.WIDTH) -> str:
    """Args: what: was judged. report: the page that was written. width: columns of the screen."""
    rows = [_layer(layer, name, [c for c in verdict.checks if c.layer == layer], width) for layer, name in _LAYERS.items()]
    found = [row for row in rows if row is not None]
    lines = _aligned(found, [("not judged", sentence) for sentence in verdict.not_judged or ("nothing",)], width)
    for check in verdict.checks:
        if check.status != "pass":
            lines += ["", *_trouble(check)]
    if verdict.verdict == "incomplete" and (enough := _enough(verdict)):
        lines.append(f"  try  --require {','.join(enough)} where that suffices")
    trained = any(check.layer != "L0" for check in verdict.checks)
    last = (_LAST[verdict.verdict] if trained or verdict.verdict != "pass" else _IDENTITY_ALONE).format(what=what)
    return "\n".join(
        [*lines, *([""] if any(c.status != "pass" for c in verdict.checks) else []), last + (f"       report: {report}" if report else "")]
    )


def _enough(verdict: Verdict) -> list[Layer]:
    """The layers that pass; of none L0, which any lock can be held against, where it was not asked for."""
    judged = {check.layer for check in verdict.checks}
    passed = sorted(judged - {check.layer for check in verdict.checks if check.status != "pass"})
    return passed or (["L0"] if "L0" not in judged else [])


def _layer(layer: Layer, name: str, checks: list[CheckResult], width: int) -> tuple[str, str, str] | None:
    if not checks:
        return None
    worst = next((s for s in ("fail", "inconclusive", "skip") if any(c.status == s for c in checks)), "ok")
    told = [
        f"{c.id.partition('.')[2]} {c.actual}" if c.status == "pass" else f"{c.id.partition('.')[2]}: {c.status}" for c in _tellable(checks)
    ]
    return (f"{layer} {name}", _fitting(told, width - _BESIDE), worst)


def _fitting(told: list[str], room: int) -> str:
    """As many as fit, and how many more there are; each that did not pass is told below anyway."""
    for most in range(len(told), 1, -1):
        more = f" and {len(told) - most} more" if most < len(told) else ""
        if len(line := " · ".join(told[:most]) + more) <= room:
            return line
    return f"{told[0]} and {len(told) - 1} more" if len(told) > 1 else "".join(told)


def _aligned(layers: list[tuple[str, str, str]], unjudged: list[tuple[str, str]], width: int) -> list[str]:
    """What was judged and what was not, in the same columns; a long sentence of the latter pushes no verdict away."""
    label = max(len(row[0]) for row in (*layers, *unjudged))
    told = max((len(row[1]) for row in layers), default=0)
    lines = [f"  {name.ljust(label)}  {what.ljust(told)}  {status}" for name, what, status in layers]
    for name, sentence in unjudged:
        lines += text.wrapped(sentence, width, first=f"  {name.ljust(label)}  ", rest=" " * (label + 4))
    return lines


def _tellable(checks: list[CheckResult]) -> list[CheckResult]:
    """What fits a line: the failures, else what says most."""
    return [c for c in checks if c.status != "pass"] or [c for c in checks if c.id in _TELLING]


def _trouble(check: CheckResult) -> list[str]:
    word = {"fail": "FAIL", "inconclusive": "!", "skip": "!", "pass": ""}[check.status]
    rows = [("expected", check.expected), ("found", check.actual), ("rule", check.rule), ("usually", check.usually), ("try", check.hint)]
    return [f"{word}   {check.layer} {check.id}", *text.columns([row for row in rows if row[1]], indent="       ")]


def document(verdict: Verdict, *, image_digest: str | None, lock_digest: str, device: str, report: str | None) -> dict[str, Any]:
    keys = ("id", "layer", "status", "expected", "actual", "rule", "usually", "hint")
    return {
        "verdict": verdict.verdict,
        "image_digest": image_digest,
        "lock_digest": lock_digest,
        "device": device,
        "checks": [{key: getattr(check, key) for key in keys} for check in verdict.checks],
        "not_judged": list(verdict.not_judged),
        "report": report,
    }
