"""A lock with a package changed: what stays, what no longer holds, and what packages require of each other."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from packaging import tags

from envsnap import lockfile
from envsnap.lockfile import Conflict, Replacement
from envsnap.model.facts import DeviceCode
from envsnap.model.lock import EnvLock
from tests import samples

LOCK = samples.lock()
NEW = Replacement(version="9.9", file="numpy-9.9-py3-none-any.whl", sha256="0" * 64, tags=("py3-none-any",), files=samples.digest("new"))


def lock_of(**versions: str) -> EnvLock:
    packages = tuple(samples.index_package(name, version) for name, version in versions.items())
    return lockfile.seal(replace(LOCK, packages=packages))


def relocked(names: set[str], lock: EnvLock = LOCK) -> EnvLock:
    changes = {name: replace(NEW, file=f"{name.replace('-', '_')}-9.9-py3-none-any.whl") for name in names}
    return lockfile.relocked(lock, changes, day="2026-11-21")


@given(names=st.sets(st.sampled_from([package.name for package in LOCK.packages if package.provenance == "index"]), min_size=1))
def test_everything_that_is_not_named_stays_as_it_was(names: set[str]) -> None:
    new = relocked(names)
    assert lockfile.loads(lockfile.dumps(new)) == new  # whole, with digests of its own
    assert new.digest != LOCK.digest
    assert [package for package in new.packages if package.name not in names] == [p for p in LOCK.packages if p.name not in names]
    assert {package.version for package in new.packages if package.name in names} == {"9.9"}
    for part in ("python", "system_packages", "source", "env", "name"):
        assert getattr(new, part) == getattr(LOCK, part)
    assert (new.observed.platform, new.observed.gpu, new.observed.imports) == (
        LOCK.observed.platform,
        LOCK.observed.gpu,
        LOCK.observed.imports,
    )
    assert new.observed.reference is None
    assert {problem.where for problem in new.capture.problems} >= {f"relock.{name}" for name in names}


def test_what_was_loaded_of_the_changed_package_is_not_claimed() -> None:
    owner = next(library.owner for library in LOCK.observed.cuda.loaded if library.soname.startswith("libcudnn."))
    assert owner is not None and LOCK.observed.cuda.cudnn is not None
    lock = lockfile.seal(
        replace(
            LOCK, packages=(*LOCK.packages, *([samples.index_package(owner, "1")] if owner not in {p.name for p in LOCK.packages} else []))
        )
    )
    cuda = relocked({owner}, lock).observed.cuda
    assert cuda.cudnn is None and not [library for library in cuda.loaded if library.owner == owner]
    assert cuda.nccl == lock.observed.cuda.nccl and cuda.torch == lock.observed.cuda.torch
    assert relocked({"torch"}).observed.cuda.torch is None


def test_a_package_that_is_changed_twice_is_said_once() -> None:
    name = next(package.name for package in LOCK.packages if package.provenance == "index")
    twice = relocked({name}, relocked({name}))
    assert [problem.where for problem in twice.capture.problems].count(f"relock.{name}") == 1


def test_which_gpus_the_new_code_is_for_is_not_claimed() -> None:
    code = DeviceCode(cubins=("sm_90",))
    lock = lockfile.seal(
        replace(LOCK, packages=tuple(replace(p, device_code=code) if p.name in ("torch", "torchvision") else p for p in LOCK.packages))
    )
    new = relocked({"torch", "numpy"}, lock)
    assert {package.name for package in new.packages if package.device_code} == {"torchvision"}
    said = {problem.where: problem.what for problem in new.capture.problems}
    assert said["relock.torch"].endswith("on 2026-11-21; which GPUs its code is for is not known")
    assert said["relock.numpy"].endswith("on 2026-11-21")


NO_C = Conflict(package="a", version="1", requirement="c", found=None)


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        ({"a": ["b>=2"]}, None),
        ({"a": ["b>=3"]}, Conflict(package="a", version="1", requirement="b>=3", found="2")),
        ({"a": ["c"]}, Conflict(package="a", version="1", requirement="c", found=None)),
        ({"a": ["c; extra == 'more'"]}, None),
        ({"a": ["b[more]"], "b": ["c; extra == 'more'"]}, Conflict(package="b", version="2", requirement="c", found=None)),
        ({"a": ["c; sys_platform == 'win32'"]}, None),
        ({"a": ["c; python_version < '3'"]}, None),
        ({"a": ["c; platform_machine == 'x86_64' and python_version >= '3.8'"]}, NO_C),
        ({"a": ["B.>=", "b ==", "@@"]}, None),
        ({"a": ["b @ https://example.com/b.whl"]}, None),
        ({"a": ["b>=3a1"]}, Conflict(package="a", version="1", requirement="b>=3a1", found="2")),
        ({}, None),
    ],
)  # fmt: skip
def test_requirements_are_held_against_the_locks_own_environment(requires: dict[str, list[str]], expected: Conflict | None) -> None:
    assert lockfile.conflicts(lock_of(a="1", b="2"), requires) == (frozenset({expected}) if expected else frozenset())


def test_extras_that_go_round_in_a_circle_come_to_an_end() -> None:
    requires = {"a": ["b[x]"], "b": ["a[y]; extra == 'x'"]}
    assert lockfile.conflicts(lock_of(a="1", b="2"), {**requires, "a": ["b[x]", "c; extra == 'y'"]}) == {
        Conflict(package="a", version="1", requirement="c", found=None)
    }


def test_a_conflict_is_a_sentence() -> None:
    (found,) = lockfile.conflicts(lock_of(a="1", b="2"), {"a": ["b>=3"]})
    assert str(found) == "a 1 requires b>=3, and the lock would have b 2"
    (found,) = lockfile.conflicts(lock_of(a="1"), {"a": ["b"]})
    assert str(found) == "a 1 requires b, and the lock has none"


@pytest.mark.skipif(sys.implementation.name != "cpython" or sys.platform != "linux", reason="for CPython on Linux")
def test_the_tags_of_this_interpreter_are_those_that_pip_takes() -> None:
    """As `packaging` computes them where the interpreter itself can be asked."""
    facts = samples.facts()
    soabi, abi = facts.interpreter.soabi, "cp{}{}".format(*sys.version_info[:2])
    from envsnap.guest import interpreter

    libc = interpreter.libc()
    python = replace(LOCK.python, version="{}.{}.{}".format(*sys.version_info[:3]), implementation="cpython", abi=abi)
    observed = replace(LOCK.observed, platform=replace(LOCK.observed.platform, libc=libc))
    machine = interpreter.interpreter_facts()["machine"]
    python = replace(python, interpreter=replace(python.interpreter, machine=machine, soabi=soabi))
    ours = set(lockfile.supported_tags(replace(LOCK, python=python, observed=observed)))
    theirs = {str(tag) for tag in tags.sys_tags()}
    assert theirs <= ours | {tag for tag in theirs if "manylinux_2_" in tag and int(tag.split("_")[2]) < 5}
    assert not {tag for tag in ours - theirs if "linux" in tag and "manylinux" not in tag}
