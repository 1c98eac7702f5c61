"""What ends a smoke-train before its time, in a sentence."""

from __future__ import annotations

import contextlib
import traceback
from typing import Iterator


class Unable(Exception):
    """The environment cannot run the smoke-train; the message is the sentence for a person."""


class Absent(Unable):
    """It has no torch to try."""


@contextlib.contextmanager
def stage(doing: str) -> Iterator[None]:
    """Name what was being done when foreign code fails; the traceback goes to the log."""
    try:
        yield
    except Unable:
        raise
    except Exception as error:
        traceback.print_exc()
        words = str(error).strip().splitlines() or [""]
        raise Unable(f"{doing}: {type(error).__name__}: {words[0][:300]}") from error
