"""Starting other programs: the only module that does.

Composing an argument list is a pure function elsewhere; running it is one call here. No shell is ever involved.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NoReturn

Stream = Literal["stdout", "stderr"]
OnLine = Callable[[Stream, str], None]
_GRACE_S = 10.0
_CHILDREN_GRACE_S = 2.0
_CAP_SYS_RESOURCE = 24  # capabilities(7), linux/capability.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A finished process.

    Attributes:
        returncode: negative for the signal that ended it, as in `subprocess`.
        timed_out: it was killed at its time limit.
        seconds: wall-clock time.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool
    seconds: float

    @property
    def ok(self) -> bool:
        return self.returncode == 0 and not self.timed_out

    def tail(self, lines: int = 20) -> str:
        """The end of what it said, stderr first choice."""
        text = (self.stderr or self.stdout).decode("utf-8", "replace").rstrip()
        return "\n".join(text.splitlines()[-lines:])


class Ended(Exception):
    """A program came to its end, or to its time limit, while it was to answer. Attributes: completed: what is left of it."""

    def __init__(self, completed: Completed) -> None:
        super().__init__(completed.tail())
        self.completed = completed


class NotStarted(Exception):
    """The program does not exist or cannot be executed; callers say what that means."""

    def __init__(self, argv: Sequence[str], why: str) -> None:
        super().__init__(f"{argv[0]}: {why}")
        self.why = why


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
    hold_stdin: bool = False,
    stdout_to: IO[bytes] | None = None,
    timeout_s: float | None = None,
    on_line: OnLine | None = None,
    grace_s: float = _GRACE_S,
) -> Completed:
    """Run a program to its end, reading both of its outputs at once so that neither pipe can fill and hang it.

    It gets a process group of its own: an interrupt, an exception in `on_line` or the time limit ends it and its children
    before this returns or raises.

    Args:
        env: the whole environment; None inherits.
        hold_stdin: leave stdin open until it ends: some programs take its end for ours.
        stdout_to: a file for its stdout, however much that is; `Completed.stdout` is then empty, and `on_line` hears stderr alone.
        on_line: called for every complete line while it runs (undecodable bytes replaced).
        grace_s: how long it may take to end when it is told to; then it is killed.

    Raises:
        NotStarted: the program could not be started.
    """
    started = time.monotonic()
    child = _start(argv, env, cwd, subprocess.PIPE if stdout_to is None else stdout_to)
    finished = False
    try:
        outputs, timed_out = _pump(child, stdin, started, timeout_s, on_line, hold_stdin=hold_stdin)
        finished = not timed_out
    finally:
        _end(child, grace_s, normal=finished)
    return _completed(child, outputs, started, timed_out=timed_out)


class Coprocess:
    """A program that answers one request after the other, in a process group of its own, until it is closed.

    Raises:
        NotStarted: the program could not be started.
    """

    def __init__(self, argv: Sequence[str | os.PathLike[str]], *, env: Mapping[str, str] | None = None) -> None:
        self._child = _start(argv, env, None, subprocess.PIPE)

    def ask(self, request: bytes, is_whole: Callable[[bytearray], bool], *, timeout_s: float) -> bytes:
        """What it writes to its stdout for a request that it reads from its stdin.

        Args:
            is_whole: whether that is all of the answer; asked each time when there is more of it.

        Raises:
            Ended: it was not whole when the program ended, or at the time limit. It is closed then.
        """
        started = time.monotonic()
        answered = False
        try:
            outputs, timed_out = _pump(self._child, request, started, timeout_s, None, hold_stdin=True, is_whole=is_whole)
            answered = not timed_out and self._child.returncode is None
        finally:
            if not answered:
                self.close()
        if not answered:
            raise Ended(_completed(self._child, outputs, started, timed_out=timed_out))
        return outputs["stdout"]

    def close(self) -> None:
        """Let it come to its end, which is soon: it gets nothing more to read."""
        with contextlib.suppress(OSError):
            if self._child.stdin is not None:
                self._child.stdin.close()
        try:
            self._child.wait(_CHILDREN_GRACE_S)
            normal = True
        except subprocess.TimeoutExpired:
            normal = False
        _end(self._child, _CHILDREN_GRACE_S, normal=normal)


def _start(
    argv: Sequence[str | os.PathLike[str]], env: Mapping[str, str] | None, cwd: Path | None, stdout: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    words = tuple(os.fspath(word) for word in argv)
    try:
        return subprocess.Popen(
            words,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise NotStarted(words, error.strerror or str(error)) from error
    except ValueError as error:  # a NUL among the arguments
        raise NotStarted(words, str(error)) from error


def _completed(child: subprocess.Popen[bytes], outputs: Mapping[Stream, bytes], started: float, *, timed_out: bool) -> Completed:
    assert isinstance(child.args, tuple)
    return Completed(
        argv=child.args,
        returncode=child.returncode,
        stdout=outputs["stdout"],
        stderr=outputs["stderr"],
        timed_out=timed_out,
        seconds=time.monotonic() - started,
    )


def _pump(
    child: subprocess.Popen[bytes],
    stdin: bytes,
    started: float,
    timeout_s: float | None,
    on_line: OnLine | None,
    *,
    hold_stdin: bool,
    is_whole: Callable[[bytearray], bool] | None = None,
) -> tuple[dict[Stream, bytes], bool]:
    """What it wrote, and whether it was at work at the time limit. It has ended else, or written something that `is_whole`."""
    assert child.stdin is not None
    kept: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    partial: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
    pending = memoryview(stdin)
    fed: Callable[[], object] = (lambda: None) if hold_stdin else child.stdin.close
    timed_out = False
    with selectors.DefaultSelector() as selector:
        for name, pipe in (("stdout", child.stdout), ("stderr", child.stderr)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, name)
        if stdin:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin, selectors.EVENT_WRITE, "stdin")
        else:
            fed()
        while selector.get_map():
            left = None if timeout_s is None else started + timeout_s - time.monotonic()
            if left is not None and left <= 0:
                timed_out = True
                break
            for key, _ in selector.select(left):
                if key.data == "stdin":
                    pending = _feed(child.stdin, pending)
                    if not pending:
                        selector.unregister(child.stdin)
                        fed()
                    continue
                stream: Stream = key.data
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                kept[stream] += chunk
                if is_whole is not None and stream == "stdout" and not pending and is_whole(kept[stream]):
                    return {name: bytes(data) for name, data in kept.items()}, False
                if on_line is not None:
                    partial[stream] = _tell(on_line, stream, partial[stream], chunk)
    if not timed_out:
        left = None if timeout_s is None else max(0.0, started + timeout_s - time.monotonic())
        try:
            child.wait(left)
        except subprocess.TimeoutExpired:
            timed_out = True
    return {name: bytes(data) for name, data in kept.items()}, timed_out


def _tell(on_line: OnLine, stream: Stream, partial: bytes, chunk: bytes) -> bytes:
    """Of the lines that `chunk` completes; returns what is left. An empty chunk is the end."""
    *lines, rest = (partial + chunk).split(b"\n")
    if not chunk and rest:
        lines, rest = [*lines, rest], b""
    for line in lines:
        on_line(stream, line.decode("utf-8", "replace").rstrip("\r"))
    return rest


def _feed(pipe: IO[bytes], data: memoryview) -> memoryview:
    try:
        return data[os.write(pipe.fileno(), data[: 1 << 16]) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:  # it does not want the rest; its exit code tells whether that was an error
        return data[:0]


def _end(child: subprocess.Popen[bytes], grace_s: float, *, normal: bool) -> None:
    """Give back the pipes; unless it came to its own end, end the program and whatever it started."""
    if not normal:
        _signal_group(child, signal.SIGTERM)
        try:
            _await_group(child, grace_s)
        finally:  # also when a second interrupt cuts the wait short
            _signal_group(child, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_GRACE_S)
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _await_group(child: subprocess.Popen[bytes], grace_s: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace_s)
    give_up = time.monotonic() + min(grace_s, _CHILDREN_GRACE_S)
    while _signal_group(child, 0) and time.monotonic() < give_up:
        time.sleep(0.02)


def _signal_group(child: subprocess.Popen[bytes], number: int) -> bool:
    """Whether anyone of its process group was there to hear it."""
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def may_raise_limits() -> bool:
    """Whether some program here may raise a hard limit; in a container, or another sandbox, none may unless it was let."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        bounds = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
        return bool(int(bounds.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    except (OSError, StopIteration, ValueError, IndexError):
        return False


def become(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Be another program from here on: the terminal, signals and the exit code are its own.

    Raises:
        NotStarted: it does not exist or cannot be executed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    ignored = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGPIPE, signal.SIGXFSZ)}  # as Python has them
    try:
        os.execvpe(argv[0], list(argv), dict(env))  # noqa: S606  # no shell is what is wanted
    except (OSError, ValueError) as error:
        for number, handler in ignored.items():
            signal.signal(number, handler)
        raise NotStarted(argv, getattr(error, "strerror", None) or str(error)) from error
