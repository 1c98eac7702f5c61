"""What of sys.path is not as a fresh environment has it, each a sentence."""

from __future__ import annotations

import os
import re
import site
import sys
from typing import Iterable, Sequence

from .distributions import Installed
from .paths import is_site_directory
from .text import Problems, counted, is_below, list_directory, read_text


def path_oddities(directories: Sequence[str], distributions: Sequence[Installed], problems: Problems) -> list[str]:
    sentences = []
    pythonpath = os.environ.get("PYTHONPATH")
    if pythonpath:
        sentences.append(f"PYTHONPATH puts {pythonpath} in front of the environment's own packages")
    sentences += user_site_oddity()
    sentences += startup_modules()
    sentences += outside_packages(directories, distributions)
    for location in filter(is_site_directory, directories):
        names = list_directory(location, problems)
        sentences += [f"{name} in {location} is the leftover of an interrupted uninstall" for name in names if name.startswith("~")]
        sentences += executing_pth(location, names, distributions, problems)
    return sorted(dict.fromkeys(sentences))


def user_site_oddity() -> list[str]:
    directory = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    try:
        filled = bool(directory and os.listdir(directory))
    except OSError:
        filled = False
    return [f"the user's own site directory {directory} is enabled and not empty"] if filled else []


def startup_modules() -> list[str]:
    loaded = ((name, getattr(sys.modules.get(name), "__file__", None)) for name in ("sitecustomize", "usercustomize"))
    return [f"{name} ({file}) runs whenever the interpreter starts" for name, file in loaded if file]


def outside_packages(directories: Iterable[str], distributions: Iterable[Installed]) -> list[str]:
    """Entries that hold distributions and are neither below the prefix nor an editable's source."""
    editable = {path for found in distributions for path in found.facts["editable_paths"]}
    counts: dict[str, int] = {}
    for found in distributions:
        counts[found.location] = counts.get(found.location, 0) + 1
    prefix = os.path.realpath(sys.prefix)
    return [
        f"{path} lies outside the prefix and holds {counted(counts[path], 'distribution')}"
        for path in directories
        if path in counts and path not in editable and not is_below(os.path.realpath(path), prefix)
    ]


def executing_pth(location: str, names: Iterable[str], distributions: Iterable[Installed], problems: Problems) -> list[str]:
    sentences = []
    for name in (name for name in names if name.endswith(".pth")):
        text = read_text(os.path.join(location, name), name, problems) or ""
        if re.search(r"^import[ \t]", text, re.MULTILINE):
            owners = (found.name for found in distributions if found.location == location and has_entry(found, name))
            sentences.append(f"{name} of {next(owners, 'no distribution')} runs code whenever the interpreter starts")
    return sentences


def has_entry(found: Installed, path: str) -> bool:
    return any(entry.path == path for entry in found.entries or ())
