"""Progress on a terminal: one display, each bar on a line, whatever runs at the same time."""

from __future__ import annotations

import io
import time

import pytest

from envsnap.cli import bars, console
from envsnap.cli.amounts import amount, duration, part


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Within a test, not a fixture: pytest has a stderr of its own for each."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(console, "QUIET_FOR_S", 0.0)
    monkeypatch.setattr(console, "_bars", None)
    return terminal


def test_two_at_the_same_time_share_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    talk = console.Console()
    with talk.task("assemble", total=2_000_000, unit="bytes") as outer:
        outer.advance(1_000_000)
        with talk.task("fetch", unit="bytes") as inner:
            inner.advance(500_000)
            time.sleep(0.15)
        outer.status("a word that is longer than what is left of the line, " * 3)
        time.sleep(0.15)
    shown = terminal.getvalue()
    assert "1.0 MB of 2.0 MB" in shown
    assert "500.0 kB" in shown
    assert "…" in shown  # what is worked on gives way, no number does
    assert shown.rstrip("\r").endswith("\x1b[2K\x1b[?25h")  # and nothing stays


def test_what_says_nothing_is_seen_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with console.Console().task("read the index"):
        time.sleep(0.15)
    assert "read the index" in terminal.getvalue()


def test_what_is_over_soon_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setattr(console, "QUIET_FOR_S", 60.0)
    with console.Console().task("blink", total=1) as task:
        task.advance(1)
    assert terminal.getvalue() == ""


def test_no_color_gets_plain_lines_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(console, "PLAIN_EVERY_S", 0.0)
    with console.Console().task("install", total=6) as task:
        time.sleep(0.05)
        task.advance(5)
    assert terminal.getvalue() == "install: 5 of 6 steps\n"


def test_a_display_opens_again(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    for title in ("first", "second"):
        with console.Console().task(title, total=3, unit="files") as task:
            task.advance(1)
    assert "second" in terminal.getvalue()
    assert not bars.Bars()._progress.tasks


@pytest.mark.parametrize(("seconds", "words"), [(8.4, "8 s"), (99.4, "99 s"), (100, "2 min"), (5000, "83 min"), (6100, "1 h 42 min")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_amounts() -> None:
    assert (amount(1204, "files"), amount(12, "bytes"), amount(12_345_678, "bytes")) == ("1,204 files", "12 B", "12.3 MB")
    assert [part(5, 6, "steps"), part(1204, 4000, "files")] == ["5 of 6 steps", "1,204 of 4,000 files"]
    assert [part(12, 12_345_678, "bytes"), part(3, None, "files")] == ["12 B of 12.3 MB", "3 files"]


def test_a_bar_names_its_unit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with console.Console().task("install", total=6) as task:
        task.advance(5)
        time.sleep(0.15)
    assert "5 of 6 steps" in terminal.getvalue()
