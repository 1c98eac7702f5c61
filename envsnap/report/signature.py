"""Whether a key's owner vouches for an image."""

from __future__ import annotations

from typing import Any

from envsnap.model.signature import SignatureVerdict
from envsnap.report import text


def screen(verdict: SignatureVerdict) -> str:
    rows = [
        (finding.kind, text.short(finding.blob), "holds" if finding.holds else "does not hold", finding.reason)
        for finding in verdict.findings
    ]
    head = [f"{verdict.reference}  ·  {verdict.digest}", *text.columns(rows), ""]
    if verdict.verdict == "pass":
        return "\n".join([*head, f"PASS   signed by the owner of the key {text.short(verdict.key)}"])
    return "\n".join([*head, *(f"FAIL   {reason}" for reason in verdict.reasons)])


def document(verdict: SignatureVerdict) -> dict[str, Any]:
    return {
        "verdict": verdict.verdict,
        "reference": verdict.reference,
        "image_digest": verdict.digest,
        "key": verdict.key,
        "findings": [
            {"kind": finding.kind, "blob": finding.blob, "holds": finding.holds, "reason": finding.reason, "type": finding.type}
            for finding in verdict.findings
        ],
        "reasons": list(verdict.reasons),
    }
