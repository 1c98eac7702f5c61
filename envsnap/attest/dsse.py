"""DSSE envelopes: a payload, its type, and signatures over both (the DSSE specification, version 1)."""

from __future__ import annotations

import base64
import binascii

from envsnap.attest.keys import PrivateKey, PublicKey
from envsnap.errors import EngineError
from envsnap.oci.documents import canonical, parse_object

MEDIA_TYPE = "application/vnd.dsse.envelope.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
_MOST_SIGNATURES = 100


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What is signed: type and payload, each with its length, so that no other pair reads the same."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, key: PrivateKey, payload_type: str = IN_TOTO) -> bytes:
    """The envelope of a signed payload, as cosign writes it: one signature, whose key is named nowhere."""
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    signatures = [{"keyid": "", "sig": base64.b64encode(signature).decode("ascii")}]
    return canonical({"payloadType": payload_type, "payload": base64.b64encode(payload).decode("ascii"), "signatures": signatures})


def unseal(envelope: bytes, key: PublicKey, payload_type: str = IN_TOTO) -> bytes | None:
    """The payload that the key's owner signed as being of this type; None where no signature of an envelope holds, or it is none."""
    try:
        document = parse_object(envelope, what="")
    except EngineError:
        return None
    payload = _decoded(document.get("payload"))
    signatures = document.get("signatures")
    if payload is None or document.get("payloadType") != payload_type or not isinstance(signatures, list):
        return None
    message = pre_authentication_encoding(payload_type, payload)
    for signature in signatures[:_MOST_SIGNATURES]:
        found = _decoded(signature.get("sig")) if isinstance(signature, dict) else None
        if found and key.verifies(found, message):
            return payload
    return None


def _decoded(value: object) -> bytes | None:
    """Base64 of either alphabet, as the specification has it."""
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None
