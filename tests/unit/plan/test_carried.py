"""An interpreter that the lock keeps, on bases that have another or none."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from envsnap import catalog
from envsnap.errors import PlanError
from envsnap.lockfile import seal
from envsnap.lockfile.validate import problems
from envsnap.model.base import Base, BaseInventory, ImageConfig
from envsnap.model.layers import BytecodeLayer, EnvironmentLayer, TreeLayer
from envsnap.model.lock import EnvLock, LockedConda, LockedTree
from envsnap.model.plan import AptInstall, BuildPlan, CarryInterpreter, InstallPacked, InstallWheels, MakeEnvironment
from envsnap.plan import candidate_references, make_plan
from envsnap.plan.layers import Ingredients, lay_out
from envsnap.workflows.places import named_blobs
from tests import samples

KNOWN = catalog.load()
TREE = LockedTree(blob=samples.digest("python"), libc="2.35", sonames=("libc.so.6", "libffi.so.8", "libssl.so.3"))
PROGRAM = "/opt/envsnap/python/bin/python3.11"


def lock(tree: LockedTree | None = TREE, **changes: Any) -> EnvLock:
    made = samples.lock()
    return seal(replace(made, python=replace(made.python, tree=tree, **changes)))


def base(python: str | None, libc: str = "glibc 2.36", distribution: str = "debian 12", **changes: Any) -> Base:
    values: dict[str, Any] = {
        "reference": "x.example.com/b:1",
        "digest": samples.digest("base"),
        "family": "other",
        "config": ImageConfig(architecture="amd64"),
        "inventory": BaseInventory(distribution=distribution, python=python, libc=libc, complete=True),
    }
    return Base(**(values | changes))


def steps(plan: BuildPlan, kind: type) -> list[Any]:
    return [step for step in plan.steps if isinstance(step, kind)]


@pytest.mark.parametrize("python", ["3.10.12", "3.12.3", None])
def test_it_is_carried_to_a_base_of_another_version(python: str | None) -> None:
    plan = make_plan(lock(), KNOWN, [base(python)])
    (carry,) = steps(plan, CarryInterpreter)
    (make,) = steps(plan, MakeEnvironment)
    assert (carry.tree, carry.path, carry.program) == (TREE.blob, "/opt/envsnap/python", PROGRAM)
    assert "3.11.7" in carry.reason and "the base has no 3.11" in carry.reason
    assert make.python == PROGRAM
    assert plan.steps.index(carry) < plan.steps.index(make)
    assert "the captured interpreter is carried" in plan.base_reason
    assert not any("in place of 3.11.7" in broken for broken in plan.candidates[0].breaks)


def test_a_base_of_its_minor_version_needs_it_not() -> None:
    plan = make_plan(lock(), KNOWN, [base("3.11.2")])
    assert not steps(plan, CarryInterpreter)
    assert steps(plan, MakeEnvironment)[0].python == "python3"


@pytest.mark.parametrize(
    ("libc", "why"),
    [
        ("glibc 2.31", "needs glibc 2.35 or newer; it has 2.31"),
        ("glibc 2.4", "it has 2.4"),
        ("musl", "needs glibc; it has musl"),
        ("", "which C library it has is not known"),
    ],
)
def test_it_is_refused_where_it_could_not_run(libc: str, why: str) -> None:
    with pytest.raises(PlanError) as raised:
        make_plan(lock(), KNOWN, [base("3.12.3", libc=libc)])
    assert "it has no Python 3.11" in raised.value.why and why in raised.value.why


def test_a_newer_libc_is_not_read_as_an_older_one() -> None:
    assert steps(make_plan(lock(replace(TREE, libc="2.9")), KNOWN, [base(None, libc="glibc 2.36")]), CarryInterpreter)


def test_a_base_that_nobody_looked_into_is_refused() -> None:
    with pytest.raises(PlanError, match=r"cannot carry|not known"):
        make_plan(lock(), KNOWN, [base(None, inventory=None)])


def test_another_machine_is_refused() -> None:
    with pytest.raises(PlanError) as raised:
        make_plan(lock(), KNOWN, [base(None, config=ImageConfig(architecture="arm64"))])
    assert "arm64" in raised.value.why


def test_who_has_not_kept_it_is_told_how() -> None:
    with pytest.raises(PlanError) as raised:
        make_plan(lock(None), KNOWN, [base("3.12.3")])
    assert "--rescue python" in raised.value.hint


def test_what_it_loads_comes_from_the_bases_distribution() -> None:
    def packages(distribution: str, python: str | None) -> set[str]:
        return {
            name
            for step in steps(make_plan(lock(), KNOWN, [base(python, distribution=distribution)]), AptInstall)
            for name in step.packages
        }

    assert packages("debian 12", None) - packages("debian 12", "3.11.2") >= {"libssl3"}
    assert "libssl3t64" in packages("ubuntu 24.04", "3.12.3")
    (step,) = steps(make_plan(lock(), KNOWN, [base(None)]), AptInstall)
    assert "libssl.so.3 (python)" in step.reason and "libc.so.6" not in step.reason


def test_without_a_release_of_its_version_every_release_may_do() -> None:
    (wanted,) = candidate_references(lock(), KNOWN, None)
    assert wanted.family == "ngc-pytorch"
    with pytest.raises(PlanError):
        candidate_references(lock(None), KNOWN, None)


def test_the_layers_have_it_below_the_environment() -> None:
    chosen = base("3.12.3")
    plan = make_plan(lock(), KNOWN, [chosen])
    hashes = [wheel.sha256 for step in steps(plan, InstallWheels) for wheel in step.wheels]
    hashes += [package.blob.removeprefix("sha256:") for step in steps(plan, InstallPacked) for package in step.packages]
    assert chosen.inventory is not None
    known = Ingredients(
        wheels=dict.fromkeys(hashes, (1 << 20, 1000)),
        inventory=chosen.inventory,
        base=samples.digest("base"),
        base_layers=1,
        lock=samples.digest("lock"),
    )
    made = lay_out(plan, lock(), known).layers
    (tree,) = (layer for layer in made if isinstance(layer, TreeLayer))
    (environment,) = (layer for layer in made if isinstance(layer, EnvironmentLayer))
    assert (tree.tree, tree.path) == (TREE.blob, "/opt/envsnap")
    assert (environment.interpreter, environment.version) == (PROGRAM, "3.11.7")
    assert made.index(tree) < made.index(environment)
    assert {layer.version for layer in made if isinstance(layer, BytecodeLayer)} == {"3.11.7"}


def test_its_blob_belongs_to_the_lock() -> None:
    assert TREE.blob in named_blobs(lock())
    assert TREE.blob not in named_blobs(lock(None))


def test_what_a_lock_may_not_say_of_it() -> None:
    assert problems(lock()) == ()
    assert any("sorted" in found for found in problems(lock(replace(TREE, sonames=("b.so", "a.so")))))
    assert any("python.tree" in found for found in problems(lock(conda=LockedConda(packages=()))))
