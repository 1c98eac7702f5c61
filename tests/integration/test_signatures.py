"""Signatures and statements against a real registry and the real cosign: each holds what the other signed, and nothing that was changed.

cosign comes from Debian 13, unpacked once beside the other tools of the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from envsnap.attest import dsse, signatures
from envsnap.attest.keys import PrivateKey, PublicKey, read_private_key, read_public_key
from envsnap.attest.provenance import provenance
from envsnap.attest.sbom import bill_of_materials
from envsnap.attest.signatures import Signed
from envsnap.attest.statements import BILL_OF_MATERIALS, PROVENANCE, TEST_RESULT, Subject, of_bill, of_verdict
from envsnap.errors import Refused
from envsnap.model.base import Base
from envsnap.model.lock import EnvLock
from envsnap.model.parity import Verdict
from envsnap.model.plan import BuildPlan
from envsnap.oci.documents import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, canonical, digest_of, read_manifest
from envsnap.registry.client import Registry
from envsnap.workflows import attest
from tests import samples
from tests.integration.conftest import unavailable

PASSWORD = "of both, cosign and envsnap"
NO_LOG = "--insecure-ignore-tlog=true"


@pytest.fixture(scope="module")
def cosign() -> Path:
    """The real cosign: on PATH, or unpacked once from Debian 13 (7 seconds)."""
    found = shutil.which("cosign")
    if found is not None:
        return Path(found)
    cache = Path(os.environ.get("ENVSNAP_TEST_CACHE") or Path.home() / ".cache/envsnap-tests")
    program = cache / "cosign-trixie"
    if not program.is_file():
        if shutil.which("mmdebstrap") is None:
            unavailable("no cosign, and no mmdebstrap to get it with", "ENVSNAP_REQUIRE_ENGINE")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            command = ["mmdebstrap", "--quiet", "--variant=extract", "--include=cosign", "trixie", f"{scratch}/root"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                unavailable(f"cosign cannot be had: {done.stderr[-2000:]}", "ENVSNAP_REQUIRE_ENGINE")
            Path(scratch, "root/usr/bin/cosign").replace(program)
    return program


@dataclass(frozen=True, kw_only=True)
class Keys:
    """A pair of cosign's making, as files and as values."""

    private_file: Path
    public_file: Path
    private: PrivateKey
    public: PublicKey


@pytest.fixture(scope="module")
def make_keys(cosign: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Keys]:
    def make() -> Keys:
        folder = tmp_path_factory.mktemp("keys")
        subprocess.run([cosign, "generate-key-pair"], cwd=folder, env=environment(), check=True, capture_output=True)
        private, public = folder / "cosign.key", folder / "cosign.pub"
        return Keys(
            private_file=private,
            public_file=public,
            private=read_private_key(private.read_bytes(), "cosign.key", PASSWORD.encode),
            public=read_public_key(public.read_bytes(), "cosign.pub"),
        )

    return make


@pytest.fixture(scope="module")
def keys(make_keys: Callable[[], Keys]) -> Keys:
    return make_keys()


@pytest.fixture(scope="module")
def client() -> Registry:
    return Registry(os.environ)


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """An image of one layer. Attributes: repository: of its own; reference: with a tag."""

    repository: str
    manifest: Manifest

    @property
    def reference(self) -> str:
        return f"{self.repository}:one"

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def pinned(self) -> str:
        return f"{self.repository}@{self.digest}"

    @property
    def subject(self) -> Subject:
        return Subject(name=self.repository, digest=self.digest)


def push(client: Registry, repository: str, text: str = "one") -> Pushed:
    layer = text.encode()
    config = canonical({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]}})
    named = Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config))
    row = Descriptor(media_type="application/vnd.oci.image.layer.v1.tar", digest=digest_of(layer), size=len(layer))
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": named.document(), "layers": [row.document()]}
    manifest = Manifest(raw=canonical(document), media_type=OCI_MANIFEST, config=named, layers=(row,))
    blobs = {named.digest: config, row.digest: layer}
    client.push(f"{repository}:one", manifest, lambda blob, offset: iter([blobs[blob.digest][offset:]]))
    return Pushed(repository=repository, manifest=manifest)


@pytest.fixture
def image(registry: str, client: Registry) -> Pushed:
    return push(client, f"{registry}/envsnap-tests/signed-{uuid.uuid4().hex[:12]}")


def plan_of(lock: EnvLock) -> BuildPlan:
    base = Base(reference="debian:bookworm", family="other", digest=samples.digest("base"))
    return BuildPlan(lock_name=lock.name, lock_digest=lock.digest, base=base, base_reason="", candidates=(), steps=(), labels={})


@pytest.fixture(scope="module")
def statements() -> Callable[[Subject], dict[str, bytes]]:
    lock = samples.lock()
    plan = plan_of(lock)
    return lambda subject: {
        PROVENANCE: provenance(lock, plan, subject, engine="oci"),
        BILL_OF_MATERIALS: of_bill(subject, bill_of_materials(lock, plan)),
        TEST_RESULT: of_verdict(subject, Verdict(verdict="pass", checks=()), lock_digest=lock.digest),
    }


def environment() -> dict[str, str]:
    return {**os.environ, "COSIGN_PASSWORD": PASSWORD}


def run(cosign: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([cosign, *words], env=environment(), capture_output=True, text=True, timeout=600)


def envsnap(*words: str | Path, **variables: str) -> tuple[int, dict[str, Any]]:
    """The command line: its exit code and document."""
    command = [sys.executable, "-m", "envsnap.cli.main", *words, "--json"]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)
    return done.returncode, json.loads(done.stdout)


def test_cosign_holds_what_envsnap_signed(
    cosign: Path,
    keys: Keys,
    make_keys: Callable[[], Keys],
    client: Registry,
    image: Pushed,
    statements: Callable[[Subject], dict[str, bytes]],
) -> None:
    said = statements(image.subject)
    done = attest.sign(image.reference, image.digest, keys.private, client, statements=[*said.values()])
    assert (done.digest, done.added) == (image.digest, 4)

    verified = run(cosign, "verify", "--key", keys.public_file, NO_LOG, image.reference)
    assert verified.returncode == 0, verified.stderr
    claim = json.loads(verified.stdout)[0]["critical"]
    assert claim["image"] == {"docker-manifest-digest": image.digest} and claim["identity"] == {"docker-reference": image.repository}
    for kind, predicate in (("slsaprovenance1", PROVENANCE), ("cyclonedx", BILL_OF_MATERIALS), (TEST_RESULT, TEST_RESULT)):
        verified = run(cosign, "verify-attestation", "--key", keys.public_file, NO_LOG, "--type", kind, image.reference)
        assert verified.returncode == 0, verified.stderr
        payload = dsse.unseal(verified.stdout.splitlines()[0].encode(), keys.public)
        assert payload == said[predicate]

    other = make_keys()
    for what in (["verify"], ["verify-attestation", "--type", "slsaprovenance1"]):
        assert run(cosign, *what, "--key", other.public_file, NO_LOG, image.reference).returncode != 0
    # Signing again says nothing new, and another signer's signature joins the first.
    assert attest.sign(image.reference, None, keys.private, client, statements=[*said.values()]).added == 0
    assert attest.sign(image.reference, None, other.private, client).added == 1
    for public in (keys.public_file, other.public_file):
        assert run(cosign, "verify", "--key", public, NO_LOG, image.reference).returncode == 0


def test_envsnap_holds_what_cosign_signed(
    cosign: Path, keys: Keys, make_keys: Callable[[], Keys], client: Registry, image: Pushed, tmp_path: Path
) -> None:
    assert attest.verify_signature(image.reference, keys.public, client).reasons == ("there is no signature of this image",)
    done = run(cosign, "sign", "--key", keys.private_file, "--tlog-upload=false", "-y", image.pinned)
    assert done.returncode == 0, done.stderr
    predicate = tmp_path / "predicate.json"
    predicate.write_text('{"result": "PASSED"}', encoding="utf-8")
    words = ("--type", TEST_RESULT, "--predicate", predicate, image.pinned)
    done = run(cosign, "attest", "--key", keys.private_file, "--tlog-upload=false", "-y", *words)
    assert done.returncode == 0, done.stderr

    verdict = attest.verify_signature(image.reference, keys.public, client, required=["test-result"])
    assert verdict.verdict == "pass" and [finding.holds for finding in verdict.findings] == [True, True]
    attest.require_signature(image.reference, image.digest, keys.public, client)
    assert attest.verify_signature(image.reference, keys.public, client, required=["cyclonedx"]).verdict == "fail"
    assert attest.verify_signature(image.reference, make_keys().public, client).verdict == "fail"
    # What cosign has said with this key need not be said again.
    assert attest.sign(image.reference, None, keys.private, client).added == 0


def test_keys_of_openssl_are_keys_of_both(cosign: Path, client: Registry, image: Pushed, tmp_path: Path) -> None:
    key = tmp_path / "k.pem"
    openssl = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes-256-cbc", "-pass", "pass:secret"]
    subprocess.run([*openssl, "-out", key], check=True, capture_output=True)
    public = tmp_path / "k.pub"
    subprocess.run(["openssl", "pkey", "-in", key, "-passin", "pass:secret", "-pubout", "-out", public], check=True)
    assert envsnap("sign", image.reference, "--key", key, ENVSNAP_SIGN_PASSWORD="secret")[1]["added"] == 1
    assert run(cosign, "verify", "--key", public, NO_LOG, image.reference).returncode == 0


def put(client: Registry, image: Pushed, signed: Signed, digest: str = "") -> None:
    """Write a manifest of one signature, whatever it says, beside an image."""
    bundle = signatures.with_signed(None, [signed])
    place = f"{image.repository}:{signatures.tag(digest or image.digest, 'sig')}"
    for blob in bundle.blobs:
        descriptor = Descriptor(media_type="", digest=digest_of(blob), size=len(blob))
        client.upload(place, descriptor, lambda offset, blob=blob: iter([blob[offset:]]))  # type: ignore[misc]
    client.put_manifest(place, bundle.manifest)


def test_what_was_tampered_with_is_refused_by_both(cosign: Path, keys: Keys, client: Registry, image: Pushed) -> None:
    good = signatures.sign_image(image.repository, image.digest, keys.private)
    another = push(client, image.repository, "another")
    cases = {
        "changed since": replace(good, data=good.data.replace(b'"optional":null', b'"optional":{}')),
        "not signed with this key": replace(good, annotations={signatures.SIGNATURE: "AAAA"}),
        "another image": signatures.sign_image(image.repository, another.digest, keys.private),
    }
    for reason, signed in cases.items():
        put(client, image, signed)
        verdict = attest.verify_signature(image.pinned, keys.public, client)
        assert verdict.verdict == "fail" and reason in verdict.reasons[0], reason
        with pytest.raises(Refused) as caught:
            attest.require_signature(image.pinned, image.digest, keys.public, client)
        assert caught.value.exit_code == 7 and reason in caught.value.why
        assert run(cosign, "verify", "--key", keys.public_file, NO_LOG, image.pinned).returncode != 0, reason
        code, document = envsnap("verify-signature", image.pinned, "--key", keys.public_file)
        assert code == 7 and document["verdict"] == "fail", reason
    put(client, image, good)
    code, document = envsnap("verify-signature", image.pinned, "--key", keys.public_file)
    assert (code, document["verdict"], document["image_digest"]) == (0, "pass", image.digest)
    # A tag that moved on leads to an image that nobody signed.
    code, document = envsnap("verify-signature", another.reference, "--key", keys.public_file)
    assert (code, document["reasons"]) == (7, ["there is no signature of this image"])


def test_the_command_line_signs_and_checks(keys: Keys, client: Registry, image: Pushed) -> None:
    key, public = ("--key", keys.private_file), ("--key", keys.public_file)
    assert envsnap("verify-signature", image.reference, *public)[0] == 7
    code, document = envsnap("sign", image.reference, *key, ENVSNAP_SIGN_PASSWORD="wrong")
    assert code == 4 and "password" in document["error"]["why"]
    code, document = envsnap("sign", image.reference, *key)
    assert code == 2 and "ENVSNAP_SIGN_PASSWORD" in document["error"]["hint"]
    code, document = envsnap("sign", image.reference, *key, COSIGN_PASSWORD=PASSWORD)
    assert (code, document["image_digest"], document["added"]) == (0, image.digest, 1)
    code, document = envsnap("verify-signature", image.reference, *public)
    assert (code, document["verdict"], document["key"]) == (0, "pass", keys.public.fingerprint)
    assert envsnap("verify-signature", image.reference, *public, "--attestation", "cyclonedx")[0] == 7
    assert envsnap("verify-signature", image.reference, *public, "--attestation", "nonsense")[0] == 2
    assert envsnap("verify-signature", f"{image.repository}:two", *public)[0] == 6
    assert envsnap("verify-signature", image.reference, *key)[0] == 4  # the private half is for who signs


def test_pull_refuses_what_is_not_signed(keys: Keys, client: Registry, image: Pushed, tmp_path: Path) -> None:
    place = tmp_path / "layout"
    words = ("pull", image.reference, "--to", f"oci:{place}", "--key", keys.public_file)
    code, document = envsnap(*words)
    assert code == 7 and "no signature" in document["error"]["why"] and not place.exists()
    attest.sign(image.reference, None, keys.private, client)
    assert envsnap(*words)[0] == 0 and (place / "index.json").is_file()


def test_the_signature_of_an_index_is_one_of_what_it_names(
    cosign: Path, keys: Keys, make_keys: Callable[[], Keys], client: Registry, image: Pushed
) -> None:
    row = image.manifest.descriptor.document() | {"platform": {"os": "linux", "architecture": "amd64"}}
    raw = canonical({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [row]})
    index = read_manifest(raw, OCI_INDEX, what="")
    client.put_manifest(f"{image.repository}:many", index)
    done = run(cosign, "sign", "--key", keys.private_file, "--tlog-upload=false", "-y", f"{image.repository}@{index.digest}")
    assert done.returncode == 0, done.stderr
    attest.require_signature(f"{image.repository}:many", image.digest, keys.public, client)
    with pytest.raises(Refused, match="not signed"):  # by its own name nobody vouches for it
        attest.require_signature(image.reference, image.digest, keys.public, client)
    with pytest.raises(Refused, match="not signed"):  # nor for what the index does not name
        attest.require_signature(f"{image.repository}:many", samples.digest("other"), keys.public, client)
    with pytest.raises(Refused) as caught:
        attest.require_signature(f"{image.repository}:many", image.digest, make_keys().public, client)
    assert "of the index that names it: " in caught.value.why


def test_documents_refer_to_the_image_and_are_signed(cosign: Path, keys: Keys, client: Registry, image: Pushed) -> None:
    lock = samples.lock()
    subject = attest.subject_of(image.reference, image.digest)
    documents = attest.document(b"envsnap: 1\n", lock, plan_of(lock), subject, engine="oci", sbom=True)
    published = attest.publish(image.reference, image.manifest, documents, client, key=keys.private)
    assert published.signing is not None and published.signing.added == 3
    again = attest.publish(image.reference, image.manifest, documents, client, key=keys.private)
    assert again.attached == published.attached and again.signing is not None and again.signing.added == 0

    found = {one.artifact_type: one for one in client.referrers(image.reference, image.digest)}
    assert {one.digest for one in found.values()} == set(published.attached) and len(found) == 3
    manifest = client.manifest(f"{image.repository}@{found['application/vnd.cyclonedx+json'].digest}")
    assert isinstance(manifest, Manifest) and manifest.subject is not None and manifest.subject.digest == image.digest
    assert b"".join(client.open_blob(image.repository, manifest.layers[0])) == documents.sbom
    verified = run(cosign, "verify-attestation", "--key", keys.public_file, NO_LOG, "--type", "cyclonedx", image.reference)
    assert verified.returncode == 0, verified.stderr
    # The image is what it was.
    assert client.manifest(image.reference).digest == image.digest
