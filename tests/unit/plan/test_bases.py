"""Which bases are asked about, and which can carry a lock."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from envsnap import catalog
from envsnap.errors import PlanError, UsageError
from envsnap.lockfile import seal
from envsnap.model.base import Base, BaseInventory, ImageConfig
from envsnap.model.lock import EnvLock
from envsnap.plan import candidate_references, make_plan
from envsnap.plan.bases import distribution_of, judge, why
from tests import samples

KNOWN = catalog.load()


def with_python(version: str, *, driver: str | None = "580.159.04") -> EnvLock:
    lock = samples.lock(device="cuda")
    gpu = replace(lock.observed.gpu, driver=driver)
    return seal(replace(lock, python=replace(lock.python, version=version), observed=replace(lock.observed, gpu=gpu)))


@pytest.mark.parametrize("asked", [None, "ngc"])
def test_the_default_is_the_newest_ngc_release_that_fits(asked: str | None) -> None:
    (base,) = candidate_references(with_python("3.12.3"), KNOWN, asked)
    assert (base.reference, base.family, base.digest) == ("nvcr.io/nvidia/pytorch:26.07-py3", "ngc-pytorch", None)


def with_framework(name: str, version: str, python: str) -> EnvLock:
    return seal(replace(with_python(python), packages=(samples.index_package(name, version),)))


@pytest.mark.parametrize(
    ("name", "version", "python", "reference"),
    [
        ("tensorflow", "2.14.1", "3.10.12", "nvcr.io/nvidia/tensorflow:24.01-tf2-py3"),
        ("paddlepaddle", "2.6.2", "3.10.12", "nvcr.io/nvidia/paddlepaddle:24.05-py3"),
        ("torch", "2.4.0", "3.10.12", "nvcr.io/nvidia/pytorch:24.10-py3"),
        ("tensorflow", "2.21.0", "3.12.3", "nvcr.io/nvidia/pytorch:26.07-py3"),  # no TensorFlow release is known to have 3.12
    ],
)
def test_an_environment_gets_the_images_of_its_framework(name: str, version: str, python: str, reference: str) -> None:
    (base,) = candidate_references(with_framework(name, version, python), KNOWN, None)
    assert (base.reference, base.family) == (reference, f"ngc-{reference.split('/')[2].partition(':')[0]}")


def test_an_old_driver_gets_an_older_release() -> None:
    (base,) = candidate_references(with_python("3.12.3", driver="575.57.08"), KNOWN, None)
    assert base.release is not None and base.release.release == "25.06"


def test_without_a_driver_none_is_held_against_a_release() -> None:
    (base,) = candidate_references(with_python("3.12.3", driver=None), KNOWN, None)
    assert base.reference == "nvcr.io/nvidia/pytorch:26.07-py3"
    assert "no driver was there" in judge(base, with_python("3.12.3", driver=None), KNOWN).reason


def test_no_release_for_this_python() -> None:
    with pytest.raises(PlanError) as caught:
        candidate_references(samples.lock(), KNOWN, None)
    assert "Python 3.11" in caught.value.why and "3.8, 3.10, 3.12" in caught.value.why
    assert "--base slim" in caught.value.hint and "--base REF" in caught.value.hint


def test_no_release_for_this_driver() -> None:
    with pytest.raises(PlanError, match="no NGC") as caught:
        candidate_references(with_python("3.12.3", driver="450.51"), KNOWN, None)
    assert "450.51" in caught.value.why


def test_slim_and_references() -> None:
    lock = samples.lock()
    assert candidate_references(lock, KNOWN, "slim") == (Base(reference="python:3.11-slim-bookworm", family="slim"),)
    assert candidate_references(lock, KNOWN, "python:3.11-slim-bookworm") == candidate_references(lock, KNOWN, "slim")
    other = "python:3.12-slim-bookworm"  # another than "slim" means here
    assert candidate_references(lock, KNOWN, other) == (Base(reference=other, family="other"),)
    (ngc,) = candidate_references(lock, KNOWN, "nvcr.io/nvidia/pytorch:25.06-py3")
    assert ngc.family == "ngc-pytorch" and ngc.release is not None
    assert candidate_references(lock, KNOWN, "localhost:5000/x:1") == (Base(reference="localhost:5000/x:1", family="other"),)


@pytest.mark.parametrize("asked", ["", "a b", "x\nRUN evil", "-x", "$(x)"])
def test_what_is_no_reference(asked: str) -> None:
    with pytest.raises(UsageError):
        candidate_references(samples.lock(), KNOWN, asked)


def base(**changes: object) -> Base:
    inventory = BaseInventory(distribution="debian 12", python="3.11.2", python_path="/usr/bin/python3")
    return replace(Base(reference="x.example.com/b:1", family="other", digest=samples.digest("b"), inventory=inventory), **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"inventory": BaseInventory(distribution="debian 12", python="3.12.3")},
            "its Python is 3.12; the environment's packages are built for 3.11",
        ),
        ({"inventory": BaseInventory(distribution="debian 12")}, "it has no python3"),
        ({"inventory": None, "config": ImageConfig(architecture="amd64")}, "its Python is not known"),
        ({"config": ImageConfig(architecture="arm64")}, "it is for arm64; the environment was captured on amd64"),
    ],
)
def test_hard_constraints(changes: dict[str, object], reason: str) -> None:
    candidate = judge(base(**changes), samples.lock(), KNOWN)
    assert not candidate.possible and reason in candidate.reason
    with pytest.raises(PlanError):
        make_plan(samples.lock(), KNOWN, [candidate.base])


def test_what_is_not_known_is_said_with_the_way_to_make_it_known() -> None:
    unknown = base(inventory=None, unknown_because="cannot reach x.example.com: connection refused")
    with pytest.raises(PlanError) as caught:
        make_plan(samples.lock(), KNOWN, [unknown])
    assert "the Python of x.example.com/b:1 is not known" in caught.value.what
    assert caught.value.why == "cannot reach x.example.com: connection refused"
    assert "envsnap bases inspect x.example.com/b:1 --deep" in caught.value.hint


def test_differences_of_a_possible_base_are_named() -> None:
    candidate = judge(base(inventory=BaseInventory(distribution="ubuntu 22.04", python="3.11.2")), samples.lock(), KNOWN)
    assert candidate.differs == ("Python 3.11.2 in place of 3.11.7", "system libraries of ubuntu 22.04 in place of debian 12's")


@pytest.mark.parametrize(
    ("changes", "distribution"),
    [
        ({}, "debian 12"),
        ({"inventory": None}, None),
        ({"inventory": None, "family": "slim"}, "debian 12"),
        ({"inventory": None, "release": KNOWN.release_of("nvcr.io/nvidia/pytorch:26.07-py3")}, "ubuntu 24.04"),
        (
            {
                "inventory": None,
                "config": ImageConfig(
                    architecture="amd64",
                    labels={"org.opencontainers.image.ref.name": "ubuntu", "org.opencontainers.image.version": "22.04"},
                ),
            },
            "ubuntu 22.04",
        ),
    ],
)
def test_the_distribution_as_far_as_it_is_known(changes: dict[str, object], distribution: str | None) -> None:
    assert distribution_of(base(**changes), KNOWN) == distribution


@pytest.mark.parametrize(
    ("driver", "told"),
    [
        ("580.159.04", ", and met by driver 580.159.04"),
        ("575.57.08", "; the captured driver, 575.57.08, is older"),
        (None, " (no driver was there at the capture to hold against it)"),
    ],
)
def test_the_captured_driver_is_told_of_a_candidate_and_not_rendered(driver: str | None, told: str) -> None:
    lock = with_python("3.12.3", driver=driver)
    (newest,) = candidate_references(lock, KNOWN, "nvcr.io/nvidia/pytorch:26.07-py3")
    plan = make_plan(lock, KNOWN, [newest])
    assert plan.base_reason.startswith("NGC is the default; 26.07 is the newest release")
    assert plan.candidates[0].reason == plan.base_reason + told


def test_an_older_ngc_release_is_not_called_the_default() -> None:
    lock = with_python("3.12.3")
    (older,) = candidate_references(lock, KNOWN, "nvcr.io/nvidia/pytorch:25.06-py3")
    assert why(older, lock, KNOWN).startswith("an NGC release, 25.06, whose Python (3.12)")


@pytest.mark.parametrize(("in_engine", "size"), [(True, 0), (False, 4_000), (False, None)])
def test_only_what_no_engine_has_is_pulled(in_engine: bool, size: int | None) -> None:
    config = ImageConfig(architecture="amd64", size_bytes=4_000 if in_engine else size)
    assert judge(base(config=config, in_engine=in_engine), samples.lock(), KNOWN).pull_bytes == size


def test_a_digest_is_printed_once() -> None:
    digest = samples.digest("b")
    for named in (base(), base(reference=f"x.example.com/b:1@{digest}")):
        assert (named.name, named.pinned) == ("x.example.com/b:1", f"x.example.com/b:1@{digest}")
        labels = make_plan(samples.lock(), KNOWN, [named]).labels
        assert labels["org.opencontainers.image.base.name"] == "x.example.com/b:1"
        assert labels["org.opencontainers.image.base.digest"] == digest
    assert base(digest=None).pinned == "x.example.com/b:1"


def test_other_bases_are_listed_without_being_asked() -> None:
    candidates = make_plan(samples.lock(), KNOWN, [base()]).candidates
    assert [(candidate.base.reference, candidate.possible) for candidate in candidates] == [
        ("x.example.com/b:1", True),
        ("nvcr.io/nvidia/pytorch:26.07-py3", False),
        ("python:3.11-slim-bookworm", True),
        ("debian:bookworm", True),
        ("nvcr.io/nvidia/pytorch:26.05-py3", False),
    ]
    assert candidates[2].reason == "fits, by the catalogue" and "made of packages" in candidates[3].reason
