"""Shared libraries that the environment needs from outside."""

from __future__ import annotations

import importlib.machinery
import os
import sysconfig
from typing import Any, Iterable, NamedTuple, Sequence

from .distributions import Installed
from .elf import read_elf
from .interpreter import interpreter_binary
from .libraries import C_LIBRARY, INJECTED, Loader, expanded, is_shared_object
from .os_packages import SystemPackage, owners_of
from .paths import is_inside


def shared_objects(found: Installed) -> list[str]:
    """Paths of a distribution's shared objects: by RECORD, and for editables and egg-info by looking for its modules."""
    paths = [found.path_of(entry) for entry in found.entries or () if is_shared_object(entry.path)]
    directories = found.facts["editable_paths"] or ([] if found.entries is not None else [found.location])
    for directory in directories:
        for module in found.facts["modules"]:
            paths += [f"{directory}/{module}{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
            for parent, _, names in os.walk(os.path.join(directory, module)):
                paths += [os.path.join(parent, name) for name in names if is_shared_object(name)]
    return paths


class Need(NamedTuple):
    """A soname that shared objects of the environment need.

    Attributes:
        distributions: names of those that the objects belong to.
        search: directories that the objects themselves name for it (RUNPATH), in order.
    """

    distributions: set[str]
    search: dict[str, None]


class Scan(NamedTuple):
    """The shared objects of all distributions. Attributes: provided: file names and sonames that the environment has itself."""

    needs: dict[str, Need]
    provided: set[str]


def scan_shared_objects(distributions: Iterable[Installed], roots: Iterable[str]) -> Scan:
    needs: dict[str, Need] = {}
    provided: set[str] = set()
    directories = {f"{root}/{name}" for root in roots for name in ("lib", "lib64")}
    for found in distributions:
        for path in shared_objects(found):
            elf = read_elf(path)
            if elf is None:
                continue
            provided.update((os.path.basename(path), elf.soname))
            directories.add(os.path.dirname(path))
            for soname in elf.needed:
                need = needs.setdefault(soname, Need(set(), {}))
                need.distributions.add(found.name)
                need.search.update(dict.fromkeys(expanded(elf.search, path)))
    for directory in directories:  # links beside them are in no RECORD
        try:
            provided.update(filter(is_shared_object, os.listdir(directory)))
        except OSError:
            pass
    return Scan(needs, provided)


def system_libraries(distributions: Sequence[Installed], mapped: set[str], roots: Sequence[str]) -> list[dict[str, Any]]:
    """Libraries outside the environment that it needs or that were mapped. Those that nothing finds are left out: an
    extension that needs them does not load here either.
    """
    scan = scan_shared_objects(distributions, roots)
    loader = Loader()
    found: dict[tuple[str, str], set[str]] = {}
    for soname, need in scan.needs.items():
        if is_ordinary(soname) and os.path.basename(soname) not in scan.provided:
            path = loader.find(soname, need.search)
            if path is not None and not is_inside(path, roots):
                found[os.path.basename(soname), path] = need.distributions
    for path in foreign_mapped(mapped, roots, loader):
        found.setdefault((soname_of(path), path), set())
    owners = owners_of(path for _, path in found)
    return [system_library(soname, path, found[soname, path], owners.get(path), path in mapped) for soname, path in sorted(found)]


def system_library(soname: str, path: str, names: Iterable[str], owner: SystemPackage | None, mapped: bool) -> dict[str, Any]:
    return {
        "soname": soname,
        "path": path,
        "package": owner.name if owner else None,
        "package_version": owner.version if owner else None,
        "package_arch": owner.arch if owner else None,
        "needed_by": sorted(names),
        "mapped": mapped,
    }


def is_ordinary(soname: str) -> bool:
    name = os.path.basename(soname)
    return not C_LIBRARY.match(name) and not INJECTED.match(name)


def soname_of(path: str) -> str:
    elf = read_elf(path)
    return (elf.soname if elf is not None else "") or os.path.basename(path)


def foreign_mapped(mapped: set[str], roots: Sequence[str], loader: Loader) -> list[str]:
    """Mapped libraries outside the environment that the interpreter and its standard library would not have brought by themselves."""
    outside = [path for path in mapped if not is_inside(path, roots) and is_ordinary(path) and "/gconv/" not in path]
    if not outside:
        return []
    extensions = sysconfig.get_config_var("DESTSHARED") or os.path.join(sysconfig.get_path("platstdlib"), "lib-dynload")
    own = [interpreter_binary()]
    if os.path.isdir(extensions):
        own += [os.path.join(extensions, name) for name in os.listdir(extensions) if is_shared_object(name)]
    interpreter = loader.closure(own)
    return sorted(path for path in outside if path not in interpreter and is_ordinary(soname_of(path)))
