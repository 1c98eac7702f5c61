"""An unpacked image as a place for guest scripts, without an engine."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envsnap import archive, redaction
from envsnap.errors import EngineError, TargetError
from envsnap.process import Completed, OnLine, Stream
from envsnap.rootless import runtime as runtimes
from envsnap.rootless.inside import LeadsNowhere, resolve
from envsnap.rootless.roots import Root, in_use
from envsnap.rootless.runtime import Found
from envsnap.rootless.sandbox import HOSTNAME, Bind, Sandbox
from envsnap.rootless.users import identity
from envsnap.storage import disk_errors
from envsnap.target import GUEST_DIRECTORY, GuestResult, GuestScript, fill

INSIDE = "/run/envsnap"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # of an image that says none, as engines have it
_ALWAYS = ("/tmp", "/var/tmp")  # noqa: S108  # writable in every container
_MARK = ".containerenv"  # in /run: by which programs know that they are in a container
_NEVER = ("/proc", "/sys", "/dev")
_HOSTS = f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost ip6-localhost ip6-loopback\n"
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_PODMAN_FAILED = 125
_NO_PROGRAM = re.compile(
    r"bwrap: execvp .*|.*executable file .* not found in \$PATH.*|.*exec: .*: (?:permission denied|no such file or directory).*"
    r"|.*open executable: .*|.*exec (?:container process )?.*(?:Permission denied|No such file or directory).*"
)
_NO_SANDBOX = re.compile(r"bwrap: .*|.*\b(?:OCI runtime error|OCI permission denied|runc run failed)\b.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class RootlessTarget:
    """Runs guest scripts in an unpacked image, each in a fresh sandbox; implements `envsnap.target.Target`.

    The image's entrypoint is kept and `python` is what its PATH says: what is checked is what a user of the image gets. Its files are
    read-only. Writable, and fresh for each script, are its HOME, /tmp, /var/tmp, /run, its volumes, and each directory that anybody may
    write in it: it is seen as by an ordinary user (`docker run -u 1000:1000`), whoever the image's user is.

    Attributes:
        name: of the image, for people.
        python: a path in the image, or a name on its PATH.
        gpus: as docker's `--gpus`; only podman can give any.
        user: as docker's `--user`; None for the image's own.
    """

    root: Root
    runtime: Found
    name: str
    python: str = "python"
    gpus: str = "none"
    user: str | None = None

    @property
    def description(self) -> str:
        return f"image {self.name} ({self.runtime.called})"

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
        """See `envsnap.target.Target`. Raises EngineError, too, where the runtime cannot make the sandbox."""
        given = {name: source.resolve() for name, source in (inputs or {}).items()}
        places = {"out": f"{INSIDE}/out"} | {name: f"{INSIDE}/in/{name}" for name in given}
        command = [self.python, "-B", f"{INSIDE}/guest", script, *(fill(argument, places) for argument in arguments)]
        log: list[str] = []

        def hear(stream: Stream, line: str) -> None:
            log.append(line)
            if on_line is not None:
                on_line(stream, line)

        with in_use(self.root), tempfile.TemporaryDirectory(prefix="envsnap-run-", ignore_cleanup_errors=True) as name:
            scratch = Path(name)
            with disk_errors(f"prepare {self.description}", scratch):
                sandbox = self._sandbox(command, given, env or {}, scratch)
            path = os.environ.get("PATH", os.defpath)
            done = runtimes.run(self.runtime, sandbox, scratch, gpus=self.gpus, path=path, timeout_s=timeout_s, on_line=hear)
            self._require_ran(done, log)
            # What came out is as untrusted as what an engine hands out, and is held to the same rules.
            archive.unpack(archive.pack(archive.entries_of("out", scratch / "out")), outputs)
        return GuestResult(returncode=done.returncode, outputs=outputs, log="\n".join(log), timed_out=done.timed_out)

    def _sandbox(self, command: Sequence[str], inputs: Mapping[str, Path], env: Mapping[str, str], scratch: Path) -> Sandbox:
        run = self.root.config.run
        who = identity(self.root.path, self.user if self.user is not None else str(run.get("User") or ""))
        variables = {"PATH": _PATH, "HOSTNAME": HOSTNAME, "HOME": who.home, **self.root.config.env, **env}
        workdir = str(run.get("WorkingDir") or "/")
        return Sandbox(
            root=self.root.path,
            argv=(*map(str, run.get("Entrypoint") or ()), *command),
            env={name: value for name, value in variables.items() if name and "\0" not in name + value},
            workdir=workdir if self._directory(workdir) is not None else "/",
            uid=who.uid,
            gid=who.gid,
            binds=(*self._writable(variables["HOME"], scratch), *self._luggage(inputs, scratch), *self._hosts(scratch)),
            limits=runtimes.open_files(),
        )

    def _writable(self, home: str, scratch: Path) -> list[Bind]:
        """Copies of what may be written, which are this sandbox's alone."""
        volumes = self.root.config.run.get("Volumes")
        asked = (*_ALWAYS, home, *(volumes if isinstance(volumes, dict) else ()), *self.root.writable)
        places = sorted({place for path in asked if (place := self._directory(path)) is not None})
        binds: list[Bind] = []
        for place in places:
            if place != "/" and not any(f"{place}/".startswith(f"{other}/") for other in (*_NEVER, *(bind.place for bind in binds))):
                binds.append(self._copy(place, scratch / f"places/{len(binds)}"))
        return binds

    def _copy(self, place: str, copy: Path) -> Bind:
        shutil.copytree(f"{self.root.path}{place}", copy, symlinks=True)
        copy.chmod(0o1777)
        return Bind(source=copy, place=place, writable=True)

    def _luggage(self, inputs: Mapping[str, Path], scratch: Path) -> list[Bind]:
        """What goes in and comes out lies below /run, in a copy of which places for it can be made."""
        place = self._directory("/run")
        if place is None:
            raise TargetError(f"cannot run anything in {self.description}", why="its /run is no directory")
        run = self._copy(place, scratch / "run")
        ours, mark = run.source / Path(INSIDE).name, run.source / _MARK
        for place_of_ours in (ours, mark):
            shutil.rmtree(place_of_ours, ignore_errors=True)
            place_of_ours.unlink(missing_ok=True)
        mark.touch()
        for directory in (ours, ours / "guest", ours / "in", ours / "out", scratch / "out"):
            directory.mkdir()
        for name, source in inputs.items():
            (ours / "in" / name).mkdir() if source.is_dir() else (ours / "in" / name).touch()
        inside = f"{place}/{ours.name}"
        return [
            run,
            Bind(source=GUEST_DIRECTORY, place=f"{inside}/guest"),
            *(Bind(source=source, place=f"{inside}/in/{name}") for name, source in inputs.items()),
            Bind(source=scratch / "out", place=f"{inside}/out", writable=True),
        ]

    def _hosts(self, scratch: Path) -> list[Bind]:
        """`localhost` and its own name, which programs of one machine use to find each other."""
        with suppress(LeadsNowhere, OSError):
            place = resolve(str(self.root.path), "etc/hosts")
            if place is not None and Path(place).is_file():
                hosts = scratch / "hosts"
                hosts.write_text(_HOSTS, encoding="ascii")
                return [Bind(source=hosts, place=place.removeprefix(str(self.root.path)))]
        return []

    def _directory(self, path: str) -> str | None:
        """Where a directory of the image really lies in it; None where it has none."""
        with suppress(LeadsNowhere, OSError):
            place = resolve(str(self.root.path), path)
            if place is not None and Path(place).is_dir():
                return place.removeprefix(str(self.root.path)) or "/"
        return None

    def _require_ran(self, done: Completed, log: Sequence[str]) -> None:
        """Raises TargetError: the image has no such interpreter. EngineError: the runtime made no sandbox."""
        if done.returncode == 0 or done.timed_out:
            return
        last = redaction.text(log[-1].strip()) if log else ""
        no_program = _NO_PROGRAM.fullmatch(last) is not None
        of_podman = self.runtime.name == "podman" and done.returncode == _PODMAN_FAILED
        if not no_program and (of_podman or _NO_SANDBOX.fullmatch(last)):
            raise EngineError(f"cannot run {self.description}", why=last, hint="envsnap doctor shows what works here")
        if no_program or done.returncode in (_NOT_EXECUTABLE, _NOT_FOUND):
            hint = "--python python3, or the path of an interpreter in it"
            raise TargetError(f"cannot run {self.python} in {self.description}", why=last or f"exit code {done.returncode}", hint=hint)
