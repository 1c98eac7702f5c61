"""The table of a plan: bases that nobody asked about are looked up, without waiting for long, and each is planned for what it would add."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from envsnap import catalog, plan
from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, NoBase
from envsnap.model.base import Base, BaseInventory, ImageConfig
from envsnap.model.plan import BuildPlan, Candidate
from envsnap.probes import source
from envsnap.progress import Silent
from envsnap.registry.client import Registry, RegistryImage
from envsnap.report import plan as report
from envsnap.workflows import base_images, candidates, places, wheel_facts
from envsnap.workflows.plan import PlanRequest, _write_source
from envsnap.workflows.system import Packages
from envsnap.workflows.unknown import Unknown
from tests import samples

SLIM = "python:3.11-slim-bookworm"
LOCK = samples.lock()
CHOSEN = Base(
    reference="x.example.com/b:1",
    family="other",
    digest=samples.digest("b"),
    config=ImageConfig(architecture="amd64", size_bytes=9_000),
    inventory=BaseInventory(distribution="debian 12", python="3.11.2"),
)


class Answers:
    """A registry that has one image. Attributes: asked: references."""

    def __init__(self, env: dict[str, str], **image: Any) -> None:
        self.env, self.image, self.asked = env, image, list[str]()

    def resolve(self, reference: str, *, machine: str) -> RegistryImage:
        self.asked.append(reference)
        if reference != SLIM:
            raise EngineError(f"cannot look up {reference}", why="nobody is there")
        config = ImageConfig(architecture="amd64", env=self.env, size_bytes=45_000_000)
        digests = {"digest": samples.digest("index"), "manifest_digest": samples.digest("m"), "config_digest": samples.digest("c")}
        return RegistryImage(reference=reference, config=config, layers=4, machines=(machine,), **digests)


def table(place: Path, monkeypatch: pytest.MonkeyPatch, registry: Answers | None, *, seen: bool = True) -> candidates.Table:
    monkeypatch.chdir(place)
    for package in LOCK.packages if seen else ():
        if package.sha256 is not None and package.blob is None:
            wheel_facts.remember(package.sha256, (1000, 10), place / "cache")
    for package in LOCK.packages:
        if package.blob is not None:
            path = places.blobs_of(place / "lock.yaml").path(package.blob)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    return candidates.Table(
        lock=LOCK,
        lock_file=place / "lock.yaml",
        request=PlanRequest(),
        engine=None,
        registry=cast("Registry", registry),
        packages=cast("Packages", None),
        cache=place / "cache",
    )


def told(place: Path, monkeypatch: pytest.MonkeyPatch, registry: Answers | None, *, seen: bool = True) -> BuildPlan:
    return table(place, monkeypatch, registry, seen=seen).told(plan.make_plan(LOCK, catalog.load(), [CHOSEN]))


def row(made: BuildPlan, strategy: str) -> Candidate:
    return next(candidate for candidate in made.candidates if candidate.strategy == strategy)


def test_the_registries_of_the_others_say_their_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Answers({"PYTHON_VERSION": "3.11.9"})
    made = told(tmp_path, monkeypatch, registry)
    assert CHOSEN.reference not in registry.asked and "debian:bookworm" not in registry.asked
    slim = row(made, "slim")
    assert (slim.pull_bytes, slim.base.digest, slim.python) == (45_000_000, samples.digest("index"), "3.11.9")
    assert "Python 3.11.9 in place of 3.11.7" in slim.differs and slim.reason == "fits, by what is known of it"
    unanswered = row(made, "ngc-venv")
    assert unanswered.pull_bytes is None and "nobody is there" in unanswered.base.unknown_because


def test_one_that_turns_out_not_to_fit_is_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slim = row(told(tmp_path, monkeypatch, Answers({"PYTHON_VERSION": "3.12.1"})), "slim")
    assert not slim.possible and "its Python is 3.12" in slim.reason and slim.added_bytes is None


def test_offline_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = told(tmp_path, monkeypatch, None)
    assert row(made, "slim").pull_bytes is None and row(made, "slim").possible
    assert row(made, "venv").pull_bytes == 9_000


def test_each_is_planned_for_what_it_would_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = told(tmp_path, monkeypatch, None)
    wheels = sum(package.blob is None for package in LOCK.packages)
    packed = len(LOCK.packages) - wheels
    for strategy in ("venv", "slim"):
        assert row(made, strategy).added_bytes == 1000 * wheels + packed
        assert "the project's files" in row(made, strategy).added_without
    assert row(made, "ngc-delta").added_bytes is None


def test_what_nobody_saw_has_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = row(told(tmp_path, monkeypatch, None, seen=False), "slim")
    assert found.added_bytes is None and any("never seen here" in said for said in found.added_without)


def test_the_plan_itself_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = told(tmp_path, monkeypatch, Answers({"PYTHON_VERSION": "3.11.9"}))
    before = plan.make_plan(LOCK, catalog.load(), [CHOSEN])
    assert replace(made, candidates=()) == replace(before, candidates=())


def test_why_a_base_could_not_be_looked_up_is_why_its_image_is_not_known(tmp_path: Path) -> None:
    """And not that an engine alone had it."""
    store = BlobStore(tmp_path / "blobs")
    lost = Base(reference=SLIM, family="slim", unknown_because="docker.io does not answer")
    found = base_images.find(lost, "x86_64", None, store, tmp_path)
    assert isinstance(found, Unknown) and found.because == "docker.io does not answer" and not found.for_good
    engines = base_images.find(replace(lost, in_engine=True, unknown_because=""), "x86_64", None, store, tmp_path)
    assert isinstance(engines, Unknown) and "only an engine has the base" in engines.because


def test_what_has_no_plan_is_told_its_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every strategy has its row; none of an index's torch on another Python is a release's."""
    with pytest.raises(NoBase):
        plan.candidate_references(LOCK, catalog.load(), None)
    ways = {candidate.strategy: candidate for candidate in reversed(table(tmp_path, monkeypatch, None).ways())}
    assert {name: way.possible for name, way in ways.items()} == {"ngc-venv": False, "slim": True, "ngc-delta": False}
    assert "--rescue python" in ways["ngc-venv"].way and ways["slim"].added_bytes is not None
    screen = report.ways_screen(tuple(ways.values()))
    assert ">" not in screen.splitlines()[1] and "envsnap capture --rescue python" in screen


@pytest.mark.parametrize(("number", "told"), [(1, "1 file"), (2, "2 files")])
def test_the_project_s_files_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, told: str) -> None:
    notes: list[str] = []

    class Noting(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    lock = samples.lock()
    assert lock.source is not None
    lock = replace(lock, source=replace(lock.source, commit=None, patch=None))
    monkeypatch.setattr(source, "materialise", lambda *_: None)
    monkeypatch.setattr(source, "secrets_below", lambda _: ())
    monkeypatch.setattr(source, "manifest", lambda _: [("train.py", "644", "")] * number)
    _write_source(lock, BlobStore(tmp_path), PlanRequest(), tmp_path, tmp_path, Noting(), offline=True)
    assert notes == [f"source: {told} of yolo"]
