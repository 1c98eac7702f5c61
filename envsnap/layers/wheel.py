"""A wheel becomes a layer without being unpacked: its deflate streams stay as they are, under headers of ours.

Specification: the binary distribution format (PEP 427). What lies where, with which mode, is what pip makes of the same wheel under umask
022; what differs is named in docs/layers.md. The wheel is read from front to back once, after a look at its end; it is hashed on the way.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import BinaryIO, NamedTuple, NoReturn, Protocol

from packaging.version import InvalidVersion, Version

from envsnap.errors import InputError
from envsnap.guest.metadata import Headers, normalised
from envsnap.layers import environment, scripts, zip  # noqa: A004  (a module of the room)
from envsnap.layers.inflate import Inflater
from envsnap.layers.record import Installed, Row, files_digest, is_byte_code, path_of, place_of, read_rows, write_rows
from envsnap.layers.writer import LayerWriter
from envsnap.model.layers import Layout
from envsnap.oci.paths import parents

_RECORD_BYTES = 64 << 20
_TEXT_BYTES = 16 << 20  # METADATA, WHEEL, entry_points.txt: memory
_SCRIPT_BYTES = 1 << 20  # a script whose first line is rewritten: memory
_EXECUTABLE = 0o111
_KIND, _REGULAR = 0o170000, 0o100000
_FILE_NAME = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-[0-9][^-]*)?-[^-]+-[^-]+-[^-]+\.whl\Z")
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")  # of a RECORD that is no longer there


class Source(NamedTuple):
    """A Python file that was installed. Attributes: path: in the layer. size: bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscodedWheel:
    """What a wheel turned out to be.

    Attributes:
        name: normalised (PEP 503). version: as its metadata says it.
        files: as the lock has it of the package (LockedPackage.files).
        sources: what byte code can be made of, in the layer's order.
        source_bytes: of all Python files in it.
    """

    name: str
    version: str
    files: str
    sources: tuple[Source, ...]
    source_bytes: int


class Members(Protocol):
    """A wheel's members, from wherever they are to be had: the file itself, or what was installed of it (`layers.installed`).

    Attributes:
        all: in the order of the file; folders among them.
    """

    @property
    def all(self) -> Sequence[zip.Member]: ...

    def read(self, member: zip.Member, limit: int) -> bytes:
        """Content of a small member, of at most `limit` bytes."""

    def sequentially(self, places: Mapping[str, str]) -> Iterator[tuple[zip.Member, Iterator[memoryview]]]:
        """From front to back, each with its bytes as `Member.method` says; whoever takes a member need not take its bytes. Nothing of them
        may be believed before the last member was taken.

        Args:
            places: name -> path in the image, of every member whose bytes will be taken; RECORD's may be, too.
        """


def write_wheel(
    wheel: BinaryIO,
    writer: LayerWriter,
    layout: Layout,
    *,
    file: str,
    sha256: str,
    extra: Mapping[str, bytes] = {},
    rebuilt: bool = False,
) -> TranscodedWheel:
    """Write a wheel's files into a layer.

    Several may share one. A path that two of them have is written once, if both have the same content for it. Nothing of the layer may be
    believed when this raises.

    Args:
        wheel: seekable.
        file: its file name. sha256: what it must be, hex.
        extra: path, relative to the site directory -> content, of what is put beside it and into its RECORD.
        rebuilt: it was packed from installed files, and where their RECORD had no hash its own has none.

    Raises:
        InputError: it is another file, no wheel, or one that is refused; the member is named.
    """
    return write_members(_Archived(wheel, file, sha256), writer, layout, file=file, extra=extra, rebuilt=rebuilt)


def write_members(
    members: Members, writer: LayerWriter, layout: Layout, *, file: str, extra: Mapping[str, bytes] = {}, rebuilt: bool = False
) -> TranscodedWheel:
    """As `write_wheel`, of a wheel whose members come from elsewhere. Raises as that, and whatever `members` raises."""
    return _Transcoder(members, writer, layout, file, rebuilt=rebuilt).run(extra)


def read_sources(wheel: BinaryIO, layout: Layout, *, file: str, sha256: str, largest: int) -> Iterator[tuple[str, bytes]]:
    """The Python files that byte code can be made of (`TranscodedWheel.sources`): path in the layer and content, in the wheel's order.

    Nothing of them may be believed before the last one was taken: only then is the whole wheel hashed.

    Args:
        wheel, layout, file, sha256: as in `write_wheel`.
        largest: bytes; larger ones are left out.

    Raises:
        InputError: as in `write_wheel`.
    """
    return _Transcoder(_Archived(wheel, file, sha256), LayerWriter(lambda _: None), layout, file, rebuilt=True).sources(largest)


def read_member_sources(members: Members, layout: Layout, *, file: str, largest: int) -> Iterator[tuple[str, bytes]]:
    """As `read_sources`, of a wheel whose members come from elsewhere; each is held against its RECORD."""
    return _Transcoder(members, LayerWriter(lambda _: None), layout, file, rebuilt=False).sources(largest)


class _Archived:
    """See `Members`: those of a wheel file, which is hashed while it is read."""

    def __init__(self, wheel: BinaryIO, file: str, sha256: str) -> None:
        self._wheel = wheel
        self._file = file
        self._sha256 = sha256
        self._archive = zip.read_archive(wheel, file)

    @property
    def all(self) -> Sequence[zip.Member]:
        return self._archive.members

    def read(self, member: zip.Member, limit: int) -> bytes:
        return zip.read_member(self._wheel, self._archive, member, limit)

    def sequentially(self, places: Mapping[str, str]) -> Iterator[tuple[zip.Member, Iterator[memoryview]]]:  # noqa: ARG002
        self._wheel.seek(0)
        source = zip.HashedFile(self._wheel)
        yield from zip.read_sequentially(source, self._archive)
        if source.finish() != self._sha256:
            raise InputError(f"{self._file} is another file than was asked for", why=f"its SHA-256 is not {self._sha256[:12]}…")


class _Transcoder:
    def __init__(self, wheel: Members, writer: LayerWriter, layout: Layout, file: str, *, rebuilt: bool) -> None:
        self._wheel = wheel
        self._writer = writer
        self._layout = layout
        self._file = file
        self._members = {member.name: member for member in wheel.all if not member.is_folder}
        self._metadata_name = self._find_metadata()
        self._scripts_folder = f"{self._metadata_name.removesuffix('.dist-info')}.data/scripts/"
        self._interpreter = layout.program
        self._record_data = self._read("RECORD", _RECORD_BYTES)
        self._headers = self._identity()
        try:
            self._rows = read_rows(self._record_data)
            entry_points = self._text("entry_points.txt") if f"{self._metadata_name}/entry_points.txt" in self._members else ""
            self._scripts = scripts.entry_point_scripts(entry_points, self._interpreter, layout.python)
        except ValueError as error:
            self._refuse(str(error))
        self._rebuilt = rebuilt
        self._folders: set[str] = set()
        self._installed: list[Installed] = []

    def run(self, extra: Mapping[str, bytes]) -> TranscodedWheel:
        metadata = f"{self._layout.site}/{self._metadata_name}"
        own = {f"{metadata}/INSTALLER": b"envsnap\n"} | {f"{self._layout.site}/{path}": data for path, data in extra.items()}
        places = self._places(own)
        self._check_record(places)
        environment.directories(self._layout, self._writer)
        for member, pieces in self._wheel.sequentially(places):
            if (path := places.get(member.name)) is not None:
                self._install(member, pieces, path)
            elif member.name == f"{self._metadata_name}/RECORD" and self._content(member, pieces) != self._record_data:
                self._refuse("it changed while it was read")
        for name in sorted(self._scripts):
            self._put(f"{self._layout.prefix}/bin/{name}", self._scripts[name], 0o755)
        for path in sorted(own):
            self._put(path, own[path], 0o644)
        self._writer.file(f"{metadata}/RECORD", write_rows(self._installed, self._metadata_name, self._layout))
        below = self._layout.site + "/"
        return TranscodedWheel(
            name=normalised(self._headers.one("name")),
            version=self._headers.one("version"),
            files=files_digest(self._installed, self._metadata_name, self._layout),
            sources=tuple(
                Source(done.path, done.size) for done in self._installed if done.path.endswith(".py") and done.path.startswith(below)
            ),
            source_bytes=sum(member.size for member in self._wheel.all if member.name.endswith(".py")),
        )

    def sources(self, largest: int) -> Iterator[tuple[str, bytes]]:
        places, below = self._places(()), f"{self._layout.site}/"
        self._check_record(places)
        for member, pieces in self._wheel.sequentially(places):
            path = places.get(member.name, "")
            if path.startswith(below) and path.endswith(".py") and member.size <= largest:
                data = self._content(member, pieces)
                self._check_hash(member, hashlib.sha256(data).hexdigest(), self._rows[member.name])
                yield path, data

    def _refuse(self, why: str) -> NoReturn:
        raise InputError(f"refused {self._file}", why=why)

    # What it says of itself.

    def _find_metadata(self) -> str:
        """Name of its .dist-info folder, which must be the one that the file's name promises."""
        named = _FILE_NAME.match(self._file)
        if named is None:
            self._refuse("its name is not that of a wheel")
        found = sorted({top for path in self._members if (top := path.partition("/")[0]).endswith(".dist-info")})
        if len(found) != 1:
            self._refuse(f"it has {len(found)} .dist-info folders" if found else "it has no .dist-info folder")
        name, _, version = found[0].removesuffix(".dist-info").partition("-")
        if normalised(name) != normalised(named["name"]) or not _same_version(version, named["version"]):
            self._refuse(f"{found[0]} is the metadata of another wheel")
        return found[0]

    def _identity(self) -> Headers:
        wheel, metadata = Headers(self._text("WHEEL")), Headers(self._text("METADATA"))
        version = wheel.one("wheel-version")
        if re.match(r"1\.[0-9]+\Z", version) is None:
            self._refuse(f"it is of version {version[:20]!r} of the format, and 1 is what is known")
        stem = self._metadata_name.removesuffix(".dist-info")
        if normalised(metadata.one("name")) != normalised(stem.partition("-")[0]):
            self._refuse(f"its METADATA is that of {metadata.one('name')[:80]!r}")
        if not _same_version(metadata.one("version"), stem.partition("-")[2]):
            self._refuse(f"its METADATA is that of version {metadata.one('version')[:80]!r}")
        return metadata

    def _text(self, name: str) -> str:
        return self._read(name, _TEXT_BYTES).decode("utf-8", "replace")

    def _read(self, name: str, limit: int) -> bytes:
        member = self._members.get(f"{self._metadata_name}/{name}")
        if member is None:
            self._refuse(f"it has no {self._metadata_name}/{name}")
        return self._wheel.read(member, limit)

    # Where its members go.

    def _places(self, own: Iterable[str]) -> dict[str, str]:
        """Name of each member that is installed -> its path, which leads to a place in the layer (`place_of`)."""
        own_data = f"{self._metadata_name.removesuffix('.dist-info')}.data"
        layout = self._layout
        left_out = {f"{self._metadata_name}/{name}" for name in ("RECORD", *_SIGNATURES)}
        taken = {*own, *(f"{layout.prefix}/bin/{name}" for name in self._scripts), f"{layout.site}/{self._metadata_name}/RECORD"}
        places: dict[str, str] = {}
        owners: dict[str, str] = {}
        for name in self._members:
            if name in left_out or is_byte_code(name):
                continue
            top, _, rest = name.partition("/")
            path = path_of(name, layout)
            if path is None or (top.endswith(".data") and rest and top != own_data):
                self._refuse(f"{name} belongs to no scheme that an installer knows")
            if name.startswith(self._scripts_folder) and scripts.wraps(name.removeprefix(self._scripts_folder), self._scripts):
                continue
            place = place_of(path, layout)
            if place in taken:
                if name.startswith(f"{self._metadata_name}/"):
                    continue  # an INSTALLER of where it was packed, say
                self._refuse(f"{name} would lie where something else is put")
            if (other := owners.setdefault(place, name)) != name:
                if self._rows.get(other) != self._rows.get(name):
                    self._refuse(f"{other} and {name} would lie at one place")
                if places[other] == path:  # else it is one file, and RECORD has both of its paths
                    continue
            places[name] = path
        return places

    def _check_record(self, places: Mapping[str, str]) -> None:
        """What is installed is in RECORD and has its hash and size there, and all that is in RECORD is in the wheel."""
        for name in places:
            row, member = self._rows.get(name), self._members[name]
            if row is None:
                self._refuse(f"{name} is not in its RECORD")
            if not row.sha256 and not self._rebuilt:
                self._refuse(f"{name} has no hash in its RECORD")
            if row.size not in (-1, member.size):
                self._refuse(f"{name} has {member.size:,} bytes, and {row.size:,} in its RECORD")
        for name in self._rows.keys() - self._members.keys():
            if not is_byte_code(name):
                self._refuse(f"its RECORD has {name}, and it has not")

    # Writing.

    def _install(self, member: zip.Member, pieces: Iterator[memoryview], path: str) -> None:
        row = self._rows[member.name]
        executable = member.mode & _KIND == _REGULAR and member.mode & _EXECUTABLE
        mode = 0o755 if executable else 0o644
        place = place_of(path, self._layout)
        self._ancestors(place, member.name)
        if member.name.startswith(self._scripts_folder):
            first = next(pieces, memoryview(b""))
            pieces = chain((first,), pieces)
            if _begins(member, first).startswith(scripts.SHEBANG):
                self._install_script(member, pieces, path, mode, row)
                return
        held = self._writer.content(place)
        if held is not None:
            sha256 = hashlib.sha256(self._content(member, pieces)).hexdigest()
            if sha256 != held:
                self._refuse(f"{member.name} is in another wheel of the layer, too, with other content")
        else:
            with self._naming(member.name):
                if member.method == zip.DEFLATED:
                    sha256 = self._writer.deflated(place, pieces, size=member.size, crc32=member.crc32, mode=mode)
                else:
                    sha256 = self._writer.stream(place, pieces, size=member.size, mode=mode)
        self._check_hash(member, sha256, row)
        self._installed.append(Installed(path, sha256 if row.sha256 else "", member.size))

    def _install_script(self, member: zip.Member, pieces: Iterator[memoryview], path: str, mode: int, row: Row) -> None:
        if member.size > _SCRIPT_BYTES:
            self._refuse(f"{member.name} has {member.size:,} bytes, too many for a script")
        data = self._content(member, pieces)
        self._check_hash(member, hashlib.sha256(data).hexdigest(), row)
        self._put(path, scripts.with_interpreter(data, self._interpreter), mode)

    def _check_hash(self, member: zip.Member, sha256: str, row: Row) -> None:
        if row.sha256 and sha256 != row.sha256:
            self._refuse(f"{member.name} is not what its RECORD says")

    def _content(self, member: zip.Member, pieces: Iterable[memoryview]) -> bytes:
        """Of a member that is small, or was found small elsewhere."""
        if member.size > _RECORD_BYTES:
            self._refuse(f"{member.name} has {member.size:,} bytes, too many for a file of two wheels")
        if member.method == zip.STORED:
            return b"".join(pieces)
        inflater = Inflater(member.name, member.size)
        with self._naming(member.name):
            data = b"".join(part for piece in pieces for part in inflater.inflate(piece))
            inflater.finish(member.crc32)
        return data

    def _put(self, path: str, data: bytes, mode: int) -> None:
        self._ancestors(path, path)
        sha256 = hashlib.sha256(data).hexdigest()
        held = self._writer.content(path)
        if held is None:
            with self._naming(path):
                self._writer.file(path, data, mode)
        elif held != sha256:
            self._refuse(f"{path} is in another wheel of the layer, too, with other content")
        self._installed.append(Installed(path, sha256, len(data)))

    @contextmanager
    def _naming(self, member: str) -> Iterator[None]:
        """What the writer refuses is refused for this wheel and member."""
        try:
            yield
        except InputError as error:
            raise InputError(f"refused {self._file}", why=f"{member}: {error.why}") from error

    def _ancestors(self, path: str, member: str) -> None:
        missing = [*takewhile(lambda folder: folder not in self._folders and folder.startswith(self._layout.prefix), parents(path))]
        with self._naming(member):
            for one in reversed(missing):
                environment.directory(one, self._layout, self._writer)
        self._folders.update(missing)


def _same_version(one: str, other: str) -> bool:
    """File names write "-" as "_", and may write a version in another form."""
    one, other = one.replace("_", "-"), other.replace("_", "-")
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def _begins(member: zip.Member, first: memoryview) -> bytes:
    """The first few bytes of content."""
    if member.method == zip.STORED:
        return bytes(first[:16])
    try:
        return zlib.decompressobj(-15).decompress(first, 16)
    except zlib.error:
        return b""  # whoever inflates all of it says so
