"""What this host can do, and how to mend what it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from envsnap.model.host import Ability
from envsnap.report import text


def screen(abilities: Sequence[Ability]) -> str:
    lines = text.columns([(a.name, a.state, a.found) for a in abilities])
    mend = [a for a in abilities if a.state != "ok" and a.hint]
    if mend:
        lines += ["", *text.columns([("!", a.name, a.hint) for a in mend])]
    broken = sum(a.state == "broken" for a in abilities)
    last = "this host can build and verify" if all(a.state == "ok" for a in abilities) else f"{len(mend)} to mend, {broken} of them broken"
    return "\n".join([*lines, "", last])


def document(abilities: Sequence[Ability]) -> dict[str, Any]:
    return {"abilities": [{"hint": "", **msgspec.to_builtins(ability)} for ability in abilities]}
