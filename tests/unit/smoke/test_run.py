"""Running the smoke-train on a target, and distrusting what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from envsnap.errors import TargetError
from envsnap.model.parity import SmokeRun
from envsnap.process import OnLine
from envsnap.progress import SILENT, Progress, Task, Unit
from envsnap.smoke import run as running
from envsnap.smoke.run import arguments, run_smoke
from envsnap.target import GUEST_DIRECTORY, GuestResult, GuestScript

GOOD = {"schema": 1, "status": "ok", "steps": 160, "losses": [["0x1p+0"]], "gradients": {"fp32": "gradient-fp32.f32"}}


@dataclass
class ScriptTarget:
    """Runs a Python text, or the guest script itself, in this interpreter, with its output directory as first argument."""

    code: str | None = None
    timed_out: bool = False
    asked: list[str] = field(default_factory=list)
    description: str = "python under test"

    def run_guest(
        self,
        script: GuestScript,
        arguments: Sequence[str],
        *,
        outputs: Path,
        inputs: Mapping[str, Path] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        on_line: OnLine | None = None,
    ) -> GuestResult:
        assert timeout_s is not None
        places = {"out": outputs, **(inputs or {})}
        self.asked = [word.format_map(places) for word in arguments]
        program = [str(GUEST_DIRECTORY), script, *self.asked] if self.code is None else ["-c", self.code, str(outputs)]
        done = subprocess.run([sys.executable, "-I", *program], capture_output=True, text=True)
        for line in done.stderr.splitlines():
            if on_line is not None:
                on_line("stderr", line)
        return GuestResult(returncode=done.returncode, outputs=outputs, log=done.stdout + done.stderr, timed_out=self.timed_out)


def writes(document: Any, *files: str) -> str:
    text = document if isinstance(document, str) else json.dumps(document)
    return f"""
import pathlib, sys
out = pathlib.Path(sys.argv[1])
(out / "smoke.json").write_text({text!r})
for name in {files!r}:
    (out / name).write_bytes(b"1234")
"""


def go(target: ScriptTarget, outputs: Path, *, threads: int | None = None, progress: Progress = SILENT, **inputs: Path) -> SmokeRun:
    return run_smoke(
        target,
        framework="torch",
        seed=0,
        device="cpu",
        gpus=0,
        threads=threads,
        anchor=inputs.get("anchor"),
        kit=inputs.get("kit"),
        keep_weights=False,
        outputs=outputs,
        progress=progress,
    )


def test_what_the_script_wrote_is_read(tmp_path: Path) -> None:
    run = go(ScriptTarget(writes(GOOD, "gradient-fp32.f32")), tmp_path)
    assert (run.status, run.steps, run.losses) == ("ok", 160, (("0x1p+0",),))


def test_the_real_script_answers_an_interpreter_without_torch(tmp_path: Path) -> None:
    target = ScriptTarget()
    run = go(target, tmp_path, threads=3, anchor=tmp_path / "a", kit=tmp_path)
    assert run.status in ("absent", "failed")  # failed where the interpreter of the tests has torch: the anchor is missing
    assert target.asked[-6:] == ["--threads", "3", "--anchor", str(tmp_path / "a"), "--kit", str(tmp_path)]


BROKEN = {
    "no document": "",
    "a crash": "raise SystemExit(3)",
    "not JSON": writes("{"),
    "not UTF-8": "import pathlib, sys; (pathlib.Path(sys.argv[1]) / 'smoke.json').write_bytes(b'\\xff')",
    "an unknown key": writes({**GOOD, "verdict": "pass"}),
    "a wrong type": writes({**GOOD, "steps": "160"}),
    "a status of its own": writes({**GOOD, "status": "fine"}),
    "another schema": writes({**GOOD, "schema": 2}),
    "a file that is not there": writes(GOOD),
    "a file elsewhere": writes({**GOOD, "gradients": {"fp32": "../other"}}),
    "an absolute path": writes({**GOOD, "gradients": {}, "weights": "/etc/hostname"}),
    "a link": writes({**GOOD, "gradients": {}, "weights": "w"}) + "(out / 'w').symlink_to('/etc/hostname')",
    "a document that is a link": "import os, sys; os.symlink('/dev/zero', sys.argv[1] + '/smoke.json')",
    "a document without end": "import sys; open(sys.argv[1] + '/smoke.json', 'wb').truncate(1 << 30)",
}


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN.keys())
def test_what_cannot_be_believed_is_an_error(tmp_path: Path, code: str) -> None:
    outputs = tmp_path / "out"
    outputs.mkdir()
    (tmp_path / "other").write_bytes(b"1234")
    with pytest.raises(TargetError, match="the smoke-train on python under test crashed"):
        go(ScriptTarget(code), outputs)


def test_a_crash_shows_its_last_words_without_secrets(tmp_path: Path) -> None:
    code = "import sys; print('https://me:planted@example.com/x', file=sys.stderr); raise RuntimeError('boom')"
    with pytest.raises(TargetError) as caught:
        go(ScriptTarget(code), tmp_path)
    assert "RuntimeError: boom" in caught.value.log and "planted" not in caught.value.log
    assert caught.value.why == "exit code 1"


def test_a_run_without_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="did not end") as caught:
        go(ScriptTarget(writes(GOOD, "gradient-fp32.f32"), timed_out=True), tmp_path)
    assert caught.value.why == f"stopped after {running.TIMEOUT_S / 60:.0f} minutes"


def test_the_arguments_name_what_is_asked_for() -> None:
    plain = arguments(framework="torch", seed=7, device="cpu", gpus=0, threads=None, inputs=(), keep_weights=True, negative_control="")
    assert plain == ("--out", "{out}", "--framework", "torch", "--seed", "7", "--device", "cpu", "--keep-weights")
    rich = arguments(
        framework="paddle", seed=0, device="cuda", gpus=4, threads=2, inputs=("anchor", "kit"), keep_weights=False, negative_control="tf32"
    )
    assert rich[2:4] == ("--framework", "paddle")
    assert rich[6:] == (
        "--device", "cuda", "--gpus", "4", "--threads", "2", "--anchor", "{anchor}", "--kit", "{kit}", "--negative-control", "tf32",
    )  # fmt: skip


@dataclass
class Watcher:
    """A Progress that keeps what it was told."""

    events: list[tuple[str, int | None]] = field(default_factory=list)

    @contextmanager
    def task(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> Iterator[Task]:
        yield self

    def advance(self, amount: int) -> None:
        self.events.append(("advance", amount))

    def total(self, amount: int | None) -> None:
        self.events.append(("total", amount))

    def status(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def detail(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...


def test_steps_are_told_while_it_trains(tmp_path: Path) -> None:
    talk = "import sys; print('noise progress 1 2\\n\\rprogress 10 160\\nprogress 30 160', file=sys.stderr)"
    watcher = Watcher()
    go(ScriptTarget(talk + writes(GOOD, "gradient-fp32.f32")), tmp_path, progress=watcher)
    assert watcher.events == [("total", 160), ("advance", 10), ("total", 160), ("advance", 20)]
