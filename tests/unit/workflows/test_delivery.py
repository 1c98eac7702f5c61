"""A name is remembered with where its image is to be had under it; and what is sent is what may be had."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from envsnap.errors import EngineError, InputError
from envsnap.progress import SILENT
from envsnap.workflows import delivery, local
from envsnap.workflows.assembled import blobs_of
from tests.fakes import layered
from tests.fakes.engine import FakeEngine

PUSHED, OWN = "registry.example.com/yolo:1", "envsnap/yolo:0123"


@pytest.mark.parametrize(
    ("push", "engine", "places"),
    [
        ([], None, {PUSHED: "here", OWN: "here"}),
        ([PUSHED], None, {PUSHED: "registry", OWN: "here"}),
        ([], SimpleNamespace(find=lambda _: "there"), {PUSHED: "engine", OWN: "engine"}),
        ([PUSHED], SimpleNamespace(find=lambda _: "there"), {PUSHED: "registry", OWN: "engine"}),
    ],
    ids=["kept", "pushed", "loaded", "pushed and loaded"],
)
def test_each_name_is_remembered_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, push: list[str], engine: Any, places: dict[str, str]
) -> None:
    image, store, _ = layered.make_image(tmp_path / "blobs")
    monkeypatch.setattr(delivery, "_is_pushed", lambda *_: True)  # as when the registry has it already
    monkeypatch.setattr(delivery, "land", lambda *_: None)
    monkeypatch.setattr(delivery, "blobs_of", lambda *_: None)
    sources = cast("Any", SimpleNamespace(store=store, cache=tmp_path, registry=None))
    to = delivery.Delivery(sources, image.base, tags=[PUSHED, OWN], push=push, engine=engine, store=True, foretold=image)
    to.finish(image, SILENT)
    assert {one.name: one.place for one in local.everything(tmp_path)} == places
    layers = {store.path(layer.digest) for layer in image.layers}
    assert (layers <= local.only_here(tmp_path)) == (not push and engine is None)


class Offline:
    """What may be had where nobody is asked. Attributes: engine: as yet without the base."""

    def __init__(self, root: Path) -> None:
        self.root, self.engine = root, FakeEngine()
        self.image, self.store, _ = layered.make_image(root / "blobs")
        self.sources = cast("Any", SimpleNamespace(store=self.store, cache=root, registry=None, offline=True))

    def delivered(self) -> delivery.Delivered:
        image, engine = self.image, cast("Any", self.engine)
        to = delivery.Delivery(self.sources, image.base, tags=[PUSHED, OWN], push=[], engine=engine, store=False, foretold=None)
        return to.finish(image, SILENT)

    def places(self) -> dict[str, str]:
        return {one.name: one.place for one in local.everything(self.root)}


@pytest.fixture
def offline(tmp_path: Path) -> Offline:
    return Offline(tmp_path)


def test_an_image_that_did_not_land_is_spared_by_the_caches_bound(offline: Offline) -> None:
    with pytest.raises(EngineError):
        offline.delivered()
    assert offline.places() == {PUSHED: "here", OWN: "here"}
    assert {offline.store.path(layer.digest) for layer in offline.image.layers} <= local.only_here(offline.root)
    offline.engine.chains = {offline.image.config.diff_ids[:2]}
    assert offline.delivered().place == "in the local engine"
    assert offline.places() == {PUSHED: "engine", OWN: "engine"}


@pytest.mark.parametrize("says_it_has", [None, 2], ids=["it is asked for", "the new layers alone are refused"])
def test_offline_no_registry_is_asked_for_a_base_that_the_engine_lacks(offline: Offline, says_it_has: int | None) -> None:
    offline.engine.says_it_has = says_it_has
    manifest = offline.image.base.manifest
    assert manifest is not None
    base = f"registry.example.com/debian@{manifest.digest}"
    with pytest.raises(EngineError, match="is not in the engine") as caught:
        offline.delivered()
    assert base in caught.value.what and caught.value.hint == f"docker pull {base}; or build without --offline"
    assert offline.engine.tags == {}


@pytest.mark.parametrize("of_base", [True, False], ids=["a layer of a base that was made here", "a layer of ours"])
def test_a_damaged_layer_goes_when_a_registry_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_base: bool) -> None:
    image, store, blobs = layered.make_image(tmp_path / "blobs")
    assert image.base.manifest is not None
    for layer in image.base.manifest.layers:
        store.put(blobs.by_digest[layer.digest])
    kept = set(store.root.glob("sha256/*"))
    digest = image.base.manifest.layers[0].digest if of_base else image.layers[0].digest
    store.path(digest).write_bytes(bytes(store.size(digest) or 0))

    def refuses(*_: object) -> None:
        raise EngineError("the registry refuses it", why="400: digest mismatch")

    monkeypatch.setattr(delivery.Delivery, "_finish", refuses)
    sources = cast("Any", SimpleNamespace(store=store, cache=tmp_path, registry=None))
    to = delivery.Delivery(sources, image.base, tags=[OWN], push=[], engine=None, store=True, foretold=None)
    with pytest.raises(EngineError, match="what the cache kept of 1 layers was damaged") as caught:
        to.finish(image, SILENT)
    assert caught.value.hint == "run it again: they are made anew" and "refuses it" in caught.value.why
    assert set(store.root.glob("sha256/*")) == kept - {store.path(digest)}
    with pytest.raises(EngineError, match="the registry refuses it"):  # which it does for another reason now
        to.finish(image, SILENT)


def test_offline_a_layer_of_ones_own_that_is_gone_is_not_the_bases(offline: Offline) -> None:
    image = offline.image
    assert image.manifest is not None
    *_, own = image.manifest.layers
    offline.store.path(own.digest).unlink()
    with pytest.raises(InputError, match=f"{own.digest[:19]} is missing"):
        list(blobs_of(image.base, offline.sources).open(own))
