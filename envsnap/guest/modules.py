"""Names of modules that can be imported."""

from __future__ import annotations

import importlib.machinery
import keyword
import os
from typing import Container, Iterable

from .text import Problems, list_directory

MODULE_SUFFIXES = (*importlib.machinery.EXTENSION_SUFFIXES, ".py")
# Directories beside the packages of a project that are no part of it; importing what lies in them would run it.
# fmt: off
NOT_PACKAGES = frozenset((
    "benchmark", "benchmarks", "build", "data", "dist", "doc", "docs", "example", "examples", "script", "scripts", "test", "tests", "tools",
))
# fmt: on
PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


def is_public(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_") and not keyword.iskeyword(name)


def unowned_modules(names: Iterable[str], owned: Container[str]) -> list[str]:
    """What of a site directory could be imported and is no distribution's: "cv2", "cv2.cpython-310-x86_64-linux-gnu.so".

    Args:
        names: of its directories and files. owned: modules of the distributions.
    """
    found = []
    for name in names:
        module, dot, _ = name.partition(".")
        if is_public(module) and module not in owned and (not dot or name.endswith((".py", ".so"))):
            found.append(name)
    return sorted(found)


def module_of(file: str) -> str:
    """The module that a file defines, "" for none: "x" for x.py, x.so and x.cpython-311-x86_64-linux-gnu.so."""
    for suffix in MODULE_SUFFIXES:
        if file.endswith(suffix):
            return file[: -len(suffix)]
    return ""


def modules_of_files(paths: Iterable[str]) -> set[str]:
    found = set()
    for path in paths:
        top, slash, rest = path.partition("/")
        name = top if slash and "/" not in rest and module_of(rest) == "__init__" else "" if slash else module_of(top)
        if is_public(name):
            found.add(name)
    return found


def modules_of_directory(directory: str, problems: Problems) -> set[str]:
    """Top-level modules of a source directory; of a project's root only its packages, since its scripts run when imported."""
    names = list_directory(directory, problems)
    is_root = any(name in names for name in PROJECT_FILES)
    files = [name for name in names if not is_root and not os.path.isdir(os.path.join(directory, name))]
    packages = [name for name in names if is_package(os.path.join(directory, name))]
    return modules_of_files(files) | {name for name in packages if is_public(name) and not (is_root and name in NOT_PACKAGES)}


def is_package(directory: str) -> bool:
    """With an __init__.py, or a namespace (PEP 420): one that is nothing but folders, one of which is a package."""
    if os.path.isfile(os.path.join(directory, "__init__.py")):
        return True
    try:
        names = [name for name in os.listdir(directory) if not name.startswith((".", "__pycache__"))]
    except OSError:
        return False
    inner = [os.path.join(directory, name) for name in names]
    return bool(inner) and all(map(os.path.isdir, inner)) and any(os.path.isfile(os.path.join(path, "__init__.py")) for path in inner)
