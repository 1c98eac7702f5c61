"""A container that runs already as a place for guest scripts: `docker exec`, and nothing of it is changed."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envsnap import carry, redaction
from envsnap.engines.connection import engine_errors
from envsnap.engines.container import Lines, after, frames
from envsnap.errors import TargetError
from envsnap.process import OnLine
from envsnap.target import GuestResult, GuestScript

if TYPE_CHECKING:
    from docker import APIClient

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningContainer:
    """Runs guest scripts in a running container, as its own user; implements `envsnap.target.Target`.

    Attributes:
        container: name or ID.
        python: a path in the container, or a name on its PATH.
    """

    client: APIClient
    container: str
    python: str = "python"

    @property
    def description(self) -> str:
        return f"container {self.container}"

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
        lines = Lines(on_line)
        with engine_errors(f"cannot run anything in {self.description}"), tempfile.TemporaryFile(prefix="envsnap-exec-") as spool:
            command = [self.python, "-B", "-c", carry.PROGRAM]
            started: str = self.client.exec_create(self.container, command, stdin=True, stdout=True, stderr=True)["Id"]
            stream: Any = self.client.exec_start(started, socket=True)
            try:
                with suppress(BrokenPipeError, ConnectionResetError):  # what it said instead of reading is what counts
                    stream._sock.sendall(luggage.stdin)  # noqa: SLF001  # docker-py hands out the reading half alone
                # The end of its stdin ends the script (guest/carried.py): neither a time limit nor an interrupt leaves it behind.
                with after(timeout_s, lambda: stream._sock.shutdown(socket.SHUT_RDWR)) as expired:  # noqa: SLF001
                    for name, chunk in frames(stream):
                        if name == "stdout":
                            spool.write(chunk)
                        else:
                            lines.feed(name, chunk)
            finally:
                stream._response.close()  # noqa: SLF001  # docker-py offers no other way to give the connection back
            log = lines.finish()
            if expired.is_set():
                return GuestResult(returncode=-1, outputs=outputs, log=log, timed_out=True)
            spool.seek(0)
            try:
                return GuestResult(returncode=carry.unpack(spool, luggage.mark, outputs), outputs=outputs, log=log)
            except carry.NoAnswer:
                spool.seek(0)
                code = self.client.exec_inspect(started)["ExitCode"]
                raise self._failure(code, log or spool.read(4096).decode("utf-8", "replace")) from None

    def _failure(self, code: int | None, log: str) -> TargetError:
        said = redaction.text(log.strip())
        why = said.splitlines()[-1] if said else f"exit code {code}"
        if code in (_NOT_EXECUTABLE, _NOT_FOUND):
            what = f"cannot run {self.python} in {self.description}"
            return TargetError(what, why=why, hint="--python python3, or the path of an interpreter in it", log=said)
        return TargetError(f"cannot read {self.description}", why=why, hint="-v shows what it said", log=said)
