"""Which runtime works for this user, found out by running something in it, and running a sandbox with it."""

from __future__ import annotations

import json
import os
import re
import resource
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from envsnap import process, redaction
from envsnap.errors import EngineError, TargetError
from envsnap.model.host import Ability
from envsnap.process import Completed, OnLine
from envsnap.rootless import sandbox as told
from envsnap.rootless.sandbox import Bind, Sandbox

Name = Literal["bwrap", "crun", "runc", "podman"]
NAMES: tuple[Name, ...] = get_args(Name)
"""By fitness: the lightest first, and the one that leaves nothing behind whatever ends it."""

_CALLED: dict[Name, str] = {"bwrap": "bubblewrap", "crun": "crun", "runc": "runc", "podman": "podman"}
_PROBE_S = 30.0
_CLEAN_UP_S = 30.0
_GRACE_S = 0.5  # a runtime hands on that it shall end; the first process of a sandbox does not hear it, and is ended by cleaning up
_OF_THE_HOST = ("/bin", "/sbin", "/lib", "/lib64", "/usr", "/nix", "/gnu")  # what a shell needs
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A runtime that works. Attributes: program: its path. version: "" where it does not say."""

    name: Name
    program: str
    version: str

    @property
    def called(self) -> str:
        """For people."""
        return _CALLED[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A runtime that is not here, or does not work for this user."""

    name: Name
    reason: str


def probe(name: Name, env: Mapping[str, str]) -> Found | Absent:
    """Run a shell of the host in a sandbox of the kind that images get."""
    program = shutil.which(name, path=env.get("PATH"))
    if program is None:
        return Absent(name=name, reason="not on PATH")
    path = env.get("PATH", os.defpath)
    try:
        with tempfile.TemporaryDirectory(prefix="envsnap-probe-") as scratch:
            found = Found(name=name, program=program, version=_version(program, Path(scratch), path))
            done = run(found, _shell_of_the_host(Path(scratch, "root")), Path(scratch), path=path, timeout_s=_PROBE_S)
    except (OSError, EngineError) as error:
        return Absent(name=name, reason=redaction.text(str(error)))
    if done.ok:
        return found
    said = redaction.text(done.tail(1)).strip()
    return Absent(name=name, reason="it does not end" if done.timed_out else said or f"exit code {done.returncode}")


def find(env: Mapping[str, str], *, gpus: str = "none") -> Found:
    """The fittest runtime that works.

    Raises:
        EngineError: none does. TargetError: none that does can give GPUs.
    """
    absent = []
    for name in NAMES if gpus == "none" else ("podman",):
        answer = probe(name, env)
        if isinstance(answer, Found):
            return answer
        absent.append(answer)
    if gpus != "none":
        raise TargetError(
            f"there is no engine here that can give --gpus {gpus}",
            why=f"without Docker only podman can, through CDI: {absent[0].reason}",
            hint="install Docker or podman and the NVIDIA Container Toolkit   or --gpus none",
        )
    raise EngineError("nothing here can run an image", why=_reasons(absent), hint=_hint(absent))


def ability(env: Mapping[str, str]) -> Ability:
    """For `doctor`: what runs images where there is no Docker. Never raises."""
    answers = [probe(name, env) for name in NAMES]
    found = [answer for answer in answers if isinstance(answer, Found)]
    if found:
        here = ", ".join(f"{one.called} {one.version}".strip() for one in found)
        return Ability(name="runtime", state="ok", found=f"{here}: images can be verified without Docker")
    absent = [answer for answer in answers if isinstance(answer, Absent)]
    broken = any(one.reason != "not on PATH" for one in absent)
    return Ability(name="runtime", state="broken" if broken else "missing", found=_reasons(absent), hint=_hint(absent))


def run(
    runtime: Found,
    sandbox: Sandbox,
    scratch: Path,
    *,
    gpus: str = "none",
    path: str = os.defpath,
    timeout_s: float | None = None,
    on_line: OnLine | None = None,
) -> Completed:
    """Run a sandbox to its end; neither a time limit nor an interrupt leaves anything of it.

    Args:
        scratch: an existing directory of ours, for what the runtime keeps while it runs.
        path: PATH of the runtime itself: podman needs helpers of its own.

    Raises:
        EngineError: the runtime cannot be started.
    """
    env = _environment(scratch, path)

    def start(command: list[str]) -> Completed:
        return process.run(command, env=env, cwd=scratch, timeout_s=timeout_s, on_line=on_line, grace_s=_GRACE_S)

    def clean_up(command: list[str]) -> None:
        with suppress(process.NotStarted):
            process.run(command, env=env, cwd=scratch, timeout_s=_CLEAN_UP_S)

    name = f"envsnap-{secrets.token_hex(8)}"
    try:
        if runtime.name == "bwrap":
            return start(told.bubblewrap(runtime.program, sandbox))
        if runtime.name == "podman":
            storage = scratch / "p"
            words = told.podman_run(name, sandbox, gpus=gpus, is_root=os.geteuid() == 0)
            try:
                return start(told.podman(runtime.program, storage, *words))
            finally:
                clean_up(told.podman(runtime.program, storage, "rm", "--force", "--time", "0", "--ignore", name))
                _end_pause(storage)
        if runtime.name == "runc" and sandbox.uid != 0:
            why = "it wants the one user that a sandbox has to be root"
            hint = "install bubblewrap or crun   or --user 0, which is you here as any other"
            raise EngineError(f"runc cannot run an image as user {sandbox.uid}", why=why, hint=hint)
        place, state = scratch / "bundle", scratch / "state"
        place.mkdir()
        (place / "config.json").write_text(json.dumps(told.bundle(sandbox, uid=os.geteuid(), gid=os.getegid())), encoding="utf-8")
        try:
            return start(told.oci(runtime.program, state, "run", "--bundle", str(place), name))
        finally:
            clean_up(told.oci(runtime.program, state, "delete", "--force", name))
    except process.NotStarted as error:
        raise EngineError(f"cannot start {runtime.called}", why=error.why) from error


def open_files() -> tuple[int, int]:
    """Limits of this process, soft and hard, which an ordinary user can give on."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def _end_pause(storage: Path) -> None:
    """End the process by which podman keeps an ordinary user's namespaces for its next call: there is none with this storage."""
    with suppress(OSError, ValueError):
        os.kill(int((storage / "t/pause.pid").read_text(encoding="ascii")), signal.SIGKILL)


def _shell_of_the_host(root: Path) -> Sandbox:
    root.mkdir()
    for name in ("proc", "dev", "sys", "etc", "run", "tmp"):
        (root / name).mkdir()
    binds = []
    for place in map(Path, _OF_THE_HOST):
        inside = root / place.relative_to("/")
        if place.is_symlink():
            inside.symlink_to(place.readlink())
        elif place.is_dir():
            inside.mkdir()
            binds.append(Bind(source=place, place=str(place)))
    return Sandbox(root=root, argv=("/bin/sh", "-c", ":"), env={}, workdir="/", uid=0, gid=0, binds=tuple(binds), limits=open_files())


def _version(program: str, scratch: Path, path: str) -> str:
    with suppress(process.NotStarted):
        done = process.run([program, "--version"], env=_environment(scratch, path), timeout_s=_PROBE_S)
        if match := _VERSION.search(done.stdout.decode("utf-8", "replace")):
            return match[0]
    return ""


def _environment(scratch: Path, path: str) -> dict[str, str]:
    """Of the runtime itself. The variables of whoever called decide nothing, and podman keeps what it keeps in `scratch`."""
    return {"PATH": path, "HOME": str(scratch), "XDG_RUNTIME_DIR": str(scratch), "TMPDIR": str(scratch)}


def _reasons(absent: list[Absent]) -> str:
    return " · ".join(f"{one.name}: {one.reason}" for one in absent)


def _hint(absent: list[Absent]) -> str:
    """By far the most common reason for a runtime that does not work is that user namespaces are forbidden."""
    if all(one.reason == "not on PATH" for one in absent):
        return "install bubblewrap (or crun, runc or podman), or Docker"
    for setting, forbids in (
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ):
        with suppress(OSError):
            if Path("/proc/sys", setting).read_text(encoding="ascii").strip() == forbids:
                allowed = {"0": "1", "1": "0"}[forbids] if "max" not in setting else "10000"
                return f"user namespaces are forbidden here: sudo sysctl {setting.replace('/', '.')}={allowed}   or use Docker"
    return "user namespaces must be allowed for this user   or use Docker"
