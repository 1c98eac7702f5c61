"""What a check is: one question to a case, with its rule and, for a failure, what it usually means and the way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from envsnap.model.lock import EnvLock, Smoke
from envsnap.model.parity import CheckResult, Fingerprint, Layer, SmokeRun, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is judged: the lock, and what was found on `device` ("cuda" or "cpu").

    Attributes: of_host: found by an interpreter of the host, not in an image.
    """

    lock: EnvLock
    found: Fingerprint
    device: str
    of_host: bool = False

    @property
    def reference(self) -> Smoke | None:
        reference = self.lock.observed.reference
        return reference.smoke if reference else None

    @property
    def captured_on_gpu(self) -> bool:
        return bool(self.lock.observed.gpu.devices) or (self.reference is not None and self.reference.device == "cuda")

    @property
    def found_on_gpu(self) -> bool:
        return self.found.facts.framework is not None and self.found.facts.framework.cuda_available


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer of one check. `rule`, `usually` and `hint` override the check's own where the case decides them."""

    status: Status
    expected: str
    actual: str
    rule: str = ""
    usually: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Attributes:
    look: answers for a case; None where the question does not arise, and then the check is not listed.
    usually, hint: shown when it fails.
    on_host: both for an interpreter of the host, where those of an image would mislead.
    """

    id: str
    layer: Layer
    rule: str
    usually: str
    hint: str
    look: Callable[[Case], Finding | None]
    on_host: tuple[str, str] | None = None

    def judge(self, case: Case) -> CheckResult | None:
        finding = self.look(case)
        if finding is None:
            return None
        failed = finding.status == "fail"
        usually, hint = self.on_host if case.of_host and self.on_host is not None else (self.usually, self.hint)
        return CheckResult(
            id=self.id,
            layer=self.layer,
            status=finding.status,
            expected=finding.expected,
            actual=finding.actual,
            rule=finding.rule or self.rule,
            usually=(finding.usually or usually) if failed else "",
            hint=(finding.hint or hint) if failed else "",
        )


def equal(expected: str, actual: str, *, told: str = "") -> Finding:
    """Pass when two texts are the same. `told`: what to say then; the value itself by default."""
    same = expected == actual
    return Finding(status="pass" if same else "fail", expected=expected, actual=(told or actual) if same else actual)


def equal_tables(expected: Mapping[str, str], actual: Mapping[str, str], *, hint: str = "") -> Finding:
    """Pass when two mappings are the same; else every entry that differs is named on both sides."""
    names = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
    if not names:
        return Finding(status="pass", expected=str(len(expected)), actual=f"{len(expected)} equal")
    return Finding(status="fail", expected=_entries(names, expected), actual=_entries(names, actual), hint=hint)


def inconclusive(expected: str, reason: str) -> Finding:
    return Finding(status="inconclusive", expected=expected, actual=reason)


def finished_run(case: Case) -> tuple[Smoke, SmokeRun] | None:
    """The reference and the run that is held against it, when both are there."""
    run = case.found.smoke
    if case.reference is None or run is None or run.status != "ok":
        return None
    return case.reference, run


def _entries(names: list[str], table: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {table[name]}" if name in table else f"{name}: none" for name in names)
