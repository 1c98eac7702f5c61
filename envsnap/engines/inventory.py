"""Looking inside a base image: one container, one shell script, nothing installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envsnap.engines.container import follow, new_container
from envsnap.errors import EngineError, TargetError
from envsnap.model.base import BaseInventory

if TYPE_CHECKING:
    from docker import APIClient

_MARK = "== envsnap "
_TIMEOUT_S = 120
# Each part may fail without hurting the others; the marks keep them apart from an entrypoint's banner and from each other.
_SCRIPT = f"""
echo "{_MARK}os"; cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null
echo "{_MARK}python"; python3 -I -B -c 'import sys; print(sys.executable); print(".".join(map(str, sys.version_info[:3])))' 2>/dev/null
echo "{_MARK}libc"; getconf GNU_LIBC_VERSION 2>/dev/null
echo "{_MARK}libraries"; PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null
echo "{_MARK}end"
"""
_LOADER_FLAG = {"amd64": "x86-64", "arm64": "AArch64"}


def look_inside(client: APIClient, reference: str, *, architecture: str) -> BaseInventory:
    """Read an image's distribution, interpreter and libraries.

    Args:
        architecture: of the image, "amd64" or "arm64": libraries of others are left out.

    Raises:
        TargetError: the engine does not have the image.
        EngineError: it has no shell, or did not answer.
    """
    try:
        with new_container(client, reference, [_SCRIPT], entrypoint=["sh", "-c"]) as container:
            log, timed_out = follow(client, container, timeout_s=_TIMEOUT_S)
    except TargetError as error:
        if not error.why:
            raise
        raise EngineError(f"cannot look inside {reference}", why=f"it has no shell: {error.why}", hint="choose another base") from error
    parts = sections(log)
    if "end" not in parts:
        why = f"no answer in {_TIMEOUT_S} s" if timed_out else "its shell ended early"
        raise EngineError(f"cannot look inside {reference}", why=why, hint="choose another base")
    return parse_inventory(parts, architecture=architecture)


def sections(log: str) -> dict[str, list[str]]:
    """The script's output by part."""
    parts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in log.splitlines():
        if line.startswith(_MARK):
            current = parts.setdefault(line.removeprefix(_MARK), [])
        else:
            current.append(line)
    return parts


def parse_inventory(parts: dict[str, list[str]], *, architecture: str) -> BaseInventory:
    """What the parts say."""
    release = dict(line.split("=", 1) for line in parts.get("os", ()) if "=" in line)
    distribution = " ".join(value.strip("\"'") for key in ("ID", "VERSION_ID") if (value := release.get(key)))
    python = parts.get("python", [])
    return BaseInventory(
        distribution=distribution,
        python_path=python[0] if len(python) == 2 else None,
        python=python[1] if len(python) == 2 else None,
        libc=" ".join(parts.get("libc", ())).strip(),
        sonames=frozenset(loadable(parts.get("libraries", []), architecture=architecture)),
    )


def loadable(lines: list[str], *, architecture: str) -> list[str]:
    """Sonames of `ldconfig -p` lines such as "	libz.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libz.so.1"."""
    flag = _LOADER_FLAG.get(architecture, architecture)
    found = []
    for line in lines:
        name, separator, rest = line.strip().partition(" (")
        if separator and "=>" in rest and flag in rest.split(")")[0].split(","):
            found.append(name)
    return found
