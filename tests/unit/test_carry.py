"""Guest scripts that are carried over two streams."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from envsnap import carry, process, target
from envsnap.errors import TargetError

ECHO = """
import json, os, sys
out, given = sys.argv[2:4]
with open(os.path.join(out, "said"), "w") as file:
    json.dump([sys.argv[1], open(given).read(), os.environ["GIVEN"], sys.argv[4]], file)
print("to stdout", flush=True)
print("to stderr", file=sys.stderr)
sys.exit(5)
"""


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of the guest scripts, and a directory for temporary files of its own."""
    directory = tmp_path / "guest"
    directory.mkdir()
    (directory / "carried.py").write_bytes((target.GUEST_DIRECTORY / "carried.py").read_bytes())
    monkeypatch.setattr(target, "GUEST_DIRECTORY", directory)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return directory / "__main__.py"


def run(luggage: carry.Luggage, outputs: Path, *, before: bytes = b"", timeout_s: float | None = None) -> tuple[int, process.Completed]:
    with tempfile.TemporaryFile() as spool:
        spool.write(before)
        spool.flush()
        words = [sys.executable, "-B", "-c", carry.PROGRAM]
        done = process.run(words, stdin=luggage.stdin, hold_stdin=True, stdout_to=spool, timeout_s=timeout_s)
        spool.seek(0)
        return carry.unpack(spool, luggage.mark, outputs), done


def test_there_and_back(guest: Path, tmp_path: Path) -> None:
    guest.write_text(ECHO)
    (tmp_path / "input").write_text("words")
    (tmp_path / "out").mkdir()
    luggage = carry.pack("collect", ["{out}", "{given}", "{braces}"], {"given": tmp_path / "input"}, {"GIVEN": "1"})
    code, done = run(luggage, tmp_path / "out", before=b"Welcome to this host!\nenvsnap is not the mark\n")
    assert code == 5 and (done.returncode, done.stdout) == (0, b"")
    assert (tmp_path / "out/said").read_text() == '["collect", "words", "1", "{braces}"]'
    assert done.stderr == b"to stdout\nto stderr\n"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_outputs_of_any_size_are_not_held_in_memory(guest: Path, tmp_path: Path) -> None:
    guest.write_text("import sys; open(sys.argv[2] + '/large', 'wb').write(b'x' * (40 << 20))")
    (tmp_path / "out").mkdir()
    code, done = run(carry.pack("pack", ["{out}"], {}, {}), tmp_path / "out")
    assert code == 0 and done.stdout == b"" and (tmp_path / "out/large").stat().st_size == 40 << 20


def test_whoever_goes_away_leaves_nothing_behind(guest: Path, tmp_path: Path) -> None:
    guest.write_text("import os, sys, time; open(sys.argv[2] + '/pid', 'w').write(str(os.getpid())); time.sleep(60)")
    child = subprocess.Popen([sys.executable, "-c", carry.PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ))
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(carry.pack("collect", ["{out}"], {}, {}).stdin)
    child.stdin.flush()
    pid = None
    while pid is None:
        time.sleep(0.05)
        found = [path for path in (tmp_path / "tmp").glob("*/out/pid") if path.read_text()]
        pid = int(found[0].read_text()) if found else None
    child.stdin.close()
    try:
        child.wait(20)  # the script would go on for three times as long
    finally:
        child.kill()
        child.stdout.close()
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("said", [b"", b"python3: not found\n", b"envsnap 00\n0\n"])
def test_no_mark_is_no_answer(said: bytes, tmp_path: Path) -> None:
    with pytest.raises(carry.NoAnswer):
        carry.unpack(io.BytesIO(said), b"envsnap 0", tmp_path)


@pytest.mark.parametrize("said", [b"envsnap 0\n", b"envsnap 0\nzero\n", b"envsnap 0\n0\nno archive at all"])
def test_a_damaged_answer_is_an_error(said: bytes, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot read what"):
        carry.unpack(io.BytesIO(said), b"envsnap 0", tmp_path)
