from __future__ import annotations

import base64
import json

import pytest

from envsnap.attest.dsse import IN_TOTO, pre_authentication_encoding, seal, unseal
from envsnap.attest.keys import PrivateKey

PAYLOAD = b'{"a":1}'


def test_what_is_signed_is_as_the_specification_says() -> None:
    # The example of the DSSE specification, and lengths counted in bytes.
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pre_authentication_encoding("é", "ü".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xbc"


def test_a_sealed_payload_comes_back(key: PrivateKey) -> None:
    envelope = seal(PAYLOAD, key)
    assert unseal(envelope, key.public) == PAYLOAD
    document = json.loads(envelope)
    assert (document["payloadType"], base64.b64decode(document["payload"])) == (IN_TOTO, PAYLOAD)


def test_url_safe_base64_and_one_good_signature_of_several_are_enough(key: PrivateKey, other_key: PrivateKey) -> None:
    document = json.loads(seal(b"\xfb\xff\xfe", key))
    stranger = json.loads(seal(b"\xfb\xff\xfe", other_key))["signatures"]
    document["payload"] = document["payload"].replace("+", "-").replace("/", "_")
    document["signatures"] = [*stranger, {"sig": 7}, "x", *document["signatures"]]
    assert unseal(json.dumps(document).encode(), key.public) == b"\xfb\xff\xfe"


def test_another_key_type_or_payload_does_not_hold(key: PrivateKey, other_key: PrivateKey) -> None:
    envelope = seal(PAYLOAD, key)
    assert unseal(envelope, other_key.public) is None
    assert unseal(envelope, key.public, "text/plain") is None
    document = json.loads(envelope)
    changes: tuple[dict[str, object], ...] = (
        {"payload": base64.b64encode(b'{"a":2}').decode()},
        {"payloadType": "text/plain"},
        {"payload": "not base64!"},
        {"payload": 7},
        {"signatures": []},
        {"signatures": {}},
        {"signatures": [{"keyid": ""}]},
        {"signatures": [{"sig": ""}]},
    )
    for changed in changes:
        assert unseal(json.dumps({**document, **changed}).encode(), key.public) is None, changed


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_envelope_does_not_hold(key: PrivateKey, raw: bytes) -> None:
    assert unseal(raw, key.public) is None
