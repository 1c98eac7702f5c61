"""The one exception tree. Every error says what failed, why, and what to try; its class owns the exit code.

A negative answer (a diff that differs, a verdict of *fail*) is not an error: it is a value, and the command line turns it
into `EXIT_NO`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

EXIT_OK = 0
EXIT_NO = 7


class EnvsnapError(Exception):
    """Base of all errors that a person can act on.

    Attributes:
        what: one line, what failed.
        why: one line, the cause as far as it is known; empty when `what` says it all.
        hint: one line, what to try next; empty when there is nothing honest to suggest.
        log: the tail of a foreign program's output, shown with `-v` only.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", hint: str = "", log: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint
        self.log = log


class UsageError(EnvsnapError):
    """The command was called with arguments that cannot be right together."""

    exit_code = 2


class TargetError(EnvsnapError):
    """The target or the host could not be read, or lacks what was asked of it."""

    exit_code = 3


class InputError(EnvsnapError):
    """A lock, a blob or another input file is missing, malformed or not what its digest says."""

    exit_code = 4


class PlanError(EnvsnapError):
    """No plan can satisfy the lock on the base that was asked for."""

    exit_code = 5


class NoBase(PlanError):
    """The base that was asked for, or every release that the catalogue knows, cannot carry the lock; others may."""


class InterruptedByUser(EnvsnapError):
    """Ctrl-C, or the signal that asks a program to end."""

    exit_code = 130


class EngineError(EnvsnapError):
    """An engine, a build or a registry failed."""

    exit_code = 6


class Refused(EnvsnapError):
    """What had to hold before going on does not: a signature, a digest. The answer is no, in the middle of work that needs a yes."""

    exit_code = EXIT_NO


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and everything below it: requests and urllib3 carry the cause now in `args`, now in the chain.

    An error of ours that was being handled when it came up is what led to the attempt, not what it failed of.
    """
    pending, seen = [error], set[int]()
    while pending:
        current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        context = None if isinstance(current.__context__, EnvsnapError) else current.__context__
        pending += [item for item in (*current.args, current.__cause__, context) if isinstance(item, BaseException)]


def innermost(error: BaseException) -> str:
    """The words of what lies at the bottom of an error."""
    return str(list(causes(error))[-1]) or type(error).__name__
