"""Keys that sign and keys that check: ECDSA on P-256 with SHA-256, the one algorithm that cosign makes keys for.

A private key is PEM: PKCS#8 or SEC 1, encrypted or not, or the file of `cosign generate-key-pair` (PKCS#8 in a NaCl secret box whose key
scrypt makes of the password). A public key is PEM, SubjectPublicKeyInfo.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from envsnap.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

Password = Callable[[], bytes]
"""Asked once, and only for a key that is encrypted."""

_MAX_BYTES = 64 << 10  # of a key file
_MAX_SCRYPT_BYTES = 128 << 20  # of memory; cosign's own parameters take 64 MiB
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s+(.*?)-----END \1-----", re.DOTALL)
_COSIGN = (b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY")
_KIND = "keys are ECDSA on P-256, as `cosign generate-key-pair` makes them"


class PublicKey:
    """Checks signatures."""

    def __init__(self, key: EllipticCurvePublicKey) -> None:
        self._key = key

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of its DER, as a digest."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return "sha256:" + hashlib.sha256(self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    @property
    def pem(self) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the owner of the private key signed exactly this message."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            self._key.verify(signature, message, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """Signs."""

    def __init__(self, key: EllipticCurvePrivateKey) -> None:
        self._key = key

    @cached_property
    def public(self) -> PublicKey:
        return PublicKey(self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """The signature, DER. Two of one message differ: ECDSA draws a number for each."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._key.sign(message, ECDSA(SHA256()))


def read_public_key(data: bytes, place: str) -> PublicKey:
    """The key in a PEM file. Raises InputError: there is none, or one of another kind."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    what = f"{place} is not a key that signatures can be checked with"
    if b"PRIVATE KEY-----" in data[:_MAX_BYTES]:
        raise InputError(what, why="it is a private key, and those are for who signs", hint="the file beside it, NAME.pub")
    try:
        key = load_pem_public_key(data[:_MAX_BYTES])
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(what, why="it holds no public key in PEM", hint=_KIND) from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise InputError(what, why="its key is of another kind", hint=_KIND)
    return PublicKey(key)


def read_private_key(data: bytes, place: str, password: Password) -> PrivateKey:
    """The key in a PEM file, decrypted where that is needed.

    Raises:
        InputError: there is none, it is of another kind, or the password is not its.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

    what = f"{place} is not a key that can sign"
    found = next((block for block in _PEM.finditer(data[:_MAX_BYTES]) if b"PRIVATE KEY" in block[1]), None)
    if found is None:
        raise InputError(what, why="it holds no private key in PEM", hint=_KIND)
    try:
        if found[1] in _COSIGN:
            key = load_der_private_key(_out_of_the_box(found[2], what, password), None)
        else:
            secret = password() if found[1] == b"ENCRYPTED PRIVATE KEY" or b"ENCRYPTED" in found[2] else None
            key = load_pem_private_key(found[0], secret or None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        encrypted = b"ENCRYPTED" in found[0]
        raise InputError(
            what,
            why="the password is not its, or it was changed" if encrypted else "it cannot be read",
            hint="ENVSNAP_SIGN_PASSWORD or COSIGN_PASSWORD holds the password" if encrypted else _KIND,
        ) from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise InputError(what, why="its key is of another kind", hint=_KIND)
    return PrivateKey(key)


def _out_of_the_box(text: bytes, what: str, password: Password) -> bytes:
    """The DER that cosign encrypted. Raises ValueError: not with this password; InputError: in no way that is known."""
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    try:
        document: Any = json.loads(base64.b64decode(text))
        kdf, cipher = document["kdf"], document["cipher"]
        cost, size, lanes = (int(kdf["params"][name]) for name in ("N", "r", "p"))
        salt, nonce, sealed = (base64.b64decode(value) for value in (kdf["salt"], cipher["nonce"], document["ciphertext"]))
        kinds = (kdf["name"], cipher["name"])
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise InputError(what, why="its inside is not what cosign writes") from error
    if (
        kinds != ("scrypt", "nacl/secretbox")
        or len(nonce) != SecretBox.NONCE_SIZE
        or not 0 < 128 * cost * size * lanes <= _MAX_SCRYPT_BYTES
    ):
        raise InputError(what, why="it is encrypted in a way that cosign does not use")
    secret = hashlib.scrypt(password(), salt=salt, n=cost, r=size, p=lanes, maxmem=2 * _MAX_SCRYPT_BYTES, dklen=SecretBox.KEY_SIZE)
    try:
        return bytes(SecretBox(secret).decrypt(sealed, nonce))
    except CryptoError as error:
        raise ValueError("not with this password") from error
