"""Two locks -> every difference, each with its grade and what it can do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from envsnap.model.kinds import plain
from envsnap.model.lock import EnvLock
from envsnap.model.parity import Difference, Grade
from envsnap.parity.grades import grade

_ORDER: Mapping[Grade, int] = {"breaking": 0, "numeric": 1, "cosmetic": 2}
_IGNORED = frozenset({"envsnap", "digest", "observed.digest", "observed.reference.measurements", "capture"})
"""Derived from the rest, or of one run alone."""

_KEYS: Mapping[str, Callable[[Any], str]] = {
    "packages": lambda package: package["name"],
    "python.conda.packages": lambda package: package["name"],
    "system_packages": lambda package: package.get("name") or package["sonames"][0],
    "source.untracked": lambda file: file["path"],
    "source.submodules": lambda module: module["path"],
    "source.lfs": lambda file: file["path"],
    "observed.cuda.loaded": lambda library: library["soname"],
    "observed.imports": lambda module: module,
    "observed.reference.kit": lambda package: package["name"],
}
"""Lists whose entries have a name: compared by it, not by position."""

_DEVICE_CODE = re.compile(r"packages\.[^.]+\.device_code(?:\.|\Z)")
"""Other code is other `files`; a lock of an envsnap that did not look for it has none."""

_LONG = 20


def diff(left: EnvLock, right: EnvLock) -> tuple[Difference, ...]:
    """All differences but those of the capture itself and of measurements; by grade, then by field."""
    found = [
        Difference(field=field, left=one, right=other, grade=graded, why=why)
        for field, one, other in _compare("", _document(left), _document(right))
        for graded, why in [grade(field, one, other)]
    ]
    fields = frozenset(item.field for item in found)
    found = [item for item in found if not _follows(item.field, fields)]
    return tuple(sorted(found, key=lambda difference: (_ORDER[difference.grade], difference.field)))


def _follows(field: str, fields: frozenset[str]) -> bool:
    """What another difference says already: another version is another file, and other files are another packed wheel."""
    if field == "python.conda.tree":  # it is packed from the packages
        return any(other.startswith("python.conda.packages.") for other in fields)
    if _DEVICE_CODE.match(field):
        return True
    thing, _, part = field.rpartition(".")
    if thing.startswith("observed.cuda.loaded."):
        return part == "sha256" and f"{thing}.version" in fields
    if not thing.startswith(("packages.", "python.conda.packages.")):
        return False
    package, _, inner = thing.rpartition(".")
    if inner == "origin" and package.startswith("packages."):  # one of the system's has a version and files of its own
        return part == "files" and not fields.isdisjoint((f"{package}.version", f"{package}.modified"))
    if f"{thing}.version" in fields:
        return part in ("file", "sha256", "md5", "url", "build", "files", "tags", "blob")
    if f"{thing}.build" in fields:
        return part in ("sha256", "md5", "url", "files")
    return part in ("file", "sha256", "tags", "blob") and f"{thing}.files" in fields


def _document(lock: EnvLock) -> dict[str, Any]:
    """The lock's document, in which a variable whose value was withheld is told from one that is not there."""
    document: dict[str, Any] = plain(lock)
    env = {name: "(withheld)" if value is None else value for name, value in lock.env.items()}
    return document | ({"env": env} if env else {})


def _compare(field: str, left: Any, right: Any) -> Iterator[tuple[str, str | None, str | None]]:
    if left == right or field in _IGNORED:
        return
    one, other = _by_name(field, left, right)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in sorted(one.keys() | other.keys()):
            inner = name if name.startswith("[") else f".{name}"
            yield from _compare(f"{field}{inner}".removeprefix("."), one.get(name), other.get(name))
    else:
        yield field, *_texts(left, right)


def _by_name(field: str, left: Any, right: Any) -> tuple[Any, Any]:
    """Two lists as mappings, where single entries are better told than the whole. A list that is left out is empty."""
    if field in _KEYS:
        return _named(left or (), _KEYS[field]), _named(right or (), _KEYS[field])
    if field == "observed.gpu.devices":
        return _numbered(left or ()), _numbered(right or ())
    return left, right


def _numbered(entries: Sequence[Any]) -> dict[str, Any]:
    return {f"[{n}]": entry for n, entry in enumerate(entries)}


def _named(entries: Sequence[Any], key: Callable[[Any], str]) -> dict[str, Any]:
    """By name; further entries of one name as "name#2" …, in the order of the lock."""
    named: dict[str, Any] = {}
    for entry in entries:
        name, n = key(entry), 1
        while (name if n == 1 else f"{name}#{n}") in named:
            n += 1
        named[name if n == 1 else f"{name}#{n}"] = entry
    return named


def _texts(left: Any, right: Any) -> tuple[str | None, str | None]:
    """Both values for a person. Of two long lists the first entry that differs stands for all."""
    if not (_is_list(left) and _is_list(right)) or len(left) + len(right) <= _LONG:
        return _text(left), _text(right)
    shorter = min(len(left), len(right))
    first = next((n for n in range(shorter) if left[n] != right[n]), shorter)
    return _entry(left, first), _entry(right, first)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _entry(values: Sequence[Any], n: int) -> str:
    return f"{len(values)} entries, no. {n + 1}: {_text(values[n]) if n < len(values) else 'none'}"


def _text(value: Any) -> str | None:
    """A value for a person; of a struct the version, digest or name that stands for it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return next(
            (str(value[key]) for key in ("version", "files", "soname", "blob", "anchor", "name", "kind") if key in value), _json(value)
        )
    if isinstance(value, Sequence):
        return ", ".join(_text(entry) or "none" for entry in value)
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
