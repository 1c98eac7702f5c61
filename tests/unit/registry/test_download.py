"""Blobs on their way from registries that break off, dribble, lie and lead elsewhere, and from mirrors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError
from envsnap.registry.client import Registry
from tests.fakes import fault_proxy
from tests.fakes import registry as fake
from tests.fakes.fault_proxy import Fault, FaultProxy
from tests.fakes.http_server import Answer, serving
from tests.fakes.images import blob, image, noise
from tests.fakes.registry import FakeRegistry
from tests.unit.registry.conftest import FAST

DATA = noise(3_000_000)
BLOB = blob(DATA)


@pytest.fixture(autouse=True)
def kept(server: FakeRegistry) -> None:
    server.blobs["a/b", BLOB.digest] = DATA


def gather(client: Registry, address: str, came: bytearray) -> None:
    for piece in client.open_blob(f"{address}/a/b:1", BLOB):
        came += piece


def read(client: Registry, address: str) -> bytes:
    return b"".join(client.open_blob(f"{address}/a/b:1", BLOB))


def test_a_blob(server: FakeRegistry, client: Registry) -> None:
    assert read(client, server.address) == DATA
    assert b"".join(client.open_blob(f"{server.address}/a/b:1", blob(b""))) == b""


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("kind", ["cut-download", "truncate"])
def test_what_breaks_off_goes_on(proxy: FaultProxy, server: FakeRegistry, client: Registry, ranges: bool, kind: fault_proxy.Kind) -> None:
    server.ranges = ranges
    proxy.faults = [Fault("GET", "/blobs/", kind, at=1_500_000), Fault("GET", "/blobs/", kind, at=700_000)]
    assert read(client, proxy.address) == DATA
    assert proxy.happened == [kind, kind]


def test_what_breaks_off_again_and_again_is_left(proxy: FaultProxy, client: Registry) -> None:
    proxy.faults = [Fault("GET", "/blobs/", "truncate", at=1000, times=100)]
    with pytest.raises(EngineError, match=r"cannot fetch sha256:") as caught:
        read(client, proxy.address)
    assert f"{proxy.address} does not answer" in caught.value.why
    assert len(proxy.happened) == FAST.attempts


def test_server_errors_pass(proxy: FaultProxy, client: Registry) -> None:
    proxy.faults = [
        Fault("GET", "/blobs/", "status", status=500),
        Fault("GET", "/blobs/", "status", status=429, headers={"Retry-After": "1"}),
    ]
    before = time.monotonic()
    assert read(client, proxy.address) == DATA
    assert time.monotonic() - before >= 1


def test_a_wait_without_end_is_not_waited_for(proxy: FaultProxy, client: Registry) -> None:
    proxy.faults = [Fault("GET", "/blobs/", "status", status=429, headers={"Retry-After": "86400"})]
    with pytest.raises(EngineError) as caught:
        read(client, proxy.address)
    assert "HTTP 429" in caught.value.why
    assert caught.value.hint == "try again later"


def test_a_registry_that_dribbles_is_left_and_taken_up_again(proxy: FaultProxy, client: Registry) -> None:
    proxy.faults = [Fault("GET", "/blobs/", "dribble", at=1_000_000)]
    assert read(client, proxy.address) == DATA


def test_a_changed_byte_is_an_error_at_the_end(proxy: FaultProxy, client: Registry) -> None:
    proxy.faults = [Fault("GET", "/blobs/", "corrupt", at=12345)]
    came = bytearray()
    with pytest.raises(EngineError) as caught:
        gather(client, proxy.address, came)
    assert "other bytes than their digest says" in caught.value.why
    assert len(came) == len(DATA)


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_never_more_and_never_less_than_its_size(client: Registry, length: bool, size: int) -> None:
    def lying(request: BaseHTTPRequestHandler) -> Answer:
        if length:
            return 200, {}, (DATA + b"x")[:size]
        request.close_connection = True
        request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + (DATA + b"x")[:size])
        return 200, {}, b""

    with serving(lying) as address:
        came = bytearray()
        with pytest.raises(EngineError) as caught:
            gather(client, address, came)
    assert len(came) <= len(DATA)
    assert "bytes where 3000000 are due" in caught.value.why or "3000000 bytes" in caught.value.why


def test_a_wrong_part_is_refused(server: FakeRegistry, client: Registry) -> None:
    def shifted(request: BaseHTTPRequestHandler) -> Answer:
        if "Range" in request.headers:
            return 206, {"Content-Range": f"bytes 9-{len(DATA) - 1}/{len(DATA)}"}, DATA[9:]
        return 206, {"Content-Range": "bytes 5-6/7"}, DATA[5:7]

    with serving(shifted) as address, pytest.raises(EngineError) as caught:
        read(client, address)
    assert "another part" in caught.value.why


def test_a_blob_is_kept_under_its_digest_or_not_at_all(proxy: FaultProxy, client: Registry, tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    proxy.faults = [Fault("GET", "/blobs/", "corrupt", at=5)]
    with pytest.raises(EngineError, match="cannot fetch"):
        client.fetch(f"{proxy.address}/a/b:1", BLOB, store)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    client.fetch(f"{proxy.address}/a/b:1", BLOB, store)
    assert store.read(BLOB.digest) == DATA
    asked = len(proxy.asked)
    client.fetch(f"{proxy.address}/a/b:1", BLOB, store)
    assert len(proxy.asked) == asked


@pytest.fixture
def mirror(server: FakeRegistry) -> Iterator[FakeRegistry]:
    with fake.running() as running:
        running.blobs["library/a/b", BLOB.digest] = DATA
        yield running


def mirrored(server: FakeRegistry, *mirrors: str) -> Registry:
    return Registry({"DOCKER_CONFIG": "/nonexistent"}, mirrors={server.address: mirrors}, patience=FAST)


def test_a_mirror_is_asked_first(server: FakeRegistry, mirror: FakeRegistry) -> None:
    assert read(mirrored(server, f"{mirror.address}/library"), server.address) == DATA
    assert not server.asked


def test_mirrors_that_are_down_or_lack_it_are_passed_over(server: FakeRegistry, mirror: FakeRegistry) -> None:
    with serving(lambda _: (200, {}, b"")) as gone:
        pass
    client = mirrored(server, gone, f"{mirror.address}/nothing")
    assert read(client, server.address) == DATA
    assert mirror.count("GET") == 1


def test_a_mirror_that_breaks_off_is_followed_by_the_registry_in_the_middle(server: FakeRegistry, mirror: FakeRegistry) -> None:
    with fault_proxy.running(mirror.address) as unreliable:
        unreliable.faults = [Fault("GET", "/blobs/", "cut-download", at=1_000_000)]
        assert read(mirrored(server, f"{unreliable.address}/library"), server.address) == DATA
        assert unreliable.happened == ["cut-download"]
    assert server.count("GET") == 1


def test_a_mirror_that_lies_is_passed_over(server: FakeRegistry, mirror: FakeRegistry, tmp_path: Path) -> None:
    mirror.blobs["library/a/b", BLOB.digest] = DATA[:-1] + b"x"
    client = mirrored(server, f"{mirror.address}/library")
    store = BlobStore(tmp_path)
    client.fetch(f"{server.address}/a/b:1", BLOB, store)
    assert store.read(BLOB.digest) == DATA
    assert read(client, server.address) == DATA  # and is not asked again
    assert mirror.count("GET") == 1


def test_a_mirror_that_lied_in_the_beginning_is_found_out_at_the_end(server: FakeRegistry, mirror: FakeRegistry, tmp_path: Path) -> None:
    mirror.blobs["library/a/b", BLOB.digest] = b"x" + DATA[1:]
    with fault_proxy.running(mirror.address) as unreliable:
        unreliable.faults = [Fault("GET", "/blobs/", "truncate", at=1_000_000)]
        client = mirrored(server, f"{unreliable.address}/library")
        store = BlobStore(tmp_path)
        client.fetch(f"{server.address}/a/b:1", BLOB, store)
        assert store.read(BLOB.digest) == DATA
        assert unreliable.count("GET") == 1


def test_a_stream_cannot_be_taken_back_but_the_mirror_is_not_asked_again(server: FakeRegistry, mirror: FakeRegistry) -> None:
    mirror.blobs["library/a/b", BLOB.digest] = DATA[:-1] + b"x"
    client = mirrored(server, f"{mirror.address}/library")
    with pytest.raises(EngineError, match="cannot fetch"):
        read(client, server.address)
    assert read(client, server.address) == DATA


def test_manifests_come_from_mirrors_and_what_is_written_does_not_go_there(server: FakeRegistry, mirror: FakeRegistry) -> None:
    bundle = image(b"layer")
    raw = bundle.manifest.raw
    mirror.manifests["library/a/b", "1"] = (bundle.manifest.media_type, raw)
    client = mirrored(server, f"{mirror.address}/library")
    assert client.manifest(f"{server.address}/a/b:1").raw == raw
    assert client.head(f"{server.address}/a/b:1") is None
    client.push(f"{server.address}/a/b:1", bundle.manifest, bundle.read)
    assert server.manifests["a/b", "1"][1] == raw
    assert mirror.count("PUT|POST|PATCH") == 0


def test_a_lying_manifest_of_a_mirror_is_passed_over(server: FakeRegistry, mirror: FakeRegistry) -> None:
    bundle = image(b"layer")
    digest = bundle.manifest.digest
    server.manifests["a/b", digest] = (bundle.manifest.media_type, bundle.manifest.raw)
    mirror.manifests["library/a/b", digest] = (bundle.manifest.media_type, bundle.manifest.raw + b" ")
    assert mirrored(server, f"{mirror.address}/library").manifest(f"{server.address}/a/b@{digest}").digest == digest
