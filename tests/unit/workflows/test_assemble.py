"""Layers are made once, are what the lock says, and are what they were."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from envsnap.errors import EngineError, InputError
from envsnap.layers.wheel import write_wheel
from envsnap.layers.writer import LayerWriter
from envsnap.model.layers import LayerPlan, Layout, PlannedWheel, TreeLayer, WheelsLayer
from envsnap.oci.image import Layer
from envsnap.plan.layers import recipe
from envsnap.progress import SILENT
from envsnap.storage import BlobStore
from envsnap.workflows.assemble import Workshop, make_layers, recall
from tests.fakes import wheels

LAYOUT = Layout(python="3.11")


class Ground:
    """A cache, and one wheel. Attributes: asked: layers whose bytes somebody was asked about."""

    def __init__(self, root: Path) -> None:
        self.cache, self.file = root / "cache", wheels.write_wheel(root / wheels.DEMO_FILE, wheels.DEMO)
        self.store = BlobStore(self.cache / "blobs")
        self.sha256 = hashlib.sha256(self.file.read_bytes()).hexdigest()
        self.asked: list[Layer] = []
        with self.file.open("rb") as file:
            self.files = write_wheel(file, LayerWriter(lambda _: None), LAYOUT, file=wheels.DEMO_FILE, sha256=self.sha256).files

    def plan(self, files: str | None) -> LayerPlan:
        """One layer of the wheel. Args: files: what the lock says that it installs."""
        wheel = PlannedWheel(
            name="demo-pkg", version="1.0", file=wheels.DEMO_FILE, sha256=self.sha256, size_bytes=1, source_bytes=1, files=files
        )
        return LayerPlan(layout=LAYOUT, layers=(WheelsLayer(wheels=(wheel,)),))

    def make(self, plan: LayerPlan, *, wanted: bool = True, at_hand: bool = True) -> tuple[Layer, bool]:
        """The layer, and whether it was made just now."""
        said: list[bool] = []

        def ask(layer: Layer) -> bool:
            self.asked.append(layer)
            return wanted

        shop = Workshop(store=self.store, cache=self.cache, wheel=lambda _: self.file if at_hand else None, others={})
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


def test_bytes_that_are_gone_are_made_again_only_where_somebody_wants_them(ground: Ground) -> None:
    plan = ground.plan(ground.files)
    layer, _ = ground.make(plan)
    ground.store.path(layer.digest).unlink()
    assert ground.make(plan, wanted=False, at_hand=False) == (layer, False)
    assert ground.asked == [layer]
    assert ground.make(plan) == (layer, True)
    assert ground.store.has(layer.digest)


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


def test_a_layer_that_is_not_what_it_was_is_told(ground: Ground) -> None:
    plan = ground.plan(None)
    layer, _ = ground.make(plan)
    remembered = ground.cache / "layers" / f"{recipe(plan.layers[0], LAYOUT)}.json"
    document = msgspec.json.decode(remembered.read_bytes())
    remembered.write_bytes(msgspec.json.encode({**document, "digest": "sha256:" + "0" * 64}))
    with pytest.raises(EngineError, match="not what it was the last time") as caught:
        ground.make(plan)
    assert layer.digest[:19] in caught.value.why


def test_what_stops_one_layer_is_told(ground: Ground) -> None:
    """The first thing that goes wrong, however many layers there are."""
    tree = TreeLayer(tree="sha256:" + "1" * 64, path="/opt/x")
    (wheel,) = ground.plan(ground.files).layers

    def broken(_: LayerWriter) -> None:
        raise InputError("the tree is broken")

    shop = Workshop(store=ground.store, cache=ground.cache, wheel=lambda _: ground.file, others={recipe(tree, LAYOUT): broken})
    with pytest.raises(InputError, match="the tree is broken"):
        make_layers(
            LayerPlan(layout=LAYOUT, layers=(tree, wheel)), shop, wanted=lambda _: True, on_layer=lambda _, made: None, progress=SILENT
        )
