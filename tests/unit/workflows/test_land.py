"""An image lands in an engine by the layers that it lacks, and gets its names when it is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from envsnap.engines.loading import NotTaken
from envsnap.errors import EngineError, InputError
from envsnap.oci.documents import Descriptor
from envsnap.progress import SILENT
from envsnap.publish.content import FirstOf, Stored
from envsnap.workflows.land import land
from tests.fakes import layered
from tests.fakes.engine import FakeEngine

TAGS = ["yolo:1", "registry.example.com/yolo:1"]


def test_a_base_that_is_there_is_not_sent(tmp_path: Path) -> None:
    image, store, below = layered.make_image(tmp_path / "blobs")
    engine = FakeEngine()
    engine.chains = {image.config.diff_ids[:2]}
    landed = land(image, TAGS, engine(), FirstOf(Stored(store), below), SILENT)
    assert landed.config_digest == image.config.digest
    assert landed.tags == tuple(sorted(TAGS))
    assert below.asked == []


def test_a_base_that_is_not_there_goes_with_it(tmp_path: Path) -> None:
    image, store, below = layered.make_image(tmp_path / "blobs")
    engine = FakeEngine()
    land(image, TAGS, engine(), FirstOf(Stored(store), below), SILENT)
    assert len(below.asked) == 2
    assert len(engine.given) == 1


def test_a_changed_layer_goes_alone(tmp_path: Path) -> None:
    engine = FakeEngine()
    first, store, below = layered.make_image(tmp_path / "blobs")
    land(first, TAGS, engine(), FirstOf(Stored(store), below), SILENT)
    second, _, _ = layered.make_image(tmp_path / "blobs", last=b"c")
    store.path(second.layers[0].digest).unlink()  # would be missed if it were asked for
    landed = land(second, TAGS, engine(), Stored(store), SILENT)
    assert landed.tags == tuple(sorted(TAGS))
    assert engine.image(first.config.digest) is not None


def test_what_is_there_is_only_tagged(tmp_path: Path) -> None:
    engine = FakeEngine()
    image, store, below = layered.make_image(tmp_path / "blobs")
    land(image, [], engine(), FirstOf(Stored(store), below), SILENT)
    landed = land(image, TAGS, engine(), layered.Blobs(), SILENT)
    assert landed.tags == tuple(sorted(TAGS))
    assert len(engine.given) == 1


def test_a_delta_that_is_not_taken_is_followed_by_the_whole(tmp_path: Path) -> None:
    image, store, below = layered.make_image(tmp_path / "blobs")
    engine = FakeEngine(says_it_has=2)
    landed = land(image, TAGS, engine(), FirstOf(Stored(store), below), SILENT)
    assert landed.config_digest == image.config.digest
    assert len(engine.given) == 2


def test_an_image_that_is_not_there_afterwards_gets_no_name(tmp_path: Path) -> None:
    image, store, below = layered.make_image(tmp_path / "blobs")
    engine = FakeEngine(forgets=True)
    with pytest.raises(NotTaken):
        land(image, TAGS, engine(), FirstOf(Stored(store), below), SILENT)
    assert engine.tags == {}


def test_without_the_bases_layers_the_engines_own_words_are_told(tmp_path: Path) -> None:
    image, store, _ = layered.make_image(tmp_path / "blobs", manifest=False)
    engine = FakeEngine(says_it_has=2)
    with pytest.raises(NotTaken) as failed:
        land(image, TAGS, engine(), Stored(store), SILENT)
    assert "no such file" in failed.value.why
    assert engine.tags == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("poisoned"), EngineError("the registry went away")])
def test_an_end_in_the_middle_sets_no_name(tmp_path: Path, error: BaseException) -> None:
    class Ends:
        def open(self, descriptor: Descriptor) -> Iterator[bytes]:
            yield b"x"
            raise error

    image, _, _ = layered.make_image(tmp_path / "blobs")
    engine = FakeEngine()
    with pytest.raises(type(error)):
        land(image, TAGS, engine(), Ends(), SILENT)
    assert (engine.tags, engine.configs) == ({}, {})
