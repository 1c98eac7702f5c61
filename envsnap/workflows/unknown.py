"""What cannot be told yet: a value, because not knowing is an answer here (a plan says it, a build turns to Docker) and no error."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Attributes: because: one sentence. hint: how it could be told. for_good: nothing that could be fetched would tell it."""

    because: str
    hint: str = ""
    for_good: bool = False
