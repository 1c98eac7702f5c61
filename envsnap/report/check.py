"""What `check` found, on a screen."""

from __future__ import annotations

import re
from typing import Any

from envsnap.model.image import ImageCheck
from envsnap.report import text

_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_WORDS = {"pass": "ok", "fail": "NO", "unknown": "not known"}
_VERDICTS = {
    "pass": "YES    the image is {what}",
    "fail": "NO     the image is not {what}",
    "incomplete": "NOT KNOWN   whether the image is {what}: not all could be told",
}


def screen(check: ImageCheck, width: int) -> str:
    rows = [(reason.id, _shown(reason.found) if reason.status == "pass" else "", _WORDS[reason.status]) for reason in check.reasons]
    lines = [f"{check.reference}  ·  {text.short(check.config_digest)}  ·  {text.size(check.size_bytes)}", *text.columns(rows), ""]
    for reason in check.reasons:
        if reason.status != "pass":
            lines += [f"{_WORDS[reason.status]}   {reason.id}"]
            tried = [("try", reason.hint)] if reason.hint else []
            lines += [*text.labelled([("needed", _shown(reason.needed)), ("found", _shown(reason.found)), *tried], width), ""]
    minded = [(reason.id, reason.hint) for reason in check.reasons if reason.status == "pass" and reason.hint]
    if minded and check.verdict != "fail":
        lines += ["to mind", *text.labelled(minded, width), ""]
    where = f"a host with {check.host}" if check.host else "this machine"
    locked = any(reason.id.startswith("lock.") for reason in check.reasons)
    what = f"the lock's, and for {where}" if locked else f"for {where}"
    return "\n".join([*lines, _VERDICTS[check.verdict].format(what=what)])


def document(check: ImageCheck) -> dict[str, Any]:
    return {
        "verdict": check.verdict,
        "reference": check.reference,
        "manifest_digest": check.manifest_digest,
        "config_digest": check.config_digest,
        "host": check.host or None,
        "reasons": [
            {"id": one.id, "status": one.status, "needed": one.needed, "found": one.found, "hint": one.hint} for one in check.reasons
        ],
    }


def _shown(value: str) -> str:
    return _DIGEST.sub(lambda found: text.short(found[0]), value)
