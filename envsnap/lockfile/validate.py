"""What types cannot say of a lock: order, uniqueness, and that each claim of provenance carries its proof.

`problems` is also what `assemble` is held to: a lock that this module refuses is never written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from packaging.version import InvalidVersion, Version

from envsnap import redaction
from envsnap.lockfile.digest import package_order, system_package_order
from envsnap.model.facts import DeviceCode
from envsnap.model.lock import EnvLock, LockedPackage, LockedPython, LockedSource, Provenance
from envsnap.model.origins import (
    BaseOrigin,
    CondaOrigin,
    DirectoryOrigin,
    EditableOrigin,
    IndexOrigin,
    Origin,
    SystemOrigin,
    VcsOrigin,
    WheelOrigin,
)

_T = TypeVar("_T")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WORD = re.compile(r"[A-Za-z0-9._-]*")
_INDEX = re.compile(r"[A-Za-z0-9._@:\[\]-]+")
_GIT_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

ORIGINS: Mapping[Provenance, tuple[type[Origin], ...]] = {
    "index": (IndexOrigin,),
    "vcs": (VcsOrigin,),
    "source": (DirectoryOrigin, EditableOrigin),
    "conda": (CondaOrigin,),
    "system": (SystemOrigin,),
    "base": (BaseOrigin,),
}
"""Provenance -> the origins that can prove it; `rebuilt` and `unproven` go with any."""
PROOF: Mapping[Provenance, tuple[str, ...]] = {
    "index": ("file", "sha256", "files"),
    "vcs": ("file", "blob"),
    "source": ("file", "blob"),
    "rebuilt": ("file", "blob", "files"),
}
"""Provenance -> the fields that it cannot do without."""


def problems(lock: EnvLock) -> tuple[str, ...]:
    """Each violation as "place: sentence", in document order; digests are not looked at."""
    return (
        *_python(lock.python),
        *_conda(lock),
        *_ordered("packages", lock.packages, package_order, lambda package: package.name),
        *(f"packages[{n}]{found}" for n, package in enumerate(lock.packages) for found in package_problems(package, lock.source)),
        *_ordered("system_packages", lock.system_packages, system_package_order, lambda package: package.name or package.sonames[0]),
        *(f"system_packages[{n}].sonames: empty" for n, package in enumerate(lock.system_packages) if not package.sonames),
        *(_source(lock.source) if lock.source else ()),
        *_env(lock.env),
    )


def _python(python: LockedPython) -> Iterator[str]:
    words = {"implementation": python.implementation, "abi": python.abi, "interpreter.soabi": python.interpreter.soabi}
    for field, value in words.items():
        if not _WORD.fullmatch(value):
            yield f"python.{field}: {value!r} may hold letters, digits, '.', '_' and '-' only"
    if python.tree is not None:
        yield from _ordered("python.tree.sonames", python.tree.sonames, str, str)
        if python.conda is not None:
            yield "python.tree: conda's packages have an interpreter (python.conda)"


def _conda(lock: EnvLock) -> Iterator[str]:
    conda = lock.python.conda
    if conda is not None:
        yield from _ordered("python.conda.packages", conda.packages, lambda package: package.name, lambda package: package.name)
        for n, package in enumerate(conda.packages):
            yield from (f"python.conda.packages[{n}].url: {found}" for found in _address(package.url or ""))
    for n, one in enumerate(lock.packages):
        if isinstance(one.origin, CondaOrigin) and one.provenance == "rebuilt" and (conda is None or conda.tree is None):
            yield f"packages[{n}].provenance: 'rebuilt', but the lock keeps nothing of conda's (python.conda.tree)"


def _ordered(place: str, items: Sequence[_T], order: Callable[[_T], Any], name: Callable[[_T], str]) -> Iterator[str]:
    for n, (before, after) in enumerate(pairwise(items), start=1):
        if order(before) == order(after):
            yield f"{place}[{n}]: {name(after)} is there twice"
        elif order(before) > order(after):
            yield f"{place}[{n}]: {name(after)} comes after {name(before)}; the list must be sorted"


def package_problems(package: LockedPackage, source: LockedSource | None) -> Iterator[str]:
    """Each violation as ".field: sentence"."""
    if "--" in package.name:
        yield f".name: {package.name!r} is not normalised: runs of '-' become one"
    if package.file is not None and not is_wheel_of(package.name, package.version, package.file):
        yield f".file: {package.file!r} is not a wheel of {package.name} {package.version}"
    if package.blob is not None and package.file is None and "file" not in PROOF.get(package.provenance, ()):
        yield ".file: missing; a packed wheel has a name"
    yield from _device_code(package.device_code)
    yield from _provenance(package, source)
    yield from _origin(package.origin)


def _device_code(code: DeviceCode | None) -> Iterator[str]:
    if code is None:
        return
    if not code.cubins and not code.ptx:
        yield ".device_code: empty; it is left out of a package without any"
    for field, kind, names in (("cubins", "sm_", code.cubins), ("ptx", "compute_", code.ptx)):
        yield from (f".device_code.{field}: {name!r} does not begin with {kind!r}" for name in names if not name.startswith(kind))
    for field in ("cubins", "ptx", "partial"):
        names = getattr(code, field)
        if any(architecture_order(one) >= architecture_order(other) for one, other in pairwise(names)):
            yield f".device_code.{field}: {' '.join(names)} does not ascend"
    for name in code.partial:
        if name not in (*code.cubins, *code.ptx):
            yield f".device_code.partial: {name!r} is neither in 'cubins' nor in 'ptx'"


def architecture_order(name: str) -> tuple[bool, int, str]:
    """Cubins before PTX, each by its number: sm_90 sm_90a sm_100 compute_90."""
    kind, _, number = name.partition("_")
    return kind == "compute", int(number.rstrip("af")), number


def is_wheel_of(name: str, version: str, file: str) -> bool:
    """By the file's name, which whoever installs it holds against what is inside."""
    parts = file.split("-")
    if len(parts) < 5 or normalised(parts[0]) != name:
        return False
    found = parts[1].replace("_", "-")
    try:
        return Version(found) == Version(version)
    except InvalidVersion:
        return found == version.replace("_", "-")


def _provenance(package: LockedPackage, source: LockedSource | None) -> Iterator[str]:
    kind, allowed = origin_kind(package.origin), ORIGINS.get(package.provenance)
    if allowed is not None and not isinstance(package.origin, allowed):
        yield f".provenance: {package.provenance!r} does not go with an origin of kind {kind!r}"
    # What is kept of conda's packages is kept as a whole (python.conda.tree).
    needed = () if isinstance(package.origin, CondaOrigin) else PROOF.get(package.provenance, ())
    for field in needed:
        if getattr(package, field) is None:
            yield f".{field}: missing; provenance {package.provenance!r} needs it"
    if package.modified and package.provenance not in ("rebuilt", "unproven"):
        yield f".modified: files were edited, so the provenance cannot be {package.provenance!r}"
    if package.provenance == "system" and getattr(package.origin, "files", None) is None:
        yield ".origin.files: missing; provenance 'system' needs it"
    if package.provenance == "source" and source is None:
        yield ".provenance: 'source', but the lock has no source"
    if package.provenance == "source" and getattr(package.origin, "path", None) is None:
        yield ".origin.path: missing; provenance 'source' needs it"


def _origin(origin: Origin) -> Iterator[str]:
    if isinstance(origin, IndexOrigin) and origin.index is not None and not _INDEX.fullmatch(origin.index):
        yield f".origin.index: {_safe(origin.index)} may hold a name and a host only"
    if isinstance(origin, VcsOrigin | WheelOrigin | CondaOrigin):
        yield from (f".origin.url: {found}" for found in _address(origin.url))
    if isinstance(origin, VcsOrigin) and origin.vcs == "git" and not _GIT_COMMIT.fullmatch(origin.commit):
        yield f".origin.commit: {_safe(origin.commit)} is not a full git object name (40 or 64 hex digits)"


def _source(source: LockedSource) -> Iterator[str]:
    if source.remote is not None:
        yield from (f"source.remote: {found}" for found in _address(source.remote))
    if source.patch is not None and source.commit is None:
        yield "source.patch: a patch needs the commit that it applies to"
    yield from _ordered("source.untracked", source.untracked, lambda file: file.path, lambda file: file.path)
    yield from _ordered("source.submodules", source.submodules, lambda module: module.path, lambda module: module.path)
    for n, module in enumerate(source.submodules):
        if module.remote is not None:
            yield from (f"source.submodules[{n}].remote: {found}" for found in _address(module.remote))


def _address(url: str) -> Iterator[str]:
    if _CONTROL.search(url) or " " in url:
        yield "an address may not hold white space or control characters"
    if redaction.is_secret_value(url):
        yield "it carries credentials"


def _env(env: Mapping[str, str | None]) -> Iterator[str]:
    for name, value in env.items():
        if found := unfit_value(name, value):
            yield f"env.{name}: {found}"


def unfit_value(name: str, value: str | None) -> str:
    """Why a variable's value may not stand in a lock; "" when it may."""
    if value is None:
        return ""
    if redaction.is_secret_name(name) or redaction.is_secret_value(value):
        return "a secret; its value must be left out (null)"
    return "its value holds control characters" if _CONTROL.search(value) else ""


def origin_kind(origin: Origin) -> str:
    """The `kind` that stands in the document: "index", "vcs" …"""
    return str(type(origin).__struct_config__.tag)


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _safe(value: str) -> str:
    return repr(redaction.text(value))
