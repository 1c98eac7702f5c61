"""Layers are made once, are what the lock says, and are what they were."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Literal, cast

import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError
from envsnap.layers.wheel import write_wheel
from envsnap.layers.writer import LayerWriter
from envsnap.model.layers import BytecodeLayer, LayerPlan, Layout, PlannedWheel, TreeLayer, WheelsLayer
from envsnap.notes import write_note
from envsnap.oci.image import Layer
from envsnap.plan.layers import recipe
from envsnap.probes.wheels import Wheels
from envsnap.progress import SILENT
from envsnap.workflows import wheel_facts
from envsnap.workflows.assemble import Advance, Workshop, Write, _Remembered, make_layers, recall
from tests.fakes import wheels

LAYOUT = Layout(python="3.11")


class Ground:
    """A cache, and one wheel. Attributes: asked: layers whose bytes somebody was asked about. fetched: wheels that were asked for."""

    def __init__(self, root: Path) -> None:
        self.cache, self.file = root / "cache", wheels.write_wheel(root / wheels.DEMO_FILE, wheels.DEMO)
        self.store = BlobStore(self.cache / "blobs")
        self.sha256 = hashlib.sha256(self.file.read_bytes()).hexdigest()
        self.asked: list[Layer] = []
        self.fetched: list[set[str]] = []
        with self.file.open("rb") as file:
            written = write_wheel(file, LayerWriter(lambda _: None), LAYOUT, file=wheels.DEMO_FILE, sha256=self.sha256)
        self.files, self.facts = written.files, (self.file.stat().st_size, written.source_bytes)

    def plan(self, files: str | None) -> LayerPlan:
        """One layer of the wheel. Args: files: what the lock says that it installs."""
        wheel = PlannedWheel(
            name="demo-pkg",
            version="1.0",
            file=wheels.DEMO_FILE,
            sha256=self.sha256,
            size_bytes=self.facts[0],
            source_bytes=self.facts[1],
            files=files,
        )
        return LayerPlan(layout=LAYOUT, layers=(WheelsLayer(wheels=(wheel,)),))

    def shop(self, *, at_hand: bool = True, others: Mapping[str, Write] = {}) -> Workshop:
        return Workshop(
            store=self.store,
            cache=self.cache,
            wheel=lambda _: self.file if at_hand else None,
            fetch=lambda hashes: self.fetched.append(set(hashes)),
            others=others,
        )

    def make(self, plan: LayerPlan, *, wanted: Literal["no", "here", "elsewhere"] = "here", at_hand: bool = True) -> tuple[Layer, bool]:
        """The layer, and whether it was made just now."""
        said: list[bool] = []

        def ask(layer: Layer) -> Literal["no", "here", "elsewhere"]:
            self.asked.append(layer)
            return wanted

        shop = self.shop(at_hand=at_hand)
        (layer,) = make_layers(plan, shop, wanted=ask, on_layer=lambda _, made: said.append(made), progress=SILENT)
        return layer, said == [True]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_a_layer_is_made_once_and_known_from_then_on(ground: Ground) -> None:
    plan = ground.plan(ground.files)
    assert recall(plan, ground.cache) == (None,)
    layer, made = ground.make(plan)
    assert made and ground.store.has(layer.digest) and ground.asked == []
    assert ground.make(plan, at_hand=False) == (layer, False)
    assert recall(plan, ground.cache) == (layer,)
    assert ground.fetched == [{ground.sha256}, set()]


def test_bytes_that_are_gone_are_made_again_only_where_somebody_wants_them(ground: Ground) -> None:
    plan = ground.plan(ground.files)
    layer, _ = ground.make(plan)
    ground.store.path(layer.digest).unlink()
    assert ground.make(plan, wanted="no", at_hand=False) == (layer, False)
    assert ground.asked == [layer]
    assert ground.make(plan) == (layer, True)
    assert ground.store.has(layer.digest)


@pytest.mark.parametrize(("damage", "wanted"), [("cut", "here"), ("cut", "elsewhere"), ("changed", "elsewhere")])
def test_a_layer_that_is_damaged_is_made_again(ground: Ground, damage: str, wanted: Literal["here", "elsewhere"]) -> None:
    plan = ground.plan(ground.files)
    layer, _ = ground.make(plan)
    path = ground.store.path(layer.digest)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if damage == "cut" else whole[:-1] + b"x")
    assert ground.make(plan, wanted="no", at_hand=False) == (layer, False)
    assert ground.make(plan, wanted=wanted) == (layer, True)
    assert path.read_bytes() == whole


def test_a_wheel_that_is_damaged_in_the_cache_goes_and_is_told_from_one_that_is_refused(ground: Ground) -> None:
    digest = ground.store.put(ground.file.read_bytes())
    ground.file = ground.store.path(digest)
    data = ground.file.read_bytes()
    ground.file.write_bytes(data[:100] + b"xx" + data[102:])
    with pytest.raises(InputError, match=r"what the cache kept of demo_pkg.* was damaged") as caught:
        ground.make(ground.plan(ground.files))
    assert "run it again" in caught.value.hint
    assert not ground.store.has(digest)
    bad = wheels.write_wheel(ground.cache / wheels.DEMO_FILE, {**wheels.DEMO, "../outside": "x"})
    ground.sha256 = hashlib.sha256(bad.read_bytes()).hexdigest()
    ground.file = ground.store.path(ground.store.put(bad.read_bytes()))
    with pytest.raises(InputError, match="refused"):
        ground.make(ground.plan(None))
    assert ground.file.exists()


def test_a_wheel_that_is_not_at_hand_says_how_to_get_it(ground: Ground) -> None:
    with pytest.raises(InputError, match="is not at hand") as caught:
        ground.make(ground.plan(ground.files), at_hand=False)
    assert "--offline" in caught.value.hint


def test_a_wheel_with_other_files_than_the_lock_says_becomes_no_layer(ground: Ground) -> None:
    """Not even where another lock, whose word on it was true, has had it made."""
    ground.make(ground.plan(ground.files))
    other = ground.plan("sha256:" + "0" * 64)
    before = set(ground.cache.rglob("*"))
    with pytest.raises(InputError, match="other files than the captured ones"):
        ground.make(other)
    assert recall(other, ground.cache) == (None,)
    assert set(ground.cache.rglob("*")) == before


def test_a_layer_that_was_laid_out_by_what_a_wheel_is_not_is_not_made(ground: Ground) -> None:
    """A damaged copy was read, and another process has mended it since. What is remembered then is the truth."""
    right, ground.facts = ground.facts, (7, 3)
    plan = ground.plan(ground.files)
    with pytest.raises(InputError, match="was damaged when the image was laid out") as caught:
        ground.make(plan)
    assert "run it again" in caught.value.hint
    assert recall(plan, ground.cache) == (None,) and not list(ground.store.root.rglob("*/*"))
    nobody = cast("Wheels", None)  # remembered
    assert wheel_facts.find([ground.sha256], nobody, ground.cache) == {ground.sha256: right}
    ground.facts = right
    _, made = ground.make(ground.plan(ground.files))
    assert made


def test_a_layer_that_is_not_what_it_was_is_told(ground: Ground) -> None:
    plan = ground.plan(None)
    layer, _ = ground.make(plan)
    remembered = ground.cache / "layers" / f"{recipe(plan.layers[0], LAYOUT)}.json"
    write_note(remembered, _Remembered(digest="sha256:" + "0" * 64, diff_id=layer.diff_id, size_bytes=layer.size_bytes))
    with pytest.raises(EngineError, match="not what it was the last time") as caught:
        ground.make(plan)
    assert layer.digest[:19] in caught.value.why


def test_what_stops_one_layer_is_told(ground: Ground) -> None:
    """The first thing that goes wrong, however many layers there are."""
    tree = TreeLayer(tree="sha256:" + "1" * 64, path="/opt/x")
    (wheel,) = ground.plan(ground.files).layers

    def broken(writer: LayerWriter, advance: Advance) -> bool:
        raise InputError("the tree is broken")

    with pytest.raises(InputError, match="the tree is broken"):
        make(ground, LayerPlan(layout=LAYOUT, layers=(tree, wheel)), {recipe(tree, LAYOUT): broken})


def make(ground: Ground, plan: LayerPlan, others: Mapping[str, Write]) -> None:
    make_layers(plan, ground.shop(others=others), wanted=lambda _: "here", on_layer=lambda _, made: None, progress=SILENT)


def test_what_an_images_own_interpreter_made_is_remembered_for_images_that_have_it(ground: Ground) -> None:
    """Whoever wrote a lock or a base may have it write any byte code, and wheels are the same in all images."""
    (wheels,) = ground.plan(ground.files).layers
    assert isinstance(wheels, WheelsLayer)
    layers = [BytecodeLayer(wheels=wheels.wheels, version="3.11.2", own=own) for own in ("1" * 64, "2" * 64, "")]
    one, other, none = (LayerPlan(layout=LAYOUT, layers=(layer,)) for layer in layers)
    (name,) = {recipe(layer, LAYOUT) for layer in layers}

    def written(text: bytes, *, by_own: bool) -> Write:
        def write(writer: LayerWriter, advance: Advance) -> bool:
            writer.file("opt/a.pyc", text)
            return by_own

        return write

    make(ground, one, {name: written(b"spoilt", by_own=True)})
    (spoilt,) = recall(one, ground.cache)
    assert spoilt is not None
    assert recall(other, ground.cache) == recall(none, ground.cache) == (None,)
    make(ground, other, {name: written(b"right", by_own=False)})
    (right,) = recall(other, ground.cache)
    assert right is not None and right != spoilt
    assert recall(one, ground.cache) == recall(none, ground.cache) == (right,)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("no")], ids=["Ctrl-C", "an error"])
def test_what_ends_one_layer_ends_all(ground: Ground, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """At the next bytes that they write or say are done; and nothing of them is left."""
    trees = [TreeLayer(tree="sha256:" + digit * 64, path="/opt/x") for digit in "123"]
    begun, ended = threading.Barrier(3, timeout=20), []

    def fails(writer: LayerWriter, advance: Advance) -> bool:
        begun.wait()
        raise error

    def writes(writer: LayerWriter, advance: Advance) -> bool:
        begun.wait()
        try:
            for number in range(10_000):
                writer.stream(f"opt/{number}", [bytes(range(256)) * 4096], size=1 << 20)
                time.sleep(0.01)
        except CancelledError:
            ended.append("writes")
            raise
        return False

    def works(writer: LayerWriter, advance: Advance) -> bool:
        begun.wait()
        try:
            for _ in range(10_000):
                advance(1)
                time.sleep(0.01)
        except CancelledError:
            ended.append("works")
            raise
        return False

    others = {recipe(tree, LAYOUT): write for tree, write in zip(trees, (fails, writes, works), strict=True)}
    before = threading.active_count()
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    with pytest.raises(type(error)):
        make(ground, LayerPlan(layout=LAYOUT, layers=tuple(trees)), others)
    assert sorted(ended) == ["works", "writes"]
    assert threading.active_count() == before
    assert not list(ground.store.root.rglob("*/*")) and not list(ground.cache.glob("layers/*"))
