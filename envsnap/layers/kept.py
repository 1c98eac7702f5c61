"""A tree that was kept at the capture (an interpreter, all that conda installed) becomes a layer, and is held against the lock.

The archive comes with a lock, from anywhere: it is read as a foreign layer is, and what is not a file, a directory or a symbolic link
is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from envsnap.errors import InputError
from envsnap.guest.conda import CondaPackage, parse_record
from envsnap.layers.reader import LayerReader, Member
from envsnap.layers.writer import SMALL_BYTES, LayerWriter
from envsnap.oci.paths import parents

_RECORDS = "conda-meta/"
_RECORD_BYTES = 64 << 20  # of all records: memory


def write_kept(tree: Iterable[bytes], writer: LayerWriter, *, top: str, conda: Mapping[str, str | None] = {}) -> None:
    """Write all of a tree below a directory.

    Args:
        tree: the archive's bytes; whoever hands them over holds them against their digest.
        top: the directory, without a leading "/".
        conda: NAME-VERSION-BUILD of each package that must be in it -> digest of its files (LockedCondaPackage.files).

    Raises:
        InputError: the archive is damaged or refused, or its packages are not those.
    """
    reader = LayerReader(tree, what="a tree of the lock")
    records: dict[str, bytes] = {}
    left = _RECORD_BYTES
    writer.directory(top)
    for member in reader:
        if not member.path:
            continue
        place = f"{top}/{member.path}"
        for folder in _folders(member):
            writer.directory(f"{top}/{folder}")
        match member.kind:
            case "directory":
                pass
            case "link":
                writer.symlink(place, member.target)
            case "file" if conda and _is_record(member.path):
                left -= member.size
                if left < 0:
                    raise _refused(f"conda's records have more than {_RECORD_BYTES >> 20} MiB")
                records[member.path] = data = b"".join(reader.content())
                writer.file(place, data)
            case "file":
                _write_file(reader, member, place, writer)
            case _:
                raise _refused(f"{member.path!r} is neither a file, a directory nor a symbolic link")
    if conda:
        _check(conda, records, top, writer)


def read_modules(tree: Iterable[bytes], *, top: str, python: str, largest: int) -> Iterator[tuple[str, bytes]]:
    """The tree's Python files in the standard library and the site directory: path in the layer, and content.

    Args:
        python: "3.11". largest: bytes; larger ones are left out.
    """
    reader = LayerReader(tree, what="a tree of the lock")
    for member in reader:
        is_module = member.kind == "file" and member.path.startswith(f"lib/python{python}/") and member.path.endswith(".py")
        if is_module and member.size <= largest:
            yield f"{top}/{member.path}", b"".join(reader.content())


def _folders(member: Member) -> Iterator[str]:
    """The directories above it, from above, and itself if it is one."""
    yield from reversed([*parents(member.path)])
    if member.kind == "directory":
        yield member.path


def _write_file(reader: LayerReader, member: Member, place: str, writer: LayerWriter) -> None:
    mode = 0o755 if member.mode & 0o100 else 0o644
    if member.size > SMALL_BYTES:
        writer.stream(place, reader.content(), size=member.size, mode=mode)
    else:
        writer.file(place, b"".join(reader.content()), mode)


def _is_record(path: str) -> bool:
    return path.startswith(_RECORDS) and path.endswith(".json") and "/" not in path.removeprefix(_RECORDS)


def _check(wanted: Mapping[str, str | None], records: Mapping[str, bytes], top: str, writer: LayerWriter) -> None:
    """As the collector judges an image: the same packages, by version and by files, and each file as its record has it."""
    found = {path.removeprefix(_RECORDS).removesuffix(".json"): data for path, data in records.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if name not in wanted or name not in found:
            raise _other(f"conda's {name} {'was not expected' if name in found else 'is missing'}")
        try:
            package = parse_record(found[name].decode("utf-8", "surrogateescape"))
        except ValueError as error:
            raise _refused(f"{_RECORDS}{name}.json is not a record of conda: {error}") from error
        if "{name}-{version}-{build}".format(**package.facts) != name:
            raise _other(f"{_RECORDS}{name}.json is the record of another package")
        if wanted[name] not in (None, package.facts["files"]):
            raise _other(f"conda's {name} has other files: {package.facts['files'][:19]}…, the lock says {(wanted[name] or '')[:19]}…")
        if changed := _changed(package, top, writer):
            raise _other(f"conda's {name}: {changed} is not as its record has it")


def _changed(package: CondaPackage, top: str, writer: LayerWriter) -> str:
    """The first file that is missing or has other content; "" for none."""
    for file in package.files:
        content = writer.content(f"{top}/{file.path}")
        if content is None or (file.has_content and content != file.in_prefix):
            return file.path
    return ""


def _refused(why: str) -> InputError:
    return InputError("refused a tree of the lock", why=why)


def _other(why: str) -> InputError:
    return InputError("a tree of the lock is not what the lock says of it", why=why, hint="capture again: they contradict each other")
