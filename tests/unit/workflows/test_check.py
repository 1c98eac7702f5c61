"""Whether an image with layers that Docker made is its lock's: these are taken as given, and said to be; all others are proven."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from envsnap import lockfile
from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError, PlanError, UsageError
from envsnap.inventory.remembered import remember
from envsnap.model.base import Base, BaseInventory
from envsnap.model.debian import SystemPlan
from envsnap.model.image import CheckReason, ImageCheck
from envsnap.model.plan import BASE_DIGEST, BASE_NAME
from envsnap.notes import write_note
from envsnap.oci.image import Image, Layer, put_together
from envsnap.plan.layers import recipe
from envsnap.plan.layers import title as title_of
from envsnap.plan.shell import title
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.workflows import assembled, base_images, bases, check, inventories, plan, shell, this_host, wheel_facts
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
        self.images = root / "images" / samples.lock().name
        remember(INVENTORY, config=BASE.config.digest, reference="base", cache=self.cache)

    def pin(self, base: Base | None = None) -> None:
        """As a build of this project left it, on this base."""
        self.images.mkdir(parents=True, exist_ok=True)
        (self.images / "plan.yaml").write_bytes(msgspec.yaml.encode(replace(self.made, base=base or self.made.base)))

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

    def check(self, base: str | None = None) -> tuple[ImageCheck, dict[str, CheckReason]]:
        """What is said of the lock; of the host there are tests of its own."""
        found = check.check(REFERENCE, self.lock_file, HOST, self.cache.parent, self.sources, SILENT, base=base)
        found = replace(found, reasons=tuple(one for one in found.reasons if one.id == "platform" or one.id.startswith("lock.")))
        return found, {reason.id: reason for reason in found.reasons}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    found = World(tmp_path)
    found.pin()
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


# The base


OURS = "localhost:5000/debian:bookworm-py311@sha256:" + "b" * 64


def assembled_here(world: World) -> None:
    """No engine did anything."""
    world.system = PACKAGES
    world.build()


def test_the_base_is_named_and_held_against_the_last_plan_s(world: World) -> None:
    assembled_here(world)
    found, reasons = world.check()
    assert (found.verdict, reasons["lock.base"].status) == ("pass", "pass")
    assert reasons["lock.base"].found == f"2 layers of {OURS}"
    assert reasons["lock.base"].needed == f"{OURS}, as images/{samples.lock().name}/plan.yaml has it"


def test_the_lock_s_layers_on_another_base_are_not_the_lock_s_image(world: World) -> None:
    """As somebody puts them on a base of their own, and says so in the labels: of all else every row would pass."""
    evil = Base(reference="evil.example/base:1", family="other", digest=samples.digest("evil"))
    world.made = replace(world.made, base=evil, labels={**world.made.labels, BASE_NAME: evil.name, BASE_DIGEST: str(evil.digest)})
    assembled_here(world)
    found, reasons = world.check()
    assert (found.verdict, reasons["lock.base"].status) == ("fail", "fail")
    assert reasons["lock.base"].needed.startswith(f"{OURS}, ")
    assert reasons["lock.base"].found == f"{evil.name}@{evil.digest}, as the image names it" and "--base" in reasons["lock.base"].hint
    assert "lock.layers" not in reasons  # nor is that base asked for
    (world.images / "plan.yaml").unlink()
    found, reasons = world.check()
    assert (found.verdict, reasons["lock.base"].status) == ("incomplete", "unknown")
    assert f"{evil.name}@{evil.digest}" in reasons["lock.base"].found and "--base REF" in reasons["lock.base"].hint
    assert {one.status for one in found.reasons if one.id != "lock.base"} == {"pass"}
    named = world.check(base=f"{evil.name}@{evil.digest}")[0]  # by a person who trusts it
    assert named.verdict == "pass"


def test_what_a_person_names_counts_before_the_pin(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assembled_here(world)
    assert world.check(base=OURS)[0].verdict == "pass"
    found, reasons = world.check(base="registry.example/other@" + samples.digest("other"))
    assert (found.verdict, reasons["lock.base"].needed.endswith(", as --base says")) == ("fail", True)
    moved: list[str] = []

    def know(reference: str, family: str, release: object, sources: bases.Sources, progress: object) -> Base:
        moved.append(reference)
        return Base(reference=reference, family=family, digest=samples.digest("moved"))

    monkeypatch.setattr(bases, "know", know)
    assert world.check(base="localhost:5000/debian:bookworm-py311")[0].verdict == "pass" and moved == []  # a tag that was pinned
    assert world.check(base="registry.example/tagged:1")[1]["lock.base"].status == "fail" and moved == ["registry.example/tagged:1"]
    with pytest.raises(UsageError):
        world.check(base="no name")


def test_a_base_that_cannot_be_looked_up_is_an_error_where_it_was_named_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> Base:
        raise EngineError("cannot look up registry.example/home:1", why="no such host")

    monkeypatch.setattr(bases, "know", gone)
    assembled_here(world)
    with pytest.raises(EngineError):
        world.check(base="registry.example/tagged:1")
    (world.images / "plan.yaml").unlink()
    monkeypatch.setattr("envsnap.plan.base_of", lambda _: "registry.example/home:1")
    found, reasons = world.check()
    assert (found.verdict, reasons["lock.base"].status) == ("incomplete", "unknown") and "no such host" in reasons["lock.base"].found


@pytest.mark.parametrize(
    ("home", "status"),
    [
        (OURS, "pass"),
        ("localhost:5000/debian:bookworm-py311@sha256:" + "d" * 64, "fail"),
        ("sha256:" + "b" * 64, "unknown"),
        ("no name", "unknown"),
    ],
)
def test_without_a_plan_the_image_that_the_environment_was_made_in_counts(
    world: World, monkeypatch: pytest.MonkeyPatch, home: str, status: str
) -> None:
    (world.images / "plan.yaml").unlink()
    monkeypatch.setattr("envsnap.plan.base_of", lambda _: home)
    assembled_here(world)
    assert world.check()[1]["lock.base"].status == status


def test_a_pin_that_cannot_be_read_is_not_passed_over(world: World) -> None:
    assembled_here(world)
    (world.images / "plan.yaml").write_text("base: {")
    with pytest.raises(InputError, match=r"plan\.yaml"):
        world.check()


def test_layers_that_are_not_the_named_base_s_fail_whoever_named_it(world: World) -> None:
    assembled_here(world)
    manifest = world.image.manifest
    assert manifest is not None
    lowest = dataclasses.replace(manifest.layers[0], digest=samples.digest("other"))
    world.image = dataclasses.replace(world.image, manifest=dataclasses.replace(manifest, layers=(lowest, *manifest.layers[1:])))
    for _ in ("with the pin", "without"):
        reason = world.check()[1]["lock.base"]
        assert (reason.status, reason.found) == ("fail", "layer 1 is another one")
        (world.images / "plan.yaml").unlink(missing_ok=True)


# The lock's copy


def captured_again(world: World) -> bytes:
    """The lock's file becomes that of another node; returns what it was, of which the image has its copy."""
    earlier, lock = world.lock_file.read_bytes(), samples.lock()
    later = replace(lock, capture=replace(lock.capture, host="another-node"))
    assert later.digest == lock.digest
    world.lock_file.write_bytes(lockfile.dumps(later))
    theirs = world.image
    world.build()  # its layers are known here
    assert world.image.config.digest != theirs.config.digest
    world.image = theirs
    return earlier


def changed(world: World, *, last: Mapping[str, str] = {}, below: Mapping[str, str] = {}) -> None:
    """Some digests of the highest layer, or of the one below it, are others; config and manifest agree."""
    layers = [*world.image.layers]
    layers[-1] = dataclasses.replace(layers[-1], **last)  # type: ignore[arg-type]
    layers[-2] = dataclasses.replace(layers[-2], **below)  # type: ignore[arg-type]
    gathered = assembled.gather(world.ground(), world.made, samples.lock(), world.lock_file, world.sources, SILENT)
    assert not isinstance(gathered, Unknown)
    world.image = put_together(BASE, layers, gathered.prepared.change)


def test_an_image_with_another_capture_s_copy_of_the_lock_is_no_other_image_and_not_proven(world: World) -> None:
    assembled_here(world)
    earlier = captured_again(world)
    found, reasons = world.check()
    assert found.verdict == "incomplete"
    assert {one.id: one.status for one in found.reasons if one.status != "pass"} == {"lock.layers": "unknown", "lock.config": "unknown"}
    assert "the lock's copy" in reasons["lock.layers"].found and "envsnap diff" in reasons["lock.layers"].hint
    (world.images / "lock.yaml").write_bytes(earlier)  # as the hint says: the same copy gives the same image
    assert world.check()[0].verdict == "pass"


def test_with_the_copy_of_the_last_rendering_the_image_is_the_same(world: World) -> None:
    (world.images / "lock.yaml").write_bytes(world.lock_file.read_bytes())
    assembled_here(world)
    lock = samples.lock()
    world.lock_file.write_bytes(lockfile.dumps(replace(lock, capture=replace(lock.capture, host="another-node"))))
    assert world.check()[0].verdict == "pass"


DIGEST, DIFF_ID = {"digest": samples.digest("x")}, {"digest": samples.digest("x"), "diff_id": samples.digest("y")}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"last": DIFF_ID}, "unknown"),  # whatever it holds: nobody looked
        ({"last": DIGEST}, "fail"),  # the same files in other bytes are no other copy
        ({"below": DIFF_ID}, "fail"),
        ({"below": DIGEST}, "fail"),
        ({"last": DIFF_ID, "below": DIGEST}, "fail"),
    ],
)
def test_nothing_else_may_differ_from_it(world: World, changes: dict[str, dict[str, str]], status: str) -> None:
    assembled_here(world)
    changed(world, **changes)
    assert world.check()[1]["lock.layers"].status == status


def test_nor_the_config_nor_a_layer_more(world: World) -> None:
    assembled_here(world)
    world.build(env={"LD_PRELOAD": "/evil.so"})
    captured_again(world)
    found, reasons = world.check()
    assert (found.verdict, reasons["lock.layers"].status, reasons["lock.config"].status) == ("fail", "fail", "fail")
    world.build(above=(by_docker("more", "envsnap: the lock"),))
    assert world.check()[1]["lock.layers"].status == "fail"
