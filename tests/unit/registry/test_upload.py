"""Blobs on their way to a registry that keeps what it got, to one that does not, and to ones with views of their own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envsnap.errors import EngineError, TargetError
from envsnap.registry import upload as upload_module
from envsnap.registry.client import Registry
from envsnap.registry.upload import from_file
from envsnap.registry.wire import FilePart
from tests.fakes.fault_proxy import Fault, FaultProxy, Guard
from tests.fakes.images import blob, noise
from tests.fakes.registry import FakeRegistry

DATA = noise(3_500_000)
BLOB = blob(DATA)
CHUNK = 1 << 20


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "CHUNK", CHUNK)
    monkeypatch.setattr(upload_module, "_LEAST_CHUNK", 100_000)


def open_at(data: bytes = DATA) -> Callable[[int], Iterator[bytes]]:
    return lambda offset: iter([data[offset : offset + 777_777], data[offset + 777_777 :]])


def test_a_blob_in_chunks(server: FakeRegistry, client: Registry) -> None:
    told: list[int] = []
    assert client.upload(f"{server.address}/a/b:1", BLOB, open_at(), sent=told.append) == len(DATA) == sum(told)
    assert server.blobs["a/b", BLOB.digest] == DATA
    assert server.count("^PATCH") == 4
    assert client.has_blob(f"{server.address}/a/b:1", BLOB.digest)


def test_what_is_there_is_not_sent(server: FakeRegistry, client: Registry) -> None:
    server.blobs["a/b", BLOB.digest] = DATA
    assert client.upload(f"{server.address}/a/b:1", BLOB, open_at()) == 0
    assert server.asked == [f"HEAD /v2/a/b/blobs/{BLOB.digest}"]


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_small_blob_goes_with_its_digest(server: FakeRegistry, client: Registry, size: int) -> None:
    data = noise(size)
    assert client.upload(f"{server.address}/a/b:1", blob(data), open_at(data)) == size
    assert server.blobs["a/b", blob(data).digest] == data
    assert server.count("^PATCH") == 0


def test_a_chunk_is_as_long_as_the_registry_wants(server: FakeRegistry, client: Registry) -> None:
    server.least_chunk = 2_000_000
    assert client.upload(f"{server.address}/a/b:1", BLOB, open_at()) == len(DATA)
    assert server.count("^PATCH") == 2


def test_where_chunks_are_refused_it_goes_whole(server: FakeRegistry, client: Registry) -> None:
    server.chunks = False
    client.upload(f"{server.address}/a/b:1", BLOB, open_at())
    assert server.blobs["a/b", BLOB.digest] == DATA
    assert server.count("^PATCH") == 1


def test_where_a_body_is_too_large_it_gets_smaller(server: FakeRegistry, client: Registry) -> None:
    server.largest_body = 300_000
    client.upload(f"{server.address}/a/b:1", BLOB, open_at())
    assert server.blobs["a/b", BLOB.digest] == DATA
    small = noise(900_000, 1)
    client.upload(f"{server.address}/a/b:1", blob(small), open_at(small))
    assert server.blobs["a/b", blob(small).digest] == small


@pytest.mark.parametrize("at", [0, 1, 400_000])
def test_a_chunk_that_breaks_goes_on_where_the_registry_got(proxy: FaultProxy, server: FakeRegistry, client: Registry, at: int) -> None:
    proxy.faults = [Fault("PUT", "blobs/uploads", "status", status=503), Fault("PATCH", "blobs/uploads", "cut-upload", at=at)]
    told: list[int] = []
    client.upload(f"{proxy.address}/a/b:1", BLOB, open_at(), sent=told.append)
    assert server.blobs["a/b", BLOB.digest] == DATA
    assert sum(told) == len(DATA)
    assert proxy.sent < len(DATA) + CHUNK
    assert proxy.happened == ["cut-upload", "status"]


def test_a_registry_that_drops_a_broken_upload_gets_another(proxy: FaultProxy, server: FakeRegistry, client: Registry) -> None:
    proxy.faults = [
        Fault("PATCH", "blobs/uploads", "cut-upload", at=500_000),
        Fault("GET", "blobs/uploads", "status", status=404),
    ]
    client.upload(f"{proxy.address}/a/b:1", BLOB, open_at())
    assert server.blobs["a/b", BLOB.digest] == DATA
    assert server.count("^POST") == 2


def test_bytes_that_came_twice_are_found_out_and_sent_again(proxy: FaultProxy, server: FakeRegistry, client: Registry) -> None:
    proxy.faults = [Fault("PUT", "blobs/uploads", "status", status=400)]
    client.upload(f"{proxy.address}/a/b:1", BLOB, open_at())
    assert server.blobs["a/b", BLOB.digest] == DATA


@pytest.mark.parametrize("size", [1000, len(DATA)])
def test_an_answer_that_was_lost_is_not_a_blob_that_was_lost(proxy: FaultProxy, server: FakeRegistry, client: Registry, size: int) -> None:
    proxy.faults = [Fault("PUT", "blobs/uploads", "lose-answer")]
    client.upload(f"{proxy.address}/a/b:1", blob(DATA[:size]), open_at(DATA[:size]))
    assert server.blobs["a/b", blob(DATA[:size]).digest] == DATA[:size]
    assert server.count("^PUT") == 1


@pytest.mark.parametrize("uses", [2, 3, 4])
def test_a_token_that_runs_out_in_the_middle_is_renewed(proxy: FaultProxy, server: FakeRegistry, client: Registry, uses: int) -> None:
    proxy.guard = Guard(uses=uses)
    client.upload(f"{proxy.address}/a/b:1", BLOB, open_at())
    assert server.blobs["a/b", BLOB.digest] == DATA
    assert len(proxy.guard.issued) > 2
    assert ("repository:a/b:pull,push",) in proxy.guard.issued


def test_a_registry_that_never_takes_a_chunk_is_left(proxy: FaultProxy, server: FakeRegistry, client: Registry) -> None:
    proxy.faults = [Fault("PATCH", "blobs/uploads", "cut-upload", at=300_000, times=100)]
    with pytest.raises(EngineError, match="cannot push to") as caught:
        client.upload(f"{proxy.address}/a/b:1", BLOB, open_at())
    assert f"{proxy.address} does not answer" in caught.value.why
    assert not server.blobs


def test_what_the_registry_says_is_told(proxy: FaultProxy, client: Registry) -> None:
    proxy.faults = [Fault("PATCH", "blobs/uploads", "status", status=422, times=9)]
    with pytest.raises(EngineError) as caught:
        client.upload(f"{proxy.address}/a/b:1", BLOB, open_at())
    assert caught.value.why == f"{proxy.address} answered with HTTP 422"


def test_a_source_that_is_too_short_is_no_network_error(server: FakeRegistry, client: Registry) -> None:
    with pytest.raises(EngineError) as caught:
        client.upload(f"{server.address}/a/b:1", BLOB, open_at(DATA[:-1]))
    assert caught.value.why == "a blob of 3500000 bytes has only 3499999"


def test_a_source_that_cannot_be_read_is_no_network_error(server: FakeRegistry, client: Registry) -> None:
    def failing(offset: int) -> Iterator[bytes]:
        yield DATA[:CHUNK]
        raise OSError(5, "the disk is broken")

    with pytest.raises(OSError, match="the disk is broken"):
        client.upload(f"{server.address}/a/b:1", BLOB, failing)
    assert server.count("^PATCH") <= 2


def test_other_bytes_than_the_digest_says_are_not_kept(server: FakeRegistry, client: Registry) -> None:
    with pytest.raises(EngineError) as caught:
        client.upload(f"{server.address}/a/b:1", BLOB, open_at(DATA[:-1] + b"x"))
    assert "DIGEST_INVALID" in caught.value.why
    assert not server.blobs


def test_a_file(server: FakeRegistry, client: Registry, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(DATA)
    assert client.upload(f"{server.address}/a/b:1", BLOB, from_file(tmp_path / "blob")) == len(DATA)
    assert server.blobs["a/b", BLOB.digest] == DATA
    with pytest.raises(TargetError, match="cannot read"):
        client.upload(f"{server.address}/a/other:1", BLOB, from_file(tmp_path / "gone"))
    (tmp_path / "short").write_bytes(DATA[:-1])
    with pytest.raises(EngineError) as caught:
        client.upload(f"{server.address}/a/other:1", BLOB, from_file(tmp_path / "short"))
    assert caught.value.why == "a blob of 3500000 bytes has only 3499999"


@pytest.mark.parametrize("at", [0, 1, 400_000])
def test_a_file_goes_on_where_the_registry_got(proxy: FaultProxy, server: FakeRegistry, client: Registry, tmp_path: Path, at: int) -> None:
    (tmp_path / "blob").write_bytes(DATA)
    proxy.faults = [Fault("PATCH", "blobs/uploads", "cut-upload", at=at)]
    client.upload(f"{proxy.address}/a/b:1", BLOB, from_file(tmp_path / "blob"))
    assert server.blobs["a/b", BLOB.digest] == DATA
    assert proxy.sent < len(DATA) + CHUNK


def test_a_file_that_becomes_shorter_is_no_endless_wait(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(DATA)
    one, other = socket.socketpair()
    with (tmp_path / "blob").open("rb") as file, one, other:
        part = FilePart(file, 0, len(DATA))[10:]
        assert len(part) == len(DATA) - 10
        assert b"".join(part.pieces()) == DATA[10:]
        (tmp_path / "blob").write_bytes(DATA[:20])
        with pytest.raises(OSError, match="became shorter"):
            part.send(one)
        assert other.recv(100) == DATA[10:20]
        with pytest.raises(OSError, match="became shorter"):
            list(part.pieces())


@pytest.mark.parametrize("mounts", [True, False])
def test_mounting(server: FakeRegistry, client: Registry, mounts: Any) -> None:
    server.mounts = mounts
    server.blobs["base", BLOB.digest] = DATA
    assert client.mount(f"{server.address}/a/b:1", BLOB, f"{server.address}/base:1") is mounts
    assert (("a/b", BLOB.digest) in server.blobs) is mounts
    assert not server.uploads  # the session that was begun instead is given back


def test_mounting_needs_one_registry(server: FakeRegistry, client: Registry) -> None:
    assert not client.mount(f"{server.address}/a/b:1", BLOB, "elsewhere.invalid/base:1")
    server.blobs["a/b", BLOB.digest] = DATA
    assert client.mount(f"{server.address}/a/b:2", BLOB, f"{server.address}/a/b:1")
    assert server.count("^POST") == 0
