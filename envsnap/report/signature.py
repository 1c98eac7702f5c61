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
    return "\n".join([*head, *_hint(verdict), *(f"FAIL   {reason}" for reason in verdict.reasons)])


def _hint(verdict: SignatureVerdict) -> list[str]:
    """What the owner of the key can do where nothing is wrong and something is missing."""
    signatures = [finding for finding in verdict.findings if finding.kind == "signature"]
    if not signatures:
        return [f"  try  envsnap sign {verdict.reference} --key KEY, if the image is yours"]
    if all(finding.holds for finding in verdict.findings):
        return [
            f"  try  envsnap build LOCK -t {verdict.reference} --push --sign KEY, which attaches signed statements, if the image is yours",
            f"       envsnap verify {verdict.reference} --attach --sign KEY, for the verdict (test-result)",
        ]
    return []


def document(verdict: SignatureVerdict) -> dict[str, Any]:
    return {
        "verdict": verdict.verdict,
        "reference": verdict.reference,
        "image_digest": verdict.digest,
        "key": verdict.key,
        "findings": [
            {key: getattr(finding, key) for key in ("kind", "blob", "holds", "reason", "type", "result")} for finding in verdict.findings
        ],
        "reasons": list(verdict.reasons),
    }
