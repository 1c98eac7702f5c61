"""The RECORD of a wheel that lies somewhere else, as it would be once installed: proof that installed files are that wheel's.

A wheel's RECORD stands near its end, so that a tail of the file and perhaps one more piece of it suffice.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from posixpath import normpath
from typing import IO, cast

from envsnap.guest.record import DROPPINGS

TAIL_BYTES = 64 << 10
AHEAD_BYTES = 1 << 20
FETCH_LIMIT_BYTES = 256 << 20
RECORD_LIMIT_BYTES = 64 << 20
DIRECTORY_LIMIT_BYTES = 128 << 20

_RECORD = re.compile(r"([^/]+)\.dist-info/RECORD\Z")


class Unreadable(Exception):
    """It is no wheel with a RECORD; the message is a clause."""


class PiecewiseFile:
    """A file that is fetched in pieces, for `zipfile`.

    Args:
        tail: its last bytes.
        size: of the whole, bytes.
        fetch: the bytes from the first to before the second offset.
    """

    def __init__(self, tail: bytes, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._fetch = fetch
        self._pieces = [(size - len(tail), tail)]
        self._fetched = len(tail)
        self._place = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if self._place < 0:
            raise OSError("negative seek")
        return self._place

    def read(self, count: int = -1) -> bytes:
        """Raises Unreadable: it would take more than `FETCH_LIMIT_BYTES` in all."""
        end = self._size if count < 0 else min(self._size, self._place + count)
        if end <= self._place:
            return b""
        start, piece = self._piece(self._place, end)
        data = piece[self._place - start : end - start]
        self._place = end
        return data

    def _piece(self, start: int, end: int) -> tuple[int, bytes]:
        for first, piece in self._pieces:
            if first <= start and end <= first + len(piece):
                return first, piece
        tail_start = self._pieces[0][0]
        until = max(end, min(start + AHEAD_BYTES, tail_start) if start < tail_start else end)
        self._fetched += until - start
        if self._fetched > FETCH_LIMIT_BYTES:
            raise Unreadable(f"reading its RECORD takes more than {FETCH_LIMIT_BYTES >> 20} MiB")
        piece = self._fetch(start, until)
        if len(piece) != until - start:
            raise Unreadable("the server answers other pieces of it than were asked for")
        self._pieces.insert(1, (start, piece))
        del self._pieces[3:]
        return start, piece


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelEnd:
    """What a wheel says of its files. Nobody vouches for it: the wheel was not read as a whole, and so its hash is not known.

    Attributes:
        size_bytes: of the whole wheel.
        directory: its bytes from the zip archive's central directory on.
        stem: of its .dist-info folder, "pkg-1.0". record: content of its RECORD.
    """

    size_bytes: int
    directory: bytes
    stem: str
    record: bytes


def read_end(wheel: IO[bytes] | PiecewiseFile) -> WheelEnd:
    """Read a wheel's directory and RECORD.

    Raises:
        Unreadable: it is not a wheel, or one of them is too large.
    """
    try:
        with zipfile.ZipFile(cast("IO[bytes]", wheel)) as archive:
            found = [(match[1], info) for info in archive.infolist() if (match := _RECORD.match(info.filename))]
            if len(found) != 1:
                raise Unreadable(f"it has {len(found) or 'no'} RECORD")
            stem, info = found[0]
            directory, size = _from(wheel, archive.start_dir)
            with archive.open(info) as file:
                data = file.read(RECORD_LIMIT_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise Unreadable(f"it is not a wheel that can be read ({type(error).__name__})") from error
    if len(data) > RECORD_LIMIT_BYTES:
        raise Unreadable(f"its RECORD has more than {RECORD_LIMIT_BYTES >> 20} MiB")
    return WheelEnd(size_bytes=size, directory=directory, stem=stem, record=data)


def _from(wheel: IO[bytes] | PiecewiseFile, start: int) -> tuple[bytes, int]:
    """The bytes from an offset on, and how many there are in all: in small pieces, each of which was fetched for the directory already."""
    size = wheel.seek(0, io.SEEK_END)
    if size - start > DIRECTORY_LIMIT_BYTES:
        raise Unreadable(f"its directory has more than {DIRECTORY_LIMIT_BYTES >> 20} MiB")
    wheel.seek(start)
    return b"".join(iter(lambda: wheel.read(TAIL_BYTES // 2), b"")), size


def installed_files(wheel: IO[bytes] | PiecewiseFile, python: str) -> str:
    """`files_of` what `read_end` reads. Raises Unreadable."""
    return files_of(read_end(wheel), python)


def files_of(end: WheelEnd, python: str) -> str:
    """Digest of the canonical RECORD (docs/lockfile-format.md) that installing a wheel gives.

    Args:
        python: "3.11"; header files are installed to a directory of that name.

    Raises:
        Unreadable: its RECORD is none.
    """
    try:
        lines = {f"{path}\0{sha256}\n".encode("utf-8", "surrogateescape") for path, sha256 in _rows(end.record, end.stem, python)}
    except (csv.Error, binascii.Error, ValueError, IndexError) as error:
        raise Unreadable("its RECORD is malformed") from error
    return "sha256:" + hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def _rows(data: bytes, stem: str, python: str) -> Iterator[tuple[str, str]]:
    """Canonical path and hexadecimal hash of each file that an installer takes out of the wheel and leaves as it is."""
    schemes = {
        f"{stem}.data/purelib/": "",
        f"{stem}.data/platlib/": "",
        f"{stem}.data/data/": "prefix:",
        f"{stem}.data/headers/": f"prefix:include/site/python{python}/{stem.partition('-')[0]}/",
    }
    for row in csv.reader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")):
        if not row:
            continue
        path = normpath(row[0])
        directory, _, name = path.rpartition("/")
        if path.endswith(".pyc") or path.startswith(f"{stem}.data/scripts/") or (directory == f"{stem}.dist-info" and name in DROPPINGS):
            continue
        for scheme, place in schemes.items():
            if path.startswith(scheme):
                path = place + path.removeprefix(scheme)
        if not path.startswith("prefix:bin/"):
            yield path, _hexadecimal(row[1])


def _hexadecimal(text: str) -> str:
    if not text.startswith("sha256="):
        return ""
    return base64.urlsafe_b64decode(text.removeprefix("sha256=").rstrip("=") + "=").hex()
