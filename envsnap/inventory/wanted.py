"""Which files of an image an inventory needs: decided while its layers pass by, before anything is known of it."""

from __future__ import annotations

import re

from envsnap.model.abi import SONAME

SITE = ("site-packages", "dist-packages")
NOT_OF_STDLIB = frozenset((*SITE, "__pycache__", "test", "tests", "idlelib", "ensurepip", "tkinter", "turtledemo"))
"""Directories of a standard library that making byte code does without."""
LIBRARY = re.compile(r"(?:lib|ld-)[^/]*\.so(?:\.[^/]*)?\Z")
"""Names that a dynamic loader's own directories are searched for (ldconfig(8))."""

_MAX_PATH = 512  # characters; longer ones are no loader's, and patterns would take their time with them
_SMALL_BYTES = 32 << 20
_LARGE_BYTES = 256 << 20  # a Python that is linked statically, with symbols for profilers

_LARGE = r"(?:.*/)?bin/python[0-9.]*t?|(?:.*/)?lib(?:64)?/(?:[^/]+-linux-[^/]+/)?libpython3\.\d+t?\.so(?:\.[0-9.]+)?"
_SMALL = "|".join(
    (
        _LARGE,
        r"(?:etc|usr/lib)/os-release",
        r"etc/ld\.so\.cache",
        r"var/lib/dpkg/status(?:\.d/[^/]+)?",
        r"(?:.*/)?(?:site|dist)-packages/[^/]+\.dist-info/(?:METADATA|RECORD|direct_url\.json)",
        r"(?:.*/)?(?:site|dist)-packages/[^/]+\.egg-info(?:/(?:PKG-INFO|top_level\.txt))?",
        r"(?:.*/)?pyvenv\.cfg",
        r"(?:.*/)?include/python3\.\d+t?/patchlevel\.h",
        rf"(?:.*/)?lib(?:64)?/python3\.\d+t?/(?!(?:[^/]+/)*(?:{'|'.join(sorted(NOT_OF_STDLIB))})/).*\.(?:py|so)",
        r"(?:.*/)?lib(?:32|64|x32)?/(?:[^/]+-linux-[^/]+/)?(?:lib|ld-)[^/]*\.so(?:\.[^/]*)?",
    )
)
_TORCH = re.compile(rf"(?:.*/)?(?:site|dist)-packages/torch/lib/{SONAME.pattern}")
_UP_TO = ((_SMALL_BYTES, re.compile(_SMALL)), (_LARGE_BYTES, re.compile(_LARGE)))


def content(path: str, size: int) -> bool:
    """Whether what is in a regular file may be needed, all of it or its tables. Args: path: from the root, links resolved."""
    if len(path) > _MAX_PATH:
        return False
    return tables(path) or next((pattern.fullmatch(path) is not None for limit, pattern in _UP_TO if size <= limit), False)


def tables(path: str) -> bool:
    """Whether a regular file is one of torch's libraries, of gigabytes, of which the dynamic symbols alone are needed."""
    return len(path) <= _MAX_PATH and _TORCH.fullmatch(path) is not None


def name(path: str) -> bool:
    """Whether it may matter that a regular file is there."""
    parent, _, file = path.rpartition("/")
    if parent.rpartition("/")[2] in SITE:
        return file.endswith((".py", ".so"))  # what it defines may be no package's
    return ".so" in file and not any(f"/{site}/" in path for site in SITE)


def outside(path: str) -> bool:
    """Whether a runtime mounts something of its own over a path, so that what an image has there is nothing that is ever seen."""
    return path.startswith(("dev/", "proc/", "sys/"))
