"""What each digest covers, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from envsnap.lockfile.digest import lock_digest, observed_digest, seal
from envsnap.model.lock import EnvLock, Measurements
from tests import samples

LOCK = samples.lock()


def test_a_sealed_lock_holds_its_digests() -> None:
    assert LOCK.digest == lock_digest(LOCK)
    assert LOCK.observed.digest == observed_digest(LOCK.observed)
    assert seal(LOCK) == LOCK


@pytest.mark.parametrize(
    "changes",
    [
        {"python": replace(LOCK.python, version="3.11.8")},
        {"packages": LOCK.packages[:-1]},
        {"packages": (replace(LOCK.packages[0], requested=True), *LOCK.packages[1:])},
        {"system_packages": ()},
        {"source": replace(samples.source(), files=samples.digest("other"))},
        {"source": None},
        {"env": {**LOCK.env, "OMP_NUM_THREADS": "8"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_digest_covers_what_an_image_is_made_from(changes: dict[str, Any]) -> None:
    assert lock_digest(replace(LOCK, **changes)) != LOCK.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"capture": replace(LOCK.capture, at="2027-01-01T00:00:00Z", host="elsewhere")},
        {"observed": replace(LOCK.observed, platform=samples.platform(kernel="7.0"), gpu=samples.gpu_facts(), reference=None)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_digest_covers_nothing_else(changes: dict[str, Any]) -> None:
    assert lock_digest(replace(LOCK, **changes)) == LOCK.digest


def test_measurements_are_in_no_digest() -> None:
    reference = LOCK.observed.reference
    assert reference is not None
    slower = replace(reference, measurements=Measurements(step_ms=1.0, seconds=2.0, peak_memory_mib=3.0))
    assert observed_digest(replace(LOCK.observed, reference=slower)) == LOCK.observed.digest
    assert observed_digest(replace(LOCK.observed, reference=replace(reference, measurements=None))) == LOCK.observed.digest
    assert observed_digest(replace(LOCK.observed, reference=replace(reference, anchor=samples.digest("x")))) != LOCK.observed.digest


def test_sealing_sorts() -> None:
    shuffled: EnvLock = replace(LOCK, packages=LOCK.packages[::-1], system_packages=LOCK.system_packages[::-1])
    assert seal(shuffled) == LOCK
