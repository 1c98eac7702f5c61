"""Untrusted files by name: a directory, or a tar archive that stays where it is. Nothing is unpacked, no link is followed out."""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol, cast

from envsnap.errors import InputError
from envsnap.publish.content import CHUNK

_MAX_MEMBERS = 10_000  # an image has at most some hundred layers, and docker before 25 saved three files of each
_MAX_HEADER_BYTES = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd", b"BZ": "bzip2", b"\xfd7": "xz"}


class Files(Protocol):
    """Regular files by their path below a root."""

    def size(self, name: str) -> int | None:
        """In bytes; None when there is no such file."""

    def open(self, name: str) -> Iterator[bytes]:
        """Its content, piece by piece. Raises InputError: it is not there, or cannot be read."""


@contextmanager
def opened(path: Path) -> Iterator[Files]:
    """The files in a directory or a tar archive.

    Raises:
        InputError: there is neither, or the archive is damaged, compressed, or has more of something than any image has.
    """
    if path.is_dir():
        yield Directory(path)
        return
    try:
        with path.open("rb") as file:
            yield Archive(file, str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}", why=error.strerror or str(error)) from error


class Directory:
    """A directory whose entries may be anything."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def size(self, name: str) -> int | None:
        path = self._root / name
        try:
            inside = path.parent.resolve().is_relative_to(self._root) and path.name not in ("", "..")
            found = path.lstat()
        except (OSError, ValueError, RuntimeError):  # no such file, a NUL in its name, a ring of links
            return None
        if not inside:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open(self, name: str) -> Iterator[bytes]:
        if self.size(name) is None:
            raise InputError(f"{self._root} has no {name}")
        try:
            # A pipe put there meanwhile must not make anyone wait, nor a link lead elsewhere.
            handle = os.open(self._root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as file:
                while piece := file.read(CHUNK):
                    yield piece
        except OSError as error:
            raise InputError(f"cannot read {name} of {self._root}", why=error.strerror or str(error)) from error


class Archive:
    """A tar archive in a file that can be read at any place; its headers are read once."""

    def __init__(self, file: IO[bytes], called: str) -> None:
        self._file = file
        self._called = called
        self._where: dict[str, tuple[int, int]] = {}  # name -> offset, size
        self._links: dict[str, str] = {}
        self._read_headers()

    def size(self, name: str) -> int | None:
        found = self._find(name)
        return None if found is None else found[1]

    def open(self, name: str) -> Iterator[bytes]:
        found = self._find(name)
        if found is None:
            raise InputError(f"{self._called} has no {name}")
        offset, left = found
        while left:
            self._file.seek(offset)  # several are read in turns
            piece = self._file.read(min(CHUNK, left))
            if not piece:
                raise InputError(f"cannot read {self._called}", why=f"it ends in the middle of {name}")
            offset, left = offset + len(piece), left - len(piece)
            yield piece

    def _find(self, name: str) -> tuple[int, int] | None:
        return self._where.get(self._links.get(name, name))

    def _read_headers(self) -> None:
        what = f"cannot read {self._called}"
        start = self._file.read(2)
        if kind := _COMPRESSED.get(start):
            raise InputError(what, why=f"it is compressed with {kind}", hint="decompress it first: its layers are compressed already")
        self._file.seek(0)
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", _Headers(self._file)), mode="r:") as archive:
                for count, member in enumerate(archive, 1):
                    if count > _MAX_MEMBERS:
                        raise InputError(what, why=f"it has more than {_MAX_MEMBERS:,} files")
                    self._note(member, what)
        except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, MemoryError) as error:
            raise InputError(what, why=f"it is no tar archive, or a damaged one: {error}") from error
        end = self._file.seek(0, os.SEEK_END)
        if any(offset + size > end for offset, size in self._where.values()):
            raise InputError(what, why="it ends in the middle of a file")

    def _note(self, member: tarfile.TarInfo, what: str) -> None:
        name = posixpath.normpath(member.name)
        if member.issym():  # docker before 25 saved a layer that an image has twice as a link to the first
            self._links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.isreg() and not member.issparse():
            if name in self._where:
                raise InputError(what, why=f"it has {name} twice")
            self._where[name] = (member.offset_data, member.size)


class _Headers:
    """What `tarfile` reads headers from: it would take a header of any size into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)
