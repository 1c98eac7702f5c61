"""RECORD, and the canonical form of it that two installs of one wheel have in common."""

from __future__ import annotations

import binascii
import hashlib
import posixpath
from typing import Iterable, NamedTuple

from .text import is_below

# What installers write beside a wheel's own files; they differ between pip, uv and conda for the same wheel.
# fmt: off
DROPPINGS = frozenset((
    "INSTALLER", "REQUESTED", "direct_url.json", "provenance_url.json", "RECORD", "RECORD.jws", "RECORD.p7s", "REFER_TO",
    "uv_build.json", "uv_cache.json",
))
# fmt: on
URLSAFE = str.maketrans("-_", "+/")


class Entry(NamedTuple):
    """A line of RECORD.

    Attributes:
        path: canonical: relative to the site directory, "prefix:share/…" below the prefix, else absolute.
        sha256: hex digits; "" without a hash or with another algorithm.
        size: bytes; -1 when not stated.
    """

    path: str
    sha256: str
    size: int


def canonical_path(path: str, location: str, prefix: str) -> str:
    """Raises ValueError for what cannot be a path."""
    if not path or "\0" in path:
        raise ValueError("no path")
    if path[0] not in "./" and "/." not in path and "//" not in path:
        return path
    full = posixpath.normpath(posixpath.join(location, path))
    if is_below(full, location):
        return full[len(location.rstrip("/")) + 1 :]
    if is_below(full, prefix):
        return "prefix:" + full[len(prefix.rstrip("/")) + 1 :]
    return full


def installed_path(path: str, location: str, prefix: str) -> str:
    """Where a canonical path lies."""
    base, relative = (prefix, path[len("prefix:") :]) if path.startswith("prefix:") else (location, path)
    return posixpath.join(base, relative)


def read_record(text: str, location: str, prefix: str) -> tuple[list[Entry], list[int]]:
    """Entries in file order, and the numbers of the lines that are none."""
    entries = []
    malformed = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line:
            continue
        try:
            path, hash_, size = line.split(",") if '"' not in line else quoted_fields(line)
            entries.append(Entry(canonical_path(path, location, prefix), sha256_hex(hash_), int(size) if size else -1))
        except ValueError:
            malformed.append(number)
    return entries, malformed


def quoted_fields(line: str) -> list[str]:
    import csv

    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise ValueError("not CSV") from error


def sha256_hex(value: str) -> str:
    """Turn "sha256=<base64url>" into hex digits, another algorithm into "". Raises ValueError for what is no hash."""
    if not value:
        return ""
    algorithm, equals, encoded = value.partition("=")
    if not equals:
        raise ValueError("no algorithm")
    if algorithm != "sha256":
        return ""
    digest = binascii.a2b_base64(encoded.translate(URLSAFE) + "==")
    if len(digest) != 32:
        raise ValueError("not 32 bytes")
    return digest.hex()


def payload(entries: Iterable[Entry], metadata_name: str) -> list[Entry]:
    """Entries that came out of the wheel: without byte code, the scripts directory, and what the installer wrote."""
    own = metadata_name + "/"
    return [
        entry
        for entry in entries
        if not entry.path.endswith(".pyc")
        and not entry.path.startswith("prefix:bin/")
        and not (entry.path.startswith(own) and entry.path[len(own) :] in DROPPINGS)
    ]


def canonical_digest(entries: Iterable[Entry]) -> str:
    """The digest "sha256:…" over one line `path NUL sha256 LF` for each entry, sorted by path (docs/lockfile-format.md)."""
    lines = {f"{entry.path}\0{entry.sha256}\n".encode("utf-8", "surrogateescape") for entry in entries}
    return "sha256:" + hashlib.sha256(b"".join(sorted(lines))).hexdigest()
