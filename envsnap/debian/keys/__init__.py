"""The public keys that sign the archives of Debian 11 to 13 (package debian-archive-keyring) and Ubuntu 20.04 to 24.04 (ubuntu-keyring).

Each stands below its user ID, without foreign signatures. A mirror cannot vouch for itself: nothing but these, or a keyring that a person
names, makes an index believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from envsnap.errors import EngineError

if TYPE_CHECKING:
    from pysequoia import Cert


def shipped(vendor: str) -> bytes:
    """The keys of "debian" or "ubuntu"."""
    return (files(__name__) / f"{vendor}.asc").read_bytes()


def verified(signed: bytes, keyring: bytes, *, what: str) -> str:
    """The text of a signed document (OpenPGP's cleartext framework, RFC 9580 §7) that one of the keys has signed.

    Args:
        keyring: certificates, armored or not.
        what: what cannot be done when it is not signed so.

    Raises:
        EngineError: no signature, none by these keys, or one that does not hold.
    """
    from pysequoia import Cert, verify

    try:
        certificates = Cert.split_bytes(keyring)
    except RuntimeError as error:
        raise EngineError(what, why="the keyring holds no OpenPGP certificates") from error

    def known(_: Sequence[str]) -> list[Cert]:
        return certificates

    try:
        result = verify(bytes=signed, store=known)
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise EngineError(
            what,
            why=f"its signature does not hold: {reason}",
            hint="try another mirror; one with keys of its own needs --apt-keyring FILE",
        ) from error
    if not result.valid_sigs or result.bytes is None:
        raise EngineError(what, why="no known key has signed it")
    try:
        return bytes(result.bytes).decode("utf-8")
    except UnicodeDecodeError as error:
        raise EngineError(what, why="it is not UTF-8") from error
