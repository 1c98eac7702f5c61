"""What this host can do, and how to mend what it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from envsnap.model.host import Ability
from envsnap.report import text

_NEEDED = ("git",)  # without it there is no build; everything else that is missing is optional
_ENGINE = frozenset({"engine", "BuildKit"})  # these only for what Docker alone can do


def screen(abilities: Sequence[Ability]) -> str:
    lines = text.columns([(a.name, a.state, a.found) for a in abilities])
    mend = [a for a in abilities if a.state != "ok" and a.hint]
    if mend:
        lines += ["", *text.columns([("!", a.name, a.hint) for a in mend])]
    needed = [a for a in mend if (a.state == "broken" and a.name not in _ENGINE) or a.name in _NEEDED]
    return "\n".join([*lines, "", _last(abilities, mend, needed)])


def _last(abilities: Sequence[Ability], mend: Sequence[Ability], needed: Sequence[Ability]) -> str:
    if needed:
        return f"{len(needed)} to mend: {text.listed([a.name for a in needed])}"
    working = {a.name for a in abilities if a.state == "ok"}
    runs = "build and verify" if "runtime" in working or "engine" in working else "build, and verify where an engine or bubblewrap is"
    without = ", without Docker" if "engine" not in working else ""
    return f"this host can {runs}{without}" + ("; what is missing is optional" if mend else "")


def document(abilities: Sequence[Ability]) -> dict[str, Any]:
    return {"abilities": [{"hint": "", **msgspec.to_builtins(ability)} for ability in abilities]}
