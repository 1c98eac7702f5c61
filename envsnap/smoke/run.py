"""Runs the smoke-train on a target and reads what it wrote."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from envsnap import redaction
from envsnap.errors import TargetError
from envsnap.model.frameworks import Framework
from envsnap.model.parity import SmokeRun
from envsnap.process import Stream
from envsnap.progress import Progress
from envsnap.target import GuestResult, Target

SCHEMA = 1
TIMEOUT_S = 1800.0  # 20 s on two idle cores; a crowded machine has been seen to take six times that
MAX_DOCUMENT_BYTES = 16 << 20
MAX_FILE_BYTES = 1 << 28  # weights and gradients are 12 MB each
_PROGRESS = re.compile(r"(?:^|\r)progress (\d{1,6}) (\d{1,6})$")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


def run_smoke(
    target: Target,
    *,
    framework: Framework,
    seed: int,
    device: str,
    gpus: int,
    threads: int | None,
    anchor: Path | None,
    kit: Path | None,
    keep_weights: bool,
    negative_control: str = "",
    outputs: Path,
    progress: Progress,
) -> SmokeRun:
    """Train once on `target`; where it cannot, `status` and `reason` say so.

    Args:
        gpus: how many must be visible on "cuda"; training uses one.
        threads: CPU threads; None lets the script choose (and record) them.
        anchor: weights to take the gradient at; None takes the run's own when `keep_weights` is given, else there is none.
        kit: packages lent to the run, put behind the target's own.
        negative_control: "tf32", "labels" or "wandb": a fault on purpose that a comparison must find; "" for none.
        outputs: an existing, empty directory; holds the files that the run names when this returns.

    Raises:
        TargetError: the script crashed, took too long, or left no document that can be believed.
        EngineError: the target's engine failed.
    """
    inputs = {name: path for name, path in (("anchor", anchor), ("kit", kit)) if path is not None}
    with progress.task("smoke-train", unit="steps") as task:
        done = 0

        def follow(_: Stream, line: str) -> None:
            nonlocal done
            match = _PROGRESS.search(line)
            if match:
                step, total = map(int, match.groups())
                task.total(total)
                task.advance(step - done)
                done = step

        result = target.run_guest(
            "smoke",
            arguments(
                framework=framework,
                seed=seed,
                device=device,
                gpus=gpus,
                threads=threads,
                inputs=tuple(inputs),
                keep_weights=keep_weights,
                negative_control=negative_control,
            ),
            outputs=outputs,
            inputs=inputs,
            timeout_s=TIMEOUT_S,
            on_line=follow,
        )
    return read_document(result, target.description)


def arguments(
    *,
    framework: Framework,
    seed: int,
    device: str,
    gpus: int,
    threads: int | None,
    inputs: tuple[str, ...],
    keep_weights: bool,
    negative_control: str,
) -> tuple[str, ...]:
    """The script's arguments; `{NAME}` stands for a path as the script will see it."""
    words = ["--out", "{out}", "--framework", framework, "--seed", str(seed), "--device", device]
    if device == "cuda":
        words += ["--gpus", str(gpus)]
    if threads is not None:
        words += ["--threads", str(threads)]
    for name in inputs:
        words += [f"--{name}", f"{{{name}}}"]
    if keep_weights:
        words.append("--keep-weights")
    if negative_control:
        words += ["--negative-control", negative_control]
    return tuple(words)


def read_document(result: GuestResult, where: str) -> SmokeRun:
    """The document of a finished script, and the files that it names, checked: an image may hold any program.

    Raises:
        TargetError: there is none, it is malformed, or it names files that are not there.
    """
    if result.timed_out:
        raise TargetError(
            f"the smoke-train on {where} did not end",
            why=f"stopped after {TIMEOUT_S / 60:.0f} minutes",
            hint="is the machine busy with something else?",
            log=_tail(result.log),
        )
    if result.returncode != 0:
        raise _crashed(where, f"exit code {result.returncode}", result)
    try:
        data = _bounded(result.outputs / "smoke.json", MAX_DOCUMENT_BYTES).read_bytes()
        run = msgspec.json.decode(data, type=SmokeRun)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise _crashed(where, f"no readable smoke.json: {error}", result) from error
    if run.schema != SCHEMA:
        raise _crashed(where, f"smoke.json has schema {run.schema}, expected {SCHEMA}", result)
    for name in filter(None, (run.weights, *run.gradients.values())):
        try:
            if not _PLAIN_NAME.match(name):
                raise ValueError("not a plain file name")
            _bounded(result.outputs / name, MAX_FILE_BYTES)
        except (OSError, ValueError) as error:
            raise _crashed(where, f"it names the file {name!r}: {error}", result) from error
    return run


def _bounded(path: Path, limit: int) -> Path:
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path.name} is not a regular file")
    if path.stat().st_size > limit:
        raise ValueError(f"{path.name} is larger than {limit} bytes")
    return path


def _crashed(where: str, why: str, result: GuestResult) -> TargetError:
    return TargetError(f"the smoke-train on {where} crashed", why=why, hint="-v shows its last words", log=_tail(result.log))


def _tail(log: str) -> str:
    return redaction.text("\n".join(log.splitlines()[-30:]))
