"""Child processes that run the environment's own code."""

from __future__ import annotations

import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
from typing import Any, Sequence

from .libraries import is_shared_object
from .text import system_text
from .variables import is_secret, without_secrets

MESSAGE_LENGTH = 200


# fmt: off
KEEPING_FILES = (
    "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "CUDA_CACHE_PATH", "CUPY_CACHE_DIR",
    "HF_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR",
    "TRITON_HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_DIR", "YOLO_CONFIG_DIR",
)
# fmt: on


PROGRAM = os.path.dirname(os.path.abspath(__file__))


class Sandbox:
    """A temporary HOME for child processes that run foreign code; gone, with all that it wrote there, on leaving."""

    def __enter__(self) -> Sandbox:  # noqa: PYI034  (3.8 has no `Self`)
        self.home = tempfile.mkdtemp(prefix="collect-")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """The caller's variables without secrets; every known place where libraries keep files lies in the sandbox."""
        environment = {name: value for name, value in os.environ.items() if not is_secret(name, value)}
        environment.update(dict.fromkeys(KEEPING_FILES, self.home))
        environment.update(PYTHONDONTWRITEBYTECODE="1", YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true")
        if site.ENABLE_USER_SITE:  # it is derived from HOME, and part of the environment all the same
            environment["PYTHONUSERBASE"] = site.getuserbase()
        return environment

    def start(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *interpreter_flags(), PROGRAM, *arguments],
            env=self.environment(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            **options,
        )

    def tidy(self, message: str) -> str:
        """One line of a child's words that is the same in every run and holds no secret."""
        return without_secrets(message.replace(self.home, "~"))[:MESSAGE_LENGTH]


def interpreter_flags() -> list[str]:
    flags = ["-B"]
    flags += [
        f"-{letter}" for letter, on in (("I", sys.flags.isolated), ("E", sys.flags.ignore_environment), ("s", sys.flags.no_user_site)) if on
    ]
    return flags + (["-X", "utf8"] if sys.flags.utf8_mode else [])


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End a child and all that it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    child.wait()


def ending(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def mapped_files() -> list[str]:
    """Shared objects that are mapped into this process, by real path."""
    found = set()
    for line in system_text("/proc/self/maps").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/") and is_shared_object(fields[5]):
            found.add(fields[5])
    return sorted(found)
