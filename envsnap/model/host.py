"""What this host and its engine can do, one line each."""

from __future__ import annotations

from typing import Literal

from envsnap.model.kinds import Value

State = Literal["ok", "missing", "broken"]


class Ability(Value, frozen=True, kw_only=True):
    """One line of `envsnap doctor`. Attributes: hint: what to do, "" when ok."""

    name: str
    state: State
    found: str
    hint: str = ""
