"""The registry client against a real docker-registry, alone and with something unreliable before it, and with skopeo as a peer."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError
from envsnap.oci.documents import Descriptor, digest_of
from envsnap.oci.image import BaseImage, Layer, RunConfig, put_together
from envsnap.registry import upload as upload_module
from envsnap.registry.client import Registry
from envsnap.registry.patience import Patience
from tests.fakes import fault_proxy
from tests.fakes.fault_proxy import Fault, FaultProxy, Guard
from tests.fakes.images import Bundle, artifact, image, noise

pytestmark = pytest.mark.engine
CHUNK = 4 << 20
SIZE = 12_000_000
PATIENCE = Patience(attempts=5, pause_s=0.02, read_s=10, slow_s=1, slow_bytes_per_s=1000)


@pytest.fixture
def proxy(registry: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(upload_module, "CHUNK", CHUNK)
    with fault_proxy.running(registry) as running:
        yield running


@pytest.fixture
def client() -> Iterator[Registry]:
    client = Registry({**os.environ, "DOCKER_CONFIG": "/nonexistent"}, patience=PATIENCE)
    yield client
    client.close()


@pytest.fixture
def repository() -> str:
    """A name that nothing has."""
    return f"faults/{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """An image whose blobs are new to every registry."""
    seed = time.time_ns()
    return image(noise(SIZE, seed), noise(1_000_000, seed + 1), noise(1000, seed + 2), architecture=architecture())


def architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def require_whole(client: Registry, reference: str, bundle: Bundle) -> None:
    """What lies in the registry itself is the image, byte by byte."""
    manifest, config = client.image(reference, machine=os.uname().machine)
    assert manifest.raw == bundle.manifest.raw
    assert config.raw == bundle.blobs[manifest.config.digest]
    for layer in manifest.layers:
        assert b"".join(client.open_blob(reference, layer)) == bundle.blobs[layer.digest]


UPLOADS = "blobs/uploads/"
ON_THE_WAY_UP: dict[str, list[Fault]] = {
    "500s everywhere": [Fault(method, ".", "status", status=500, times=2) for method in ("HEAD", "POST", "PATCH", "PUT")],
    "429 with Retry-After": [Fault("PATCH", UPLOADS, "status", status=429, headers={"Retry-After": "1"}, times=2)],
    "reset in the first chunk": [Fault("PATCH", UPLOADS, "cut-upload", at=3_000_000)],
    "reset before a chunk": [Fault("PATCH", UPLOADS, "cut-upload", at=0, times=2)],
    "reset in a small blob": [Fault("PUT", UPLOADS, "cut-upload", at=500_000)],
    "lost answers": [Fault(method, UPLOADS, "lose-answer") for method in ("POST", "PATCH", "PUT")],
    "lost answer of the manifest": [Fault("PUT", "manifests", "lose-answer")],
    "502 for the manifest": [Fault("PUT", "manifests", "status", status=502, times=3)],
    "gateway that hangs up on an end": [Fault("PUT", UPLOADS, "status", status=504, times=3)],
}


@pytest.mark.parametrize("faults", ON_THE_WAY_UP.values(), ids=ON_THE_WAY_UP)
def test_a_push_survives(proxy: FaultProxy, registry: str, client: Registry, repository: str, bundle: Bundle, faults: list[Fault]) -> None:
    proxy.faults = [Fault(**vars(fault)) for fault in faults]
    pushed = client.push(f"{proxy.address}/{repository}:1", bundle.manifest, bundle.read)
    assert pushed.digest == bundle.manifest.digest
    assert not proxy.faults
    require_whole(client, f"{registry}/{repository}:1", bundle)


def test_a_reset_between_chunks_costs_nothing(proxy: FaultProxy, registry: str, client: Registry, repository: str, bundle: Bundle) -> None:
    """docker-registry drops an upload whose chunk broke off, and keeps one that lost nothing."""
    proxy.faults = [Fault("PATCH", UPLOADS, "status", status=500, after=1), Fault("PATCH", UPLOADS, "cut-upload", after=1)]
    big = bundle.manifest.layers[0]
    client.upload(f"{proxy.address}/{repository}:1", big, partial(bundle.read, big))
    assert proxy.sent == SIZE
    assert proxy.happened == ["status", "cut-upload"]
    assert proxy.count("^POST") == 1
    assert client.has_blob(f"{registry}/{repository}:1", big.digest)


@pytest.mark.parametrize("uses", [1, 2, 5])
def test_tokens_that_run_out_in_the_middle(
    proxy: FaultProxy, registry: str, client: Registry, repository: str, bundle: Bundle, uses: int
) -> None:
    proxy.guard = Guard(uses=uses)
    reference = f"{proxy.address}/{repository}:1"
    for blob in (bundle.manifest.config, *bundle.manifest.layers):
        assert client.upload(reference, blob, partial(bundle.read, blob)) >= blob.size
    client.put_manifest(reference, bundle.manifest)
    assert len(proxy.guard.issued) > 2
    require_whole(client, f"{registry}/{repository}:1", bundle)


def test_a_push_that_fails_leaves_no_tag_and_the_old_one_in_place(
    proxy: FaultProxy, registry: str, client: Registry, repository: str, bundle: Bundle
) -> None:
    before = image(noise(5000, 1), architecture=architecture())
    client.push(f"{registry}/{repository}:1", before.manifest, before.read)
    proxy.faults = [Fault("PATCH", UPLOADS, "cut-upload", at=100_000, times=1000)]
    with pytest.raises(EngineError) as caught:
        client.push(f"{proxy.address}/{repository}:1", bundle.manifest, bundle.read)
    assert proxy.address in caught.value.why
    require_whole(client, f"{registry}/{repository}:1", before)
    proxy.faults = []
    client.push(f"{proxy.address}/{repository}:1", bundle.manifest, bundle.read)
    require_whole(client, f"{registry}/{repository}:1", bundle)


@pytest.fixture
def pushed(registry: str, client: Registry, bundle: Bundle) -> str:
    """A repository that has the image."""
    client.push(f"{registry}/faults/kept:1", bundle.manifest, bundle.read)
    return "faults/kept"


ON_THE_WAY_DOWN: dict[str, list[Fault]] = {
    "500s": [Fault("GET", ".", "status", status=500, times=3)],
    "429 with Retry-After": [Fault("GET", "blobs", "status", status=429, headers={"Retry-After": "1"})],
    "reset in the middle": [Fault("GET", "blobs", "cut-download", at=7_000_000), Fault("GET", "blobs", "cut-download", at=100)],
    "truncated": [Fault("GET", "blobs", "truncate", at=11_999_999)],
    "slow loris": [Fault("GET", "blobs", "dribble", at=3_000_000)],
}


@pytest.mark.parametrize("faults", ON_THE_WAY_DOWN.values(), ids=ON_THE_WAY_DOWN)
def test_a_blob_arrives_whole(
    proxy: FaultProxy, client: Registry, pushed: str, bundle: Bundle, tmp_path: Path, faults: list[Fault]
) -> None:
    proxy.faults = [Fault(**vars(fault)) for fault in faults]
    big, store = bundle.manifest.layers[0], BlobStore(tmp_path)
    client.fetch(f"{proxy.address}/{pushed}:1", big, store)
    assert store.read(big.digest) == bundle.blobs[big.digest]
    assert proxy.happened
    assert client.image(f"{proxy.address}/{pushed}:1", machine=os.uname().machine)[0].digest == bundle.manifest.digest


def test_wrong_bytes_are_not_believed(proxy: FaultProxy, client: Registry, pushed: str, bundle: Bundle, tmp_path: Path) -> None:
    big = bundle.manifest.layers[0]
    for path, act in (
        ("blobs", lambda: client.fetch(f"{proxy.address}/{pushed}:1", big, BlobStore(tmp_path))),
        ("blobs", lambda: b"".join(client.open_blob(f"{proxy.address}/{pushed}:1", big))),
        ("blobs", lambda: client.image(f"{proxy.address}/{pushed}:1", machine=os.uname().machine)),
        ("manifests", lambda: client.manifest(f"{proxy.address}/{pushed}:1")),
    ):
        proxy.faults = [Fault("GET", path, "corrupt", at=77)]
        with pytest.raises(EngineError) as caught:
            act()
        assert "other bytes than their digest says" in caught.value.why
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_mirror_that_lies_or_breaks_off_is_passed_over(
    proxy: FaultProxy, registry: str, pushed: str, bundle: Bundle, tmp_path: Path
) -> None:
    big = bundle.manifest.layers[0]
    for number, fault in enumerate((Fault("GET", "blobs", "corrupt", at=9), Fault("GET", "blobs", "truncate", at=9_000_000))):
        client = Registry({"DOCKER_CONFIG": "/nonexistent"}, mirrors={registry: [proxy.address]}, patience=PATIENCE)
        proxy.faults = [fault]
        store = BlobStore(tmp_path / str(number))
        client.fetch(f"{registry}/{pushed}:1", big, store)
        assert store.read(big.digest) == bundle.blobs[big.digest]
        client.close()
    assert proxy.happened == ["corrupt", "truncate"]


def test_layers_of_a_base_are_mounted(registry: str, client: Registry, debian_base: str, repository: str) -> None:
    base, config = client.image(debian_base, machine=os.uname().machine)
    extra = noise(10_000, time.time_ns())
    layer = Layer(digest=digest_of(extra), diff_id=digest_of(b"tar"), size_bytes=len(extra), made_by="test")
    base_image = BaseImage(config=config, manifest=base, reference=debian_base)
    made = put_together(base_image, [layer], RunConfig(env={}, labels={}, workdir="/"))
    assert made.manifest is not None
    blobs = {layer.digest: extra, made.config.digest: made.config.raw}

    def read(descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        yield blobs[descriptor.digest][offset:]

    pushed = client.push(f"{registry}/{repository}:1", made.manifest, read, base=base_image)
    assert pushed.uploaded_bytes == sum(map(len, blobs.values()))
    assert client.image(f"{registry}/{repository}:1", machine=os.uname().machine)[0].digest == made.manifest.digest


def test_attached_things_are_listed_under_the_fallback_tag(registry: str, client: Registry, pushed: str, bundle: Bundle) -> None:
    reference = f"{registry}/{pushed}:1"
    one = artifact(bundle.manifest, "application/vnd.cyclonedx+json", noise(900, time.time_ns()), {"of": "it"})
    two = artifact(bundle.manifest, "application/vnd.envsnap.lock", noise(100, time.time_ns()))
    for each in (one, two):
        client.attach(reference, each.manifest, each.read)
    found = client.referrers(reference, bundle.manifest.digest)
    assert [each.digest for each in found] == [one.manifest.digest, two.manifest.digest]
    assert client.manifest(f"{registry}/{pushed}@{one.manifest.digest}").raw == one.manifest.raw
    assert client.head(f"{registry}/{pushed}:{bundle.manifest.digest.replace(':', '-')}") is not None


def test_skopeo_reads_what_was_pushed(registry: str, client: Registry, pushed: str, bundle: Bundle, tmp_path: Path) -> None:
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("no skopeo")
    reference = f"docker://{registry}/{pushed}:1"
    raw = subprocess.run([skopeo, "inspect", "--tls-verify=false", "--raw", reference], capture_output=True, check=True).stdout
    assert raw == bundle.manifest.raw
    copy = [skopeo, "copy", "--src-tls-verify=false", "--preserve-digests", reference, f"dir:{tmp_path / 'copy'}"]
    subprocess.run(copy, capture_output=True, check=True)
    for layer in bundle.manifest.layers:
        assert (tmp_path / "copy" / layer.digest.removeprefix("sha256:")).read_bytes() == bundle.blobs[layer.digest]
