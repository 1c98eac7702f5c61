"""What this host can do, and how to mend what it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from envsnap.model.host import Ability
from envsnap.report import text

_NEEDED = ("engine", "BuildKit", "git")  # without these there is no build; everything else that is missing is optional


def screen(abilities: Sequence[Ability]) -> str:
    lines = text.columns([(a.name, a.state, a.found) for a in abilities])
    mend = [a for a in abilities if a.state != "ok" and a.hint]
    if mend:
        lines += ["", *text.columns([("!", a.name, a.hint) for a in mend])]
    needed = [a for a in mend if a.state == "broken" or a.name in _NEEDED]
    last = f"{len(needed)} to mend before this host can build" if needed else "this host can build and verify"
    last += "; what is missing is optional" if mend and not needed else ""
    return "\n".join([*lines, "", last])


def document(abilities: Sequence[Ability]) -> dict[str, Any]:
    return {"abilities": [{"hint": "", **msgspec.to_builtins(ability)} for ability in abilities]}
