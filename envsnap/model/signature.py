"""What was found when an image's signatures were checked."""

from __future__ import annotations

from typing import Literal

from envsnap.model.kinds import Digest, Value


class SignatureFinding(Value, frozen=True, kw_only=True):
    """One signature or signed statement that lies beside an image.

    Attributes:
        blob: digest of what is signed: the claim, or the envelope.
        type: predicate type of a statement that holds, else "". result: of a test result that holds: "PASSED", "WARNED", "FAILED"; else "".
        reason: one clause: why it does not hold, or what it says.
    """

    kind: Literal["signature", "attestation"]
    blob: Digest
    holds: bool
    reason: str
    type: str = ""
    result: str = ""


class SignatureVerdict(Value, frozen=True, kw_only=True):
    """Attributes:
    reference: as it was asked for; digest: what it was resolved to, and what was signed.
    verdict: pass: a signature of this key for this digest is there, and so is every statement that was asked for.
    key: fingerprint of the public key.
    reasons: why it is not pass, one sentence each.
    """

    reference: str
    digest: Digest
    verdict: Literal["pass", "fail"]
    key: Digest
    findings: tuple[SignatureFinding, ...]
    reasons: tuple[str, ...] = ()
