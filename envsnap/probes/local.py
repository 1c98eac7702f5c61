"""A Python interpreter on this host as a place where guest scripts run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envsnap import process
from envsnap.errors import TargetError
from envsnap.process import OnLine
from envsnap.target import GUEST_DIRECTORY, GuestResult, GuestScript, fill


@dataclass(frozen=True, slots=True)
class LocalPython:
    """An interpreter of this host; implements `envsnap.target.Target`.

    Attributes:
        python: absolute path, symbolic links kept: a virtual environment is found by the link's place.
        environment: all variables that scripts get; None for those of this process.
    """

    python: Path
    environment: Mapping[str, str] | None = None

    @property
    def description(self) -> str:
        return f"python {self.python}"

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
        variables = os.environ if self.environment is None else self.environment
        places = {**(inputs or {}), "out": outputs}
        try:
            done = process.run(
                [self.python, "-B", GUEST_DIRECTORY, script, *(fill(argument, places) for argument in arguments)],
                env={**variables, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
                timeout_s=timeout_s,
                on_line=on_line,
            )
        except process.NotStarted as error:
            raise TargetError(f"cannot run {self.python}", why=error.why, hint="name another interpreter with --python") from error
        log = b"\n".join(filter(None, (done.stdout, done.stderr))).decode("utf-8", "replace")
        return GuestResult(returncode=done.returncode, outputs=outputs, log=log, timed_out=done.timed_out)
