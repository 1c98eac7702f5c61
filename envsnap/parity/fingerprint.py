"""L2: the gradient of one anchored step, the gate that tells harmless changes from harmful ones (parity §1, §2)."""

from __future__ import annotations

from collections.abc import Callable

from envsnap.parity.check import Case, Check, Finding, finished_run, inconclusive

HARMLESS = {"fp32": 5e-5, "amp": 0.1}
"""Relative L2 at trained weights up to which a change is harmless, where bits cannot be expected to be equal.

fp32: threads, instruction sets and memory formats stay below 4e-6. amp: other instruction sets round bf16 elsewhere and were
measured at 0.047 where fp32 differs by 1.5e-6; a step without AMP is 0.20 away from one with it.
"""
TF32_CLASS = 2e-3
"""In fp32, TF32 was measured at 5e-4, bf16 at 5e-3."""


def run_status(case: Case) -> Finding | None:
    """The guard of L2 and L3: there is a run to look at."""
    if case.reference is None:
        return None
    run = case.found.smoke
    if run is None:
        return inconclusive("a smoke-train", "it was not run")
    if run.status != "ok":
        return Finding(status="fail", expected="a smoke-train that ends well", actual=run.reason or run.status)
    return Finding(status="pass", expected="done", actual="done")


def bit_equality_expected(case: Case) -> bool:
    """Only where the key is equal and the reference was bit-equal to itself when it was captured."""
    both = finished_run(case)
    return both is not None and both[0].self_exact and both[0].key == both[1].key


def key_differences(case: Case) -> str:
    """What of the key differs, "cpu, threads"; "" when nothing does."""
    both = finished_run(case)
    if both is None:
        return ""
    left, right = both[0].key, both[1].key
    return ", ".join(sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name)))


def _gradient(precision: str) -> Callable[[Case], Finding | None]:
    def look(case: Case) -> Finding | None:
        if case.reference is None or precision not in case.reference.gradient:
            return None
        both = finished_run(case)
        if both is None:
            return inconclusive("a gradient at the anchor", "there is no finished run")
        if not both[1].gradients:  # a run that was given the anchor has one in fp32 at least, or has failed
            return inconclusive("a gradient at the anchor", _not_at_hand("anchor", case))
        if precision not in both[1].gradients:
            return Finding(
                status="fail",
                expected="a gradient at the anchor",
                actual=f"the {precision} step could not be done",
                usually="the device cannot compute in this precision",
            )
        distance = case.found.gradient_distance.get(precision)
        if distance is None:
            return inconclusive("the reference's gradient", _not_at_hand("gradient", case))
        return _exact(case, precision, distance) if bit_equality_expected(case) else _near(case, precision, distance)

    return look


def _not_at_hand(what: str, case: Case) -> str:
    return f"the {what}'s blob is not beside the lock: copy lockfiles/{case.lock.name}.blobs too"


def _exact(case: Case, precision: str, distance: float) -> Finding:
    same = case.found.gradient_equal.get(precision, False)
    meaning, usually = _class(precision, distance)
    return Finding(
        status="pass" if same else "fail",
        expected="bit-equal",
        actual="0 (bit-equal)" if same else f"{distance:.1e} ({meaning})",
        rule="bit-equal: the key is equal and the reference repeats bit for bit",
        usually=usually,
    )


def _near(case: Case, precision: str, distance: float) -> Finding:
    limit = f"relative L2 ≤ {HARMLESS[precision]:g}"
    why = f"these differ: {key_differences(case)}" if key_differences(case) else "the reference did not repeat bit for bit"
    meaning, usually = _class(precision, distance)
    return Finding(
        status="pass" if distance <= HARMLESS[precision] else "fail",
        expected=limit,
        actual=f"{distance:.1e} ({meaning})",
        rule=f"{limit}, not bit-equal, because {why}",
        usually=usually,
    )


def _class(precision: str, distance: float) -> tuple[str, str]:
    """What a distance amounts to, and what usually brings it about."""
    if distance <= HARMLESS[precision]:
        return "harmless", "another kernel was chosen; numbers agree but for rounding"
    if precision == "fp32" and distance <= TF32_CLASS:
        return (
            "TF32-class",
            "TF32 is on and was off where it was captured (TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, NVIDIA_TF32_OVERRIDE)",
        )
    if precision == "fp32":
        return "bf16-class or wrong", "half precision where there was none, or other data or weights"
    return "another precision or wrong", "AMP computes in another type, or other data or weights"


_HINT = "identity.env, identity.flags and identity.libraries name what differs; mend those first"

CHECKS = (
    Check(
        id="fingerprint.run",
        layer="L2",
        rule="the smoke-train runs to its end",
        usually="something that training needs is missing",
        hint="envsnap verify -v shows what the smoke-train printed",
        look=run_status,
    ),
    *(
        Check(
            id=f"fingerprint.{precision}",
            layer="L2",
            rule=f"relative L2 of the whole gradient at the trained anchor ≤ {limit:g}, or bit-equal",
            usually="",
            hint=_HINT,
            look=_gradient(precision),
        )
        for precision, limit in HARMLESS.items()
    ),
)
