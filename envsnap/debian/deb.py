"""Reading a .deb (deb(5)): an ar archive of `debian-binary`, `control.tar` and `data.tar`; untrusted, held to its hash and to limits."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from envsnap.debian.control import Stanza, stanza
from envsnap.errors import InputError
from envsnap.layers.reader import Kind, LayerReader, Member, inflated
from envsnap.model.debian import DebFile

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_PIECE = 1 << 18
_CONTROL_LIMIT = 32 << 20
_DATA_LIMIT = 16 << 30
_MEMBER_LIMIT = 400_000
_XZ_MEMORY = 256 << 20  # `xz -9` needs 65 MiB


class Deb:
    """A .deb whose bytes are those that the signed index names.

    Args:
        file: open for reading from any place.

    Raises:
        InputError: its size or SHA-256 is another, or it is no .deb.
    """

    def __init__(self, file: BinaryIO, expected: DebFile) -> None:
        self._file = file
        self._name = f"{expected.name} {expected.version}"
        self._hold_against(expected)
        self._parts = self._read_ar()
        if [name.partition(".")[0] for name in self._parts if not name.startswith("_")][:3] != ["debian-binary", "control", "data"]:
            raise self._refuse("it is not a package of format 2.0")
        self.control: Mapping[str, bytes] = self._read_control()
        self.fields: Stanza = stanza(self.text("control").strip("\n"), what=f"cannot read {self._name}")
        said = self.fields.get("Package"), self.fields.get("Version"), self.fields.get("Architecture")
        if said != (expected.name, expected.version, expected.arch):
            raise self._refuse(f"it says that it is {' '.join(map(str, said))}")

    def text(self, name: str) -> str:
        """A file of its control archive ("postinst", "md5sums"); "" when it has none. Raises InputError: it is not UTF-8."""
        try:
            return self.control.get(name, b"").decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._refuse(f"its {name} is not UTF-8") from error

    def members(self) -> Iterator[tuple[Member, Iterator[memoryview]]]:
        """Its files, directories and links with their content, in its order. A content is to be read before the next one is asked for.

        Raises:
            InputError: a path or link that leads out, a device, a path twice or through what is no directory, too much of anything.
        """
        kinds: dict[str, Kind] = {}
        reader = LayerReader(self._decompressed("data", _DATA_LIMIT), what=self._name)
        for member in reader:
            path = member.path
            for parent in _parents(path):
                if kinds.setdefault(parent, "directory") != "directory":
                    raise self._refuse(f"{path!r} leads through {parent!r}, which is no directory")
            if path in kinds and not kinds[path] == member.kind == "directory":
                raise self._refuse(f"{path!r} is there twice")
            self._check(member, kinds)
            kinds[path] = member.kind
            if len(kinds) > _MEMBER_LIMIT:
                raise self._refuse(f"it has more than {_MEMBER_LIMIT} files")
            yield member, reader.content()

    def _hold_against(self, expected: DebFile) -> None:
        sha256, size = hashlib.sha256(), 0
        self._file.seek(0)
        while piece := self._file.read(1 << 20):
            size += len(piece)
            sha256.update(piece)
        if size != expected.size_bytes or sha256.hexdigest() != expected.sha256:
            raise InputError(
                f"refused {self._name}",
                why="its bytes are not those that the signed index names",
                hint="remove it from the cache, or from beside the lock",
            )

    def _read_ar(self) -> dict[str, tuple[int, int]]:
        """Place and size of each part."""
        self._file.seek(0)
        if self._file.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise self._refuse("it is no ar archive")
        parts: dict[str, tuple[int, int]] = {}
        while header := self._file.read(_AR_HEADER):
            if len(header) != _AR_HEADER or header[58:] != b"`\n" or not header[48:58].strip().isdigit() or len(parts) > 16:
                raise self._refuse("its ar archive is damaged")
            name, size = header[:16].decode("ascii", "replace").rstrip().rstrip("/"), int(header[48:58])
            parts[name] = (self._file.tell(), size)
            self._file.seek(size + size % 2, 1)
        return parts

    def _read_control(self) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        reader = LayerReader(self._decompressed("control", _CONTROL_LIMIT), what=self._name)
        for member in reader:
            if member.kind == "directory" and not member.path:
                continue
            if member.kind != "file" or "/" in member.path or member.path in files:
                raise self._refuse(f"its control archive holds {member.path!r}")
            files[member.path] = b"".join(reader.content())
        return files

    def _decompressed(self, part: str, limit: int) -> Iterator[bytes]:
        """The tar stream of a part."""
        name = next(name for name in self._parts if name.partition(".")[0] == part)
        place, size = self._parts[name]
        ending = name.removeprefix(f"{part}.tar")
        if ending not in ("", ".gz", ".xz", ".zst"):
            raise self._refuse(f"it is compressed as {ending!r}, which dpkg does not know either")
        pieces = self._pieces(place, size)
        left = limit
        for piece in self._unpacked_xz(pieces) if ending == ".xz" else inflated(pieces, what=self._name):
            left -= len(piece)
            if left < 0:
                raise self._refuse(f"its {part} has more than {limit} bytes")
            yield piece

    def _unpacked_xz(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """In pieces of at most `_PIECE` bytes, however well they were packed."""
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        try:
            for piece in pieces:
                if stream.eof:
                    raise self._refuse("something follows its compressed data")
                rest = piece
                while data := stream.decompress(rest, _PIECE):
                    yield data
                    rest = b""  # what is left of it lies in the decompressor
                    if stream.eof:
                        break
        except lzma.LZMAError as error:
            raise self._refuse(f"it cannot be decompressed: {error}") from error
        if not stream.eof:
            raise self._refuse("its compressed data end early")

    def _pieces(self, place: int, size: int) -> Iterator[bytes]:
        while size:
            self._file.seek(place)
            piece = self._file.read(min(_PIECE, size))
            if not piece:
                raise self._refuse("it ends early")
            place, size = place + len(piece), size - len(piece)
            yield piece

    def _check(self, member: Member, kinds: Mapping[str, Kind]) -> None:
        path, target = member.path, member.target
        if member.kind == "special":
            raise self._refuse(f"{path!r} is a device or a pipe")
        if not (path + target).isprintable():  # dpkg's lists have a path to a line
            raise self._refuse(f"{path!r} is no name of a file")
        if member.kind == "hard link" and kinds.get(target) != "file":
            raise self._refuse(f"{path!r} is a hard link to {target!r}, which is no file before it")
        if member.kind == "link":
            depth = 0 if target.startswith("/") else path.count("/")
            for part in target.split("/"):
                depth += -1 if part == ".." else 1 if part not in ("", ".") else 0
                if depth < 0:
                    raise self._refuse(f"the link {path!r} leads out, to {target!r}")

    def _refuse(self, why: str) -> InputError:
        return InputError(f"refused {self._name}", why=why)


def _parents(path: str) -> Iterator[str]:
    place = path.find("/")
    while place >= 0:
        yield path[:place]
        place = path.find("/", place + 1)
