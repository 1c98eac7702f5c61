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
    """A file that was written. Attributes: path: in the image, as `path_of` says it; sha256: hex digits."""

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


def path_of(name: str, layout: Layout) -> str | None:
    """Where installers say that they put a member of a wheel, as a path in the image; None for one of no scheme that they know."""
    top, _, rest = name.partition("/")
    if not (top.endswith(".data") and rest):
        return f"{layout.site}/{name}"
    scheme, _, inner = rest.partition("/")
    project = top.removesuffix(".data").partition("-")[0]
    schemes = {
        "purelib": layout.site,
        "platlib": layout.site,
        "data": layout.prefix,
        "headers": f"{layout.prefix}/include/site/python{layout.python}/{project}",
        "scripts": f"{layout.prefix}/bin",
    }
    return f"{schemes[scheme]}/{inner}" if scheme in schemes and inner else None


def place_of(path: str, layout: Layout) -> str:
    """Where a path of `path_of` leads: what installers put below a virtual environment's lib64 lands in its lib, and RECORD says lib64."""
    below = f"{layout.prefix}/lib64/"
    return f"{layout.prefix}/lib/{path[len(below) :]}" if layout.lib64 == "link" and path.startswith(below) else path


def places(rows: Mapping[str, Row], layout: Layout) -> Iterator[tuple[str, str]]:
    """Place in a layer of each file of a wheel, and its path in the wheel. Byte code that was shipped is none."""
    for name in rows:
        if not is_byte_code(name) and (path := path_of(name, layout)) is not None:
            yield place_of(path, layout), name


def is_byte_code(name: str) -> bool:
    """Whether a member of a wheel is for the mtimes of where it was made: it is left out."""
    return "__pycache__/" in name


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
