"""Key files: what cosign writes, what openssl writes, and what is none."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import NoReturn

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from envsnap.attest.keys import PrivateKey, read_private_key, read_public_key
from envsnap.errors import InputError

# Made by cosign 2.5 for this test and for nothing else; its password is "pw".
COSIGN_KEY = b"""\
-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----
eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjo2NTUzNiwiciI6
OCwicCI6MX0sInNhbHQiOiJUTENiOXpBbEtlOWhSaTYrT0R5VFJnNUJUQ1AzbGx2
bkhWODdIMkREckowPSJ9LCJjaXBoZXIiOnsibmFtZSI6Im5hY2wvc2VjcmV0Ym94
Iiwibm9uY2UiOiIzaWlxNnFEMGg1WXlJVVNUQTBZQVRMQzRrSEdUenRoeCJ9LCJj
aXBoZXJ0ZXh0IjoiZlBnY2RqVGp3aUFGMC9YNUNCME5IZ3dwbm9oMFVZd1locGY4
alJyNVp3dUg3ZkJBMzhla0ltenB3NS90THJQbENhenVyL0pRS2JjUjlKU3FPN292
dVN6Z3VkUWpFS2xMakwvVzJxVjFpWm1oVkJmRnpVZ1VEZnNXZjloeDBqZmtMd0ZC
V01yOFZKNTRNc0FQKzUvMVFlV2U0bmNnZ1hRMCtKaFRSZkdHajJSS3BPNDRFZlZS
akdoeVZCeTIzN0I1NDd6WXppYk9veEpFaHc9PSJ9
-----END ENCRYPTED SIGSTORE PRIVATE KEY-----
"""
COSIGN_PUB = b"""\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAErbD7qmgrpWgFHevyuH0cjMOhfA7O
6BM3ZhtSDg8E+CtKsOdq/gVyJl9lB48fM8DkET4ubw4l81LFzl/3zga3cQ==
-----END PUBLIC KEY-----
"""
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SEC1 = serialization.PrivateFormat.TraditionalOpenSSL
CLEAR = serialization.NoEncryption()


def nobody_asks() -> NoReturn:
    raise AssertionError("the key is not encrypted")


def right() -> bytes:
    return b"pw"


def wrong() -> bytes:
    return b"Pw"


def test_a_key_of_cosign_opens_and_fits_its_public_half() -> None:
    private, public = read_private_key(COSIGN_KEY, "cosign.key", right), read_public_key(COSIGN_PUB, "cosign.pub")
    assert private.public.fingerprint == public.fingerprint
    assert private.public.pem == COSIGN_PUB
    signature = private.sign(b"message")
    assert public.verifies(signature, b"message")
    assert not public.verifies(signature, b"massage")
    assert not public.verifies(b"", b"message") and not public.verifies(signature[:-1], b"message")


def test_the_older_name_of_a_key_of_cosign_opens() -> None:
    older = COSIGN_KEY.replace(b"SIGSTORE", b"COSIGN")
    assert read_private_key(older, "cosign.key", right).public.pem == COSIGN_PUB


@pytest.mark.parametrize(
    ("form", "encryption", "password"),
    [
        (PKCS8, CLEAR, nobody_asks),
        (SEC1, CLEAR, nobody_asks),
        (PKCS8, serialization.BestAvailableEncryption(b"pw"), right),
        (SEC1, serialization.BestAvailableEncryption(b"pw"), right),
    ],
)
def test_keys_of_openssl_open(
    form: serialization.PrivateFormat, encryption: serialization.KeySerializationEncryption, password: Callable[[], bytes]
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    data = key.private_bytes(PEM, form, encryption)
    opened = read_private_key(b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + data, "k.pem", password)
    assert opened.public.fingerprint == PrivateKey(key).public.fingerprint


@pytest.mark.parametrize(
    "data",
    [COSIGN_KEY, ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"pw"))],
    ids=["cosign", "openssl"],
)
def test_another_password_is_told(data: bytes) -> None:
    with pytest.raises(InputError, match=r"k\.pem is not a key that can sign") as caught:
        read_private_key(data, "k.pem", wrong)
    assert "password" in caught.value.why and "ENVSNAP_SIGN_PASSWORD" in caught.value.hint
    with pytest.raises(InputError):
        read_private_key(data, "k.pem", lambda: b"")


def boxed(**changes: object) -> bytes:
    """The key of cosign with another inside."""
    lines = COSIGN_KEY.splitlines()
    document = json.loads(base64.b64decode(b"".join(lines[1:-1]))) | changes
    return b"\n".join([lines[0], base64.b64encode(json.dumps(document).encode()), lines[-1]])


PARAMETERS = {"N": 65536, "r": 8, "p": 1}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (boxed(kdf={"name": "scrypt", "params": {**PARAMETERS, "N": 1 << 30}, "salt": ""}), "in a way that cosign does not use"),
        (boxed(kdf={"name": "scrypt", "params": {**PARAMETERS, "r": -8}, "salt": ""}), "in a way that cosign does not use"),
        (boxed(kdf={"name": "scrypt", "params": {**PARAMETERS, "N": 65535}, "salt": ""}), "was changed"),
        (boxed(kdf={"name": "pbkdf2", "params": PARAMETERS, "salt": ""}), "in a way that cosign does not use"),
        (boxed(cipher={"name": "nacl/secretbox", "nonce": "AAAA"}), "in a way that cosign does not use"),
        (boxed(kdf=[]), "not what cosign writes"),
        (boxed(ciphertext=7), "not what cosign writes"),
        (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n!\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----", "not what cosign writes"),
        (COSIGN_PUB, "no private key in PEM"),
        (b"", "no private key in PEM"),
        (rsa.generate_private_key(65537, 2048).private_bytes(PEM, PKCS8, CLEAR), "of another kind"),
        (ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, CLEAR), "of another kind"),
        (ec.generate_private_key(ec.SECP384R1()).private_bytes(PEM, PKCS8, CLEAR), "of another kind"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "cannot be read"),
    ],
)
def test_what_cannot_sign_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(InputError, match=r"k\.pem is not a key that can sign") as caught:
        read_private_key(data, "k.pem", right)
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (COSIGN_KEY, "private key"),
        (b"nothing", "no public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "no public key in PEM"),
        (
            ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            "of another kind",
        ),
    ],
)
def test_what_cannot_check_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(InputError, match=r"k\.pub is not a key that signatures can be checked with") as caught:
        read_public_key(data, "k.pub")
    assert why in caught.value.why
