"""Properties of what is rendered: a new driver, kernel or node gives another lock of the same digest, and the same image."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from envsnap import catalog, plan, render
from envsnap.lockfile import dumps, seal
from envsnap.model.base import ImageConfig
from envsnap.model.lock import EnvLock, LockedFramework, LockedSystemPackage
from tests import samples

KNOWN = catalog.load()
UNKNOWN_LIBRARY = LockedSystemPackage(name="libodd1", sonames=("libodd.so.1",), needed_by=("torch",))
NGC = "nvcr.io/nvidia/pytorch:26.07-py3"


def captured() -> EnvLock:
    """On Python 3.12, which NGC releases have, with a library that the catalogue does not know."""
    lock = samples.lock(device="cuda", system_packages=(*samples.system_packages(), UNKNOWN_LIBRARY))
    return seal(replace(lock, python=replace(lock.python, version="3.12.3")))


text = st.text(max_size=20)
versions = st.from_regex(r"[1-9][0-9]{0,2}(?:\.[0-9]{1,3}){1,2}", fullmatch=True)


@st.composite
def elsewhere(draw: st.DrawFn) -> EnvLock:
    """The same environment, observed on another machine."""
    lock = captured()
    torch = draw(st.none() | st.builds(LockedFramework, version=versions, git=text))
    observed = replace(
        lock.observed,
        platform=samples.platform(
            kernel=draw(text), libc=draw(text), distribution=draw(st.sampled_from(["debian 12", "ubuntu 24.04", ""]))
        ),
        gpu=replace(lock.observed.gpu, driver=draw(st.none() | versions), cuda_driver=draw(st.none() | versions), devices=()),
        cuda=replace(lock.observed.cuda, runtime=draw(st.none() | versions), torch=torch, loaded=()),
        imports=draw(st.just(lock.observed.imports) | st.just(())),
        imports_failed=draw(st.dictionaries(text, text, max_size=2)),
        reference=None,
    )
    return seal(replace(lock, observed=observed, capture=replace(lock.capture, host=draw(text))))


def rendered(lock: EnvLock, reference: str, **known: Any) -> dict[str, bytes]:
    config = ImageConfig(architecture="amd64", env={"PATH": "/bin", "PYTHON_VERSION": "3.12.9"})
    (wanted,) = plan.candidate_references(lock, KNOWN, reference)
    made = plan.make_plan(lock, KNOWN, [replace(wanted, digest=samples.digest("b"), config=config, **known)])
    return render.render(made, lock, dumps(lock), {}, [("a.py", "644", samples.hex64("a"))])


@pytest.mark.parametrize("reference", [NGC, "nvcr.io/nvidia/pytorch:24.12-py3", "slim"])
@given(there=elsewhere())
@settings(max_examples=25, deadline=None)
def test_what_was_observed_changes_no_byte_but_the_lock_s_and_what_must_import(reference: str, there: EnvLock) -> None:
    here = captured()
    assert there.digest == here.digest
    left, right = rendered(here, reference), rendered(there, reference)
    observed = {"lock.yaml", *(() if there.observed.imports == here.observed.imports else ("expected.json",))}
    assert {path for path in left.keys() | right.keys() if left.get(path) != right.get(path)} <= observed


@pytest.mark.parametrize("reference", [NGC, "slim"])
def test_an_engine_that_has_the_base_changes_no_byte(reference: str) -> None:
    assert rendered(captured(), reference, in_engine=True) == rendered(captured(), reference)


def test_the_property_can_fail() -> None:
    other = seal(replace(captured(), env={"OMP_NUM_THREADS": "3"}))
    assert rendered(other, NGC)["Dockerfile"] != rendered(captured(), NGC)["Dockerfile"]
