"""Lock + fingerprint -> verdict. Every check is made and listed; nothing stops at the first failure.

*pass* means that each layer that was asked for was judged and passed. By default that is L0, L2 and L3. A layer that cannot be
judged (no reference, no GPU) is named in `not_judged` and makes the verdict *incomplete* at best; naming the layers that
suffice (`required`) is how a person says that less will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from envsnap.model.lock import EnvLock
from envsnap.model.parity import CheckResult, Fingerprint, Layer, Verdict
from envsnap.parity import fingerprint, identity, training
from envsnap.parity.check import Case

CHECKS = (*identity.CHECKS, *fingerprint.CHECKS, *training.CHECKS)
"""All checks, in the order of a verdict. A test makes each of them fail alone."""

DEFAULT: frozenset[Layer] = frozenset({"L0", "L2", "L3"})
Source = Literal["image", "left out", "not asked"]
_NO_SOURCE: Mapping[Source, str] = {
    "left out": "the image was built without the project's files",
    "not asked": "the project's files: an interpreter of the host is judged, not an image",
}
"""Why the project's files are not judged. Both are meant: neither makes a verdict incomplete."""
_NAMES: dict[Layer, str] = {
    "L0": "L0 identity",
    "L1": "L1 capability",
    "L2": "L2 fingerprint",
    "L3": "L3 training",
    "L4": "L4 speed",
    "L5": "L5 memory",
}


def judge(lock: EnvLock, found: Fingerprint, *, device: str, required: frozenset[Layer] | None, source: Source = "image") -> Verdict:
    """Hold what was found against the lock.

    Args:
        device: what was asked for, "cuda" or "cpu".
        required: the layers that suffice; None for all that this version judges.
        source: where the project's files are to be: in the image; "left out" of it on purpose, as its label says; "not asked" for
            an interpreter of the host.
    """
    case = Case(lock=lock, found=found, device=device, of_host=source == "not asked")
    asked = DEFAULT if required is None else required
    unjudged = {layer: why for layer in sorted(asked) if (why := _cannot(layer, case, chosen=required is not None))}
    results = [
        result
        for check in CHECKS
        if check.layer in asked - unjudged.keys() and (source == "image" or check.id != "identity.source")
        if (result := check.judge(case)) is not None
    ]
    return Verdict(
        verdict=_verdict(results, complete=bool(results) and not unjudged),
        checks=tuple(results),
        not_judged=(
            *(f"{_NAMES[layer]}: {why}" for layer, why in unjudged.items()),
            *(f"{result.id}: {result.actual}" for result in results if result.status == "inconclusive"),
            *(f"{_NAMES[layer]}: not asked for" for layer in sorted(DEFAULT - asked)),
            *((f"identity.source: {_NO_SOURCE[source]}",) if lock.source is not None and source in _NO_SOURCE else ()),
            *_never_judged(case, asked),
        ),
    )


def _verdict(results: list[CheckResult], *, complete: bool) -> Literal["pass", "fail", "incomplete"]:
    if any(result.status == "fail" for result in results):
        return "fail"
    return "pass" if complete and all(result.status == "pass" for result in results) else "incomplete"


def _cannot(layer: Layer, case: Case, *, chosen: bool) -> str:
    """Why a layer that was asked for cannot be judged; "" when it can. `chosen`: a person named it."""
    if layer == "L0":
        return ""
    if layer not in DEFAULT:
        return "this version does not judge it"
    if case.reference is None:
        able = case.lock.observed.cuda.framework is not None
        without = "the environment has no torch, TensorFlow or PaddlePaddle to train with"
        return "the lock has no smoke-train: " + ("captured without --smoke" if able else without)
    if case.reference.device == "cuda" and case.device == "cpu" and not chosen:
        return "the reference ran on a GPU, this ran on a CPU (--require names the layers that suffice)"
    return ""


def _never_judged(case: Case, asked: frozenset[Layer]) -> tuple[str, ...]:
    """Layers that only a GPU reference raises the question of."""
    if case.reference is None or case.reference.device != "cuda":
        return ()
    return tuple(f"{_NAMES[layer]}: this version does not judge it" for layer in sorted(_NAMES.keys() - DEFAULT - asked))
