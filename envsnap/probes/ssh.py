"""An interpreter on another host as a place where guest scripts run, through the system's own `ssh`."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envsnap import carry, process, redaction
from envsnap.errors import TargetError, UsageError
from envsnap.process import OnLine
from envsnap.target import GuestResult, GuestScript

# Nobody can be asked for a password or about a host key: what that would take is said instead.
_OPTIONS = ("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
_SSH_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 255, 126, 127


@dataclass(frozen=True, slots=True, kw_only=True)
class SshPython:
    """An interpreter of another host; implements `envsnap.target.Target`.

    Attributes:
        host: as `ssh` takes it: HOST, USER@HOST, or a name of its configuration.
        python: a path or a name on the PATH of a shell that is not a login shell there.
    """

    host: str
    python: str = "python3"

    def __post_init__(self) -> None:
        if not self.host or self.host.startswith("-") or any(letter.isspace() for letter in self.host):
            raise UsageError(f"not a host: {self.host!r}", hint="--ssh takes HOST, USER@HOST, or a name of the ssh configuration")

    @property
    def description(self) -> str:
        return f"{self.python} on {self.host}"

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
        luggage = carry.pack(script, arguments, inputs or {}, env or {})
        command = ["ssh", *_OPTIONS, "--", self.host, shlex.join([self.python, "-B", "-c", carry.PROGRAM])]
        with tempfile.TemporaryFile(prefix="envsnap-ssh-") as spool:
            try:
                done = process.run(command, stdin=luggage.stdin, hold_stdin=True, stdout_to=spool, timeout_s=timeout_s, on_line=on_line)
            except process.NotStarted as error:
                raise TargetError("cannot run ssh", why=error.why, hint="install OpenSSH's client") from error
            log = done.stderr.decode("utf-8", "replace")
            if done.timed_out:
                return GuestResult(returncode=done.returncode, outputs=outputs, log=log, timed_out=True)
            spool.seek(0)
            try:
                return GuestResult(returncode=carry.unpack(spool, luggage.mark, outputs), outputs=outputs, log=log)
            except carry.NoAnswer:
                raise self._failure(done) from None

    def _failure(self, done: process.Completed) -> TargetError:
        said = redaction.text(done.tail())
        why = said.splitlines()[-1] if said else f"exit code {done.returncode}"
        if done.returncode == _SSH_FAILED:
            hint = f"`ssh {self.host} true` must work without a question: a key in the agent, a host that is known"
            return TargetError(f"cannot reach {self.host}", why=why, hint=hint, log=said)
        if done.returncode in (_NOT_EXECUTABLE, _NOT_FOUND):
            what, hint = f"cannot run {self.python} on {self.host}", "--python PATH names the environment's interpreter"
            return TargetError(what, why=why, hint=hint, log=said)
        return TargetError(f"cannot read {self.description}", why=why, hint="-v shows what it said", log=said)
