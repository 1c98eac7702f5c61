from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from envsnap.attest import dsse, signatures
from envsnap.attest.keys import PrivateKey, PublicKey
from envsnap.attest.signatures import Bundle, Signed
from envsnap.attest.statements import BILL_OF_MATERIALS, TEST_RESULT, Subject, statement
from envsnap.model.signature import SignatureVerdict
from envsnap.oci.documents import Descriptor, Manifest, digest_of, read_manifest
from tests import samples

REPOSITORY = "localhost:5000/vision/yolo"
DIGEST = samples.digest("image")
SUBJECT = Subject(name=REPOSITORY, digest=DIGEST)
# As cosign 2.5 writes it.
CLAIM = (
    b'{"critical":{"identity":{"docker-reference":"localhost:5000/vision/yolo"},"image":{"docker-manifest-digest":"'
    + DIGEST.encode()
    + b'"},"type":"cosign container image signature"},"optional":null}'
)


class Shelf:
    """Blobs by digest, as a registry has them."""

    def __init__(self, *bundles: Bundle) -> None:
        self.blobs: dict[str, bytes] = {digest_of(blob): blob for bundle in bundles for blob in bundle.blobs}

    def read(self, descriptor: Descriptor) -> bytes:
        return self.blobs[descriptor.digest]


def judged(
    key: PublicKey,
    claims: Sequence[Signed] = (),
    statements: Sequence[Signed] = (),
    digest: str = DIGEST,
    required: Sequence[str] = (),
) -> SignatureVerdict:
    sig, att = signatures.with_signed(None, claims), signatures.with_signed(None, statements)
    shelf = Shelf(sig, att)
    manifests: list[Manifest | None] = [sig.manifest if claims else None, att.manifest if statements else None]
    return signatures.judge(f"{REPOSITORY}:one", digest, key, manifests[0], manifests[1], shelf.read, required=required)


def test_the_claim_and_its_place_are_cosigns() -> None:
    assert signatures.claim(REPOSITORY, DIGEST) == CLAIM
    assert signatures.tag(DIGEST, "sig") == f"sha256-{DIGEST[7:]}.sig"
    assert signatures.tag(DIGEST, "att") == f"sha256-{DIGEST[7:]}.att"


def test_a_signature_holds(key: PrivateKey) -> None:
    verdict = judged(key.public, [signatures.sign_image(REPOSITORY, DIGEST, key)])
    assert (verdict.verdict, verdict.reasons) == ("pass", ())
    assert verdict.findings[0].reason == f"signed as {REPOSITORY}"
    assert verdict.key == key.public.fingerprint


def test_of_several_signatures_one_is_enough(key: PrivateKey, other_key: PrivateKey) -> None:
    claims = [signatures.sign_image(REPOSITORY, DIGEST, one) for one in (other_key, key)]
    verdict = judged(key.public, claims)
    assert verdict.verdict == "pass" and [finding.holds for finding in verdict.findings] == [False, True]


def altered(data: bytes, key: PrivateKey, annotations: Mapping[str, str] | None = None) -> Signed:
    """A claim with a good signature of other bytes, or with other annotations."""
    good = signatures.sign_image(REPOSITORY, DIGEST, key)
    return replace(good, data=data, annotations=good.annotations if annotations is None else annotations)


def test_no_signature_fails(key: PrivateKey) -> None:
    assert judged(key.public).reasons == ("there is no signature of this image",)


def test_another_key_fails(key: PrivateKey, other_key: PrivateKey) -> None:
    verdict = judged(other_key.public, [signatures.sign_image(REPOSITORY, DIGEST, key)])
    assert verdict.verdict == "fail" and "not signed with this key, or changed since" in verdict.reasons[0]


def test_another_digest_fails(key: PrivateKey) -> None:
    other = samples.digest("another image")
    verdict = judged(key.public, [signatures.sign_image(REPOSITORY, other, key)])
    assert verdict.verdict == "fail" and f"signed for another image: {other}" in verdict.reasons[0]


@pytest.mark.parametrize(
    "annotations",
    [{}, {signatures.SIGNATURE: ""}, {signatures.SIGNATURE: "!"}, {signatures.SIGNATURE: "AAAA"}, {signatures.SIGNATURE: "é"}],
)
def test_a_claim_without_a_signature_fails(key: PrivateKey, annotations: Mapping[str, str]) -> None:
    assert judged(key.public, [altered(CLAIM, key, annotations)]).verdict == "fail"


def test_a_changed_claim_fails(key: PrivateKey) -> None:
    assert judged(key.public, [altered(CLAIM.replace(b"null", b"{}  "), key)]).verdict == "fail"
    assert judged(key.public, [altered(CLAIM, key)]).verdict == "pass"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b'{"critical":[]}',
        b'{"critical":{"image":[]}}',
        CLAIM.replace(b"cosign container image signature", b"atomic container signature"),
        CLAIM.replace(b'image":{', b'image":{"x":1,').replace(DIGEST.encode(), b""),
    ],
)
def test_what_was_signed_but_is_no_claim_of_this_image_fails(key: PrivateKey, said: bytes) -> None:
    signature = base64.b64encode(key.sign(said)).decode()
    assert judged(key.public, [altered(said, key, {signatures.SIGNATURE: signature})]).verdict == "fail"


def test_a_statement_is_no_signature_of_the_image(key: PrivateKey) -> None:
    signed = signatures.sign_statement(statement(SUBJECT, TEST_RESULT, {"result": "PASSED"}), key)
    assert judged(key.public, statements=[signed]).reasons == ("there is no signature of this image",)
    # Neither does an envelope count in the place of a claim.
    assert judged(key.public, [signed]).verdict == "fail"


def test_statements_that_were_asked_for_must_hold(key: PrivateKey, other_key: PrivateKey) -> None:
    claim = signatures.sign_image(REPOSITORY, DIGEST, key)
    good = signatures.sign_statement(statement(SUBJECT, TEST_RESULT, {"result": "PASSED"}), key)
    assert good.annotations == {signatures.SIGNATURE: "", "predicateType": TEST_RESULT}
    verdict = judged(key.public, [claim], [good], required=[TEST_RESULT])
    assert verdict.verdict == "pass" and verdict.findings[1].type == TEST_RESULT
    assert judged(key.public, [claim], [good], required=[BILL_OF_MATERIALS]).verdict == "fail"

    others = signatures.sign_statement(statement(SUBJECT, TEST_RESULT, {}), other_key)
    elsewhere = signatures.sign_statement(statement(Subject(name="x", digest=samples.digest("y")), TEST_RESULT, {}), key)
    no_statement = replace(good, data=dsse.seal(b'{"subject":[{"digest":{"sha256":"%s"}}]}' % DIGEST[7:].encode(), key))
    no_object = replace(good, data=dsse.seal(b"[]", key))
    for bad in (others, elsewhere, no_statement, no_object):
        verdict = judged(key.public, [claim], [bad], required=[TEST_RESULT])
        assert verdict.verdict == "fail" and not verdict.findings[1].holds
        assert verdict.findings[1].type == ""
        assert judged(key.public, [claim], [bad]).verdict == "pass"  # nobody asked for it


def test_a_test_result_that_is_asked_for_is_one_that_was_passed(key: PrivateKey) -> None:
    claim = signatures.sign_image(REPOSITORY, DIGEST, key)
    words = ("PASSED", "FAILED", "\x1b")
    said = {word: signatures.sign_statement(statement(SUBJECT, TEST_RESULT, {"result": word}), key) for word in words}
    for word in ("FAILED", "\x1b"):
        verdict = judged(key.public, [claim], [said[word]], required=[TEST_RESULT])
        assert verdict.verdict == "fail" and "says PASSED" in verdict.reasons[0] and "\x1b" not in verdict.reasons[0]
    failed = judged(key.public, [claim], [said["FAILED"]])
    assert failed.verdict == "pass" and failed.findings[1].reason == f"{TEST_RESULT} FAILED"  # nobody asked for it, and it is shown
    # On one machine it failed, on another it passed: both are told.
    both = judged(key.public, [claim], [said["FAILED"], said["PASSED"]], required=[TEST_RESULT])
    assert both.verdict == "pass" and [finding.result for finding in both.findings] == ["", "FAILED", "PASSED"]
    odd = signatures.sign_statement(statement(SUBJECT, TEST_RESULT, {"result": ["PASSED"]}), key)
    assert judged(key.public, [claim], [odd], required=[TEST_RESULT]).verdict == "fail"


def test_signatures_are_added_to_those_of_others(key: PrivateKey, other_key: PrivateKey) -> None:
    first = signatures.with_signed(None, [signatures.sign_image(REPOSITORY, DIGEST, other_key)])
    second = signatures.with_signed(first.manifest, [signatures.sign_image(REPOSITORY, DIGEST, key)])
    assert second.manifest.layers[:1] == first.manifest.layers and len(second.manifest.layers) == 2
    read = read_manifest(second.manifest.raw, "", what="")
    assert isinstance(read, Manifest) and read.layers == second.manifest.layers and read.config == second.manifest.config
    config = json.loads(second.blobs[0])
    assert config["rootfs"]["diff_ids"] == [layer.digest for layer in second.manifest.layers]


def test_what_is_signed_already_is_known(key: PrivateKey, other_key: PrivateKey) -> None:
    said = statement(SUBJECT, TEST_RESULT, {"result": "PASSED"})
    sig = signatures.with_signed(None, [signatures.sign_image(REPOSITORY, DIGEST, key)])
    att = signatures.with_signed(None, [signatures.sign_statement(said, key)])
    shelf = Shelf(sig, att)
    assert signatures.already_signed(sig.manifest, "sig", CLAIM, key.public, shelf.read)
    assert signatures.already_signed(att.manifest, "att", said, key.public, shelf.read)
    assert not signatures.already_signed(sig.manifest, "sig", CLAIM, other_key.public, shelf.read)
    assert not signatures.already_signed(att.manifest, "att", said, other_key.public, shelf.read)
    assert not signatures.already_signed(att.manifest, "att", said + b" ", key.public, shelf.read)
    assert not signatures.already_signed(None, "sig", CLAIM, key.public, shelf.read)


def test_what_anybody_could_add_is_not_even_fetched(key: PrivateKey) -> None:
    """Layers of other kinds, and ones that are too large for what they say to be."""
    good = signatures.sign_image(REPOSITORY, DIGEST, key)
    bundle = signatures.with_signed(None, [good])
    odd = Descriptor(media_type="application/octet-stream", digest=samples.digest("odd"), size=1)
    huge = Descriptor(media_type=signatures.SIMPLE_SIGNING, digest=samples.digest("huge"), size=1 << 30)
    manifest = replace(bundle.manifest, layers=(odd, huge, *bundle.manifest.layers))
    verdict = signatures.judge("r", DIGEST, key.public, manifest, None, Shelf(bundle).read)
    assert verdict.verdict == "pass" and len(verdict.findings) == 1


def test_what_was_signed_is_shown_only_as_text(key: PrivateKey) -> None:
    for said in (CLAIM.replace(REPOSITORY.encode(), b"\\u001b[2J"), CLAIM.replace(b'"localhost:5000/vision/yolo"', b"[7]")):
        signature = base64.b64encode(key.sign(said)).decode()
        verdict = judged(key.public, [altered(said, key, {signatures.SIGNATURE: signature})])
        assert verdict.findings[0].reason == "signed as an image without a name" and verdict.verdict == "pass"


def test_there_are_never_so_many_signatures_that_reading_them_does_not_end(key: PrivateKey, other_key: PrivateKey) -> None:
    bundle = signatures.with_signed(None, [signatures.sign_image(REPOSITORY, DIGEST, other_key)])
    many = replace(bundle.manifest, layers=bundle.manifest.layers * (signatures.MAX_LAYERS + 1))
    verdict = signatures.judge("r", DIGEST, key.public, many, None, Shelf(bundle).read)
    assert len(verdict.findings) == signatures.MAX_LAYERS and verdict.reasons[-1] == "there are 257 of them, of which 256 were read"
