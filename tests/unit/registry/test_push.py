"""Whole images and artifacts on their way to a registry."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from envsnap.errors import EngineError
from envsnap.oci.documents import OCI_INDEX, Config, Descriptor, Index, read_config, read_manifest
from envsnap.oci.image import BaseImage
from envsnap.progress import SILENT, Silent, Task
from envsnap.registry.client import Registry
from envsnap.registry.patience import Patience
from envsnap.registry.push import THREADS
from tests.fakes import registry as fake
from tests.fakes.fault_proxy import Fault, FaultProxy
from tests.fakes.http_server import serving
from tests.fakes.images import Bundle, artifact, image, noise
from tests.fakes.registry import FakeRegistry

LAYERS = tuple(noise(300_000 + n, n) for n in range(6))
IMAGE = image(*LAYERS)
SUM = sum(len(data) for data in IMAGE.blobs.values())


def base_of(bundle: Bundle, reference: str) -> BaseImage:
    return BaseImage(config=config_of(bundle), manifest=bundle.manifest, reference=reference)


def config_of(bundle: Bundle) -> Config:
    return read_config(bundle.blobs[bundle.manifest.config.digest], what="")


class Counting(Silent):
    """Progress that adds up."""

    def __init__(self) -> None:
        self.done = 0
        self.due: int | None = None

    @contextmanager
    def task(self, title: str, *, total: int | None = None, unit: Any = "steps") -> Iterator[Task]:
        self.due = total
        with SILENT.task(title) as silent:

            class Counted:
                def advance(_, amount: int) -> None:  # noqa: N805
                    self.done += amount

                total = silent.total
                status = silent.status

            yield Counted()


def test_an_image(server: FakeRegistry, client: Registry) -> None:
    progress = Counting()
    pushed = client.push(f"{server.address}/a/b:1", IMAGE.manifest, IMAGE.read, progress=progress)
    assert (pushed.digest, pushed.uploaded_bytes) == (IMAGE.manifest.digest, SUM)
    assert server.manifests["a/b", "1"][1] == IMAGE.manifest.raw
    assert progress.done == progress.due == SUM
    assert server.asked[-1] == "PUT /v2/a/b/manifests/1"  # the tag comes last
    manifest, config = client.image(f"{server.address}/a/b:1", machine="x86_64")
    assert (manifest.digest, config.digest) == (IMAGE.manifest.digest, IMAGE.manifest.config.digest)


def test_connections_are_used_again(server: FakeRegistry, client: Registry) -> None:
    client.push(f"{server.address}/a/b:1", IMAGE.manifest, IMAGE.read)
    assert len(server.asked) > 20
    assert len(server.clients) <= THREADS


def test_again_nothing_is_sent(server: FakeRegistry, client: Registry) -> None:
    client.push(f"{server.address}/a/b:1", IMAGE.manifest, IMAGE.read)
    asked = len(server.asked)
    assert client.push(f"{server.address}/a/b:1", IMAGE.manifest, IMAGE.read).uploaded_bytes == 0
    assert len(server.asked) == asked + 1
    assert client.push(f"{server.address}/a/b:2", IMAGE.manifest, IMAGE.read).uploaded_bytes == 0
    assert server.manifests["a/b", "2"][1] == IMAGE.manifest.raw


def test_a_manifest_whose_blobs_were_deleted_is_made_whole(server: FakeRegistry, client: Registry) -> None:
    client.push(f"{server.address}/a/b:1", IMAGE.manifest, IMAGE.read)
    lost = IMAGE.manifest.layers[2]
    del server.blobs["a/b", lost.digest]
    assert client.push(f"{server.address}/a/b:2", IMAGE.manifest, IMAGE.read).uploaded_bytes == lost.size


@pytest.mark.parametrize("mounts", [True, False])
def test_layers_of_a_base_are_mounted_or_copied(server: FakeRegistry, client: Registry, mounts: bool) -> None:
    base = image(*LAYERS[:4])
    client.push(f"{server.address}/base:1", base.manifest, base.read)
    server.mounts = mounts

    def read(descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        assert descriptor.digest not in {layer.digest for layer in base.manifest.layers}
        return IMAGE.read(descriptor, offset)

    pushed = client.push(f"{server.address}/a/b:1", IMAGE.manifest, read, base=base_of(base, f"{server.address}/base:1"))
    own = sum(map(len, LAYERS[4:])) + IMAGE.manifest.config.size
    assert pushed.uploaded_bytes == (own if mounts else SUM)
    assert server.count("mount=.*from=base") == 4


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
def test_a_mount_that_is_refused_ends_no_push(proxy: FaultProxy, server: FakeRegistry, client: Registry, status: int, there: bool) -> None:
    base = image(*LAYERS[:4])
    client.push(f"{server.address}/base:1", base.manifest, base.read)
    if there:
        server.blobs |= {("a/b", layer.digest): base.blobs[layer.digest] for layer in base.manifest.layers}
    proxy.faults = [Fault("POST", "mount=", "status", status=status, times=9)]
    pushed = client.push(f"{proxy.address}/a/b:1", IMAGE.manifest, IMAGE.read, base=base_of(base, f"{proxy.address}/base:1"))
    assert proxy.count("^POST .*mount=") == 4
    assert pushed.uploaded_bytes == (sum(map(len, LAYERS[4:])) + IMAGE.manifest.config.size if there else SUM)
    assert server.manifests["a/b", "1"][1] == IMAGE.manifest.raw


def test_what_is_no_refusal_of_a_mount_is_told(proxy: FaultProxy, client: Registry) -> None:
    proxy.faults = [Fault("POST", "mount=", "status", status=422)]
    with pytest.raises(EngineError) as caught:
        client.mount(f"{proxy.address}/a/b:1", IMAGE.manifest.layers[0], f"{proxy.address}/base:1")
    assert caught.value.why == f"{proxy.address} answered with HTTP 422"


def test_layers_of_a_base_in_another_registry_are_copied(server: FakeRegistry, client: Registry) -> None:
    base = image(*LAYERS[:4])
    with fake.running() as elsewhere:
        client.push(f"{elsewhere.address}/base:1", base.manifest, base.read)
        for digest in [layer.digest for layer in base.manifest.layers]:
            assert digest in IMAGE.blobs
        pushed = client.push(f"{server.address}/a/b:1", IMAGE.manifest, IMAGE.read, base=base_of(base, f"{elsewhere.address}/base:1"))
        assert elsewhere.count("GET /v2/base/blobs") == 4
    assert pushed.uploaded_bytes == SUM
    assert server.count("mount=") == 0


def test_nothing_is_tagged_when_a_blob_fails(proxy: FaultProxy, server: FakeRegistry, client: Registry) -> None:
    proxy.faults = [Fault("PUT", "blobs/uploads", "status", status=403)]
    with pytest.raises(EngineError) as caught:
        client.push(f"{proxy.address}/a/b:1", IMAGE.manifest, IMAGE.read)
    assert "denies access to a/b" in caught.value.why
    assert not server.manifests
    assert not registry_threads()


def test_a_wrong_digest_of_the_manifest_is_noticed(client: Registry) -> None:
    with fake.running() as lying:
        client.push(f"{lying.address}/a/b:1", IMAGE.manifest, IMAGE.read)
        lying.digests = False
        other = image(*LAYERS[:2])
        assert client.push(f"{lying.address}/a/b:2", other.manifest, other.read).digest == other.manifest.digest
        put = lying._put

        def garbled(request: Any, repository: str, name: str) -> Any:
            answer = put(request, repository, name)
            lying.manifests[repository, name] = (IMAGE.manifest.media_type, IMAGE.manifest.raw)
            return answer

        lying._put = garbled  # type: ignore[method-assign]
        with pytest.raises(EngineError, match="cannot push"):
            client.put_manifest(f"{lying.address}/a/b:3", other.manifest)


def registry_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("registry")]


def test_an_interrupt_ends_it_at_once_and_leaves_no_thread(proxy: FaultProxy) -> None:
    patient = Registry({"DOCKER_CONFIG": "/nonexistent"}, patience=Patience())
    proxy.faults = [Fault("PUT", "blobs/uploads", "hang", times=100)]
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        patient.push(f"{proxy.address}/a/b:1", IMAGE.manifest, IMAGE.read)
    assert time.monotonic() - before < 5
    assert not registry_threads()


@pytest.mark.parametrize("api", [True, False])
def test_what_is_attached_is_listed(server: FakeRegistry, client: Registry, api: bool) -> None:
    server.referrers = api
    reference = f"{server.address}/a/b:1"
    client.push(reference, IMAGE.manifest, IMAGE.read)
    digest = IMAGE.manifest.digest
    assert client.referrers(reference, digest) == ()
    sbom = artifact(IMAGE.manifest, "application/vnd.cyclonedx+json", b"{sbom}", {"of": "it"})
    lock = artifact(IMAGE.manifest, "application/vnd.envsnap.lock", b"{lock}")
    for one in (sbom, lock, sbom):
        assert client.attach(reference, one.manifest, one.read) == one.manifest.digest
    found = client.referrers(reference, digest)
    assert [one.digest for one in found] == [sbom.manifest.digest, lock.manifest.digest]
    assert dict(found[0].annotations) == {"of": "it"}
    assert [one.digest for one in client.referrers(reference, digest, "application/vnd.envsnap.lock")] == [lock.manifest.digest]
    assert (("a/b", digest.replace(":", "-")) in server.manifests) is not api
    assert client.manifest(f"{server.address}/a/b@{sbom.manifest.digest}").digest == sbom.manifest.digest


def test_the_list_keeps_what_others_wrote(server: FakeRegistry, client: Registry) -> None:
    server.referrers = False
    reference, tag = f"{server.address}/a/b:1", IMAGE.manifest.digest.replace(":", "-")
    client.push(reference, IMAGE.manifest, IMAGE.read)
    theirs = {"mediaType": "x/y", "digest": "sha256:" + "1" * 64, "size": 5, "artifactType": "t", "theirs": [1], "data": "aGVsbG8="}
    server.manifests["a/b", tag] = (OCI_INDEX, json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [theirs]}).encode())
    one = artifact(IMAGE.manifest, "k", b"1")
    client.attach(reference, one.manifest, one.read)
    written = json.loads(server.manifests["a/b", tag][1])["manifests"]
    assert written[0] == theirs
    assert written[1]["digest"] == one.manifest.digest


@pytest.mark.parametrize("code", ["MANIFEST_BLOB_UNKNOWN", "DIGEST_INVALID"])
def test_what_another_just_sent_may_not_be_there_yet(
    server: FakeRegistry, client: Registry, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """docker-registry 2.8 says so of two that push one image to one repository at once: it is found to be half written."""
    put, waited, refused = server._put, list[float](), list[str]()

    def later(request: Any, repository: str, name: str) -> Any:
        if len(refused) < 2:
            request.rfile.read(int(request.headers["Content-Length"]))
            refused.append(name)
            return 400, {}, json.dumps({"errors": [{"code": code}]}).encode()
        return put(request, repository, name)

    server._put = later  # type: ignore[method-assign]
    monkeypatch.setattr("envsnap.registry.client.time.sleep", waited.append)
    pushed = client.push(f"{server.address}/a/b:1", IMAGE.manifest, IMAGE.read)
    assert (pushed.digest, pushed.uploaded_bytes, len(waited)) == (IMAGE.manifest.digest, SUM, 2)
    server.manifests.clear()
    code = "MANIFEST_INVALID"
    refused.clear()
    with pytest.raises(EngineError, match="cannot push"):
        client.push(f"{server.address}/a/b:1", IMAGE.manifest, IMAGE.read)
    assert len(waited) == 2


def test_a_list_that_another_overwrote_is_written_again(server: FakeRegistry, client: Registry) -> None:
    server.referrers = False
    reference, tag = f"{server.address}/a/b:1", IMAGE.manifest.digest.replace(":", "-")
    client.push(reference, IMAGE.manifest, IMAGE.read)
    put, others = server._put, [artifact(IMAGE.manifest, "other", b"2").manifest.descriptor.document()]

    def racing(request: Any, repository: str, name: str) -> Any:
        answer = put(request, repository, name)
        if name == tag and others:
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [others.pop()]}
            server.manifests[repository, tag] = (OCI_INDEX, json.dumps(index).encode())
        return answer

    server._put = racing  # type: ignore[method-assign]
    one = artifact(IMAGE.manifest, "k", b"1")
    client.attach(reference, one.manifest, one.read)
    found = read_manifest(server.manifests["a/b", tag][1], OCI_INDEX, what="")
    assert isinstance(found, Index)
    assert len(found.manifests) == 2


def test_referrers_come_in_pages(client: Registry) -> None:
    def page(request: Any) -> Any:
        number = 2 if "page=2" in request.path else 1
        entry = {"mediaType": "x/y", "digest": f"sha256:{number:064d}", "size": 1}
        body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
        link = {"Link": f'<{request.path}?page=2>; rel="next"'} if number == 1 else {}
        return 200, {"Content-Type": OCI_INDEX, **link}, body

    def leading_away(request: Any) -> Any:
        status, headers, body = page(request)
        return status, {**headers, "Link": '<http://127.0.0.1:1/x>; rel="next"'}, body

    with serving(page) as address:
        assert len(client.referrers(f"{address}/a/b:1", "sha256:" + "1" * 64)) == 2
    with serving(leading_away) as address, pytest.raises(EngineError) as caught:
        client.referrers(f"{address}/a/b:1", "sha256:" + "1" * 64)
    assert "leads to another place" in caught.value.why
