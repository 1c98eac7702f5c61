"""Every plan has a row for each of the three ways, and one that is not possible says why, what it would break, and what to do for it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from envsnap import catalog
from envsnap.lockfile import seal
from envsnap.model.base import Base, BaseInventory, ImageConfig, InstalledDistribution
from envsnap.model.lock import EnvLock, LockedTree
from envsnap.model.origins import BaseOrigin
from envsnap.model.plan import Candidate
from envsnap.plan import candidate_references, make_plan
from envsnap.plan.alternatives import unasked
from envsnap.plan.bases import libc_of, strategy
from tests import samples

KNOWN = catalog.load()
NGC, DIGEST = "nvcr.io/nvidia/pytorch:25.03-py3", samples.digest("ngc")
TREE = LockedTree(blob=samples.digest("python"), libc="2.28")


def lock(python: str = "3.11.7", *, kept: bool = False) -> EnvLock:
    made = samples.lock(device="cuda")
    return seal(replace(made, python=replace(made.python, version=python, tree=TREE if kept else None)))


def slim(version: str) -> Base:
    config = ImageConfig(architecture="amd64", env={"PYTHON_VERSION": version})
    return Base(reference=f"python:{version[:4]}-slim-bookworm", family="slim", digest=DIGEST, config=config)


def rows(lock: EnvLock, base: Base) -> dict[str, Candidate]:
    """The first row of each strategy."""
    first: dict[str, Candidate] = {}
    for candidate in make_plan(lock, KNOWN, [base]).candidates:
        first.setdefault(candidate.strategy, candidate)
    return first


@pytest.mark.parametrize(("python", "kept"), [("3.11.7", False), ("3.11.7", True), ("3.12.3", False)])
def test_each_strategy_has_a_row(python: str, kept: bool) -> None:
    found = rows(lock(python, kept=kept), slim(python))
    assert {name: one.possible for name, one in found.items()} == {
        "slim": True,
        "ngc-venv": kept or python.startswith("3.12"),
        "ngc-delta": False,
    }
    assert all(one.possible or (one.reason and one.way and not one.added_bytes) for one in found.values())
    assert all(one.exact and not one.breaks and not one.way for one in found.values() if one.possible)


def test_a_python_that_no_release_has_needs_its_interpreter_kept() -> None:
    without, with_ = rows(lock(), slim("3.11.7"))["ngc-venv"], rows(lock(kept=True), slim("3.11.7"))["ngc-venv"]
    assert "its Python is 3.12" in without.reason and "capture --rescue python" in without.way
    assert with_.carried and with_.python == "3.12"
    assert with_.exact == ("14 packages", "the interpreter, Python 3.11.7")
    assert with_.differs == ("system libraries of ubuntu 24.04 in place of debian 12's",)


def test_the_image_that_it_could_have_been_made_in_is_the_one_with_its_torch() -> None:
    found = rows(lock(), slim("3.11.7"))["ngc-delta"]
    assert found.base.release is not None and found.base.release.torch == "2.12.0a0+5aff392"  # of 2.12.1
    assert "its torch is NVIDIA's 2.12.0a0+5aff392, this is 2.12.1 of an index" in found.reason
    assert found.differs == ("torch 2.12.0a0+5aff392 in place of 2.12.1",)
    assert found.breaks[0] == "3 of 14 packages were built for Python 3.11 and do not load in its 3.12"  # numpy, torch, torchvision
    assert "capture --container" in found.way


def test_of_its_own_python_no_package_fails_to_load() -> None:
    assert not any("do not load" in said for said in rows(lock("3.12.3"), slim("3.12.3"))["ngc-delta"].breaks)


def test_an_environment_without_a_framework_is_told_so() -> None:
    bare = lock()
    bare = seal(replace(bare, packages=tuple(package for package in bare.packages if package.name == "numpy")))
    found = rows(bare, slim("3.11.7"))["ngc-delta"]
    assert "the environment has none" in found.reason and found.differs == ()


def test_what_was_made_in_an_image_is_told_of_the_other_ways_why_they_are_none() -> None:
    version, files = "2.7.0a0+7c8ec84dab.nv25.3", samples.digest("torch")
    own = replace(
        samples.index_package("torch", version), origin=BaseOrigin(reference=NGC), file=None, sha256=None, files=files, provenance="base"
    )
    made = lock("3.12.3")
    made = seal(replace(made, packages=(own,)))
    (base,) = candidate_references(made, KNOWN, None)
    there = InstalledDistribution(name="torch", version=version, site="usr/local/lib/python3.12/dist-packages", files=files)
    inventory = BaseInventory(distribution="ubuntu 24.04", python="3.12.3", packages=(there,))
    found = rows(made, replace(base, digest=DIGEST, config=ImageConfig(architecture="amd64"), inventory=inventory))
    assert {name: one.possible for name, one in found.items()} == {"ngc-delta": True, "ngc-venv": False, "slim": False}
    assert found["ngc-delta"].exact == ("1 package as the image has it",) and not found["ngc-delta"].differs
    for name in ("ngc-venv", "slim"):
        assert version in found[name].reason and "from an index" in found[name].way


def test_an_image_of_another_family_of_nvidia_s_is_isolated_alike() -> None:
    assert strategy(Base(reference="x", family="ngc-tensorflow"), lock()) == "ngc-venv"
    assert strategy(Base(reference="x", family="other"), lock()) == "venv"


def test_the_c_library_of_a_release_is_that_of_its_distribution() -> None:
    (release,) = KNOWN.named("nvcr.io/nvidia/pytorch:26.07-py3")
    base = Base(reference=release.reference, family="ngc-pytorch", release=release)
    assert libc_of(base, KNOWN) == "glibc 2.39"
    assert libc_of(Base(reference="x", family="other"), KNOWN) == ""
    too_new = lock(kept=True)
    too_new = seal(replace(too_new, python=replace(too_new.python, tree=replace(TREE, libc="2.40"))))
    refused = unasked(base, too_new, KNOWN)
    assert not refused.possible and "needs glibc 2.40 or newer; it has 2.39" in refused.reason


def test_every_distribution_has_a_c_library() -> None:
    assert KNOWN.libraries.glibc.keys() == {*KNOWN.libraries.distributions}


@pytest.mark.parametrize(
    ("image", "family"),
    [("nvcr.io/nvidia/tensorflow:24.01-tf2-py3", "ngc-tensorflow"), (NGC, "ngc-pytorch"), ("mirror.example.com/x:1", "ngc-pytorch")],
)
def test_the_image_that_it_was_made_in_is_of_its_own_family(image: str, family: str) -> None:
    own = replace(samples.index_package("torch", "2.7.0"), origin=BaseOrigin(reference=image), provenance="base")
    (base,) = candidate_references(seal(replace(lock("3.12.3"), packages=(own,))), KNOWN, None)
    assert (base.reference, base.family) == (image, family)
