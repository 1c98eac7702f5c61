"""May a host run an image? The reviewed cases of tests/cases/will-it-run.yaml, and that a good part of them can fail."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import pytest

from envsnap import catalog
from envsnap.compat import Host, judge, needs_of
from envsnap.model.facts import GpuDevice, GpuFacts
from envsnap.model.image import ImageCheck, Status
from tests import samples

KNOWN = catalog.load()
Verdict = Literal["pass", "fail", "incomplete"]


class Image(msgspec.Struct, forbid_unknown_fields=True):
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    entrypoint: tuple[str, ...] = ()


class Flip(msgspec.Struct, forbid_unknown_fields=True):
    """What is changed; None stays. Attributes: verdict: what must come of it."""

    verdict: Verdict
    image: str | None = None
    driver: str | None = None
    gpus: tuple[str, ...] | None = None
    mig: str | None = None


class Case(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    image: str
    driver: str | None
    gpus: tuple[str, ...]
    expected: dict[str, Status] = msgspec.field(name="is")
    verdict: Verdict
    source: tuple[str, ...]
    mig: str = ""
    why: str = ""
    flip: Flip | None = None


class Cases(msgspec.Struct, forbid_unknown_fields=True):
    sources: dict[str, str]
    images: dict[str, Image]
    cases: tuple[Case, ...]


TABLE = msgspec.yaml.decode(Path(__file__).parents[2].joinpath("cases/will-it-run.yaml").read_bytes(), type=Cases)


def device(name: str, mig: str) -> GpuDevice:
    """As NVML would say it; by its compute capability alone where the case says no more."""
    if name[:1].isdigit():
        return GpuDevice(name="", compute_capability=name, memory_mib=0, mig=mig)
    product = KNOWN.gpus.product(name)
    assert product is not None, name
    return GpuDevice(name=name, compute_capability=product.compute_capability, memory_mib=0, mig=mig)


def checked(case: Case) -> ImageCheck:
    image = TABLE.images[case.image]
    facts = GpuFacts(driver=case.driver, devices=tuple(device(name, case.mig) for name in case.gpus))
    host = Host(machine="x86_64", gpus=facts, here=False)
    reasons = judge(needs_of(image.env, image.labels, image.entrypoint), "linux", "amd64", host, KNOWN)
    digest = samples.digest(case.id)
    return ImageCheck(reference=case.image, manifest_digest=digest, config_digest=digest, size_bytes=0, reasons=reasons)


def flipped(case: Case, flip: Flip) -> Case:
    changes = {name: value for name in ("image", "driver", "gpus", "mig") if (value := getattr(flip, name)) is not None}
    return msgspec.structs.replace(case, **changes)


@pytest.mark.parametrize("case", TABLE.cases, ids=lambda case: case.id)
def test_case(case: Case) -> None:
    found = checked(case)
    statuses = {reason.id: reason.status for reason in found.reasons}
    assert {name: statuses.get(name) for name in case.expected} == case.expected, found.reasons
    assert found.verdict == case.verdict, found.reasons


@pytest.mark.parametrize("case", [case for case in TABLE.cases if case.flip is not None], ids=lambda case: case.id)
def test_one_change_gives_another_verdict(case: Case) -> None:
    assert case.flip is not None and case.flip.verdict != case.verdict
    assert checked(flipped(case, case.flip)).verdict == case.flip.verdict, checked(flipped(case, case.flip)).reasons


def test_the_table_is_whole() -> None:
    """Each case has sources that are named, each image is used, and most cases were seen to fail."""
    assert len(TABLE.cases) >= 40
    assert len({case.id for case in TABLE.cases}) == len(TABLE.cases)
    assert {name for case in TABLE.cases for name in case.source} <= set(TABLE.sources)
    used = {case.image for case in TABLE.cases} | {case.flip.image for case in TABLE.cases if case.flip is not None}
    assert set(TABLE.images) <= used
    assert sum(case.flip is not None for case in TABLE.cases) > len(TABLE.cases) * 3 / 4


def test_whatever_is_not_a_pass_says_what_was_needed_and_found() -> None:
    for case in TABLE.cases:
        for reason in checked(case).reasons:
            assert reason.needed and reason.found, (case.id, reason)
            assert reason.status == "pass" or reason.hint, (case.id, reason)
