"""Real programs: pipes that fill, children that outlive their parent, interrupts, time limits."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from envsnap import process

PYTHON = sys.executable


def python(code: str) -> list[str]:
    return [PYTHON, "-c", code]


def is_alive(pid: int) -> bool:
    """Running, and not merely waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def test_what_it_said_and_how_it_ended() -> None:
    done = process.run(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert (done.returncode, done.stdout, done.stderr, done.ok, done.timed_out) == (3, b"out\n", b"err\n", False, False)
    assert done.tail() == "err"


def test_both_pipes_and_stdin_larger_than_a_pipe_do_not_hang() -> None:
    code = "import sys; data = sys.stdin.buffer.read(); sys.stderr.buffer.write(data); sys.stdout.buffer.write(data)"
    data = os.urandom(1 << 20)
    done = process.run(python(code), stdin=data, timeout_s=30)
    assert done.ok
    assert done.stdout == done.stderr == data


def test_a_program_that_does_not_read_its_input_is_no_error() -> None:
    assert process.run(python("pass"), stdin=b"x" * (1 << 20), timeout_s=30).ok


def test_lines_arrive_while_it_runs_with_a_last_one_that_has_no_end() -> None:
    seen: list[tuple[str, str]] = []
    code = "import sys; sys.stdout.buffer.write(b'one\\r\\ntwo \\xff\\nthree'); sys.stdout.flush()"
    process.run(python(code), on_line=lambda stream, line: seen.append((stream, line)))
    assert seen == [("stdout", "one"), ("stdout", "two \ufffd"), ("stdout", "three")]


def test_the_environment_is_the_given_one_and_nothing_more() -> None:
    done = process.run(python("import os; print(os.environ.get('HOME'), os.environ['GIVEN'])"), env={"GIVEN": "1"})
    assert done.stdout == b"None 1\n"


@pytest.mark.parametrize("argv", [["/no/such/program"], ["/etc/passwd"], [PYTHON, "a\0b"]])
def test_what_cannot_be_started(argv: list[str]) -> None:
    with pytest.raises(process.NotStarted) as caught:
        process.run(argv)
    assert str(caught.value).startswith(f"{argv[0]}: ")
    assert caught.value.why


def test_the_time_limit_ends_it() -> None:
    done = process.run(python("import time; print('begun', flush=True); time.sleep(60)"), timeout_s=0.5)
    assert done.timed_out
    assert not done.ok
    assert done.stdout == b"begun\n"
    assert done.seconds < 10


# A parent that leaves at once, and a child that holds its pipes and takes no notice of SIGTERM.
ORPHAN = """
import os, signal, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_the_time_limit_ends_what_it_started_too() -> None:
    done = process.run(python(ORPHAN), timeout_s=0.7)
    assert done.timed_out
    assert wait_until_gone(int(done.stdout))


def test_an_exception_in_on_line_ends_it() -> None:
    pids: list[int] = []

    def refuse(_: str, line: str) -> None:
        pids.append(int(line))
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        process.run(python("import os, time; print(os.getpid(), flush=True); time.sleep(60)"), on_line=refuse)
    assert wait_until_gone(pids[0])


def test_an_interrupt_ends_it_and_its_children() -> None:
    pids: list[int] = []
    code = """
import os, time
os.fork()
os.write(1, b"%d\\n" % os.getpid())
time.sleep(60)
"""

    def note(_: str, line: str) -> None:
        pids.append(int(line))
        if len(pids) == 2:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        process.run(python(code), on_line=note)
    assert len(pids) == 2
    assert all(wait_until_gone(pid) for pid in pids)


def test_a_program_that_takes_no_notice_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_GRACE_S", 0.3)
    monkeypatch.setattr(process, "_CHILDREN_GRACE_S", 0.1)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    done = process.run(python(code), timeout_s=0.7)
    assert done.returncode == -signal.SIGKILL


def test_becoming_another_program() -> None:
    """The same process, its environment and exit code; a broken pipe ends it, as it does programs that Python did not start."""
    done = process.run(
        python(
            "import os, sys; from envsnap import process; sys.stdout.write(f'{os.getpid()} ');"
            "process.become(['sh', '-c', 'echo $$ $A; yes | head -1; exit 3'], {'A': 'a', 'PATH': '/usr/bin:/bin'})"
        )
    )
    before, after, value, *rest = done.stdout.decode().split()
    assert (done.returncode, before == after, value, rest, done.stderr) == (3, True, "a", ["y"], b"")  # `yes` would complain


def test_a_program_that_one_cannot_become() -> None:
    before = signal.getsignal(signal.SIGPIPE)
    with pytest.raises(process.NotStarted, match="nowhere"):
        process.become(["/nowhere"], {})
    assert signal.getsignal(signal.SIGPIPE) == before


@pytest.mark.parametrize(
    ("line", "may"), [("CapBnd:\t000001ffffffffff\n", True), ("CapBnd:\t00000000a80425fb\n", False), ("CapBnd: x\n", False), ("", False)]
)
def test_whether_limits_may_be_raised(line: str, may: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"Name:\tx\n{line}")
    assert process.may_raise_limits() == may  # Docker's default capabilities are the second


ECHO = "import sys\nfor line in sys.stdin: print(line.strip() * 3, flush=True)"


def is_line(data: bytearray) -> bool:
    return data.endswith(b"\n")


def test_a_coprocess_answers_until_it_is_closed() -> None:
    one = process.Coprocess(python(ECHO))
    assert one.ask(b"a\n", is_line, timeout_s=30) == b"aaa\n"
    large = b"b" * (1 << 18)  # more than pipes hold, both ways
    assert one.ask(large + b"\n", is_line, timeout_s=30) == large * 3 + b"\n"
    child = one._child.pid
    assert is_alive(child)
    one.close()
    assert one._child.returncode == 0
    assert not is_alive(child)


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        ("import sys; sys.stdin.readline(); sys.exit('no more')", 1, "no more"),
        ("import os, sys; os.write(1, b'half'); os.kill(os.getpid(), 9)", -9, "half"),
    ],
)
def test_a_coprocess_that_ends_has_not_answered(program: str, code: int, said: str) -> None:
    one = process.Coprocess(python(program))
    with pytest.raises(process.Ended, match=said) as raised:
        one.ask(b"a\n", is_line, timeout_s=30)
    assert raised.value.completed.returncode == code
    one.close()


def test_a_coprocess_that_hangs_is_killed() -> None:
    one = process.Coprocess(python("import time; time.sleep(60)"))
    with pytest.raises(process.Ended) as raised:
        one.ask(b"a\n", is_line, timeout_s=0.2)
    assert raised.value.completed.timed_out
    assert not is_alive(one._child.pid)


def test_a_coprocess_that_is_not_there() -> None:
    with pytest.raises(process.NotStarted):
        process.Coprocess(["/nowhere/python"])
