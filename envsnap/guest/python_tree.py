"""The interpreter that an environment was made with, as a tar archive that runs at another place, on another distribution.

CPython finds its standard library by itself from where its program lies. What names its place all the same is made to name the new one:
the configuration that extensions are built with, and where the program looks for its own library. The byte code of the standard library
is made anew, for the new place and the time that all files have. The bytes depend on the interpreter's files and the new place alone.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tarfile
from typing import IO, Any, Dict, Iterator, NamedTuple, Sequence, Set, Tuple

from .compile import MTIME, byte_code
from .elf import read_elf
from .interpreter import libc

TOP = "python"
"""The directory that all of the archive lies in."""
NOT_TAKEN = frozenset(("__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo"))
NO_MODULES = re.compile(r"(_test|_tkinter|_?xxlimited|_xxtestfuzz|turtle\.py\Z|nis\.|.*\.(pyc|pyo|a)\Z)")
"""Tests, windows on a screen, and NIS: what they need would come into each image."""
NEEDED_OF_LIBC = re.compile(rb"\0GLIBC_(2\.[0-9]+)(?:\.[0-9]+)?(?=\0)")
"""Version names in an ELF file's string table: what it asks of glibc (`readelf -V`)."""
LOADER = re.compile(r"ld-linux.*|ld64.*")


class Interpreter(NamedTuple):
    """What was packed needs this. Attributes: libc: the oldest glibc, "2.28". sonames: libraries from outside, sorted; glibc's too."""

    libc: str
    sonames: Sequence[str]


def pack_python_tree(out: IO[bytes], new_prefix: str, prefix: str = sys.base_prefix) -> Interpreter:
    """Write the archive.

    Raises:
        ValueError: it cannot be carried, one sentence says why. OSError: a file cannot be read.
    """
    refuse(prefix)
    needs: Dict[str, Tuple[str, ...]] = {}
    provided: Set[str] = set()
    versions = {(2, 0)}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        writer = Writer(archive)
        for path in files_below(prefix):
            place = os.path.join(prefix, path)
            data = moved(path, place, prefix, new_prefix)
            elf = read_elf(place) if data[:4] == b"\x7fELF" else None
            if elf is not None:
                needs[path] = elf.needed
                provided |= {os.path.basename(path), elf.soname}
                versions |= {(2, int(found[2:])) for found in NEEDED_OF_LIBC.findall(data)}
            writer.add(path, data, 0o755 if path.startswith("bin/") or elf is not None else 0o644)
            if path.startswith("lib/") and path.endswith(".py"):
                code = byte_code("%s/%s" % (new_prefix, path), data)
                if code is not None:
                    writer.add(cached(path), code, 0o644)
    sonames = {soname for needed in needs.values() for soname in needed} - provided
    return Interpreter("%d.%d" % max(versions), sorted(soname for soname in sonames if not LOADER.match(soname)))


class Writer:
    """Writes files, and each directory before the first of them in it."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._folders: Set[str] = {""}

    def add(self, path: str, data: bytes, mode: int) -> None:
        self._folder(os.path.dirname("%s/%s" % (TOP, path)))
        member = self._member("%s/%s" % (TOP, path), mode)
        member.size = len(data)
        self._archive.addfile(member, io.BytesIO(data))

    def _folder(self, path: str) -> None:
        if path not in self._folders:
            self._folder(os.path.dirname(path))
            self._folders.add(path)
            member = self._member(path, 0o755)
            member.type = tarfile.DIRTYPE
            self._archive.addfile(member)

    @staticmethod
    def _member(path: str, mode: int) -> tarfile.TarInfo:
        member = tarfile.TarInfo(path)
        member.mode, member.mtime = mode, MTIME
        return member


def cached(path: str) -> str:
    folder, name = os.path.split(path)
    return "%s/__pycache__/%s.%s.pyc" % (folder, name[: -len(".py")], sys.implementation.cache_tag)


def refuse(prefix: str) -> None:
    """Raises ValueError."""
    if sys.implementation.name != "cpython":
        raise ValueError("it is no CPython")
    if os.path.isdir(os.path.join(prefix, "conda-meta")):
        raise ValueError("conda installed it: --rescue conda keeps it with all else that conda installed")
    if os.path.realpath(prefix) == "/usr":
        raise ValueError("it is the distribution's own, whose files lie among others: an image of that distribution has it")
    if not libc().startswith("glibc"):
        raise ValueError("it is not built for glibc")
    if read_elf(os.path.join(prefix, "bin", program())) is None:
        raise ValueError("%s has no bin/%s" % (prefix, program()))


def program() -> str:
    return "python%d.%d" % sys.version_info[:2]


def files_below(prefix: str) -> Iterator[str]:
    """Relative to the prefix: the program, its library, its headers, the standard library; sorted."""
    found = ["bin/" + program()]
    library = "lib/" + program()
    found += ["lib/" + name for name in os.listdir(os.path.join(prefix, "lib")) if is_library(prefix, name)]
    for top in ("include/" + program(), library):
        for directory, folders, names in os.walk(os.path.join(prefix, top)):
            below = os.path.relpath(directory, prefix)
            folders[:] = [name for name in folders if name not in NOT_TAKEN and not name.startswith("config-")]
            found += [os.path.join(below, name) for name in names if not NO_MODULES.match(name)]
    return iter(sorted(path for path in found if os.path.isfile(os.path.join(prefix, path))))


def is_library(prefix: str, name: str) -> bool:
    """A shared library itself, not a link to one."""
    place = os.path.join(prefix, "lib", name)
    return ".so" in name and not os.path.islink(place) and os.path.isfile(place)


def moved(path: str, place: str, prefix: str, new_prefix: str) -> bytes:
    with open(place, "rb") as file:
        data = file.read()
    old = os.fsencode(prefix)
    if data[:4] == b"\x7fELF":
        elf = read_elf(place)
        for folder in elf.search if elf is not None else ():
            if folder == prefix or folder.startswith(prefix + "/"):
                data = searched_elsewhere(data, folder, path, prefix)
    elif os.path.basename(path).startswith("_sysconfigdata"):
        data = data.replace(old, os.fsencode(new_prefix))
    return data


def searched_elsewhere(data: bytes, folder: str, path: str, prefix: str) -> bytes:
    """With a folder to search for libraries that is told from where the file lies; in the same room, which it fits."""
    relative = os.path.relpath(folder[len(prefix) :].lstrip("/") or ".", os.path.dirname(path))
    old, new = os.fsencode(folder), os.fsencode("$ORIGIN" if relative == "." else "$ORIGIN/" + relative)
    if len(new) > len(old):
        raise ValueError("%s looks for libraries in %s, and there is no room for another place" % (path, folder))

    def replace(match: Any) -> bytes:
        text: bytes = match.group(0)
        return text.replace(old, new, 1).ljust(len(text), b"\0")

    # The string of the search path, whole: its folders stand between colons.
    return re.sub(rb"(?<=\0)(?:[^\0]*:)?" + re.escape(old) + rb"(?::[^\0]*)?\0", replace, data)
