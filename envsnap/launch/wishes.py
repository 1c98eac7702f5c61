"""What a person types of how an image is to be run, as parts of a `Launch`."""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath

from envsnap import redaction
from envsnap.errors import UsageError
from envsnap.model.launch import Mount, Passed, Port
from envsnap.model.plan import HOME_IN_IMAGE

_TAKEN = ("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/opt", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")
"""Over these nothing is mounted: an image needs its own."""
_OURS = "/opt/envsnap"
_PORT = re.compile(
    r"(?:(?:(?P<address>\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:]+\]):)?(?P<host>\d{0,5}):)?(?P<container>\d{1,5})(?:/(?P<protocol>tcp|udp))?",
    re.ASCII,
)
_SIZE = re.compile(r"(?P<number>[0-9]+)(?P<unit>[kmgt]?)(?:i?b)?", re.IGNORECASE)
_MOST_DIGITS = 15  # of a size, in whatever unit
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def mount(text: str, *, here: str, home: str) -> Mount:
    """Read DIR[:TARGET][:ro|:rw]: read-only unless it says otherwise, and at the same path inside, so that paths in configurations hold.

    Args:
        here: what a relative DIR is relative to. home: what "~" is.

    Raises:
        UsageError: no such thing, or the target is a directory that the image needs itself.
    """
    what = f"--data {text}"
    source, *rest = text.split(":")
    mode = rest.pop() if rest and rest[-1] in ("ro", "rw") else "ro"
    if not source or len(rest) > 1 or "" in rest or _CONTROL.search(text):
        why = "it names a directory and, after a colon, where that lies inside; neither has a colon or a control character in its name"
        raise UsageError(f"{what}: not understood", why=why, hint="--data DIR[:TARGET][:rw]")
    if source == "~" or source.startswith("~/"):
        source = home + source[1:]
    source = _normal(posixpath.join(here, source))
    target = _normal(rest[0]) if rest else source
    if not target.startswith("/"):
        raise UsageError(f"{what}: {target} is no absolute path", hint=f"--data {source}:/{target}")
    ours = target == _OURS or target.startswith(f"{_OURS}/")
    if target in _TAKEN or target.startswith(("/proc/", "/sys/", "/dev/")) or (ours and not target.startswith(f"{HOME_IN_IMAGE}/")):
        raise UsageError(f"{what}: the image has its own {target}", hint=f"--data {source}:/data")
    return Mount(source=source, target=target, read_only=mode == "ro")


def require_text(what: str, value: str) -> None:
    """Raises UsageError: it is no UTF-8. Docker is told in JSON, and the files are UTF-8: neither can hold other bytes."""
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise UsageError(f"{what}: it has bytes that are no UTF-8", why="Docker and the formats of others know no other text")


def _normal(path: str) -> str:
    """POSIX leaves two slashes at the beginning alone; to Linux they are one."""
    return re.sub(r"^//+", "/", posixpath.normpath(path))


def require_apart(mounts: tuple[Mount, ...]) -> None:
    """Raises UsageError: two are at the same place."""
    seen: dict[str, str] = {}
    for one in mounts:
        if one.target in seen:
            what = f"{seen[one.target]} and {one.source} cannot both be at {one.target}"
            raise UsageError(what, hint=f"--data {one.source}:/data/{PurePosixPath(one.source).name}")
        seen[one.target] = one.source


def port(text: str) -> Port:
    """Read docker's `--publish`: [[ADDRESS:][HOST]:]CONTAINER[/udp]. Raises UsageError."""
    match = _PORT.fullmatch(text)
    numbers = [int(match[name]) for name in ("host", "container") if match[name]] if match else []
    if match is None or not all(0 < number < 1 << 16 for number in numbers):
        raise UsageError(
            f"-p {text}: not understood", hint="as docker's: 8888:8888, 127.0.0.1:6006:6006, or 8888 for any port that is free here"
        )
    return Port(
        container=int(match["container"]),
        host=int(match["host"]) if match["host"] else None,
        address=(match["address"] or "").strip("[]"),
        protocol="udp" if match["protocol"] == "udp" else "tcp",
    )


def variable(text: str) -> Passed:
    """Read NAME, whose value is what it is outside, or NAME=VALUE.

    Raises:
        UsageError: no such thing; or a secret, which everybody would see in the list of processes or the file.
    """
    name, equals, value = text.partition("=")
    if not (name.isascii() and name.isidentifier()) or "\x00" in value:
        raise UsageError(f"--env {name}: no name of a variable", hint="--env NAME=VALUE, or --env NAME for the value that it has here")
    if equals and value and (redaction.is_secret_name(name) or redaction.is_secret_value(value)):
        why = "an argument is seen by everybody in the list of processes, and a file by whoever has it"
        raise UsageError(f"--env {name}=…: that looks like a secret", why=why, hint=f"export {name}=…   and   --env {name}")
    return Passed(name=name, value=value if equals else None)


def size(text: str) -> int:
    """Read docker's `--shm-size` ("8g", "512MB"), in bytes. Raises UsageError."""
    match = _SIZE.fullmatch(text)
    if match is None or len(match["number"]) > _MOST_DIGITS or int(match["number"]) == 0:
        raise UsageError(f"--shm-size {text}: not understood", hint="as docker's: 8g, 512m")
    return int(match["number"]) << _UNITS[match["unit"].lower()]


def user(text: str) -> str:
    """Read docker's `--user`; "image" is the image's own. Raises UsageError."""
    if text == "image":
        return ""
    if not _USER.fullmatch(text):
        raise UsageError(f"--user {text}: not understood", hint="UID[:GID], root, or image for the image's own")
    return text


def name(text: str) -> str:
    """What jobs and services may be called (RFC 1123), from what an image or a lock is called."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:63].strip("-") or "train"
