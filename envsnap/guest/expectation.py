"""The document against what was expected."""

from __future__ import annotations

import sys
from typing import Any, Iterable, Iterator, Mapping, Sequence

from .text import counted


def is_expectation(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("packages"), list)
        and all(isinstance(item, dict) and {"name", "version"} <= item.keys() for item in value["packages"])
    )


def differences(expected: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Every way in which the document is not what was expected, one sentence each."""
    return [
        *package_differences(expected["packages"], document),
        *conda_differences(expected.get("conda", ()), document),
        *import_differences(expected, document),
        *source_differences(expected, document),
    ]


def package_differences(packages: Iterable[Mapping[str, Any]], document: Mapping[str, Any]) -> Iterator[str]:
    found = {item["name"]: item for item in document["distributions"]}
    wanted = {item["name"]: item for item in packages}
    for name in sorted(wanted.keys() | found.keys()):
        want, have = wanted.get(name), found.get(name)
        if have is None or want is None:
            yield (
                f"{name} {want['version']} is missing"
                if want
                else f"{name} {have['version'] if have else ''} is there and was not expected"
            )
            continue
        if want["version"] != have["version"]:
            yield f"{name} is {have['version']}, expected {want['version']}"
        elif want.get("files") and want["files"] != have.get("files"):
            yield f"{name} {have['version']} has other files: {have.get('files')}, expected {want['files']}"
        for path in () if is_as_packaged(have) else have.get("modified") or ():
            yield f"{name} {have['version']}: {path}" if path.startswith("missing: ") else f"{name} {have['version']}: {path} was modified"


def is_as_packaged(distribution: Mapping[str, Any]) -> bool:
    """By the operating system's package manager; a RECORD in its package may be of the wheel before the distribution's changes."""
    system = distribution.get("system")
    return system is not None and system["modified"] == []


def conda_differences(packages: Iterable[Mapping[str, Any]], document: Mapping[str, Any]) -> Iterator[str]:
    found = {item["name"]: item for item in document["conda"]}
    wanted = {item["name"]: item for item in packages}
    for name in sorted(wanted.keys() | found.keys()):
        want, have = wanted.get(name), found.get(name)
        if have is None or want is None:
            yield f"conda's {name} is missing" if want else f"conda's {name} is there and was not expected"
        elif (want["version"], want["build"]) != (have["version"], have["build"]):
            yield f"conda's {name} is {have['version']} {have['build']}, expected {want['version']} {want['build']}"
        elif want.get("files") and want["files"] != have["files"]:
            yield f"conda's {name} {have['version']} has other files: {have['files']}, expected {want['files']}"
        for path in (have or {}).get("modified") or ():
            yield f"conda's {name}: {path}" if path.startswith("missing: ") else f"conda's {name}: {path} was modified"


def import_differences(expected: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    imports = document["imports"]
    for module in expected.get("imports", ()):
        error = "not tried (--imports was not given)" if imports is None else imports.get(module, "not tried")
        if error:
            yield f"import {module}: {error}"


def source_differences(expected: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    digest, check = expected.get("source"), document["source_files"]
    if digest is None and check is None:
        return
    if check is None:
        yield "the project's files were not looked at (--source was not given)"
        return
    if digest != check["digest"]:
        yield f"the manifest of the project's files is {check['digest']}, expected {digest}"
    for path in check["differing"]:
        yield f"the project's file {path} is missing or differs"


def report_expectation(found: Sequence[str], document: Mapping[str, Any]) -> None:
    for sentence in found:
        print(sentence, file=sys.stderr)
    packages = len(document["distributions"])
    print(
        counted(len(found), "difference") if found else f"{counted(packages, 'distribution')}, all as expected", file=sys.stderr, flush=True
    )
