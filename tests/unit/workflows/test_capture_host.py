"""What the driver of the capture says of a base, before anything is pulled, and that nothing that is rendered hangs on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from envsnap import catalog
from envsnap.engines.docker import DockerEngine
from envsnap.errors import EngineError, PlanError
from envsnap.model.base import Base, ImageConfig
from envsnap.model.facts import GpuDevice, GpuFacts
from envsnap.model.lock import EnvLock
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.workflows import bases, plan
from envsnap.workflows.capture_host import require_driver
from envsnap.workflows.plan import PlanRequest
from envsnap.workflows.system import Packages
from tests import samples

KNOWN = catalog.load()
SLIM = Base(reference="python:3.11-slim-bookworm", family="slim")
NGC = "nvcr.io/nvidia/pytorch:26.07-py3"
A100, RTX_3090 = ("NVIDIA A100-SXM4-80GB", "8.0"), ("NVIDIA GeForce RTX 3090", "8.6")


def captured(driver: str | None, card: tuple[str, str] = A100, *, cuda: str = "13.0", ran: bool = False) -> EnvLock:
    """A lock of a host with that driver and card. Args: ran: the smoke-train of the capture computed on it."""
    lock = samples.lock(device="cuda")
    device = GpuDevice(name=card[0], compute_capability=card[1], memory_mib=1)
    gpus = GpuFacts(driver=driver, devices=(device,)) if driver is not None else GpuFacts(unavailable="no NVIDIA driver")
    runtimes = {"nvidia-cuda-runtime": {"version": f"{cuda}.96"}}
    packages = tuple(replace(package, **runtimes.get(package.name, {})) for package in lock.packages)
    reference = lock.observed.reference if ran else None
    return replace(lock, packages=packages, observed=replace(lock.observed, gpu=gpus, reference=reference))


def ngc(**changes: Any) -> Base:
    return replace(Base(reference=NGC, family="ngc-pytorch", release=KNOWN.release_of(NGC)), **changes)


def in_a_mirror(entrypoint: str = "/opt/nvidia/nvidia_entrypoint.sh") -> Base:
    """The same image under a name that the catalogue does not have."""
    env = {"NVIDIA_PYTORCH_VERSION": "26.07", "CUDA_VERSION": "13.3.1.008", "CUDA_DRIVER_VERSION": "610.43.02"}
    labels = {"org.opencontainers.image.ref.name": "ubuntu", "org.opencontainers.image.version": "24.04"}
    config = ImageConfig(architecture="amd64", env=env, labels=labels, entrypoint=(entrypoint,))
    return Base(reference="mirror.example.com/pytorch:1", family="other", config=config)


@pytest.mark.parametrize(
    ("base", "lock"),
    [
        (SLIM, captured("580.65.06")),
        (SLIM, captured("535.104.05", cuda="12.1")),
        (SLIM, captured(None)),
        (SLIM, captured("535.104.05", ran=True)),  # tables are no argument against what was seen to run
        (ngc(), captured("580.159.04", RTX_3090)),
        (ngc(), captured("535.104.05")),  # by NGC's compatibility libraries
        (in_a_mirror(), captured("535.104.05")),
        (Base(reference="x.example.com/y:1", family="other"), captured("470.256.02", RTX_3090)),  # nothing is known of it yet
        (in_a_mirror(), captured("535.104.05", ("NVIDIA RTX A6000", "8.6"))),  # what is not known is no refusal
    ],
)
def test_what_the_captured_driver_runs_or_may_run(base: Base, lock: EnvLock) -> None:
    require_driver(base, lock, KNOWN)


@pytest.mark.parametrize(
    ("base", "lock", "what", "why", "hint"),
    [
        (SLIM, captured("535.104.05"), "the environment", "needs driver 580.65.06 or newer, for CUDA 13.0", "relock"),
        (SLIM, captured("535.104.05"), "the environment", "no compatibility libraries", "--base ngc"),
        (ngc(), captured("535.104.05", RTX_3090), NGC, "not for GeForce cards (NVIDIA GeForce RTX 3090)", "packages for an older CUDA"),
        (ngc(), captured("535.104.05", RTX_3090, cuda="12.1"), NGC, "not for GeForce cards", "--base slim"),
        (ngc(), captured("470.256.02"), NGC, "470.256.02", "a newer driver"),
        (in_a_mirror(), captured("535.104.05", RTX_3090, cuda="12.1"), "mirror.example.com/pytorch:1", "CUDA 13.3.1.008", "--base slim"),
        (in_a_mirror("/bin/bash"), captured("535.104.05"), "mirror.example.com/pytorch:1", "entrypoint", "relock"),
    ],
)
def test_what_it_cannot_run_is_refused_with_the_way_out(base: Base, lock: EnvLock, what: str, why: str, hint: str) -> None:
    with pytest.raises(PlanError) as caught:
        require_driver(base, lock, KNOWN)
    assert caught.value.what == f"{what} would not run on the host of the capture"
    assert why in caught.value.why and hint in caught.value.hint


class World:
    """A registry that has one base, and an engine that would pull it. Attributes: pulled: what it was asked to."""

    def __init__(self, base: Base, root: Path) -> None:
        self.base, self.root = base, root
        self.pulled: list[str] = []

    def resolve(self, *_: object, **__: object) -> Any:
        assert self.base.config is not None
        return SimpleNamespace(digest=samples.digest("base"), config_digest=samples.digest("config"), config=self.base.config)

    def pull(self, reference: str, _: object) -> None:
        self.pulled.append(reference)
        raise EngineError("cannot pull", why="the test ends here")

    def plan(self, lock: EnvLock, *, pull: bool, asked: bool = True, **options: Any) -> Any:
        return plan.make_plan(
            lock,
            PlanRequest(base=self.base.reference if asked else None),
            engine=cast("DockerEngine", SimpleNamespace(image=lambda _: None, pull=self.pull)) if pull else None,
            registry=cast("Registry", SimpleNamespace(resolve=self.resolve)),
            packages=cast("Packages", None),
            cache=self.root,
            pull=pull,
            progress=SILENT,
            **options,
        )


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[EnvLock], World]:
    monkeypatch.chdir(tmp_path)

    def world(lock: EnvLock) -> World:
        base = in_a_mirror()
        assert base.config is not None
        python = ".".join(lock.python.version.split(".")[:2])
        config = replace(base.config, env={**base.config.env, "PYTHON_VERSION": f"{python}.0"})
        return World(replace(base, config=config), tmp_path)

    return world


def test_the_refusal_comes_before_the_pull(mirror: Callable[[EnvLock], World]) -> None:
    lock = captured("535.104.05", RTX_3090)
    world = mirror(lock)
    with pytest.raises(PlanError, match="would not run on the host of the capture"):
        world.plan(lock, pull=True, hold_driver=True)
    assert world.pulled == []
    with pytest.raises(EngineError, match="cannot pull"):
        world.plan(captured("580.159.04", RTX_3090), pull=True, hold_driver=True)
    assert len(world.pulled) == 1


def test_what_is_rendered_and_checked_hangs_on_no_driver(mirror: Callable[[EnvLock], World]) -> None:
    old, new = captured("535.104.05", RTX_3090), captured("580.159.04", RTX_3090)
    one, other = mirror(old).plan(old, pull=False), mirror(new).plan(new, pull=False)
    assert (one.steps, one.labels, one.base_reason) == (other.steps, other.labels, other.base_reason)
    with pytest.raises(PlanError, match="would not run"):
        mirror(old).plan(old, pull=False, hold_driver=True)


def test_a_plan_shows_which_other_bases_would_not_run(mirror: Callable[[EnvLock], World]) -> None:
    lock = captured("535.104.05")  # NGC has libraries for that driver on an A100, and a small base has none
    made = mirror(lock).plan(lock, pull=False, hold_driver=True)
    assert [(one.strategy, one.possible) for one in made.candidates] == [
        ("ngc-venv", True),
        ("ngc-venv", False),  # nobody kept the interpreter
        ("slim", False),
        ("slim", False),
        ("ngc-delta", False),
    ]
    slim = next(one for one in made.candidates if one.base.family == "slim")
    assert "580.65.06 or newer, for CUDA 13.0" in slim.reason and "no compatibility libraries" in slim.reason
    assert slim.breaks == (slim.reason,) and not slim.exact and slim.way
    assert [one.possible for one in mirror(lock).plan(lock, pull=False).candidates] == [True, False, True, True, False]


def test_the_last_plan_s_base_is_not_said_to_be_asked_for(mirror: Callable[[EnvLock], World], monkeypatch: pytest.MonkeyPatch) -> None:
    lock = captured("580.159.04")
    world = mirror(lock)
    monkeypatch.setattr(bases, "pins", lambda _: {world.base.reference: samples.digest("base")})
    asked, kept = world.plan(lock, pull=False), world.plan(lock, pull=False, asked=False)
    assert asked.candidates[0].reason.startswith("asked for")
    assert kept.candidates[0].reason.startswith("the last plan's base, until --base names another: ")
    assert "asked for" not in kept.candidates[0].reason
    assert kept.base_reason == asked.base_reason  # which is rendered
