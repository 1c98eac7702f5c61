"""`pylock.toml` (PEP 751) of a lock: exactly the captured files, each with its hash, for whoever reads that format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envsnap.model.lock import EnvLock, LockedPackage
from envsnap.model.plan import PinnedWheel
from envsnap.render.exchange import Parts, comments, heading, missing, parts, python_release, wheels_directory

_VERSION = "1.0"  # of the specification


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an index has a wheel. Attributes: index: base URL of that index; None of a page that is none."""

    url: str
    index: str | None = None
    size_bytes: int | None = None


def text(lock: EnvLock, addresses: Mapping[str, Address], repositories: Mapping[str, str], *, file: str) -> str:
    """The file. Every package in it is a wheel with its hash: where one has a hash, pip takes nothing that has none, and so neither
    repositories nor directories, which the format knows, too.

    Args:
        addresses: of wheels, by package; the others are looked for beside the file, where those are that the lock keeps.
        repositories: as for `exchange.requirements`. file: its name, for the reader.
    """
    found = parts(lock)
    head = [*heading(lock, f"pip install -r {file}"), *missing(lock, found)]
    document = _document(lock, found, addresses, repositories)
    return "".join((*(f"{comments(sentence)}\n" for sentence in head), *_lines(document)))


def _document(lock: EnvLock, found: Parts, addresses: Mapping[str, Address], repositories: Mapping[str, str]) -> dict[str, Any]:
    release = python_release(lock)
    folder = wheels_directory(lock)
    packages = [
        *(_wheel(wheel, addresses.get(wheel.name), folder) for wheel in found.wheels),
        *(_packed(package, repositories.get(package.name), folder) for package in found.packed),
    ]
    return {
        "lock-version": _VERSION,
        "environments": [_marker(lock)],
        **({"requires-python": f"=={release}.*"} if release is not None else {}),
        "created-by": "envsnap",
        "packages": sorted(packages, key=lambda package: str(package["name"])),
        "tool": {"envsnap": {"name": lock.name, "lock": lock.digest, "python": lock.python.version}},
    }


def _marker(lock: EnvLock) -> str:
    """As far as the wheels' own names do not say it. The lock's reader holds the implementation to a word."""
    facts = {
        "sys_platform": "linux",
        "platform_machine": lock.python.interpreter.machine,
        "implementation_name": lock.python.implementation,
    }
    return " and ".join(f"{name} == '{value}'" for name, value in facts.items())


def _wheel(wheel: PinnedWheel, address: Address | None, folder: str) -> dict[str, Any]:
    """Of an index; where none is known to have it, from beside the file."""
    place = {"path": f"{folder}/{wheel.file}"} if address is None else {"url": address.url}
    size = {"size": address.size_bytes} if address is not None and address.size_bytes is not None else {}
    return {
        "name": wheel.name,
        "version": wheel.version,
        **({"index": address.index} if address is not None and address.index is not None else {}),
        "wheels": [{"name": wheel.file, **place, **size, "hashes": {"sha256": wheel.sha256}}],
    }


def _packed(package: LockedPackage, repository: str | None, folder: str) -> dict[str, Any]:
    assert package.file is not None and package.blob is not None  # a lock that lacks either is refused when it is read
    wheel = {"name": package.file, "path": f"{folder}/{package.file}", "hashes": {"sha256": package.blob.removeprefix("sha256:")}}
    said = {"provenance": package.provenance, **({"repository": repository} if repository is not None else {})}
    return {"name": package.name, "version": package.version, "wheels": [wheel], "tool": {"envsnap": said}}


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    """TOML: a table for each package and tool, everything below on one line. Keys are ours and need no quotes."""
    for key, value in document.items():
        if key not in ("packages", "tool"):
            yield f"{key} = {_value(value)}\n"
    if not document["packages"]:
        yield "packages = []\n"
    for package in document["packages"]:
        yield "\n[[packages]]\n"
        yield from (f"{key} = {_value(value)}\n" for key, value in package.items())
    for name, table in document["tool"].items():
        yield f"\n[tool.{name}]\n"
        yield from (f"{key} = {_value(value)}\n" for key, value in table.items())


def _value(value: object) -> str:
    """A TOML value on one line. JSON escapes a string as TOML's basic strings do, but leaves DEL, which those may not hold."""
    match value:
        case int():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Mapping():
            return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(_value, value)) + "]"
        case _:
            raise TypeError(f"no value of this format: {value!r}")
