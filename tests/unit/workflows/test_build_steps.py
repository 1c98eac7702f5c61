"""How a build goes about steps that need a shell: who is asked for what, in which order, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from envsnap import lockfile
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import EngineImage
from envsnap.errors import EngineError, PlanError
from envsnap.inventory.remembered import remember
from envsnap.model.debian import SystemPlan
from envsnap.model.lock import EnvLock, LockedConda
from envsnap.model.plan import BuildPlan
from envsnap.oci.documents import canonical, read_config
from envsnap.oci.image import BaseImage
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.workflows import assembled, base_images, build, plan
from envsnap.workflows.assembled import Ground
from envsnap.workflows.plan import Context, PlanRequest
from envsnap.workflows.records import BuildRequest
from envsnap.workflows.system import Packages
from envsnap.workflows.unknown import Unknown
from tests import samples
from tests.unit.plan.test_layers import INVENTORY, made_plan
from tests.unit.plan.test_shell import SCRIPTED, of_conda, package
from tests.unit.workflows.test_shell import BASE, FakeEngine, FakePackages


class Engine(FakeEngine):
    """Attributes: cannot_build: it is there, without BuildKit, where it does not answer. has_base: of the plan."""

    cannot_build: bool = False
    has_base: bool = True

    def is_there(self) -> bool:
        return self.answers or self.cannot_build

    def image(self, reference: str) -> EngineImage | None:  # type: ignore[override]
        there = reference in self.names if reference.startswith("envsnap/") else self.has_base or "debian" not in reference
        return super().image(reference) if there else None

    def tag(self, reference: str, name: str) -> None:
        assert reference in self.names
        self.names.add(name)

    def untag(self, reference: str) -> None:
        self.names.discard(reference)


class MovingPackages(FakePackages):
    """Of a distribution whose index moves each time that it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def resolve(self, *_: object) -> SystemPlan:
        self.asked += 1
        return SCRIPTED if self.asked == 1 else replace(SCRIPTED, packages=(*SCRIPTED.packages, package(f"new{self.asked}")))


@dataclass
class Grounds:
    """A lock whose base lacks packages with scripts, and what a build of it does.

    Attributes:
        grounds: those that images were assembled on.
        looked_inside: whether the plan was to read its base. contexts: how many were written.
        pulled: whether the plan was to have the engine pull its base.
    """

    root: Path
    made: BuildPlan = field(default_factory=made_plan)
    base: BaseImage | Unknown = BASE
    engine: Engine = field(default_factory=Engine)
    packages: MovingPackages = field(default_factory=MovingPackages)
    grounds: list[Ground] = field(default_factory=list)
    looked_inside: list[bool] = field(default_factory=list)
    contexts: int = 0
    pulled: list[bool] = field(default_factory=list)

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def build(self, lock: Any = None, **options: Any) -> None:
        self.packages.asked = 0
        lock_file = self.root / "demo.yaml"
        lock_file.write_bytes(lockfile.dumps(lock or samples.lock()))
        build.build(
            lock_file,
            BuildRequest(plan=PlanRequest(), **options),
            cast("DockerEngine", self.engine),
            cast("Registry", None),
            packages=cast("Packages", self.packages),
            env={},
            cache=self.cache,
            progress=SILENT,
        )


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grounds:
    found = Grounds(tmp_path)

    def make_plan(*_: object, look_inside: bool, pull: bool, **__: object) -> BuildPlan:
        found.pulled.append(pull)
        found.looked_inside.append(look_inside)
        return found.made

    def gather(ground: Ground, *_: object) -> Any:
        found.grounds.append(ground)
        return "gathered"

    def write_context(*_: object, **__: object) -> Context:
        found.contexts += 1
        return Context(directory=tmp_path, digest=samples.digest("context"), plan=found.made)

    remember(INVENTORY, config=BASE.config.digest, reference="base", cache=found.cache)
    monkeypatch.setattr(plan, "make_plan", make_plan)
    monkeypatch.setattr(plan, "write_context", write_context)
    monkeypatch.setattr(base_images, "find", lambda *_: found.base)
    monkeypatch.setattr(assembled, "gather", gather)
    monkeypatch.setattr(build, "_assemble", lambda *_, **__: None)
    return found


def test_the_distribution_is_asked_once_so_that_its_index_cannot_move_meanwhile(ground: Grounds) -> None:
    ground.build()
    assert ground.packages.asked == 1 and len(ground.engine.given) == 1
    (on,) = ground.grounds
    assert on.done is not None and on.system == SCRIPTED
    assert on.inventory == on.done.inventory != on.base_inventory


# Where no engine answers


def conda_lock() -> EnvLock:
    lock = samples.lock()
    return lockfile.seal(replace(lock, python=replace(lock.python, conda=LockedConda(packages=()))))


def test_what_docker_did_before_needs_no_engine(ground: Grounds) -> None:
    ground.made = of_conda()
    ground.build(conda_lock())
    ground.engine.answers = False
    ground.build(conda_lock())
    assert len(ground.engine.given) == 1 and ground.grounds[1].done == ground.grounds[0].done


@pytest.mark.parametrize("choice", ["oci", "auto"])
def test_whoever_asks_for_the_engine_by_name_is_told_that_there_is_none(ground: Grounds, choice: str) -> None:
    """Without --load the image is left in envsnap's own store then; whoever gives it looks for the image in the engine."""
    ground.packages.resolve = lambda *_: replace(SCRIPTED, needs_shell=())  # type: ignore[method-assign]
    ground.engine.answers = False
    with pytest.raises(EngineError, match="cannot reach a Docker engine"):
        ground.build(engine=choice, load=True)
    assert not ground.looked_inside
    ground.build(engine="auto", push=True, tags=("localhost:1/x:1",))
    ground.engine.answers = True
    ground.build(engine="auto", load=True)
    assert len(ground.looked_inside) == 2


@pytest.mark.parametrize("cannot_build", [False, True], ids=["no engine", "no BuildKit"])
@pytest.mark.parametrize("known", [True, False], ids=["pending", "base unknown"])
def test_what_only_docker_can_do_is_said_before_a_base_is_read(ground: Grounds, known: bool, cannot_build: bool) -> None:
    ground.made, ground.engine.answers, ground.engine.cannot_build = of_conda(), False, cannot_build
    if not known:
        ground.base = Unknown(because="it was never looked up")
    with pytest.raises(EngineError, match="cannot reach a Docker engine") as caught:
        ground.build(conda_lock())
    assert "Docker is needed for conda's packages are fetched" in caught.value.why and caught.value.hint
    assert (ground.looked_inside, ground.grounds, ground.contexts) == ([False], [], 0)


def test_packages_that_need_it_are_said_before_a_wheel_is_fetched(ground: Grounds) -> None:
    ground.engine.answers = False
    with pytest.raises(EngineError, match="cannot reach a Docker engine") as caught:
        ground.build()
    assert "Docker is needed for apt-install (fontconfig-config: " in caught.value.why
    assert ground.grounds == []


# Offline


def test_conda_is_not_let_to_fetch(ground: Grounds) -> None:
    ground.made = of_conda()
    with pytest.raises(EngineError, match="conda's packages are not here") as caught:
        ground.build(conda_lock(), offline=True)
    assert "without --offline" in caught.value.hint and "--rescue conda" in caught.value.hint
    assert ground.engine.given == []
    ground.build(conda_lock())
    ground.build(conda_lock(), offline=True)  # what it fetched is in the layers that are kept
    assert len(ground.engine.given) == 1 and len(ground.grounds) == 2


NEVER = Unknown(because="only an engine has the base", hint="--engine docker", for_good=True)


@pytest.mark.parametrize("choice", ["auto", "oci"])
def test_docker_is_not_let_to_build_the_whole_from_the_network(ground: Grounds, choice: str) -> None:
    ground.base = Unknown(because="the base was never looked up")
    ground.engine.answers = False  # and would be of no use
    with pytest.raises(EngineError, match="cannot be assembled offline") as caught:
        ground.build(offline=True, engine=choice)
    assert caught.value.why.startswith("the base was never looked up") and "without --offline" in caught.value.hint
    assert ground.engine.given == []


def test_offline_an_image_that_docker_built_is_found_where_it_still_is(ground: Grounds) -> None:
    ground.base = NEVER
    with pytest.raises(EngineError, match="cannot be assembled offline") as caught:
        ground.build(offline=True)
    assert NEVER.because in caught.value.why and "without --offline" in caught.value.hint
    ground.build()  # as the hint says
    ground.build(offline=True)
    assert len(ground.engine.given) == 1
    ground.engine.names.clear()
    with pytest.raises(EngineError, match="cannot be assembled offline"):
        ground.build(offline=True)


@pytest.mark.parametrize("offline", [True, False])
def test_what_can_never_be_assembled_is_no_matter_of_the_network(ground: Grounds, offline: bool) -> None:
    ground.base = NEVER
    with pytest.raises(PlanError, match="cannot be assembled") as caught:
        ground.build(offline=offline, engine="oci")
    assert (caught.value.why, caught.value.hint) == (NEVER.because, "--engine docker builds it")


# A base that has instructions for builds upon it


ON_BUILD = BaseImage(
    config=read_config(
        canonical({**BASE.config.document, "config": {**BASE.config.run, "OnBuild": ["COPY requirements.txt /"]}}), what="test"
    ),
    manifest=BASE.manifest,
    reference=BASE.reference,
)


def test_what_a_base_wants_of_builds_upon_it_is_left_to_docker(ground: Grounds) -> None:
    ground.base = ON_BUILD
    ground.build()
    assert ground.grounds == [] and ground.contexts == 1
    ((_, inputs),) = ground.engine.given
    assert not any("steps" in tag for tag in inputs.tags)  # the whole image, and not the steps that need a shell
    with pytest.raises(PlanError, match="cannot be assembled") as caught:
        ground.build(engine="oci")
    assert "(ONBUILD)" in caught.value.why and caught.value.hint == "--engine docker builds it"


def test_docker_is_not_let_to_pull_the_base(ground: Grounds) -> None:
    ground.engine.has_base = False
    with pytest.raises(EngineError, match="is not in the engine") as caught:
        ground.build(offline=True)
    assert caught.value.hint == f"docker pull {ground.made.base.pinned}"
    assert ground.engine.given == []
    ground.engine.has_base = True
    ground.build(offline=True)
    assert len(ground.engine.given) == len(ground.grounds) == 1


def test_whoever_wants_docker_to_build_is_told_that_it_asks_the_network(ground: Grounds) -> None:
    with pytest.raises(EngineError, match="whole image offline") as caught:
        ground.build(offline=True, engine="docker")
    assert "--engine docker" in caught.value.hint
    assert (ground.engine.given, ground.pulled) == ([], [False])
