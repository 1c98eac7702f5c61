"""Installed packages packed as wheels again, for what no index has.

The wheel holds the installed files as they are, edits and additions included: installed from it, the package has the canonical
RECORD that the collector computed (`Distribution.actual_files`). The bytes depend on nothing but those files: fixed dates,
fixed order, no compressor. However large a package is, it is read piece by piece.
"""

from __future__ import annotations

import base64
import csv
import errno
import hashlib
import io
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from configparser import ConfigParser, Error
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import PathDistribution
from pathlib import Path
from posixpath import normpath
from typing import IO, cast

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
WORKING_TREE_LIMIT_BYTES = 2 << 30
_PIECE_BYTES = 1 << 20
_NO_CODE = frozenset(("__pycache__", ".git", ".hg", ".svn", "node_modules"))
_ANY = ("py3-none-any",)
_WHEEL = "Wheel-Version: 1.0\nGenerator: envsnap\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A file of the wheel.

    Attributes:
        content: its bytes, or the file that has them.
        record_hash: for its RECORD line, "" where the installed RECORD has none either; None to compute it.
    """

    path: str
    content: bytes | Path
    executable: bool = False
    record_hash: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the installed RECORD. Attributes: path: relative to the site directory; hash: "sha256=…", or ""."""

    path: str
    hash: str


def pack_installed(distribution: Distribution, wheel: IO[bytes] | io.RawIOBase) -> str:
    """Write a wheel of all files of an installed package; returns its digest as in `LockedPackage.files`.

    Edited files go in as they are, with those that were added in its folders; missing ones are left out. Console scripts are left
    to its entry points; other scripts get a neutral first line, which an installer replaces.

    Raises:
        InputError: it has no RECORD, a file cannot be read or is neither what RECORD says nor known to be edited, or lies outside
            the environment.
    """
    metadata = Path(distribution.metadata_dir)
    entry_scripts = _entry_scripts(metadata)
    changes = _Changes.of(distribution)
    rows = [row for row in _record(distribution, metadata) if not _is_dropping(row.path, metadata.name)]
    rows += [_Row(path, "") for path in changes.added]
    members = [
        member
        for row in rows
        if row.path not in changes.missing and (member := _member(distribution, row, entry_scripts, changes)) is not None
    ]
    digest = _write(distribution, members, metadata.name, wheel)
    if distribution.actual_files is not None and digest != distribution.actual_files:
        raise _refusal(distribution, "its files changed while they were captured")
    return digest


def pack_editable(distribution: Distribution, wheel: IO[bytes] | io.RawIOBase) -> None:
    """Write a wheel of an editable package's metadata alone: its code is the project's.

    An .egg-info becomes the .dist-info that it would be today.

    Raises:
        InputError: the metadata cannot be read.
    """
    name, members = _metadata_of_editable(distribution)
    _write(distribution, members, name, wheel)


def pack_working_tree(distribution: Distribution, wheel: IO[bytes] | io.RawIOBase) -> str:
    """Write a wheel of an editable package whose project does not travel: its metadata, and the modules that it puts on the path
    with all their files, extensions built in place among them; returns its digest as in `LockedPackage.files`.

    Raises:
        InputError: something cannot be read, it names no modules, or they are more than `WORKING_TREE_LIMIT_BYTES`.
    """
    name, members = _metadata_of_editable(distribution)
    try:
        files = {
            str(file.relative_to(root)): (file, file.stat())
            for root in map(Path, reversed(distribution.editable_paths))
            for module in filter(str.isidentifier, distribution.modules)  # they come from a file that anybody could have written
            for file in _files_of_module(root, module)
        }
    except OSError as error:
        raise _refusal(distribution, f"{error.filename} cannot be read: {error.strerror}") from error
    if not files:
        raise _refusal(distribution, "it is installed in place, and none of its modules can be found")
    size = sum(status.st_size for _, status in files.values())
    if size > WORKING_TREE_LIMIT_BYTES:
        raise _refusal(distribution, f"the packages in its working tree hold {size >> 20} MiB, more than {WORKING_TREE_LIMIT_BYTES >> 20}")
    members += [_Member(path=path, content=file, executable=bool(status.st_mode & stat.S_IXUSR)) for path, (file, status) in files.items()]
    return _write(distribution, members, name, wheel)


def _metadata_of_editable(distribution: Distribution) -> tuple[str, list[_Member]]:
    """Name of the .dist-info and its files."""
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
    return name, [_Member(path=f"{name}/{path}", content=data) for path, data in files.items() if path not in _DROPPINGS]


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):  # the module may be a single file
        raise error


def _files_of_module(root: Path, module: str) -> Iterator[Path]:
    """Raises OSError: a folder or link of it cannot be read, or links lead back to where they lie."""
    seen: set[tuple[int, int]] = set()
    for place, directories, names in os.walk(root / module, followlinks=True, onerror=_raise):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            raise OSError(errno.ELOOP, "links lead round in a circle", place)
        seen.add((status.st_dev, status.st_ino))
        directories[:] = sorted(name for name in directories if name not in _NO_CODE)
        yield from (Path(place, name) for name in sorted(names) if not name.endswith((".pyc", ".pyo")))
    single = (f"{module}{suffix}" for suffix in (".py", ".so"))
    yield from (file for file in (*(root / name for name in single), *root.glob(f"{module}.*.so")) if file.is_file())


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


@dataclass(frozen=True, slots=True)
class _Changes:
    """`Distribution.modified`, taken apart. Attributes: edited, missing, added: paths as RECORD has them."""

    edited: frozenset[str]
    missing: frozenset[str]
    added: tuple[str, ...]

    @staticmethod
    def of(distribution: Distribution) -> _Changes:
        said = distribution.modified or ()
        site = _SITE.match(distribution.location)
        prefix = f"{site[1]}/" if site is not None else ""

        def paths(kind: str) -> tuple[str, ...]:
            named = (word.removeprefix(kind) for word in said if word.startswith(kind))
            return tuple(prefix + path.removeprefix("prefix:") if path.startswith("prefix:") else path for path in named)

        edited = frozenset(word for word in paths("") if not word.startswith(("missing: ", "added: ")))
        return _Changes(edited, frozenset(paths("missing: ")), tuple(sorted(paths("added: "))))

    def has_edited(self, path: str, file: Path) -> bool:
        return not self.edited.isdisjoint((path, normpath(file))) or not set(self.added).isdisjoint((path, normpath(file)))


def _member(distribution: Distribution, row: _Row, entry_scripts: frozenset[str], changes: _Changes) -> _Member | None:
    """The wheel's member for a line of RECORD; None for a script that an installer makes from the entry points, and for a missing
    file outside the site directory.
    """
    path, script_prefix = _path_in_wheel(distribution, row.path)
    if script_prefix is not None and Path(path).name in entry_scripts:
        return None
    file = Path(distribution.location, row.path)
    if normpath(file) in changes.missing:
        return None
    try:
        executable = _is_executable(file)
        changed = changes.has_edited(row.path, file)
        if script_prefix is not None:
            return _Member(path=path, content=_neutral_script(file.read_bytes(), script_prefix), executable=True)
    except OSError as error:
        raise _unreadable(distribution, row.path, error) from error
    return _Member(path=path, content=file, executable=executable, record_hash=None if changed else row.hash)


def _is_executable(file: Path) -> bool:
    return bool(file.stat().st_mode & stat.S_IXUSR)


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


def _write(distribution: Distribution, members: Iterable[_Member], metadata_name: str, wheel: IO[bytes] | io.RawIOBase) -> str:
    by_path = {member.path: member for member in members}
    hashes: dict[str, str] = {}
    record = io.StringIO()
    writer = csv.writer(record, lineterminator="\n")
    with zipfile.ZipFile(cast("IO[bytes]", wheel), "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(by_path):
            member = by_path[path]
            try:
                actual, size = _add(archive, member)
            except OSError as error:
                raise _unreadable(distribution, path, error) from error
            if member.record_hash is not None and member.record_hash.startswith("sha256=") and member.record_hash.rstrip("=") != actual:
                raise _refusal(distribution, f"{path} is not what its RECORD says")
            hashes[path] = actual if member.record_hash is None else member.record_hash
            writer.writerow((path, hashes[path], str(size)))
        writer.writerow((f"{metadata_name}/RECORD", "", ""))
        data = record.getvalue().encode("utf-8", "surrogateescape")
        _add(archive, _Member(path=f"{metadata_name}/RECORD", content=data))
    return _canonical_digest(hashes, metadata_name)


def _add(archive: zipfile.ZipFile, member: _Member) -> tuple[str, int]:
    """Put a file into the wheel; returns its hash as RECORD writes it, and its size."""
    info = zipfile.ZipInfo(member.path, _EPOCH)
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | (0o755 if member.executable else 0o644)) << 16
    digest, size = hashlib.sha256(), 0
    source = io.BytesIO(member.content) if isinstance(member.content, bytes) else member.content.open("rb")
    with source, archive.open(info, "w", force_zip64=True) as target:  # always, so that the bytes do not hang on a guess of the size
        while piece := source.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
            target.write(piece)
    return _encoded(digest.digest()), size


def _canonical_digest(hashes: Mapping[str, str], metadata_name: str) -> str:
    """docs/lockfile-format.md: of the wheel as it will be installed."""
    data = metadata_name.removesuffix(".dist-info") + ".data/"
    lines = []
    for path, hash_ in hashes.items():
        if path.startswith(f"{data}scripts/"):
            continue
        installed = "prefix:" + path.removeprefix(f"{data}data/") if path.startswith(f"{data}data/") else path
        value = base64.urlsafe_b64decode(hash_.removeprefix("sha256=") + "==").hex() if hash_.startswith("sha256=") else ""
        lines.append(f"{installed}\0{value}\n".encode("utf-8", "surrogateescape"))
    return "sha256:" + hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def _encoded(digest: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _escaped(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name)


def _escaped_version(version: str) -> str:
    return version.replace("-", "_")


def _unreadable(distribution: Distribution, path: str, error: OSError) -> InputError:
    return _refusal(distribution, f"{path} of its RECORD cannot be read: {error.strerror}")


def _refusal(distribution: Distribution, why: str) -> InputError:
    return InputError(f"{distribution.name} {distribution.version}: {why}", hint="reinstall it, and capture again")
