"""How long work talks to whoever watches: a protocol with a silent default.

Nothing outside `cli/` knows what progress looks like. Work is a *task* with an optional total in a named unit; a *note* is
one line for a person ("base resolved to sha256:…"), a *detail* one for who asks for more, a *warning* is one that should not be missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

Unit = Literal["bytes", "files", "packages", "steps"]


class Task(Protocol):
    """One running piece of work."""

    def advance(self, amount: int) -> None:
        """Report `amount` more units done."""

    def total(self, amount: int | None) -> None:
        """Set or correct the total; None while it is unknown."""

    def status(self, text: str) -> None:
        """Say what is being worked on now."""


class Progress(Protocol):
    """Where work reports to."""

    def task(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> AbstractContextManager[Task]:
        """Open a task; leaving the context ends it, whatever happened."""

    def note(self, text: str) -> None:
        """One line worth reading."""

    def detail(self, text: str) -> None:
        """One line for who asks for more (`-v`)."""

    def warning(self, text: str) -> None:
        """One line that should not be missed."""


def counted(pieces: Iterable[bytes], task: Task) -> Iterator[bytes]:
    """The same pieces; the task hears of each one's bytes before it is given on."""
    for piece in pieces:
        task.advance(len(piece))
        yield piece


class _SilentTask:
    def advance(self, amount: int) -> None: ...
    def total(self, amount: int | None) -> None: ...
    def status(self, text: str) -> None: ...


class Silent:
    """The default: says nothing."""

    @contextmanager
    def _task(self) -> Iterator[Task]:
        yield _SilentTask()

    def task(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> AbstractContextManager[Task]:
        return self._task()

    def note(self, text: str) -> None: ...
    def detail(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...


SILENT: Progress = Silent()
