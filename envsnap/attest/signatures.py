"""cosign's signatures by key: claims that name an image's digest, and signed statements, in manifests under tags beside the image.

The formats are those of cosign 2 (its SIGNATURE_SPEC and ATTESTATION_SPEC): a layer per signature, of media type
`application/vnd.dev.cosign.simplesigning.v1+json` with the signature as its annotation, under the tag `sha256-<hex>.sig`; an envelope per
statement under `sha256-<hex>.att`. Nothing here is believed before its signature holds.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from envsnap.attest import dsse
from envsnap.attest.keys import PrivateKey, PublicKey
from envsnap.attest.statements import PASSED, TEST_RESULT
from envsnap.errors import EngineError
from envsnap.model.signature import SignatureFinding, SignatureVerdict
from envsnap.oci.documents import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest, canonical, digest_of, parse_object

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
PREDICATE_TYPE = "predicateType"
Place = Literal["sig", "att"]
PLACES: tuple[Place, Place] = ("sig", "att")
"""Of claims, and of envelopes."""
MAX_BYTES: Mapping[Place, int] = {"sig": 1 << 20, "att": 16 << 20}
"""Of one claim or envelope."""
MAX_LAYERS = 256
"""Of a manifest of signatures that are read: anybody who may push can add some."""

_TYPE = "cosign container image signature"
_STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
_OTHER_KEY = "not signed with this key, or changed since"

Read = Callable[[Descriptor], bytes]
"""The bytes of a layer, already held against its digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """One layer of a manifest of signatures. Attributes: data: the claim or the envelope, uncompressed."""

    media_type: str
    data: bytes
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(media_type=self.media_type, digest=digest_of(self.data), size=len(self.data), annotations=self.annotations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A manifest and the blobs that it names and that may not be in the registry yet."""

    manifest: Manifest
    blobs: tuple[bytes, ...]


def tag(digest: str, place: Place) -> str:
    """Where cosign looks for what belongs to an image: "sha256-<hex>.sig"."""
    return f"{digest.replace(':', '-')}.{place}"


def claim(repository: str, digest: str) -> bytes:
    """What is signed of an image. Args: repository: with its registry ("localhost:5000/yolo-train"); digest: of its manifest or index."""
    critical = {"identity": {"docker-reference": repository}, "image": {"docker-manifest-digest": digest}, "type": _TYPE}
    return canonical({"critical": critical, "optional": None})


def sign_image(repository: str, digest: str, key: PrivateKey) -> Signed:
    """A signed claim."""
    data = claim(repository, digest)
    return Signed(media_type=SIMPLE_SIGNING, data=data, annotations={SIGNATURE: base64.b64encode(key.sign(data)).decode("ascii")})


def sign_statement(statement: bytes, key: PrivateKey) -> Signed:
    """A signed in-toto statement."""
    predicate_type = str(parse_object(statement, what="cannot sign a statement").get("predicateType", ""))
    annotations = {SIGNATURE: "", PREDICATE_TYPE: predicate_type}
    return Signed(media_type=dsse.MEDIA_TYPE, data=dsse.seal(statement, key), annotations=annotations)


def with_signed(before: Manifest | None, new: Sequence[Signed]) -> Bundle:
    """The manifest of signatures with more of them; what others signed stays.

    The config counts the layers as an image's does: cosign builds these manifests as images and reads them so.
    """
    layers = (*(before.layers if before is not None else ()), *(signed.descriptor for signed in new))
    config = canonical(
        {
            "architecture": "",
            "os": "",
            "config": {},
            "history": [],
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
    )
    descriptor = Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor.document(),
        "layers": [layer.document() for layer in layers],
    }
    manifest = Manifest(raw=canonical(document), media_type=OCI_MANIFEST, config=descriptor, layers=layers)
    return Bundle(manifest=manifest, blobs=(config, *(signed.data for signed in new)))


def already_signed(before: Manifest | None, place: Place, said: bytes, key: PublicKey, read: Read) -> bool:
    """Whether the same claim or statement is there with a signature of the same key: another one would say nothing new."""
    for layer in _layers(before, place):
        if place == "sig" and layer.digest == digest_of(said) and _holds(layer, said, key):
            return True
        if place == "att" and dsse.unseal(read(layer), key) == said:
            return True
    return False


def judge(
    reference: str,
    digest: str,
    key: PublicKey,
    signatures: Manifest | None,
    attestations: Manifest | None,
    read: Read,
    *,
    required: Sequence[str] = (),
) -> SignatureVerdict:
    """Whether a key's owner vouches for an image.

    Args:
        digest: of the image's manifest or index.
        signatures, attestations: the manifests beside it, None where there is none.
        required: predicate types of which a signed statement must be there; of test results one that was passed.
    """
    findings = (
        *(_judge_claim(layer, read, digest, key) for layer in _layers(signatures, "sig")),
        *(_judge_statement(layer, read, digest, key) for layer in _layers(attestations, "att")),
    )
    reasons = []
    claims = [finding for finding in findings if finding.kind == "signature"]
    if not any(finding.holds for finding in claims):
        reasons += [f"signature {finding.blob[:19]}: {finding.reason}" for finding in claims] or ["there is no signature of this image"]
    if reasons and signatures is not None and len(signatures.layers) > MAX_LAYERS:
        reasons.append(f"there are {len(signatures.layers)} of them, of which {MAX_LAYERS} were read")
    for wanted in required:
        said = [finding.result for finding in findings if finding.type == wanted]
        if not said:
            reasons.append(f"no statement of type {wanted} is signed with this key")
        elif wanted == TEST_RESULT and PASSED not in said:
            reasons.append(f"no test result that is signed with this key says {PASSED}: {', '.join(map(repr, said))}")
    return SignatureVerdict(
        reference=reference,
        digest=digest,
        verdict="fail" if reasons else "pass",
        key=key.fingerprint,
        findings=findings,
        reasons=tuple(reasons),
    )


def _layers(manifest: Manifest | None, place: Place) -> tuple[Descriptor, ...]:
    """Those of the right kind; among others, which anybody who may push can add, there may be anything."""
    kind = SIMPLE_SIGNING if place == "sig" else dsse.MEDIA_TYPE
    found = manifest.layers[:MAX_LAYERS] if manifest is not None else ()
    return tuple(layer for layer in found if layer.media_type == kind and layer.size <= MAX_BYTES[place])


def _holds(layer: Descriptor, data: bytes, key: PublicKey) -> bool:
    try:
        signature = base64.b64decode(layer.annotations.get(SIGNATURE, ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return bool(signature) and key.verifies(signature, data)


def _judge_claim(layer: Descriptor, read: Read, digest: str, key: PublicKey) -> SignatureFinding:
    data = read(layer)
    holds, reason = _holds(layer, data, key), _OTHER_KEY
    if holds:
        said = _at(data, "critical")
        image, identity = said.get("image"), said.get("identity")
        signed = image.get("docker-manifest-digest") if isinstance(image, dict) else None
        holds = said.get("type") == _TYPE and signed == digest
        named = identity.get("docker-reference") if isinstance(identity, dict) else ""
        reason = f"signed as {_shown(named) or 'an image without a name'}" if holds else f"signed for another image: {_shown(signed)}"
    return SignatureFinding(kind="signature", blob=layer.digest, holds=holds, reason=reason)


def _judge_statement(layer: Descriptor, read: Read, digest: str, key: PublicKey) -> SignatureFinding:
    payload = dsse.unseal(read(layer), key)
    holds, reason, predicate_type, result = False, _OTHER_KEY, "", ""
    if payload is not None:
        said = _at(payload)
        subjects = said.get("subject")
        digests = [one.get("digest") for one in subjects if isinstance(one, dict)] if isinstance(subjects, list) else []
        ours = any(one.get("sha256") == digest.removeprefix("sha256:") for one in digests if isinstance(one, dict))
        holds = said.get("_type") in _STATEMENTS and ours
        predicate_type = _shown(said.get("predicateType")) if holds else ""
        predicate = said.get("predicate")
        if predicate_type == TEST_RESULT and isinstance(predicate, dict):
            result = _shown(predicate.get("result"))
        reason = " ".join(filter(None, (predicate_type, result))) if holds else "a statement about another image"
    return SignatureFinding(kind="attestation", blob=layer.digest, holds=holds, reason=reason, type=predicate_type, result=result)


def _shown(value: object) -> str:
    """Text that a terminal can be given; "" for anything else."""
    return value if isinstance(value, str) and value.isprintable() else ""


def _at(data: bytes, key: str | None = None) -> Mapping[str, Any]:
    """A JSON object, or the one in it; an empty one for whatever else was signed."""
    try:
        document = parse_object(data, what="")
    except EngineError:
        return {}
    inner = document if key is None else document.get(key)
    return inner if isinstance(inner, dict) else {}
