"""Signing while others sign: a tag has no lock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast
from zipfile import ZipFile

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from envsnap.attest.keys import PrivateKey
from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError, Refused, UsageError
from envsnap.model.base import Base
from envsnap.model.parity import Verdict
from envsnap.model.plan import BuildPlan, InstallPacked, InstallWheels, PackedInstall, PinnedWheel
from envsnap.oci.documents import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Config,
    Descriptor,
    Index,
    Manifest,
    canonical,
    digest_of,
    read_config,
    read_manifest,
)
from envsnap.registry.client import Registry
from envsnap.workflows import attest
from tests import samples

REPOSITORY = "localhost:5000/vision/yolo"
CONFIG = canonical({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}})


class Shelf:
    """As much of a registry as signing needs. Attributes: before_put: what somebody else does in between."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, Manifest | Index] = {}
        self.before_put: Callable[[], object] = lambda: None

    def head(self, reference: str) -> Descriptor | None:
        found = self.manifests.get(reference)
        return Descriptor(media_type=found.media_type, digest=found.digest, size=len(found.raw)) if found is not None else None

    def manifest(self, reference: str) -> Manifest | Index:
        if reference not in self.manifests:
            raise EngineError(f"cannot look up {reference}", why="the registry has no such thing")
        return self.manifests[reference]

    def open_blob(self, reference: str, descriptor: Descriptor) -> Iterator[bytes]:
        yield self.blobs[descriptor.digest]

    def upload(self, reference: str, descriptor: Descriptor, open_at: Callable[[int], Iterator[bytes]]) -> int:
        self.blobs[descriptor.digest] = b"".join(open_at(0))
        return descriptor.size

    def put_manifest(self, reference: str, manifest: Manifest | Index) -> str:
        self.manifests[reference] = self.manifests[f"{REPOSITORY}@{manifest.digest}"] = manifest
        self.before_put()
        return manifest.digest


class Attaching(Shelf):
    """Attributes: referring: digest of an artifact -> its manifest."""

    def __init__(self) -> None:
        super().__init__()
        self.referring: dict[str, Manifest] = {}

    def image(self, reference: str, *, machine: str) -> tuple[Manifest, Config]:
        found = self.manifest(reference)
        assert isinstance(found, Manifest)
        return found, read_config(self.blobs[found.config.digest], what="")

    def attach(self, reference: str, manifest: Manifest, read: Callable[[Descriptor, int], Iterator[bytes]]) -> str:
        for layer in manifest.layers:
            self.blobs[layer.digest] = b"".join(read(layer, 0))
        self.referring[manifest.digest] = manifest
        return manifest.digest


@pytest.fixture
def shelf() -> Attaching:
    return Attaching()


@pytest.fixture
def registry(shelf: Shelf) -> Registry:
    return cast("Registry", shelf)


@pytest.fixture
def digest(shelf: Shelf) -> str:
    """Of an image that is there, as ":one"."""
    shelf.blobs[digest_of(CONFIG)] = CONFIG
    config = Descriptor(media_type=OCI_CONFIG, digest=digest_of(CONFIG), size=len(CONFIG))
    raw = canonical({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.document(), "layers": []})
    return shelf.put_manifest(f"{REPOSITORY}:one", read_manifest(raw, OCI_MANIFEST, what=""))


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def other() -> PrivateKey:
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


def test_a_signature_that_somebody_wrote_over_is_written_again(
    shelf: Shelf, registry: Registry, digest: str, key: PrivateKey, other: PrivateKey
) -> None:
    place = f"{REPOSITORY}:{digest.replace(':', '-')}.sig"
    attest.sign(f"{REPOSITORY}:one", digest, other, registry)
    theirs = shelf.manifests[place]

    def once() -> None:
        shelf.before_put = lambda: None
        shelf.manifests[place] = theirs  # the other one's manifest, written last

    shelf.before_put = once
    assert attest.sign(f"{REPOSITORY}:one", digest, key, registry).added == 1
    for one in (key, other):
        assert attest.verify_signature(f"{REPOSITORY}:one", one.public, registry).verdict == "pass"


def test_whoever_is_written_over_each_time_is_told(shelf: Shelf, registry: Registry, digest: str, key: PrivateKey) -> None:
    place = f"{REPOSITORY}:{digest.replace(':', '-')}.sig"
    shelf.before_put = lambda: shelf.manifests.pop(place, None)
    with pytest.raises(EngineError, match="cannot sign") as caught:
        attest.sign(f"{REPOSITORY}:one", digest, key, registry)
    assert "others keep writing" in caught.value.why


def test_what_is_not_there_is_not_signed(registry: Registry, digest: str, key: PrivateKey) -> None:
    with pytest.raises(EngineError, match="cannot sign"):
        attest.sign(f"{REPOSITORY}:two", None, key, registry)
    with pytest.raises(EngineError, match="cannot look up"):
        attest.sign(f"{REPOSITORY}:one", samples.digest("elsewhere"), key, registry)
    with pytest.raises(EngineError, match="cannot look up"):
        attest.verify_signature(f"{REPOSITORY}:two", key.public, registry)


def test_an_index_in_the_place_of_signatures_is_told(shelf: Shelf, registry: Registry, digest: str, key: PrivateKey) -> None:
    raw = canonical({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
    shelf.put_manifest(f"{REPOSITORY}:{digest.replace(':', '-')}.sig", read_manifest(raw, OCI_INDEX, what=""))
    with pytest.raises(EngineError, match="cannot read the signatures"):
        attest.verify_signature(f"{REPOSITORY}:one", key.public, registry)


def test_only_what_is_signed_goes_on(registry: Registry, digest: str, key: PrivateKey, other: PrivateKey) -> None:
    with pytest.raises(Refused, match="is not signed") as caught:
        attest.require_signature(f"{REPOSITORY}:one", digest, key.public, registry)
    assert caught.value.exit_code == 7
    attest.sign(f"{REPOSITORY}:one", None, key, registry)
    attest.signed_with(key.public, registry)(f"{REPOSITORY}:one", digest)
    with pytest.raises(Refused):
        attest.signed_with(other.public, registry)(f"{REPOSITORY}:one", digest)


def test_a_verdict_is_attached_to_the_image_that_was_verified(
    shelf: Attaching, registry: Registry, digest: str, key: PrivateKey, other: PrivateKey
) -> None:
    image = attest.verified(f"{REPOSITORY}:one", digest_of(CONFIG), registry, machine="x86_64")
    assert image.digest == digest
    lock, result = samples.lock(), Verdict(verdict="incomplete", checks=(), not_judged=("L2: no GPU",))
    for turn in range(2):  # the same verdict is one artifact and one signature
        done = attest.publish_verdict(f"{REPOSITORY}:one", image, result, lock, registry, device="cpu", require=["L2", "L0"], key=key)
        assert list(shelf.referring) == list(done.attached)
        assert done.signing is not None and done.signing.added == (0 if turn else 1)
    assert attest.verify_signature(f"{REPOSITORY}:one", key.public, registry).verdict == "fail"  # who signs a verdict signs no image
    attest.sign(f"{REPOSITORY}:one", None, key, registry)
    (manifest,) = shelf.referring.values()
    assert manifest.subject is not None and manifest.subject.digest == digest
    said = json.loads(shelf.blobs[manifest.layers[0].digest])
    assert (said["subject"][0]["name"], said["predicate"]["result"]) == (REPOSITORY, "WARNED")
    assert [one["name"] for one in said["predicate"]["configuration"]] == ["lock", "observed"]
    assert said["predicate"]["configuration"][1]["annotations"] == {"device": "cpu", "require": "L0,L2"}

    asked = {"registry": registry, "required": ["test-result"]}
    verdict = attest.verify_signature(f"{REPOSITORY}:one", key.public, **asked)  # type: ignore[arg-type]
    assert verdict.verdict == "fail" and "'WARNED'" in verdict.reasons[0]
    passed = Verdict(verdict="pass", checks=())
    attest.publish_verdict(f"{REPOSITORY}:one", image, passed, lock, registry, device="cuda", key=key)
    assert attest.verify_signature(f"{REPOSITORY}:one", key.public, **asked).verdict == "pass"  # type: ignore[arg-type]
    assert attest.verify_signature(f"{REPOSITORY}:one", other.public, **asked).verdict == "fail"  # type: ignore[arg-type]


def test_a_verdict_is_not_attached_to_another_image(registry: Registry, digest: str) -> None:
    with pytest.raises(EngineError, match="is another image in its registry"):
        attest.verified(f"{REPOSITORY}:one", samples.digest("here"), registry, machine="x86_64")


def test_types_of_statements_are_names_or_uris(registry: Registry, digest: str, key: PrivateKey) -> None:
    with pytest.raises(UsageError, match="nonsense"):
        attest.verify_signature(f"{REPOSITORY}:one", key.public, registry, required=["nonsense"])
    verdict = attest.verify_signature(f"{REPOSITORY}:one", key.public, registry, required=["https://example.com/x", "cyclonedx"])
    assert [reason.split()[4] for reason in verdict.reasons[1:]] == ["https://example.com/x", "https://cyclonedx.org/bom"]


def test_keys_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the key") as caught:
        attest.public_key(tmp_path / "missing.pub")
    assert "generate-key-pair" in caught.value.hint
    with pytest.raises(InputError, match="cannot read the key"):
        attest.private_key(tmp_path, lambda: b"")


def test_licences_are_those_of_the_wheels_at_hand(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    digests = {}
    for name in ("one", "two"):
        with ZipFile(path := tmp_path / f"{name}.whl", "w") as wheel:
            wheel.writestr(
                f"{name}-1.dist-info/METADATA", f"Name: {name}\nLicense-Expression: {'MIT' if name == 'one' else 'BSD-3-Clause'}\n"
            )
        digests[name] = store.put(path.read_bytes())
    wheels = (
        PinnedWheel(name="one", version="1", file="one-1-py3-none-any.whl", sha256=digests["one"].removeprefix("sha256:")),
        PinnedWheel(name="absent", version="1", file="absent-1-py3-none-any.whl", sha256=samples.hex64("absent")),
    )
    packed = (PackedInstall(name="two", version="1", file="two-1-py3-none-any.whl", blob=digests["two"]),)
    plan = BuildPlan(
        lock_name="x",
        lock_digest=digest_of(b""),
        base=Base(reference="debian:bookworm", family="other"),
        base_reason="",
        candidates=(),
        steps=(InstallWheels(wheels=wheels, reason=""), InstallPacked(packages=packed, reason="")),
        labels={},
    )
    assert attest.licences_of(plan, store) == {"one": "MIT", "two": "BSD-3-Clause"}
