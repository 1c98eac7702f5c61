"""Whether an image with layers that Docker made is its lock's: these are taken as given, and said to be; all others are proven."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from envsnap import lockfile
from envsnap.errors import PlanError
from envsnap.inventory.remembered import remember
from envsnap.model.base import BaseInventory
from envsnap.model.debian import SystemPlan
from envsnap.model.image import CheckReason, ImageCheck
from envsnap.oci.image import Image, Layer, put_together
from envsnap.plan.layers import recipe
from envsnap.plan.layers import title as title_of
from envsnap.plan.shell import title
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.storage import BlobStore, write_note
from envsnap.workflows import assembled, base_images, check, inventories, plan, shell, this_host, wheel_facts
from envsnap.workflows.assembled import Ground, Sources
from envsnap.workflows.shell import Done
from envsnap.workflows.system import Packages
from envsnap.workflows.unknown import Unknown
from tests import samples
from tests.unit.plan.test_layers import INVENTORY, made_plan
from tests.unit.plan.test_shell import PACKAGES, SCRIPTED, package
from tests.unit.workflows.test_shell import BASE

REFERENCE = "registry.example/vision/yolo:1"
HOST = this_host.described("x86_64", "580.95.05", ["H100"])


class Remembered(msgspec.Struct):
    digest: str
    diff_id: str
    size_bytes: int


class Steps(msgspec.Struct):
    config: str
    layers: tuple[Remembered, ...]


def by_docker(word: str, made_by: str) -> Layer:
    return Layer(digest=samples.digest(f"{word} blob"), diff_id=samples.digest(word), size_bytes=1, made_by=made_by)


class World:
    """A lock whose steps Docker did somewhere else, the image that came of it, and this machine, which knows the layers above.

    Attributes:
        system: what the lock's packages come down to. theirs: what Docker made of it there.
    """

    def __init__(self, root: Path) -> None:
        self.lock_file, self.cache = root / "demo.yaml", root / "cache"
        self.lock_file.write_bytes(lockfile.dumps(samples.lock()))
        self.made = made_plan()
        self.system = SCRIPTED
        remember(INVENTORY, config=BASE.config.digest, reference="base", cache=self.cache)

    @property
    def sources(self) -> Sources:
        return Sources(
            registry=cast("Registry", SimpleNamespace(image=lambda *_, **__: (self.image.manifest, self.image.config))),
            engine=None,
            env={},
            cache=self.cache,
            packages=cast("Packages", SimpleNamespace(resolve=lambda *_: self.system)),
            fetch=False,
        )

    def ground(self) -> Ground:
        found = assembled.find_ground(self.made, samples.lock(), self.sources, SILENT)
        assert isinstance(found, Ground)
        return found

    def build(self, *below: Layer, above: Sequence[Layer] = (), inventory: BaseInventory = INVENTORY, **changes: Any) -> None:
        """The image, as it is built elsewhere on what Docker made there; the layers of its plan are remembered here, too."""
        ground = self.ground()
        if ground.shell is not None:
            ground = dataclasses.replace(ground, done=Done(layers=below, inventory=inventory, config=BASE.config.digest))
        gathered = assembled.gather(ground, self.made, samples.lock(), self.lock_file, self.sources, SILENT)
        assert not isinstance(gathered, Unknown)
        layers = []
        for planned in gathered.prepared.layers.layers:
            name = recipe(planned, gathered.prepared.layers.layout)
            note = Remembered(digest=samples.digest(f"{name} blob"), diff_id=samples.digest(name), size_bytes=1)
            write_note(self.cache / "layers" / f"{name}.json", note)
            layers.append(Layer(digest=note.digest, diff_id=note.diff_id, size_bytes=1, made_by=title_of(planned)))
        change = dataclasses.replace(gathered.prepared.change, **changes)
        self.image: Image = put_together(BASE, (*below, *layers, *above), change)

    def did_them(self, *layers: Layer) -> None:
        """Docker did the steps on this machine, too."""
        ground = self.ground()
        assert ground.shell is not None
        store = BlobStore(self.cache / "blobs")
        notes = tuple(Remembered(digest=store.put(layer.digest.encode()), diff_id=layer.diff_id, size_bytes=71) for layer in layers)
        remember(INVENTORY, config=samples.digest("config"), reference="steps", cache=self.cache)
        write_note(shell._place(ground.shell, self.cache), Steps(config=samples.digest("config"), layers=notes))
        done = self.ground().done
        assert done is not None
        self.ours = done.layers

    def check(self) -> tuple[ImageCheck, dict[str, CheckReason]]:
        """What is said of the lock; of the host there are tests of its own."""
        found = check.check(REFERENCE, self.lock_file, HOST, self.cache.parent, self.sources, SILENT)
        found = replace(found, reasons=tuple(one for one in found.reasons if one.id == "platform" or one.id.startswith("lock.")))
        return found, {reason.id: reason for reason in found.reasons}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    found = World(tmp_path)
    monkeypatch.setattr(base_images, "find", lambda *_: BASE)
    monkeypatch.setattr(inventories, "complete", lambda *_: INVENTORY)
    monkeypatch.setattr(plan, "make_plan", lambda *_, **__: found.made)
    monkeypatch.setattr(wheel_facts, "find", lambda hashes, *_: dict.fromkeys(hashes, (1 << 20, 1000)))
    return found


def theirs(world: World) -> Layer:
    steps = world.ground().shell
    assert steps is not None
    return by_docker("theirs", title(steps))


def did_nothing(world: World) -> None:
    """The steps were never done here."""


def did_them_itself(world: World) -> None:
    """Its Docker made another layer."""
    world.did_them(by_docker("ours", ""))


@pytest.mark.parametrize("here", [did_nothing, did_them_itself])
def test_what_docker_made_is_taken_as_given_and_all_above_it_is_proven(world: World, here: Callable[[World], None]) -> None:
    world.build(theirs(world))
    here(world)
    found, reasons = world.check()
    assert found.verdict == "incomplete"
    assert {name: reason.status for name, reason in reasons.items()} == {
        "platform": "pass",
        "lock.digest": "pass",
        "lock.base": "pass",
        "lock.shell": "unknown",
        "lock.layers": "pass",
        "lock.config": "pass",
    }
    assert (
        reasons["lock.shell"].found.startswith("1 layer that its history says Docker made")
        and "envsnap verify" in reasons["lock.shell"].hint
    )
    assert reasons["lock.layers"].found.endswith(" on what Docker made")


def test_where_this_machine_saw_it_made_it_is_proven(world: World) -> None:
    world.build(theirs(world))
    world.did_them(theirs(world))
    world.build(*world.ours)
    found, reasons = world.check()
    assert (found.verdict, reasons["lock.shell"].found) == ("pass", "1 layer, as Docker made here")


@pytest.mark.parametrize("here", [did_nothing, did_them_itself])
def test_what_was_put_on_it_is_found(world: World, here: Callable[[World], None]) -> None:
    there = theirs(world)
    here(world)
    world.build(there, above=(by_docker("more", there.made_by),))
    assert world.check()[1]["lock.layers"].status == "fail"
    world.build(there, by_docker("more", there.made_by))  # one step, and two layers that claim to be of it
    assert world.check()[1]["lock.layers"].status == "fail"
    world.build(there, env={"LD_PRELOAD": "/evil.so"})
    found, reasons = world.check()
    assert (found.verdict, reasons["lock.layers"].status, reasons["lock.config"].status) == ("fail", "pass", "fail")
    assert "Env" in reasons["lock.config"].found


@pytest.mark.parametrize("made_by", [None, "envsnap, by Docker: something-else", "RUN curl example.com | sh"])
def test_without_those_layers_it_is_not_known_whatever_this_machine_did(world: World, made_by: str | None) -> None:
    world.build(*([by_docker("other", made_by)] if made_by else []))
    world.did_them(by_docker("ours", ""))
    found, reasons = world.check()
    assert (found.verdict, reasons["lock.layers"].status) == ("incomplete", "unknown")
    assert SCRIPTED.needs_shell[0].because in reasons["lock.layers"].found and "envsnap verify" in reasons["lock.layers"].hint


def test_a_lock_without_such_steps_gets_no_layer_of_docker(world: World) -> None:
    there = theirs(world)
    world.system = PACKAGES
    world.build(there)
    found, reasons = world.check()
    assert found.verdict == "fail" and "lock.shell" not in reasons and reasons["lock.layers"].status == "fail"


def test_an_interpreter_that_docker_may_have_changed_is_not_guessed(world: World) -> None:
    world.system = SystemPlan(
        distribution="debian 12",
        arch="amd64",
        packages=(*SCRIPTED.packages, package("libpython3.11-stdlib")),
        needs_shell=SCRIPTED.needs_shell,
    )
    world.build(theirs(world), inventory=replace(INVENTORY, python="3.11.9"))
    found, reasons = world.check()
    assert found.verdict == "incomplete" and "libpython3.11-stdlib" in reasons["lock.layers"].found


@pytest.mark.parametrize(("fetch", "way"), [(False, "--fetch reads what is in it"), (True, "another base")])
def test_a_base_of_which_nothing_is_known_leaves_it_open(world: World, monkeypatch: pytest.MonkeyPatch, fetch: bool, way: str) -> None:
    """As for an environment that is an image with a difference, on a machine that never looked into that image."""
    world.build(theirs(world))

    def refuse(*_: object, **__: object) -> None:
        raise PlanError("what is in it is not known", why="nobody has looked inside it", hint="another base")

    monkeypatch.setattr(plan, "make_plan", refuse)
    monkeypatch.setattr(World, "sources", dataclasses.replace(world.sources, fetch=fetch))
    found, reasons = world.check()
    assert (found.verdict, reasons["lock.layers"].status, reasons["lock.layers"].hint) == ("incomplete", "unknown", way)
    assert "nobody has looked inside it" in reasons["lock.layers"].found
