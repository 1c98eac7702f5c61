"""The interpreter to capture, and what the collector finds in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

from envsnap import process, redaction
from envsnap.errors import TargetError
from envsnap.model.facts import CollectedFacts
from envsnap.progress import Progress, Task, Unit
from envsnap.target import Target

OLDEST = (3, 8)
_ANSWER = "envsnap-python"
# Also understood by interpreters that are too old, so that they can say so.
_QUESTION = f"import sys; sys.stdout.write('{_ANSWER} %d %d' % sys.version_info[:2])"
_UNITS: Mapping[str, Unit] = {"bytes": "bytes", "steps": "steps", "packages": "packages"}


def find_python(python: str | None, env: Mapping[str, str]) -> Path:
    """The interpreter to capture: the given one, else the active virtualenv's or conda environment's, else `python3` on PATH.

    Args:
        python: path of an interpreter or of an environment's directory, or a name on PATH; None to look for the active one.
        env: variables to look in (VIRTUAL_ENV, CONDA_PREFIX, PATH).

    Returns:
        An absolute path whose symbolic links are kept: a virtual environment is found by the link's place.

    Raises:
        TargetError: no such interpreter, not executable, not a Python, or older than 3.8.
    """
    path = _given(python, env) if python is not None else _active(env)
    if not path.is_file():
        raise TargetError(f"no such interpreter: {path}", hint="name one with --python PATH, a python or an environment's directory")
    if not os.access(path, os.X_OK):
        raise TargetError(f"not executable: {path}", why="the file has no permission to run", hint="name the environment's bin/python")
    version = _ask_version(path)
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise TargetError(f"Python {version[0]}.{version[1]} is too old: {path}", why=f"the collector needs Python {oldest} or newer")
    return path


def _given(python: str, env: Mapping[str, str]) -> Path:
    path = Path(python).expanduser().absolute()
    if path.is_dir():
        return _python_of(path, f"given as {python}")
    if not path.exists() and os.sep not in python:
        on_path = shutil.which(python, path=env.get("PATH", os.defpath))
        return Path(on_path).absolute() if on_path else path
    return path


def _active(env: Mapping[str, str]) -> Path:
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if env.get(variable):
            return _python_of(Path(env[variable]).absolute(), f"named by {variable}")
    on_path = shutil.which("python3", path=env.get("PATH", os.defpath))
    if on_path is None:
        raise TargetError(
            "no such interpreter: no environment is active and PATH has no python3",
            hint="activate the environment to capture, or name its interpreter with --python PATH",
        )
    return Path(on_path).absolute()


def _python_of(directory: Path, why: str) -> Path:
    for name in ("python", "python3"):
        path = directory / "bin" / name
        if path.exists():
            return path
    raise TargetError(
        f"no such interpreter: {directory} has no bin/python",
        why=f"the directory, {why}, is not a virtual or conda environment",
        hint="name an interpreter with --python PATH",
    )


def _ask_version(path: Path) -> tuple[int, int]:
    hint = "name the python of a virtual or conda environment"
    try:
        done = process.run([path, "-E", "-S", "-c", _QUESTION], timeout_s=30)
    except process.NotStarted as error:
        raise TargetError(f"not a Python: {path}", why=error.why, hint=hint) from error
    words = done.stdout.decode("utf-8", "replace").split()
    if not done.ok or len(words) != 3 or words[0] != _ANSWER or not all(word.isdigit() for word in words[1:]):
        raise TargetError(f"not a Python: {path}", why="it runs, but does not answer as one", hint=hint, log=redaction.text(done.tail()))
    return int(words[1]), int(words[2])


def collect(
    target: Target,
    *,
    framework: bool,
    imports: bool,
    integrity: bool,
    device_code: bool = False,
    source: Path | None = None,
    progress: Progress,
) -> CollectedFacts:
    """Run the collector in `target` and read its document.

    Args:
        framework: probe torch, TensorFlow or PaddlePaddle and the libraries that it maps.
        imports: import every top-level module of every distribution.
        integrity: hash every installed file.
        device_code: read the GPU architectures of compiled extensions.
        source: a manifest of the project's files to hold the target's against.

    Raises:
        TargetError: the collector could not run, failed, or wrote no such document.
    """
    asked = (("--framework", framework), ("--imports", imports), ("--integrity", integrity), ("--device-code", device_code))
    arguments = ["--out", "{out}/facts.json", *(option for option, on in asked if on)]
    if source is not None:
        arguments += ["--source", "{manifest}"]
    with tempfile.TemporaryDirectory(prefix="envsnap-") as name, ExitStack() as stack:
        result = target.run_guest(
            "collect",
            arguments,
            outputs=Path(name),
            inputs={} if source is None else {"manifest": source},
            on_line=forward(progress, stack),
        )
        log = redaction.text(result.log)
        if result.returncode != 0 or result.timed_out:
            raise TargetError(f"cannot read {target.description}", why=_last_line(log), hint="-v shows what the collector said", log=log)
        try:
            return msgspec.json.decode((result.outputs / "facts.json").read_bytes(), type=CollectedFacts)
        except (OSError, ValueError) as error:
            raise TargetError(f"cannot read {target.description}", why=f"the collector's document: {error}", log=log) from error


def _last_line(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith("progress ")]
    return lines[-1].strip() if lines else "the collector ended without a word"


def forward(progress: Progress, stack: ExitStack) -> Callable[[process.Stream, str], None]:
    """Turn a guest script's `progress DONE TOTAL UNIT WHAT…` lines into tasks, one for each first word of WHAT."""
    tasks: dict[str, tuple[Task, int]] = {}

    def on_line(stream: process.Stream, line: str) -> None:
        words = line.split(maxsplit=5)
        if stream != "stderr" or len(words) < 5 or words[0] != "progress" or words[3] not in _UNITS or not (words[1] + words[2]).isdigit():
            return
        done, total, what = int(words[1]), int(words[2]), words[4]
        if what not in tasks:
            tasks[what] = stack.enter_context(progress.task(what, total=total, unit=_UNITS[words[3]])), 0
        task, before = tasks[what]
        task.advance(done - before)
        tasks[what] = task, done
        if len(words) > 5:
            task.status(words[5])

    return on_line
