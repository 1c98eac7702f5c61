"""Pack installed packages as wheels again, for what no index has.

    python -B GUEST pack --wanted FILE --out DIR

--wanted FILE     [{"kind": "installed"|"editable"|"working_tree"|"system"|"conda"|"python", ...the fields of `Packable`}, ...]
--out DIR         gets a wheel N.whl for the N-th of them, and packed.json: for each {"refused": sentence} or
                  {"sha256": hex digits} and the fields of `Packed`.

A wheel holds the installed files as they are, edits and additions included: installed from it, the package has the canonical
RECORD that `collect` computed (`Distribution.actual_files`). The bytes depend on those files and on how the interpreter writes a
zip: fixed dates, fixed order, no compressor. However large a package is, it is read piece by piece.

Exit codes: 0 fine, also where packages were refused; 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import csv
import errno
import hashlib
import io
import json
import os
import re
import stat
from configparser import ConfigParser, Error
from pathlib import Path
from posixpath import normpath
from typing import IO, Any, Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .conda_tree import pack_conda_tree
from .distributions import Installed
from .egg_info import from_egg_info
from .os_packages import SystemPackage, brought_by, listed_by, owners_of
from .python_tree import pack_python_tree
from .record import DROPPINGS
from .system_distributions import Owned
from .text import is_below, reason, say_progress
from .wheel import (
    ANY,
    PIECE_BYTES,
    Member,
    Refused,
    data_folder,
    escaped,
    escaped_version,
    is_native,
    own_tag,
    unreadable,
    wheel_headers,
    write_wheel,
)

SITE = re.compile(r"(.+?)/lib(?:64)?/(?:python|pypy)[0-9.t]*/(?:site|dist)-packages\Z")
WORKING_TREE_LIMIT_BYTES = 2 << 30
NO_CODE = frozenset(("__pycache__", ".git", ".hg", ".svn", "node_modules"))


class Packable(NamedTuple):
    """What `envsnap.model.facts.Distribution` says of a package, as far as it is needed here."""

    name: str
    version: str
    location: str
    metadata_dir: str
    modified: Sequence[str] = ()
    actual_files: Optional[str] = None
    editable_paths: Sequence[str] = ()
    modules: Sequence[str] = ()
    tags: Sequence[str] = ()
    system: Optional[Mapping[str, Any]] = None


class Packed(NamedTuple):
    """What was written.

    Attributes:
        files: digest of a wheel as in `LockedPackage.files`, None where the project has them.
        conda: of a tree, conda package -> digest of its files as in `LockedCondaPackage.files`.
        libc, sonames: of an interpreter, as in `LockedTree`.
    """

    files: Optional[str]
    tags: Sequence[str]
    conda: Mapping[str, str] = {}
    libc: str = ""
    sonames: Sequence[str] = ()


class Row(NamedTuple):
    """A line of the installed RECORD. Attributes: path: relative to the site directory; hash: "sha256=...", or ""."""

    path: str
    hash: str


def pack_installed(distribution: Packable, wheel: IO[bytes]) -> Packed:
    """Write a wheel of all files of an installed package.

    Edited files go in as they are, with those that were added in its folders; missing ones are left out. Console scripts are left
    to its entry points; other scripts get a neutral first line, which an installer replaces.

    Raises:
        Refused: it has no RECORD, a file cannot be read or is neither what RECORD says nor known to be edited, or lies outside
            the environment.
    """
    metadata = Path(distribution.metadata_dir)
    made_by_installers = entry_scripts(metadata)
    changes = Changes.of(distribution)
    rows = [row for row in record_rows(metadata) if not is_dropping(row.path, metadata.name)]
    rows += [Row(path, "") for path in changes.added]
    members = [
        member
        for row in rows
        if row.path not in changes.missing and (member := member_of(distribution, row, made_by_installers, changes)) is not None
    ]
    digest = write_wheel(members, metadata.name, wheel)
    if distribution.actual_files is not None and digest != distribution.actual_files:
        raise Refused("its files changed while they were captured")
    return Packed(digest, distribution.tags or (ANY,))


def pack_editable(distribution: Packable, wheel: IO[bytes]) -> Packed:
    """Write a wheel of an editable package's metadata alone: its code is the project's.

    An .egg-info becomes the .dist-info that it would be today.

    Raises:
        Refused: the metadata cannot be read.
    """
    name, members = metadata_of_editable(distribution, (ANY,))
    write_wheel(members, name, wheel)
    return Packed(None, (ANY,))


def pack_working_tree(distribution: Packable, wheel: IO[bytes]) -> Packed:
    """Write a wheel of an editable package whose project does not travel: its metadata, and the modules that it puts on the path
    with all their files. Extensions built in place are among them, and then the wheel is for this interpreter alone.

    Raises:
        Refused: something cannot be read, it names no modules, or they are more than `WORKING_TREE_LIMIT_BYTES`.
    """
    try:
        files = {
            str(file.relative_to(root)): (file, file.stat())
            for root in map(Path, reversed(distribution.editable_paths))
            for module in filter(str.isidentifier, distribution.modules)  # they come from a file that anybody could have written
            for file in files_of_module(root, module)
        }
    except OSError as error:
        raise Refused(f"{error.filename} cannot be read: {error.strerror}") from error
    if not files:
        raise Refused("it is installed in place, and none of its modules can be found")
    size = sum(status.st_size for _, status in files.values())
    if size > WORKING_TREE_LIMIT_BYTES:
        raise Refused(f"the packages in its working tree hold {size >> 20} MiB, more than {WORKING_TREE_LIMIT_BYTES >> 20}")
    tags = (own_tag() if is_native(files) else ANY,)
    name, members = metadata_of_editable(distribution, tags)
    members += [Member(path=path, content=file, executable=bool(status.st_mode & stat.S_IXUSR)) for path, (file, status) in files.items()]
    return Packed(write_wheel(members, name, wheel), tags)


def pack_system(distribution: Packable, wheel: IO[bytes]) -> Packed:
    """Write a wheel of what a package of the operating system has in the site directory, as it is now, links followed, and of modules that
    the distribution names as its own and another package has. Scripts are left to the entry points; of what else the package has elsewhere
    nothing is in it.

    Raises:
        Refused: something cannot be read, was changed since it was looked at, or is a link to a directory, which no wheel holds.
    """
    owner = SystemPackage(*(str((distribution.system or {}).get(key, "")) for key in ("manager", "package", "version", "arch")))
    site = Path(os.path.realpath(distribution.location))
    below = listed_below(owner, str(site))
    added = Changes.of(distribution).added
    if not is_as_looked_at(distribution, owner, {path: str(site / path) for path in added}):
        raise Refused("its files changed while they were captured")
    files = {}
    for path in sorted({*below, *added, *split_off(distribution, str(site), below)}):
        file = site / path
        if file.is_dir() and file.is_symlink():
            raise Refused(f"{path} is a link to a directory")
        # Metadata of its other distributions are of other wheels.
        if file.is_file() and not path.endswith(".pyc") and not path.partition("/")[0].endswith((".dist-info", ".egg-info")):
            files[path] = file
    if not files:
        raise Refused(f"{owner.manager}'s package {owner.name} has no modules beside its metadata")
    tags = tuple(distribution.tags) or (own_tag() if is_native(files) else ANY,)
    name, members = metadata_of_editable(distribution, tags)
    try:
        members += [Member(path=path, content=file, executable=is_executable(file)) for path, file in files.items()]
    except OSError as error:
        raise Refused(f"{error.filename} cannot be read: {error.strerror}") from error
    return Packed(write_wheel(members, name, wheel), tags)


def listed_below(owner: SystemPackage, site: str) -> List[str]:
    """What a package has in the site directory, relative to that."""
    return [path[len(f"{site}/") :] for path in listed_by(owner) if is_below(path, site)]


def split_off(distribution: Packable, site: str, own: Sequence[str]) -> Iterator[str]:
    """Modules of a distribution that are in another package than its metadata, as Debian's pkg_resources, without which its setuptools
    does not import.
    """
    there = {path.partition("/")[0] for path in own}
    places = {f"{site}/{name}": name for module in distribution.modules for name in (module, f"{module}.py") if name not in there}
    for place, owner in sorted(owners_of(places).items()):
        yield from (path for path in listed_below(owner, site) if path.partition("/")[0] == places[place])


def is_as_looked_at(distribution: Packable, owner: SystemPackage, added: Mapping[str, str]) -> bool:
    """Whether the digest is still that of `SystemOwner`. Args: added: path -> file."""
    was = (distribution.system or {}).get("files")
    there = Owned(Installed({"location": distribution.location}, "", None), owner, brought_by([owner]).get(owner))
    return was is None or there.checked(added)["files"] == was


def metadata_of_editable(distribution: Packable, tags: Sequence[str]) -> Tuple[str, List[Member]]:
    """Name of the .dist-info and its files."""
    metadata = Path(distribution.metadata_dir)
    try:
        if metadata.suffix == ".dist-info":
            files = {str(file.relative_to(metadata)): file.read_bytes() for file in sorted(metadata.rglob("*")) if file.is_file()}
        else:
            files = from_egg_info(metadata)
    except OSError as error:
        raise Refused(f"{error.filename} cannot be read: {error.strerror}") from error
    files["WHEEL"] = wheel_headers(tags)  # what it says of the editable wheel is not so of this one
    name = f"{escaped(distribution.name)}-{escaped_version(distribution.version)}.dist-info"  # as the wheel's own name has it
    return name, [Member(path=f"{name}/{path}", content=data) for path, data in files.items() if path not in DROPPINGS]


def raise_it(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):  # the module may be a single file
        raise error


def files_of_module(root: Path, module: str) -> Iterator[Path]:
    """Raises OSError: a folder or link of it cannot be read, or links lead back to where they lie."""
    seen: set[tuple[int, int]] = set()
    for place, directories, names in os.walk(root / module, followlinks=True, onerror=raise_it):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            raise OSError(errno.ELOOP, "links lead round in a circle", place)
        seen.add((status.st_dev, status.st_ino))
        directories[:] = sorted(name for name in directories if name not in NO_CODE)
        yield from (Path(place, name) for name in sorted(names) if not name.endswith((".pyc", ".pyo")))
    single = (f"{module}{suffix}" for suffix in (".py", ".so"))
    yield from (file for file in (*(root / name for name in single), *root.glob(f"{module}.*.so")) if file.is_file())


def record_rows(metadata: Path) -> Sequence[Row]:
    try:
        text = (metadata / "RECORD").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise Refused("it has no RECORD, so its files cannot be told") from error
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise Refused(f"its RECORD cannot be read: {error}") from error
    return [Row(normpath(row[0]), row[1] if len(row) > 1 else "") for row in rows]


def is_dropping(path: str, metadata_name: str) -> bool:
    directory, _, name = path.rpartition("/")
    return path.endswith(".pyc") or (directory == metadata_name and name in DROPPINGS)


class Changes(NamedTuple):
    """`Distribution.modified`, taken apart. Attributes: edited, missing, added: paths as RECORD has them."""

    edited: FrozenSet[str]
    missing: FrozenSet[str]
    added: Tuple[str, ...]

    @staticmethod
    def of(distribution: Packable) -> Changes:
        said = distribution.modified or ()
        site = SITE.match(distribution.location)
        prefix = f"{site[1]}/" if site is not None else ""

        def paths(kind: str) -> tuple[str, ...]:
            named = (word[len(kind) :] for word in said if word.startswith(kind))
            return tuple(prefix + path[len("prefix:") :] if path.startswith("prefix:") else path for path in named)

        edited = frozenset(word for word in paths("") if not word.startswith(("missing: ", "added: ")))
        return Changes(edited, frozenset(paths("missing: ")), tuple(sorted(paths("added: "))))

    def has_edited(self, path: str, file: Path) -> bool:
        return not self.edited.isdisjoint((path, normpath(file))) or not set(self.added).isdisjoint((path, normpath(file)))


def member_of(distribution: Packable, row: Row, made_by_installers: FrozenSet[str], changes: Changes) -> Optional[Member]:
    """The wheel's member for a line of RECORD; None for a script that an installer makes from the entry points, and for a missing
    file outside the site directory.
    """
    path, script_prefix = path_in_wheel(distribution, row.path)
    if script_prefix is not None and Path(path).name in made_by_installers:
        return None
    file = Path(distribution.location, row.path)
    if normpath(file) in changes.missing:
        return None
    try:
        executable = is_executable(file)
        changed = changes.has_edited(row.path, file)
        if script_prefix is not None:
            return Member(path=path, content=neutral_script(file.read_bytes(), script_prefix), executable=True)
    except OSError as error:
        raise unreadable(row.path, error) from error
    return Member(path=path, content=file, executable=executable, record_hash=None if changed else row.hash)


def is_executable(file: Path) -> bool:
    return bool(file.stat().st_mode & stat.S_IXUSR)


def path_in_wheel(distribution: Packable, path: str) -> tuple[str, str | None]:
    """Where an installed file goes in the wheel; for a script also the prefix that it was installed to."""
    if not path.startswith(("../", "/")):
        return path, None
    site = SITE.match(distribution.location)
    full = normpath(f"{distribution.location}/{path}") if path.startswith("../") else path
    if site is None or not full.startswith(f"{site[1]}/"):
        raise Refused(f"{full} lies outside its environment")
    data = data_folder(Path(distribution.metadata_dir).name)
    below = full[len(site[1]) + 1 :]
    if below.startswith("bin/"):
        return f"{data}/scripts/{below[len('bin/') :]}", site[1]
    return f"{data}/data/{below}", None


def entry_scripts(metadata: Path) -> frozenset[str]:
    parser = ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string((metadata / "entry_points.txt").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, Error):
        return frozenset()
    return frozenset(name for group in ("console_scripts", "gui_scripts") if parser.has_section(group) for name in parser[group])


def neutral_script(data: bytes, prefix: str) -> bytes:
    """With `#!python` where an installer wrote an interpreter of this environment, also in its form for long paths."""
    interpreter = re.escape(f"{prefix}/bin/python".encode()) + rb"[0-9.]*"
    direct = rb"#!" + interpreter + rb"([ \t][^\n]*)?\n"
    through_shell = rb"#!/bin/sh\n'''exec' \"?" + interpreter + rb"\"? \"\$0\" \"\$@\"\n' '''\n"
    if match := re.match(direct, data):
        return b"#!python" + (match[1] or b"") + b"\n" + data[match.end() :]
    if match := re.match(through_shell, data):
        return b"#!python\n" + data[match.end() :]
    return data


def pack_conda(conda: Packable, tree: IO[bytes]) -> Packed:
    """Everything that conda installed, as a tar archive for the prefix `conda.location`."""
    try:
        return Packed(None, (), pack_conda_tree(tree, conda.location))
    except ValueError as error:
        raise Refused(str(error)) from error


def pack_python(python: Packable, tree: IO[bytes]) -> Packed:
    """The interpreter, as a tar archive for the prefix `python.location`."""
    try:
        needs = pack_python_tree(tree, python.location)
    except ValueError as error:
        raise Refused(str(error)) from error
    return Packed(None, (), libc=needs.libc, sonames=needs.sonames)


KINDS = {
    "installed": pack_installed,
    "editable": pack_editable,
    "working_tree": pack_working_tree,
    "system": pack_system,
    "conda": pack_conda,
    "python": pack_python,
}


def packed(number: int, wanted: Dict[str, Any], out: str) -> Dict[str, Any]:
    """One entry of packed.json; the wheel is there unless it says why not."""
    wanted = dict(wanted)
    pack = KINDS[wanted.pop("kind")]
    place = os.path.join(out, f"{number}.whl")
    try:
        with open(place, "w+b") as file:
            result = pack(Packable(**wanted), file)
            # Read back: a wheel that is hashed while it is written has each size after its file, which uv refuses to unpack.
            return {**result._asdict(), "sha256": sha256_of(file)}
    except (Refused, OSError) as error:
        if os.path.exists(place):
            os.unlink(place)
        return {"refused": reason(error)}


def sha256_of(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def main(argv: Sequence[str]) -> int:
    arguments = argparse.ArgumentParser(prog="pack", description="Pack installed packages as wheels.")
    arguments.add_argument("--wanted", required=True)
    arguments.add_argument("--out", required=True)
    options = arguments.parse_args(argv)
    with open(options.wanted, encoding="utf-8") as file:
        wanted = json.load(file)
    done: List[Dict[str, Any]] = []
    for number, one in enumerate(wanted):
        say_progress(number, len(wanted), "packages", f"pack {one['name']}")
        done.append(packed(number, one, options.out))
    say_progress(len(wanted), len(wanted), "packages", "pack")
    with open(os.path.join(options.out, "packed.json"), "w", encoding="ascii") as file:
        json.dump(done, file)
    return 0
