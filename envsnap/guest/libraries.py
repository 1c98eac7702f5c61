"""Shared libraries of the host: where the loader finds them."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from typing import Iterable, Sequence

from .elf import read_elf
from .interpreter import interpreter_binary

SHARED_OBJECT = re.compile(r".+\.so(?:\.[0-9A-Za-z_.-]+)?\Z")
# The C library is a property of the platform (`Platform.libc`), not a package that one could add to a base.
C_LIBRARY = re.compile(
    r"(?:ld-linux[-a-z0-9_]*|ld64|ld-musl-[-a-z0-9_]+|linux-vdso|libc|libc\.musl-[-a-z0-9_]+|libm|libmvec|libdl|libpthread|librt|libutil"
    r"|libanl|libresolv|libnss_[a-z0-9]+|libthread_db|libBrokenLocale|libc_malloc_debug)\.so(?:\.[0-9]+)*\Z|libnsl\.so\.1\Z"
)
# The driver's own libraries: the host's container runtime mounts them into whatever needs them.
INJECTED = re.compile(r"lib(?:cuda|cudadebugger|nvcuvid|nvoptix|nvidia-[a-z0-9-]+|GLX_nvidia|EGL_nvidia|vdpau_nvidia)\.so(?:\.[0-9.]+)?\Z")


def is_shared_object(path: str) -> bool:
    name = os.path.basename(path)
    return ".so" in name and SHARED_OBJECT.match(name) is not None


class Loader:
    """Where the dynamic linker of this host finds a soname."""

    def __init__(self) -> None:
        own = read_elf(interpreter_binary())
        self._machine = own.machine if own is not None else None
        self._cache = linker_cache()
        multiarch = sysconfig.get_config_var("MULTIARCH") or ""
        roots = ("/lib", "/usr/lib", "/usr/local/lib")
        self._first = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
        self._last = [f"{root}/{multiarch}" for root in roots if multiarch] + [*roots, "/lib64", "/usr/lib64"]

    def find(self, soname: str, search: Iterable[str] = ()) -> str | None:
        """Real path of a library that a process of this interpreter could load."""
        if "/" in soname:
            candidates = [soname]
        else:
            candidates = [f"{directory}/{soname}" for directory in (*search, *self._first)]
            candidates += self._cache.get(soname, [])
            candidates += [f"{directory}/{soname}" for directory in self._last]
        for candidate in candidates:
            if os.path.exists(candidate):
                elf = read_elf(candidate)
                if elf is not None and self._machine in (None, elf.machine):
                    return os.path.realpath(candidate)
        return None

    def closure(self, paths: Iterable[str]) -> set[str]:
        """Real paths of `paths` and of everything that they need, directly or not."""
        pending = [os.path.realpath(path) for path in paths]
        found: set[str] = set()
        while pending:
            path = pending.pop()
            elf = None if path in found else read_elf(path)
            found.add(path)
            if elf is not None:
                pending += filter(None, (self.find(soname, expanded(elf.search, path)) for soname in elf.needed))
        return found


def expanded(search: Iterable[str], path: str) -> list[str]:
    """RUNPATH entries of the file at `path`, with $ORIGIN in its place."""
    return [entry.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", os.path.dirname(path)) for entry in search]


def linker_cache() -> dict[str, list[str]]:
    """Paths of each soname ("libGL.so.1") in the linker's order of preference, from `ldconfig -p`; empty without that (musl)."""
    cache: dict[str, list[str]] = {}
    for program in ("/sbin/ldconfig", "/usr/sbin/ldconfig", "ldconfig"):
        output = output_of([program, "-p"])
        for soname, path in re.findall(r"^\s+(\S+) \(.*\) => (.+)$", output, re.MULTILINE):
            cache.setdefault(soname, []).append(path)
        if cache:
            break
    return cache


def output_of(command: Sequence[str]) -> str:
    """What a program of the operating system prints; "" when there is no such program."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "surrogateescape")
