"""Fetching wheels by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError
from envsnap.model.plan import PinnedWheel
from envsnap.probes import wheels
from envsnap.probes.index import PipConfig
from envsnap.probes.pages import ListedFile, Location, Unanswered
from envsnap.probes.wheels import Wheels
from envsnap.progress import SILENT

FILE = "demo-1.0-py3-none-any.whl"
DATA = b"PK" + bytes(1000)


class Index:
    """As much of `Pages` as fetching needs. Attributes: breaks: how often a connection breaks in the middle."""

    def __init__(self, data: bytes, breaks: int = 0) -> None:
        self.data = data
        self.breaks = breaks
        self.starts: list[int] = []

    def listed(self, location: Location, name: str) -> list[ListedFile]:
        assert name == "demo"
        return [ListedFile(name=FILE, sha256=None, yanked=False, size_bytes=None, local=None, url=f"{location.url}/{FILE}")]

    def pieces(self, location: Location, file: ListedFile, *, start: int) -> Iterator[bytes]:
        self.starts.append(start)
        yield self.data[start : start + 600]
        if self.breaks:
            self.breaks -= 1
            raise Unanswered(f"{location.shown} breaks off")
        yield self.data[start + 600 :]


def fetching(place: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> Wheels:
    monkeypatch.setattr("envsnap.probes.wheels.time.sleep", lambda _: None)
    config = PipConfig(index_url="https://user:hunter2@index.example.com/simple")
    made = Wheels(BlobStore(place / "blobs"), lambda: config, also=BlobStore(place / "also"), cache=place, offline=False, ca_bundle=None)
    monkeypatch.setattr(wheels, "Pages", lambda *_, **__: index)
    return made


WANTED = PinnedWheel(name="demo", version="1.0", file=FILE, sha256=hashlib.sha256(DATA).hexdigest())


def test_a_connection_that_breaks_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(DATA, breaks=1)
    made = fetching(tmp_path, index, monkeypatch)
    made.fetch([WANTED], SILENT)
    path = made.path(WANTED.sha256)
    assert path is not None and path.read_bytes() == DATA and index.starts == [0, 600]


def test_other_bytes_than_the_lock_names_are_refused_without_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fetching(tmp_path, Index(DATA + b"x"), monkeypatch)
    with pytest.raises(EngineError, match=f"cannot fetch {FILE}") as caught:
        made.fetch([WANTED], SILENT)
    assert "other bytes" in caught.value.why and "hunter2" not in caught.value.why
    assert made.path(WANTED.sha256) is None and not list((tmp_path / "blobs").rglob("*.whl"))


def test_an_answer_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "_LIMIT_BYTES", 500)
    made = fetching(tmp_path, Index(DATA), monkeypatch)
    with pytest.raises(EngineError, match="refused demo") as caught:
        made.fetch([WANTED], SILENT)
    assert "hunter2" not in caught.value.why and made.path(WANTED.sha256) is None
