"""What is known of wheels: remembered once it was read, and never of a copy that is damaged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import InputError
from envsnap.probes.index import PipConfig
from envsnap.probes.wheels import Wheels
from envsnap.workflows import wheel_facts
from tests.fakes import wheels


class Ground:
    """A cache, a lock's blobs, and a wheel that is in neither."""

    def __init__(self, root: Path) -> None:
        self.cache, self.data = root / "cache", wheels.write_wheel(root / wheels.DEMO_FILE, wheels.DEMO).read_bytes()
        self.store, self.beside = BlobStore(root / "cache/blobs"), BlobStore(root / "lock.blobs")
        self.sha256 = hashlib.sha256(self.data).hexdigest()

    def facts(self) -> dict[str, tuple[int, int]]:
        """As a process finds them."""
        at_hand = Wheels(self.store, PipConfig, also=self.beside, cache=self.cache, offline=True, ca_bundle=None)
        return wheel_facts.find([self.sha256], at_hand, self.cache)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_facts_are_read_once(ground: Ground) -> None:
    assert ground.facts() == {}
    digest = ground.store.put(ground.data)
    sources = sum(len(text) for name, text in wheels.DEMO.items() if name.endswith(".py"))
    assert ground.facts() == {ground.sha256: (len(ground.data), sources)}
    ground.store.path(digest).unlink()
    assert ground.facts() == {ground.sha256: (len(ground.data), sources)}
    (note,) = (ground.cache / "wheels").iterdir()
    note.write_bytes(note.read_bytes().replace(str(sources).encode(), b"1"))
    assert ground.facts() == {}


def test_a_damaged_copy_is_asked_for_nothing_and_goes(ground: Ground) -> None:
    digest = ground.store.put(ground.data)
    ground.store.path(digest).write_bytes(ground.data.replace(b"demo_module.py", b"demo_module.pz"))
    assert ground.facts() == {}
    assert not ground.store.has(digest)
    ground.beside.put(ground.data)
    assert ground.sha256 in ground.facts()


def test_a_damaged_blob_of_the_lock_is_refused_and_stays(ground: Ground) -> None:
    digest = ground.beside.put(ground.data)
    ground.beside.path(digest).write_bytes(ground.data[:-1])
    with pytest.raises(InputError, match="was changed"):
        ground.facts()
    assert ground.beside.has(digest)
    assert not (ground.cache / "wheels").exists()


def test_whoever_hashed_a_wheel_has_the_last_word(ground: Ground) -> None:
    wheel_facts.remember(ground.sha256, (7, 3), ground.cache)
    assert ground.facts() == {ground.sha256: (7, 3)}
    (note,) = (ground.cache / "wheels").iterdir()
    written = note.stat().st_ino
    wheel_facts.remember(ground.sha256, (7, 3), ground.cache)
    assert note.stat().st_ino == written  # not again
    wheel_facts.remember(ground.sha256, (8, 3), ground.cache)
    assert ground.facts() == {ground.sha256: (8, 3)}


def test_what_is_read_without_hashing_is_not_remembered(ground: Ground) -> None:
    at_hand = Wheels(ground.store, PipConfig, also=ground.beside, cache=ground.cache, offline=True, ca_bundle=None)
    assert wheel_facts.unhashed([ground.sha256], at_hand, ground.cache) == {}
    ground.store.put(ground.data)
    read = wheel_facts.unhashed([ground.sha256], at_hand, ground.cache)
    assert read and not (ground.cache / "wheels").exists()
    assert ground.facts() == read
    assert wheel_facts.unhashed([ground.sha256], at_hand, ground.cache) == {}  # remembered
