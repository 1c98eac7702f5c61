"""When to try again, after how long, and when to stop."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

LATER = frozenset({429, 500, 502, 503, 504})
"""Answers that another attempt may turn into better ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a registry is waited for, in seconds where nothing else is said.

    Attributes:
        attempts: in a row without progress; fewer, `first_attempts`, of a registry that has never answered.
        pause_s, longest_pause_s: the first pause and the longest; each is twice the one before, less a random part of up to a half.
        longest_wait_s: what a registry may ask for with Retry-After.
        total_s: without progress, pauses included.
        connect_s: to be connected.
        read_s: for the next byte to come, or the next piece to be taken.
        commit_s: for the answer that ends an upload: some storages copy the whole blob first.
        slow_s, slow_bytes_per_s: what sends less than this, over so long a time of waiting for it, is not worth listening to.
    """

    attempts: int = 7
    first_attempts: int = 3
    pause_s: float = 0.25
    longest_pause_s: float = 20
    longest_wait_s: float = 120
    total_s: float = 300
    connect_s: float = 10
    read_s: float = 30
    commit_s: float = 600
    slow_s: float = 20
    slow_bytes_per_s: int = 1024


class Trouble(Exception):
    """An attempt that failed.

    Attributes:
        why: to be read after the registry's name ("does not answer: …").
        wait_s: how long the registry asks us to wait; None where it says nothing.
        passing: another attempt may do better.
        hint: what to try, where that is known.
    """

    def __init__(self, why: str, *, wait_s: float | None = None, passing: bool = True, hint: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.wait_s = wait_s
        self.passing = passing
        self.hint = hint


class Attempts:
    """Counts the failures of one piece of work."""

    def __init__(self, patience: Patience, pause: Callable[[float], None]) -> None:
        self._patience = patience
        self._pause = pause
        self._failed = 0
        self._since = time.monotonic()

    def progressed(self) -> None:
        """Something was done that need not be done again."""
        self._failed = 0
        self._since = time.monotonic()

    def failed(self, trouble: Trouble, *, limit: int | None = None) -> None:
        """Wait for the next attempt, or raise `trouble` where there is none. Args: limit: of attempts, None for the usual one."""
        patience = self._patience
        self._failed += 1
        pause = min(patience.pause_s * 2 ** (self._failed - 1), patience.longest_pause_s) * random.uniform(0.5, 1)  # noqa: S311
        if trouble.wait_s is not None:
            pause = max(pause, trouble.wait_s)
        left = patience.total_s - (time.monotonic() - self._since)
        if not trouble.passing or self._failed >= (limit or patience.attempts) or pause > min(left, patience.longest_wait_s):
            raise trouble
        self._pause(pause)


def retry_after(value: str) -> float | None:
    """Seconds that a Retry-After header asks for, said as a number or as a date; None for anything else."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
