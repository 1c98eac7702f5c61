"""What people and scripts see: answers on stdout, talk on stderr, one JSON document when asked for."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from envsnap import redaction
from envsnap.cli.amounts import duration, part
from envsnap.errors import EnvsnapError, TargetError
from envsnap.progress import Task, Unit

if TYPE_CHECKING:
    from envsnap.cli.bars import Bars

QUIET_FOR_S = 0.5  # nothing is shown for what is over sooner
WIDEST = 120  # longer lines are hard to read, and where nobody looks there is no width to ask for
PLAIN_EVERY_S = 5.0  # without a terminal: a line this often
ACCENT, WARN, RESET = "\x1b[36m", "\x1b[33m", "\x1b[0m"


@dataclass(slots=True)
class Console:
    """One invocation's way of talking. Also the `Progress` that workflows report to.

    `main` makes it before anything is parsed; the command's own options, whatever set them, then say how it talks.

    Attributes:
        json: stdout carries exactly one JSON document.
        verbosity: -1 quiet, 0 normal, 1 with logs of foreign programs, 2 with tracebacks.
        answered: the answer was given; an error after it is told on stderr alone.
    """

    json: bool = False
    verbosity: int = 0
    answered: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Columns that a screen may have."""
        return max(40, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)) if sys.stdout.isatty() else WIDEST

    def answer(self, screen: str, document: Mapping[str, Any]) -> None:
        """The command's answer: the screen for a person, or the document."""
        self.answered = True
        if self.json:
            _write(json.dumps(document, indent=2) + "\n")
        self.show(screen)

    def hand_over(self, text: str, document: Mapping[str, Any]) -> None:
        """What was asked for is text itself: for another program, and so whole and as it is, however quiet."""
        self.answered = True
        _write(json.dumps(document, indent=2) + "\n" if self.json else text)

    def show(self, screen: str) -> None:
        """What a person can read of the answer before all of it is known."""
        if not self.json and self.verbosity >= 0:
            _write(self.coloured(screen) + "\n")

    def error(self, error: EnvsnapError) -> None:
        body = error_body(error)
        what, why, hint = (body[part] for part in ("what", "why", "hint"))
        if self.json and not self.answered:
            with suppress(TargetError):  # a failure that cannot be written keeps its own code
                _write(json.dumps({"error": body}, indent=2) + "\n")
        lines = [f"error: {what}"]
        if self.verbosity >= 1 and error.log:
            lines += ["", *("  | " + line for line in redaction.text(error.log).splitlines()), ""]
        lines += [f"  why   {why}"] if why else []
        lines += [f"  try   {hint}"] if hint else []
        sys.stderr.write("\n".join(lines) + "\n")

    def note(self, text: str) -> None:
        if self.verbosity >= 0:
            sys.stderr.write(redaction.text(text) + "\n")

    def detail(self, text: str) -> None:
        if self.verbosity >= 1:
            sys.stderr.write(redaction.text(text) + "\n")

    def warning(self, text: str) -> None:
        self.warnings.append(redaction.text(text))
        sys.stderr.write(f"warning: {redaction.text(text)}\n")

    def task(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> AbstractContextManager[Task]:
        if self.verbosity < 0:
            return _silent()
        return _lines(title, total, unit) if _is_plain(sys.stderr) else _bar(title, total, unit)

    def coloured(self, screen: str) -> str:
        """One accent, one warning colour; none where lines are plain."""
        if _is_plain(sys.stdout):
            return screen
        return "\n".join(_colour(line) for line in screen.splitlines())


def error_body(error: EnvsnapError) -> dict[str, Any]:
    """An error as documents have it."""
    parts = {"what": error.what, "why": error.why, "hint": error.hint}
    return {"code": error.exit_code, **{name: redaction.text(text) for name, text in parts.items()}}


def _write(text: str) -> None:
    """To stdout, at once: what cannot be written is known here and not when the process ends. Raises TargetError, as `Stream` does."""
    sys.stdout.write(text)
    sys.stdout.flush()


class Stream(io.TextIOWrapper):
    """stdout or stderr, which a full disk or a closed descriptor must not make a bug of.

    Somebody who stopped reading is no error, and talk that cannot be told is lost: the exit code stays the answer's.
    """

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._lost(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        """What is still buffered goes nowhere, or the end of the process would fail for it. Raises TargetError: it was the answer."""
        descriptor = self.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        if descriptor == 1 and not isinstance(error, BrokenPipeError):
            raise TargetError("cannot write the answer", why=f"standard output: {error.strerror or error}") from error


def guard_streams() -> None:
    """Make stdout and stderr a `Stream` each, for as long as the process lives. Those that somebody replaced are left alone.

    A descriptor that came closed is opened so that it can only be read, and nothing is in it: the next file that is opened would get its
    number, and the answer would be written there.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)  # the lowest that is free: this one
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(1, sys.__stdout__)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(2, sys.__stderr__)


def _guarded(descriptor: int, stream: TextIO | None) -> Stream:
    """A terminal that knows no "→" must not end a command, either."""
    return Stream(
        os.fdopen(descriptor, "wb", closefd=False),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=descriptor == 2 or os.isatty(descriptor),
    )


def _is_plain(stream: TextIO) -> bool:
    """Whether lines are plain there: nobody looks, or NO_COLOR is set."""
    return not stream.isatty() or bool(os.environ.get("NO_COLOR"))


def _colour(line: str) -> str:
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    if word in ("!", "FAIL", "INCOMPLETE", "breaking:", "numeric:", "differ:"):
        return f"{WARN}{line}{RESET}"
    return f"{ACCENT}{line}{RESET}" if word in (">", "PASS", "wrote", "equal:") else line


@contextmanager
def _silent() -> Iterator[Task]:
    yield _Plain("", None, "steps", every_s=float("inf"))


@contextmanager
def _lines(title: str, total: int | None, unit: Unit) -> Iterator[Task]:
    yield _Plain(title, total, unit, every_s=PLAIN_EVERY_S)


@dataclass(slots=True)
class _Plain:
    """Progress without a terminal: a plain line every few seconds."""

    title: str
    limit: int | None
    unit: Unit
    every_s: float
    done: int = 0
    text: str = ""
    started: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)

    def advance(self, amount: int) -> None:
        self.done += amount
        self._show()

    def total(self, amount: int | None) -> None:
        self.limit = amount

    def status(self, text: str) -> None:
        self.text = text
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self.shown < self.every_s:
            return
        self.shown = now
        parts = [f"{self.title}: {part(self.done, self.limit, self.unit)}" if self.done or self.limit else self.title]
        if self.limit and self.done and self.unit != "steps":  # a step says nothing of how long the next one takes
            left = (now - self.started) / self.done * max(0, self.limit - self.done)
            parts.append(f"{duration(left)} left")
        if self.text:
            parts.append(self.text[:100])
        sys.stderr.write(redaction.text(" · ".join(parts)) + "\n")


@contextmanager
def _bar(title: str, total: int | None, unit: Unit) -> Iterator[Task]:
    task = _Bar(title, total, unit)
    soon = threading.Timer(QUIET_FOR_S, task.show)  # what says nothing of itself is seen to run, too
    soon.daemon = True
    soon.start()
    try:
        yield task
    finally:
        soon.cancel()
        task.close()


_bars: Bars | None = None  # a terminal has one display
_drawing = threading.Lock()


@dataclass(slots=True)
class _Bar:
    """Progress on a terminal; what draws it is imported only for what takes longer than a blink."""

    title: str
    limit: int | None
    unit: Unit
    done: int = 0
    text: str = ""
    started: float = field(default_factory=time.monotonic)
    bar: int | None = None
    closed: bool = False

    def advance(self, amount: int) -> None:
        self.done += amount
        self.show()

    def total(self, amount: int | None) -> None:
        self.limit = amount
        self.show()

    def status(self, text: str) -> None:
        self.text = redaction.text(text)
        self.show()

    def show(self) -> None:
        if self.bar is None and time.monotonic() - self.started < QUIET_FOR_S:
            return
        with _drawing:
            if self.closed:
                return
            bars = _display()
            if self.bar is None:
                self.bar = bars.add(self.title, self.unit)
            bars.update(self.bar, done=self.done, limit=self.limit, text=self.text)

    def close(self) -> None:
        with _drawing:
            self.closed = True
            if self.bar is not None:
                _display().remove(self.bar)


def _display() -> Bars:
    global _bars
    if _bars is None:
        from envsnap.cli.bars import Bars

        _bars = Bars()
    return _bars
