"""Reaching a Docker engine, and saying plainly why it cannot be reached.

Where it is comes from what the `docker` command itself reads: DOCKER_HOST with its TLS variables, DOCKER_CONTEXT, the current
context of its configuration file, the default socket.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from envsnap import redaction
from envsnap.errors import EngineError, causes, innermost

if TYPE_CHECKING:
    from docker import APIClient

CANNOT_REACH = "cannot reach a Docker engine"
NO_SOCKET = "no such file"
_TIMEOUT_S = 120


def connect(env: Mapping[str, str]) -> APIClient:
    """A client for the engine that `env` names, with the newest API version that both sides speak.

    Raises:
        EngineError: nothing answers there, or it may not be asked; with the way out.
    """
    from docker import APIClient
    from docker.constants import DEFAULT_UNIX_SOCKET
    from docker.context import ContextAPI
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env

    address = ""
    try:
        where: dict[str, Any] = {**kwargs_from_env(environment=dict(env))}
        if "base_url" not in where:
            if ContextAPI.get_context(env.get("DOCKER_CONTEXT") or None) is None:
                raise EngineError(
                    CANNOT_REACH,
                    why="the current docker context does not exist",
                    hint="docker context ls   shows those that do;   docker context use NAME   picks one",
                )
            where |= ContextAPI.kwargs_from_context(environment=env)
        address = str(where.get("base_url") or DEFAULT_UNIX_SOCKET)
        _knock(address)
        return APIClient(**where, version="auto", timeout=_TIMEOUT_S)
    except (DockerException, OSError, ValueError) as error:
        why, hint = explain_unreachable(error, address)
        raise EngineError(CANNOT_REACH, why=why, hint=hint) from error


def _knock(address: str) -> None:
    """Open a local socket once: the system's own error says more than what is left of it further up."""
    scheme, _, path = address.removeprefix("http+").partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(_TIMEOUT_S)
            door.connect(path)


def explain_unreachable(error: BaseException, address: str) -> tuple[str, str]:
    """Cause and remedy of a failed connection to `address` ("unix:///var/run/docker.sock", "tcp://host:2376")."""
    place = redaction.url(address.removeprefix("http+").removeprefix("unix://"))
    if address.startswith("ssh://"):
        return (
            f"{place}: envsnap does not speak ssh to an engine",
            "forward its socket:   ssh -NL /tmp/docker.sock:/var/run/docker.sock HOST   and set DOCKER_HOST=unix:///tmp/docker.sock",
        )
    cause = _system_error(error)
    match cause.errno if cause is not None else None:
        case errno.EACCES | errno.EPERM:
            group = _group_of(Path(place))
            membership = f" (you are not in the group {group})" if group else ""
            return (
                f"{place}: permission denied{membership}",
                f"sudo usermod -aG {group or 'docker'} $USER   then log in again",
            )
        case errno.ENOENT:
            return f"{place}: {NO_SOCKET}", "install and start Docker, or set DOCKER_HOST to where an engine listens"
        case errno.ECONNREFUSED:
            return f"{place}: nothing is listening (the engine is not running)", "sudo systemctl start docker"
        case _:
            return redaction.text(f"{place}: {innermost(error)}"), "docker version   asks the same engine; see what it says"


def _group_of(place: Path) -> str:
    """The socket's group, unless this process is in it or it cannot be seen."""
    try:
        owner = place.stat().st_gid
        return "" if owner in {*os.getgroups(), os.getegid()} else grp.getgrgid(owner).gr_name
    except (OSError, KeyError):
        return ""


def _system_error(error: BaseException) -> OSError | None:
    return next((cause for cause in causes(error) if isinstance(cause, OSError) and cause.errno), None)


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn whatever docker-py raises into an EngineError that says `what` failed."""
    import requests
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        raise failure(what, error.explanation or str(error)) from error
    except (requests.RequestException, DockerException) as error:
        raise EngineError(what, why=redaction.text(innermost(error)), hint="is the engine still running?   docker version") from error


def failure(what: str, said: str, *, hint: str = "") -> EngineError:
    """An EngineError with the engine's own words, and a remedy where one is well known."""
    words = redaction.text(said.strip())
    return EngineError(what, why=words, hint=remedy(words) or hint)


Remedies: TypeAlias = tuple[tuple[tuple[str, ...], str], ...]  # (phrases in lower case, what to try), the first match counts
NO_SPACE: tuple[tuple[str, ...], str] = (
    ("no space left on device",),
    "free space for the engine:   docker system df   shows what it keeps",
)
_OF_ENGINES: Remedies = (
    NO_SPACE,
    (
        ("unknown flag: network",),
        "Docker 23 or later keeps one step from the network while another has it; or capture --rescue conda: then none needs a network",
    ),
    (
        (
            "pull access denied",
            "unauthorized",
            "authentication required",
            "no basic auth credentials",
            "access to the resource is denied",
            "403 forbidden",
        ),
        "docker login to that registry, or check the name",
    ),
    (("manifest unknown", "not found: manifest", "repository name not known", "name unknown", ": not found"), "check the name and the tag"),
    (("x509", "certificate"), "the engine does not trust that registry's certificate: give it the CA (/etc/docker/certs.d)"),
    (
        (
            "no such host",
            "connection refused",
            "i/o timeout",
            "timeout exceeded",
            "network is unreachable",
            "temporary failure in name resolution",
        ),
        "check the network and the proxy of the engine, then try again",
    ),
)


def remedy(said: str, known: Remedies = _OF_ENGINES) -> str:
    """What usually helps when an engine or BuildKit says this; "" when nothing is well known."""
    lower = said.lower()
    return next((hint for phrases, hint in known if any(phrase in lower for phrase in phrases)), "")
