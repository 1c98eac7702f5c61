"""What conda, mamba, micromamba and pixi installed: the records in conda-meta, told apart from what pip put on top."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any, Iterable, Mapping, NamedTuple, Sequence
from urllib.parse import urlsplit

from .metadata import public_url, refuse_constant
from .record import Entry, canonical_digest
from .text import Problems, clean, hash_or_none, list_directory, read_text, reason

MAX_RECORD_BYTES = 256 << 20
HEX64 = re.compile(r"[0-9a-f]{64}\Z")
HEX32 = re.compile(r"[0-9a-f]{32}\Z")
TOKEN_IN_PATH = re.compile(r"/t/[^/]+(?=/)")  # of a private channel
DIST_INFO = re.compile(r"(.+\.(?:dist-info|egg-info))(?:/(?:METADATA|PKG-INFO|INSTALLER|RECORD))?\Z")


class CondaFile(NamedTuple):
    """A line of a record's `paths_data`.

    Attributes:
        path: relative to the prefix.
        kind: "hardlink", "softlink" or "directory".
        sha256: as in the package; in_prefix: with the prefix written into it; "" where nobody says.
        placeholder: what stands for the prefix in the package; "" in files that do not name it. mode: "text" or "binary".
    """

    path: str
    kind: str
    sha256: str
    in_prefix: str
    placeholder: str
    mode: str

    @property
    def has_content(self) -> bool:
        """Whether it is a file whose bytes are told. conda may have linked it to its cache of packages all the same."""
        return self.kind == "hardlink" and bool(self.in_prefix)


class CondaPackage(NamedTuple):
    """Attributes: facts: the document's `CondaPackage`, without `modified`; record: the whole of it; files: without byte code."""

    facts: Mapping[str, Any]
    record: Mapping[str, Any]
    files: Sequence[CondaFile]

    @property
    def name(self) -> str:
        return str(self.facts["name"])


def read_conda(problems: Problems, prefix: str = sys.prefix) -> list[CondaPackage]:
    """The records of a prefix, sorted by name; empty where there is no conda-meta."""
    directory = os.path.join(prefix, "conda-meta")
    found = {}
    for name in list_directory(directory, problems):
        if name.endswith(".json"):
            package = read_conda_record(os.path.join(directory, name), f"conda-meta/{name}", problems)
            if package is not None:
                found[package.name] = package
    return [found[name] for name in sorted(found)]


def read_conda_record(path: str, where: str, problems: Problems) -> CondaPackage | None:
    try:
        if os.path.getsize(path) > MAX_RECORD_BYTES:
            raise ValueError("too large")
        return parse_record(read_text(path, where, problems) or "")
    except (OSError, ValueError) as error:
        problems.add(where, f"is not a record of conda: {reason(error)}")
        return None


def parse_record(text: str) -> CondaPackage:
    """The package of a record. Raises ValueError: it is none."""
    try:
        record = clean(json.loads(text, parse_constant=refuse_constant))
        texts = [record[key] for key in ("name", "version", "build")]
        if not all(isinstance(text, str) and text for text in texts):
            raise ValueError("no name, version and build")
        files = [file for file in map(conda_file, paths_of(record)) if not file.path.endswith((".pyc", ".pyo"))]
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(reason(error)) from error
    facts = {
        "name": texts[0],
        "version": texts[1],
        "build": texts[2],
        "url": channel_url(record.get("url")),
        "sha256": hex_or_none(record.get("sha256"), HEX64),
        "md5": hex_or_none(record.get("md5"), HEX32),
        "files": canonical_digest(Entry(file.path, file.sha256, -1) for file in files),
        "requested": bool(record.get("requested_spec") or record.get("requested_specs")),
    }
    return CondaPackage(facts, record, files)


def paths_of(record: Mapping[str, Any]) -> Sequence[Any]:
    """Its files with their hashes; old records have their names alone."""
    paths = (record.get("paths_data") or {}).get("paths")
    return paths if isinstance(paths, list) else [{"_path": path} for path in record.get("files") or []]


def conda_file(line: Mapping[str, Any]) -> CondaFile:
    path = line["_path"]
    if not isinstance(path, str) or not path or path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError(f"{path!r} is no path below the prefix")
    sha256 = hex_or_none(line.get("sha256"), HEX64) or ""
    in_prefix = hex_or_none(line.get("sha256_in_prefix"), HEX64) or sha256
    kind = str(line.get("path_type") or "hardlink")
    placeholder = line.get("prefix_placeholder")
    mode = str(line.get("file_mode") or "text")
    return CondaFile(path, kind, sha256 if kind == "hardlink" else "", in_prefix, placeholder if isinstance(placeholder, str) else "", mode)


def hex_or_none(value: Any, pattern: Any) -> str | None:
    return value if isinstance(value, str) and pattern.match(value) else None


def channel_url(value: Any) -> str | None:
    """Where a package came from, without credentials; None for this host's own files."""
    if not isinstance(value, str) or urlsplit(value).scheme not in ("http", "https"):
        return None
    return TOKEN_IN_PATH.sub("", public_url(value))


def owners(packages: Iterable[CondaPackage], prefix: str = sys.prefix) -> dict[str, CondaPackage]:
    """Absolute directory (or file) of a distribution's metadata -> the conda package whose it still is.

    What pip installed over a conda package of the same version has its metadata in the same place, with other bytes.
    """
    found: dict[str, CondaPackage] = {}
    strangers = set()
    for package in packages:
        for file in package.files:
            match = DIST_INFO.match(file.path)
            if match is None:
                continue
            place = os.path.join(prefix, match.group(1))
            found[place] = package
            if is_changed(file, prefix):
                strangers.add(place)
    return {place: package for place, package in found.items() if place not in strangers}


def is_changed(file: CondaFile, prefix: str) -> bool:
    path = os.path.join(prefix, file.path)
    if not file.has_content:
        return not os.path.lexists(path)
    return hash_or_none(path) != file.in_prefix


def conda_changes(package: CondaPackage, prefix: str = sys.prefix) -> list[str]:
    """Files that are not as conda installed them; "missing: x" for those that are gone. Empty where pip has replaced the whole."""
    metadata = [os.path.join(prefix, match.group(1)) for match in (DIST_INFO.match(file.path) for file in package.files) if match]
    if metadata and not any(map(os.path.exists, metadata)):
        return []
    changed = [file.path for file in package.files if is_changed(file, prefix)]
    return sorted(path if os.path.lexists(os.path.join(prefix, path)) else f"missing: {path}" for path in changed)


def conda_oddities(packages: Sequence[CondaPackage], prefix: str = sys.prefix) -> list[str]:
    """Sentences: what pip has put in the place of conda's packages, and what only activation would set."""
    sentences = []
    for package in packages:
        has_metadata = any(DIST_INFO.match(file.path) for file in package.files)
        if has_metadata and not owners([package], prefix):
            sentences.append(f"conda's record of {package.name} {package.facts['version']} is outdated: pip has replaced what it installed")
    scripts = list_directory(os.path.join(prefix, "etc", "conda", "activate.d"), Problems())
    if scripts:
        sentences.append(f"conda's activation runs {', '.join(scripts)}; only the variables that are set now are captured")
    return sentences
