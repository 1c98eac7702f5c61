"""in-toto statements: a subject, named by its digest, and a predicate of a named type that is said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envsnap.model.parity import Verdict
from envsnap.oci.documents import canonical

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
BILL_OF_MATERIALS = "https://cyclonedx.org/bom"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
PREDICATES: Mapping[str, str] = {
    "slsaprovenance1": PROVENANCE,
    "cyclonedx": BILL_OF_MATERIALS,
    "test-result": TEST_RESULT,
}
"""Short name of a predicate type, cosign's where it has one -> the type."""

PASSED = "PASSED"
_RESULTS = {"pass": PASSED, "fail": "FAILED", "incomplete": "WARNED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An image. Attributes: name: its repository ("localhost:5000/yolo-train"); digest: "sha256:…" of its manifest."""

    name: str
    digest: str


def statement(subject: Subject, predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """The statement's bytes: the same for the same values."""
    said = [{"name": subject.name, "digest": sha256(subject.digest)}]
    return canonical({"_type": STATEMENT, "subject": said, "predicateType": predicate_type, "predicate": predicate})


def of_bill(subject: Subject, bill: bytes) -> bytes:
    """A bill of materials as a statement. Args: bill: a CycloneDX document."""
    return statement(subject, BILL_OF_MATERIALS, json.loads(bill))


def of_verdict(subject: Subject, verdict: Verdict, *, lock_digest: str, others: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """A verdict of parity as a test result. An incomplete one is WARNED, which is not PASSED: what was not judged warns.

    Args:
        lock_digest: of the lock that it was judged by.
        others: resource descriptors of whatever else decided it (the GPU reference, the smoke-train's kit).
    """
    named = {status: [check.id for check in verdict.checks if check.status == status] for status in ("pass", "fail", "inconclusive")}
    predicate = {
        "result": _RESULTS[verdict.verdict],
        "configuration": [{"name": "lock", "digest": sha256(lock_digest)}, *others],
        "passedTests": named["pass"],
        "warnedTests": [*named["inconclusive"], *verdict.not_judged],
        "failedTests": named["fail"],
    }
    return statement(subject, TEST_RESULT, predicate)


def sha256(digest: str) -> dict[str, str]:
    """A digest "sha256:…" as the digest set of a resource descriptor."""
    return {"sha256": digest.removeprefix("sha256:")}
