"""Finding an interpreter of exactly one version."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from envsnap import process

# Variables that steer an interpreter do not reach it; those below do. Without -I, which would ignore the hash seed.
FLAGS = ("-s", "-S", "-B", "-X", "utf8")
_QUIET = {"PYTHONHASHSEED": "0"}
_QUESTION = """
import sys, json, importlib.util
print(json.dumps({"implementation": sys.implementation.name, "version": sys.version.split()[0], "abiflags": sys.abiflags,
                  "cache_tag": sys.implementation.cache_tag, "magic": importlib.util.MAGIC_NUMBER.hex()}))
"""
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How an interpreter is started.

    Attributes:
        argv: all that comes before its own options.
        env: the whole environment that it is given, but for what envsnap sets itself.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        return {**self.env, **_QUIET}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """CPython that can be run here.

    Attributes:
        version: exact, "3.11.2".
        cache_tag: in the names of its .pyc files, "cpython-311".
        magic: what they begin with.
        is_own: it is the image's, and nobody vouches for what it says: it may be made to write any byte code.
    """

    command: Command
    version: str
    cache_tag: str
    magic: bytes
    is_own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """Attributes: reason: one sentence. hint: what to do."""

    reason: str
    hint: str


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    implementation: str
    version: str
    abiflags: str
    cache_tag: str
    magic: str


def find_interpreter(version: str, candidates: Iterable[Command]) -> Interpreter | NotFound:
    """The first of `candidates` that is CPython of exactly that version; each is asked once, none after the one that is found.

    A build with other flags ("d" for debugging, "t" without the global lock) writes other byte code and is passed over.
    """
    seen: dict[str, None] = {}
    for command in candidates:
        answer = _ask(command)
        if answer is None:
            continue
        if answer.version == version and answer.implementation == "cpython" and not answer.abiflags:
            return Interpreter(command=command, version=version, cache_tag=answer.cache_tag, magic=bytes.fromhex(answer.magic))
        other = "" if answer.implementation == "cpython" else f"{answer.implementation} "
        seen[f"{other}{answer.version}{answer.abiflags}"] = None
    found = f"found: {', '.join(seen)}" if seen else "none was found at all"
    return NotFound(
        reason=f"byte code for Python {version} is made by exactly that version, and no such interpreter can be run here ({found})",
        hint=f"--no-pyc leaves it out; or `pyenv install {version}`, `uv python install {version}`",
    )


def on_this_host(version: str, env: Mapping[str, str]) -> Iterator[Command]:
    """Interpreters that may be of `version`: on PATH, of pyenv, of uv.

    Args:
        env: variables to look in.
    """
    seen = set[Path]()
    for path in _places(version, env):
        real = path.resolve()
        if real not in seen and real.is_file() and os.access(real, os.X_OK):
            seen.add(real)
            yield Command(argv=(str(path),))


def _places(version: str, env: Mapping[str, str]) -> Iterator[Path]:
    minor = ".".join(version.split(".")[:2])
    home = Path(env.get("HOME") or Path.home())
    yield Path(env.get("PYENV_ROOT") or home / ".pyenv") / "versions" / version / "bin" / "python3"
    data = Path(env.get("XDG_DATA_HOME") or home / ".local" / "share")
    managed = Path(env.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    if managed.is_dir():
        yield from (folder / "bin" / "python3" for folder in sorted(managed.glob(f"cpython-{version}-*")))
    for folder in map(Path, filter(None, env.get("PATH", os.defpath).split(os.pathsep))):
        if folder.name != "shims":  # of pyenv and its like: scripts that choose one of those above
            yield from (folder / name for name in (f"python{minor}", "python3", "python"))


def _ask(command: Command) -> _Answer | None:
    """What it says of itself; None when it cannot be run, or is no Python that could answer."""
    try:
        done = process.run([*command.argv, *FLAGS, "-c", _QUESTION], env=command.variables, timeout_s=_TIMEOUT_S)
        return msgspec.json.decode(done.stdout, type=_Answer) if done.ok else None
    except (process.NotStarted, ValueError):
        return None
