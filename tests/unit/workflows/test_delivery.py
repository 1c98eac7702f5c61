"""A name is remembered with where its image is to be had under it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from envsnap.progress import SILENT
from envsnap.workflows import delivery, local
from tests.fakes import layered

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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, push: list[str], engine: Any, places: dict[str, local.Place]
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
