"""Installed packages packed as wheels again, for what no index has.

The wheel holds the installed files as they are: installed from it, the package has the same canonical RECORD (`Distribution.files`).
The bytes depend on nothing but those files: fixed dates, fixed order, no compressor.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import stat
import zipfile
from collections.abc import Mapping, Sequence
from configparser import ConfigParser, Error
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import PathDistribution
from pathlib import Path
from posixpath import normpath

from packaging.tags import parse_tag

from envsnap.errors import InputError
from envsnap.model.facts import Distribution

# What an installer adds for itself; as in guest/collect.py.
_DROPPINGS = frozenset(
    {
        "INSTALLER",
        "RECORD",
        "RECORD.jws",
        "RECORD.p7s",
        "REFER_TO",
        "REQUESTED",
        "direct_url.json",
        "provenance_url.json",
        "uv_build.json",
        "uv_cache.json",
    }
)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest that zip can say
_SITE = re.compile(r"(.+?)/lib(?:64)?/(?:python|pypy)[0-9.t]*/(?:site|dist)-packages\Z")
_ANY = ("py3-none-any",)
_WHEEL = "Wheel-Version: 1.0\nGenerator: envsnap\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A file of the wheel. Attributes: record_hash: for its RECORD line, "" where the installed RECORD has none either."""

    path: str
    data: bytes
    executable: bool
    record_hash: str


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the installed RECORD. Attributes: path: relative to the site directory; hash: "sha256=…", or ""."""

    path: str
    hash: str


def pack_installed(distribution: Distribution) -> bytes:
    """A wheel of all files of an installed package.

    Console scripts are left to its entry points; other scripts get a neutral first line, which an installer replaces.

    Raises:
        InputError: it has no RECORD, a file is missing or is not what RECORD says, or lies outside the environment.
    """
    metadata = Path(distribution.metadata_dir)
    entry_scripts = _entry_scripts(metadata)
    members = [
        member
        for row in _record(distribution, metadata)
        if not _is_dropping(row.path, metadata.name) and (member := _member(distribution, row, entry_scripts)) is not None
    ]
    return _wheel(members, metadata.name)


def pack_editable(distribution: Distribution) -> bytes:
    """A wheel of an editable package's metadata alone: its code is the project's.

    An .egg-info becomes the .dist-info that it would be today.

    Raises:
        InputError: the metadata cannot be read.
    """
    metadata = Path(distribution.metadata_dir)
    try:
        if metadata.suffix == ".dist-info":
            files = {str(file.relative_to(metadata)): file.read_bytes() for file in sorted(metadata.rglob("*")) if file.is_file()}
        else:
            files = _from_egg_info(metadata)
    except OSError as error:
        raise _refusal(distribution, f"{error.filename} cannot be read: {error.strerror}") from error
    files.setdefault("WHEEL", _WHEEL.encode())
    name = f"{_escaped(distribution.name)}-{_escaped_version(distribution.version)}.dist-info"  # as the wheel's own name has it
    kept = [
        _Member(path=f"{name}/{path}", data=data, executable=False, record_hash=_hash(data))
        for path, data in files.items()
        if path not in _DROPPINGS
    ]
    return _wheel(kept, name)


def wheel_file_name(distribution: Distribution) -> str:
    """Name for a packed wheel: with the tags of what is installed, so that only interpreters that it fits accept it."""
    tags = [tag for line in distribution.tags or _ANY for tag in sorted(parse_tag(line), key=str)]
    columns = (
        ".".join(dict.fromkeys(tag.interpreter for tag in tags)),
        ".".join(dict.fromkeys(tag.abi for tag in tags)),
        ".".join(dict.fromkeys(tag.platform for tag in tags)),
    )
    return f"{_escaped(distribution.name)}-{_escaped_version(distribution.version)}-{'-'.join(columns)}.whl"


def _record(distribution: Distribution, metadata: Path) -> Sequence[_Row]:
    try:
        text = (metadata / "RECORD").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise _refusal(distribution, "it has no RECORD, so its files cannot be told") from error
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise _refusal(distribution, f"its RECORD cannot be read: {error}") from error
    return [_Row(normpath(row[0]), row[1] if len(row) > 1 else "") for row in rows]


def _is_dropping(path: str, metadata_name: str) -> bool:
    directory, _, name = path.rpartition("/")
    return path.endswith(".pyc") or (directory == metadata_name and name in _DROPPINGS)


def _member(distribution: Distribution, row: _Row, entry_scripts: frozenset[str]) -> _Member | None:
    """The wheel's member for a line of RECORD; None for a script that an installer makes from the entry points."""
    path, script_prefix = _path_in_wheel(distribution, row.path)
    if script_prefix is not None and Path(path).name in entry_scripts:
        return None
    file = Path(distribution.location, row.path)
    try:
        data = file.read_bytes()
        executable = bool(file.stat().st_mode & stat.S_IXUSR)
    except OSError as error:
        raise _refusal(distribution, f"{row.path} of its RECORD cannot be read: {error.strerror}") from error
    if row.hash.startswith("sha256=") and row.hash.rstrip("=") != _hash(data):
        raise _refusal(distribution, f"{row.path} is not what its RECORD says")
    if script_prefix is None:
        return _Member(path=path, data=data, executable=executable, record_hash=row.hash)
    neutral = _neutral_script(data, script_prefix)
    return _Member(path=path, data=neutral, executable=True, record_hash=_hash(neutral))


def _path_in_wheel(distribution: Distribution, path: str) -> tuple[str, str | None]:
    """Where an installed file goes in the wheel; for a script also the prefix that it was installed to."""
    if not path.startswith(("../", "/")):
        return path, None
    site = _SITE.match(distribution.location)
    full = normpath(f"{distribution.location}/{path}") if path.startswith("../") else path
    if site is None or not full.startswith(f"{site[1]}/"):
        raise _refusal(distribution, f"{full} lies outside its environment")
    data = Path(distribution.metadata_dir).name.removesuffix(".dist-info") + ".data"
    below = full[len(site[1]) + 1 :]
    if below.startswith("bin/"):
        return f"{data}/scripts/{below.removeprefix('bin/')}", site[1]
    return f"{data}/data/{below}", None


def _entry_scripts(metadata: Path) -> frozenset[str]:
    parser = ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string((metadata / "entry_points.txt").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, Error):
        return frozenset()
    return frozenset(name for group in ("console_scripts", "gui_scripts") if parser.has_section(group) for name in parser[group])


def _neutral_script(data: bytes, prefix: str) -> bytes:
    """With `#!python` where an installer wrote an interpreter of this environment, also in its form for long paths."""
    interpreter = re.escape(f"{prefix}/bin/python".encode()) + rb"[0-9.]*"
    direct = rb"#!" + interpreter + rb"([ \t][^\n]*)?\n"
    through_shell = rb"#!/bin/sh\n'''exec' \"?" + interpreter + rb"\"? \"\$0\" \"\$@\"\n' '''\n"
    if match := re.match(direct, data):
        return b"#!python" + (match[1] or b"") + b"\n" + data[match.end() :]
    if match := re.match(through_shell, data):
        return b"#!python\n" + data[match.end() :]
    return data


def _from_egg_info(path: Path) -> dict[str, bytes]:
    """Files of a .dist-info, made from an .egg-info directory or file."""
    if path.is_file():
        return {"METADATA": path.read_bytes()}
    files = {"METADATA": _with_requirements(path)}
    for name in ("entry_points.txt", "top_level.txt"):
        if (path / name).is_file():
            files[name] = (path / name).read_bytes()
    return files


def _with_requirements(egg_info: Path) -> bytes:
    """PKG-INFO with the requirements of requires.txt, which older setuptools kept apart."""
    text = (egg_info / "PKG-INFO").read_bytes()
    headers = HeaderParser().parsestr(text.decode("utf-8", "surrogateescape"))
    requirements = [] if headers.get_all("Requires-Dist") else PathDistribution(egg_info).requires or []
    if not requirements:
        return text
    extras = dict.fromkeys(re.findall(r"""extra == ["']([^"']+)["']""", "\n".join(requirements)))
    known = set(headers.get_all("Provides-Extra") or ())
    added = [*(f"Provides-Extra: {extra}" for extra in extras if extra not in known), *(f"Requires-Dist: {line}" for line in requirements)]
    head, separator, body = text.partition(b"\n\n")
    # Provides-Extra is of version 2.1.
    head = re.sub(rb"\AMetadata-Version: (?:1\.[0-9]|2\.0)(?=\r?\n)", b"Metadata-Version: 2.1", head.rstrip(b"\n"))
    return head + b"\n" + "\n".join(added).encode() + (separator + body if separator else b"\n")


def _wheel(members: Sequence[_Member], metadata_name: str) -> bytes:
    by_path: Mapping[str, _Member] = {member.path: member for member in members}
    ordered = [by_path[path] for path in sorted(by_path)]
    record = io.StringIO()
    writer = csv.writer(record, lineterminator="\n")
    writer.writerows((member.path, member.record_hash, str(len(member.data))) for member in ordered)
    writer.writerow((f"{metadata_name}/RECORD", "", ""))
    record_bytes = record.getvalue().encode("utf-8", "surrogateescape")
    closing = _Member(path=f"{metadata_name}/RECORD", data=record_bytes, executable=False, record_hash="")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for member in (*ordered, closing):
            info = zipfile.ZipInfo(member.path, _EPOCH)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | (0o755 if member.executable else 0o644)) << 16
            archive.writestr(info, member.data)
    return file.getvalue()


def _hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _escaped(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name)


def _escaped_version(version: str) -> str:
    return version.replace("-", "_")


def _refusal(distribution: Distribution, why: str) -> InputError:
    return InputError(f"{distribution.name} {distribution.version}: {why}", hint="reinstall it, and capture again")
