"""sys.path and the directories of the environment."""

from __future__ import annotations

import os
import re
import site
import sys
from typing import Iterable

from .interpreter import interpreter_kind
from .text import Problems, is_below


def path_directories(problems: Problems) -> list[str]:
    """Directories of sys.path, absolute, in order; one that is there twice under two names (lib64 -> lib) counts once."""
    directories = []
    seen = set()
    for entry in sys.path:
        path = os.path.abspath(entry or ".")
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        if os.path.isfile(path):
            problems.add(path, "is an archive on sys.path; distributions inside it are not listed")
        elif os.path.isdir(path) or os.path.islink(path):
            directories.append(path)
    return directories


def is_site_directory(path: str) -> bool:
    return os.path.basename(path) in ("site-packages", "dist-packages") or path in SITE_DIRECTORIES


SITE_DIRECTORIES = frozenset(map(os.path.abspath, site.getsitepackages() if hasattr(site, "getsitepackages") else ()))


def install_prefix(location: str) -> str:
    """The prefix that a site directory belongs to: its `bin` and `share` are where wheels put scripts and data."""
    match = re.match(r"(.+?)/lib(?:64)?/(?:python|pypy)[0-9.t]*/(?:site|dist)-packages\Z", location)
    return match.group(1) if match else sys.prefix


def environment_roots(directories: Iterable[str]) -> list[str]:
    """Real directories whose files belong to the environment; below a system's own prefix (/usr) only its site directories do."""
    roots = {os.path.realpath(path) for path in directories if is_site_directory(path)}
    if interpreter_kind() in ("venv", "conda"):
        roots.add(os.path.realpath(sys.prefix))
    return sorted(roots)


def is_inside(path: str, roots: Iterable[str]) -> bool:
    return any(is_below(path, root) for root in roots)
