"""A wheel's RECORD as it is read, and as it is written for what was installed.

Specification: "Recording installed projects" of the Python Packaging User Guide. The hashes' and paths' rules are `guest.record`'s.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from envsnap.guest.record import Entry, canonical_digest, payload, sha256_hex
from envsnap.model.layers import Layout


class Row(NamedTuple):
    """A line of a wheel's RECORD. Attributes: sha256: hex digits, "" without one. size: bytes, -1 where it is not said."""

    sha256: str
    size: int


class Installed(NamedTuple):
    """A file that was written. Attributes: path: in the layer; sha256: hex digits."""

    path: str
    sha256: str
    size: int


def read_rows(data: bytes) -> Mapping[str, Row]:
    """By the path in the wheel.

    Raises:
        ValueError: it is not as a RECORD is; its text is a clause.
    """
    rows: dict[str, Row] = {}
    try:
        lines = list(csv.reader(io.StringIO(data.decode("utf-8"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError("its RECORD is no UTF-8 text of comma-separated values") from error
    for line in filter(None, lines):
        try:
            path, hash_, size = line
            row = Row(_sha256(hash_), int(size) if size else -1)
        except ValueError as error:
            raise ValueError(f"its RECORD has the malformed line {','.join(line)[:120]!r}") from error
        if rows.setdefault(path, row) != row:
            raise ValueError(f"its RECORD has {path[:120]!r} twice, with other hashes")
    return rows


def places(rows: Mapping[str, Row], site: str, prefix: str) -> Iterator[tuple[str, str]]:
    """Path in a layer and SHA-256 of each file of a wheel. Args: site, prefix: as `Layout` has them."""
    schemes = {"purelib": site, "platlib": site, "data": prefix, "scripts": f"{prefix}/bin"}
    for path, row in rows.items():
        top, _, rest = path.partition("/")
        scheme, _, inner = rest.partition("/")
        if top.endswith(".data") and inner:
            if scheme in schemes:
                yield f"{schemes[scheme]}/{inner}", row.sha256
        else:
            yield f"{site}/{path}", row.sha256


def _sha256(text: str) -> str:
    found = sha256_hex(text)
    if text and not found:
        raise ValueError("another algorithm")
    return found


def write_rows(files: Iterable[Installed], metadata_name: str, layout: Layout) -> bytes:
    """RECORD of installed files, sorted by path, which is relative to the site directory. Args: metadata_name: "pkg-1.0.dist-info"."""
    up = "../" * (layout.site.count("/") - layout.prefix.count("/"))
    lines = [f"{_quoted(path)},{_hash(file.sha256)},{file.size}\n" for path, file in _relative(files, layout, up)]
    lines.append(f"{metadata_name}/RECORD,,\n")
    return "".join(sorted(lines)).encode()


def files_digest(files: Iterable[Installed], metadata_name: str, layout: Layout) -> str:
    """The digest that a lock has as `files` of a package (docs/lockfile-format.md, "files of a package")."""
    entries = [Entry(path, file.sha256, file.size) for path, file in _relative(files, layout, "prefix:")]
    return canonical_digest(payload(entries, metadata_name))


def _relative(files: Iterable[Installed], layout: Layout, beside: str) -> Iterator[tuple[str, Installed]]:
    """With each file's path below the site directory; one that is only below the prefix gets `beside` before it."""
    site, prefix = layout.site + "/", layout.prefix + "/"
    for file in files:
        path = file.path
        yield (path[len(site) :] if path.startswith(site) else beside + path[len(prefix) :]), file


def _hash(sha256: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode("ascii").rstrip("=") if sha256 else ""


def _quoted(path: str) -> str:
    return '"' + path.replace('"', '""') + '"' if '"' in path or "," in path else path
