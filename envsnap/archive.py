"""Tar streams into and out of containers: nothing is held in memory, and nothing that comes out is trusted."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from envsnap.errors import TargetError
from envsnap.storage import disk_errors

_CHUNK = 1 << 20
_MAX_BYTES = 4 << 30
_MAX_ENTRIES = 100_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One member to pack.

    Attributes:
        name: path in the archive, without a leading "/".
        source: local file, directory or symbolic link; None makes an empty directory.
        mode: permission bits.
    """

    name: str
    source: Path | None
    mode: int


def entries_of(name: str, source: Path) -> Iterator[Entry]:
    """A file, or a directory with all below it, readable by whichever user the container runs as."""
    if source.is_symlink() or not source.is_dir():
        executable = not source.is_symlink() and source.stat().st_mode & 0o100
        yield Entry(name, source, 0o755 if executable else 0o644)
        return
    yield Entry(name, None, 0o755)
    for child in sorted(source.iterdir()):
        yield from entries_of(f"{name}/{child.name}", child)


def pack(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The archive of `entries`, owned by root, piece by piece.

    Raises:
        TargetError: a source cannot be read, or changed while it was.
    """
    for entry in entries:
        header = tarfile.TarInfo(entry.name)
        header.mode = entry.mode
        if entry.source is None:
            header.type = tarfile.DIRTYPE
            yield _header(header)
            continue
        with disk_errors(f"read {entry.source}", entry.source):
            if entry.source.is_symlink():
                header.type, header.linkname = tarfile.SYMTYPE, str(entry.source.readlink())
                yield _header(header)
                continue
            with entry.source.open("rb") as file:
                header.size = entry.source.stat().st_size
                yield _header(header)
                yield from _content(file, header.size, entry.source)
    yield tarfile.NUL * (2 * tarfile.BLOCKSIZE)


def _header(header: tarfile.TarInfo) -> bytes:
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(file: IO[bytes], size: int, source: Path) -> Iterator[bytes]:
    left = size
    while left:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            raise TargetError(f"cannot read {source}", why="it became shorter while it was read")
        left -= len(chunk)
        yield chunk
    yield tarfile.NUL * (-size % tarfile.BLOCKSIZE)


def unpack(chunks: Iterator[bytes], into: Path, *, max_bytes: int = _MAX_BYTES, max_entries: int = _MAX_ENTRIES) -> None:
    """Write the files of an untrusted archive below `into`, without the archive's first path component.

    Regular files and directories alone: a link, a device or a path that leads out is refused, and so is too much of anything.

    Raises:
        TargetError: refused, truncated, or the disk is full.
    """
    left = max_bytes
    try:
        with tarfile.open(mode="r|", fileobj=as_file(chunks)) as archive, disk_errors(f"write {into}", into):
            for count, member in enumerate(archive, 1):
                if count > max_entries:
                    raise _refused(f"more than {max_entries} files")
                place = _inside(member.name)
                left -= member.size if member.isreg() else 0
                if left < 0:
                    raise _refused(f"more than {max_bytes} bytes")
                if not place.parts:
                    continue
                path = into / place
                if member.isdir():
                    path.mkdir(parents=True, exist_ok=True)
                elif member.isreg():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(archive, member, path)
                else:
                    raise _refused(f"{member.name} is neither a file nor a directory")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise TargetError("cannot read what the container wrote", why=f"its archive is damaged: {error}") from error


def read_single(chunks: Iterator[bytes], *, max_bytes: int) -> bytes | None:
    """The content of an archive of one regular file; None when its first member is anything else.

    Raises:
        TargetError: too large, or damaged.
    """
    try:
        with tarfile.open(mode="r|", fileobj=as_file(chunks)) as archive:
            member = archive.next()
            content = archive.extractfile(member) if member is not None and member.isreg() else None
            if member is None or content is None:
                return None
            if member.size > max_bytes:
                raise _refused(f"{member.name} has more than {max_bytes} bytes")
            return content.read()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise TargetError("cannot read a file of the container", why=f"its archive is damaged: {error}") from error


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise _refused(f"{name!r} leads out of its directory")
    return PurePosixPath(*path.parts[1:])


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = archive.extractfile(member)
    assert content is not None
    written = 0
    with path.open("xb") as file:
        while chunk := content.read(_CHUNK):
            written += file.write(chunk)
    if written != member.size:
        raise TargetError("cannot read what the container wrote", why=f"{member.name} ends early")


def _refused(why: str) -> TargetError:
    return TargetError("refused what the container wrote", why=why)


def as_file(chunks: Iterator[bytes]) -> IO[bytes]:
    """`chunks` as a file that can be read forward."""
    return cast("IO[bytes]", io.BufferedReader(_Chunks(chunks), _CHUNK))


class _Chunks(io.RawIOBase):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer is not importable at run time
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size
