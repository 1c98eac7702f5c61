"""NVIDIA_REQUIRE_CUDA: what an image asks of the driver, and the container toolkit holds it to when a container starts.

Alternatives are separated by spaces, conditions that must hold together by commas: "cuda>=12.2 brand=tesla,driver>=470,driver<471"
(NVIDIA Container Toolkit, "Constraints"). Where none holds, the container does not start.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

from envsnap.model.catalog import Catalog, numbers
from envsnap.model.facts import GpuFacts
from envsnap.model.gpus import Kind
from envsnap.model.image import CheckReason, Status

ID = "requirement"
_CONDITION = re.compile(r"(cuda|driver|arch|brand)(>=|<=|!=|=|<|>)([A-Za-z0-9.]+)")
_COMPARED: Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_BRANDS: Mapping[Kind, frozenset[str]] = {
    "data-center": frozenset({"tesla", "nvidia"}),
    "workstation": frozenset({"quadro", "quadrortx", "nvidiartx", "nvidia"}),
    "geforce": frozenset({"geforce", "geforcertx"}),
    "titan": frozenset({"titan", "titanrtx"}),
}
"""What NVML may call a kind's brand; which of them it is, hangs on the card."""
_SHOWN = 60


def judge(text: str, gpus: GpuFacts, catalog: Catalog) -> CheckReason | None:
    """None where nothing is asked, or no driver is known to hold against it."""
    if not text or gpus.driver is None:
        return None
    cuda = gpus.cuda_driver or catalog.drivers.cuda_of(gpus.driver)
    status = _status(text.split(), gpus, gpus.driver, cuda, catalog)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    found = f"driver {gpus.driver}, CUDA {cuda or 'not known'}"
    hint = "a newer driver: the container does not start; -e NVIDIA_DISABLE_REQUIRE=1 leaves the question out" if status != "pass" else ""
    return CheckReason(id=ID, status=status, needed=f"NVIDIA_REQUIRE_CUDA: {shown}", found=found, hint=hint)


def _status(alternatives: list[str], gpus: GpuFacts, driver: str, cuda: str | None, catalog: Catalog) -> Status:
    """Alternatives that differ in the brand alone are taken together: a card's brand is not known, its kind is."""
    answers: set[Status] = set()
    brands: set[str] = set()
    for alternative in alternatives:
        conditions = [_CONDITION.fullmatch(one) for one in alternative.split(",")]
        brand: str | None = None
        held: set[Status] = set()
        for condition in conditions:
            if condition is None:
                held.add("unknown")
            elif condition[1] == "brand" and condition[2] == "=":
                brand = condition[3]
            else:
                held.add(_holds(condition, gpus, driver, cuda))
        answer: Status = "fail" if "fail" in held else "unknown" if "unknown" in held else "pass"
        if brand is not None and answer == "pass":
            brands.add(brand)
        elif brand is None:
            answers.add(answer)
        elif answer == "unknown":
            answers.add("unknown")
    answers.add(_of_brands(brands, gpus, catalog))
    return "pass" if "pass" in answers else "unknown" if "unknown" in answers else "fail"


def _holds(condition: re.Match[str], gpus: GpuFacts, driver: str, cuda: str | None) -> Status:
    what, how, version = condition[1], _COMPARED[condition[2]], numbers(condition[3])
    if what == "brand" or not version:
        return "unknown"
    if what == "arch":
        found = [numbers(device.compute_capability) for device in gpus.devices]
        return "unknown" if not found or () in found else "pass" if all(how(one, version) for one in found) else "fail"
    known = driver if what == "driver" else cuda
    if known is None:
        return "unknown"
    mine = numbers(known)
    width = max(len(mine), len(version))
    return "pass" if how(_padded(mine, width), _padded(version, width)) else "fail"


def _padded(version: tuple[int, ...], width: int) -> tuple[int, ...]:
    return version + (0,) * (width - len(version))


def _of_brands(allowed: set[str], gpus: GpuFacts, catalog: Catalog) -> Status:
    """Whether every GPU is of a brand that is allowed."""
    if not allowed:
        return "fail"
    answers: set[Status] = set()
    for device in gpus.devices:
        kind = catalog.gpus.kind(device.name)
        brands = _BRANDS.get(kind) if kind is not None else None
        if brands is None:
            answers.add("unknown")
        else:
            answers.add("pass" if brands <= allowed else "unknown" if brands & allowed else "fail")
    if not answers:
        return "unknown"
    return "fail" if "fail" in answers else "unknown" if "unknown" in answers else "pass"
