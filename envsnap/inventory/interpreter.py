"""The interpreter of an image, taken out of it: enough to run it on another host of the same machine, as any user, without an engine.

It is a plain tar archive of its own shape, so that the same files give the same bytes: below `interpreter/` there are `bin/` and `lib/`
as below the Python's prefix, `libraries/` with all that these load, by soname, `loader/` with the dynamic loader, and `interpreter.json`.
No links, no packages, nothing compiled.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from envsnap import archive
from envsnap.blobs import BlobStore
from envsnap.errors import InputError, TargetError
from envsnap.inventory.files import Directory, File, FileSystem
from envsnap.inventory.libraries import Libraries
from envsnap.inventory.python import Python
from envsnap.inventory.wanted import NOT_OF_STDLIB
from envsnap.model.kinds import RelativePath, Soname, Value
from envsnap.oci.image import EPOCH
from envsnap.storage import new_directory

_ROOT = "interpreter"
_CHUNK = 1 << 20
_MAX_BYTES = 1 << 30
_MAX_FILES = 20_000


class _About(Value, frozen=True, kw_only=True):
    """`interpreter.json`. Attributes: python: path of the program. loader: file below `loader/`."""

    version: str
    python: RelativePath
    loader: Soname


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnableInterpreter:
    """An interpreter that was unpacked.

    Attributes:
        argv: what comes before its own options ("-I", "-S", …): the loader, and the program that it loads.
        env: all that it is to be started with; nothing of the host's, which could lead it to the host's libraries.
        version: "3.11.2".
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    version: str


def pack(files: FileSystem, libraries: Libraries, python: Python, blobs: BlobStore) -> str | None:
    """Put the interpreter into a blob; None where something that it needs was not found.

    Extension modules of the standard library whose libraries are not there are left out, as they could not be imported in the image either.

    Raises:
        TargetError: the disk is full.
    """
    chosen = _choose(files, libraries, python)
    if chosen is None:
        return None
    with blobs.writer(durable=False) as blob:
        for piece in _archive(files, *chosen):
            blob.write(piece)
    return blob.digest


def _choose(files: FileSystem, libraries: Libraries, python: Python) -> tuple[_About, dict[str, File]] | None:
    program = files.file(python.binary)
    elf = libraries.elf(program) if program is not None else None
    loader = files.file(elf.interpreter) if elf is not None else None
    if program is None or elf is None or loader is None or not program.kept or not loader.kept:
        return None
    needed, missing = libraries.closure([(python.binary, program)])
    if missing:
        return None
    inside = {_below(python.prefix, python.binary): program}
    for path, file in _standard_library(files, python.stdlib):
        if path.endswith(".so"):
            more, missing = libraries.closure([(path, file)])
            if missing:
                continue
            needed |= more
        inside[_below(python.prefix, path)] = file
    name = posixpath.basename(elf.interpreter)
    inside |= {f"libraries/{soname}": file for soname, file in needed.items()} | {f"loader/{name}": loader}
    if not all(file.kept for file in inside.values()):
        return None
    return _About(version=python.version, python=_below(python.prefix, python.binary), loader=name), inside


def _standard_library(files: FileSystem, stdlib: str) -> Iterator[tuple[str, File]]:
    """Its modules: paths without links, and files, also those that a link leads to."""
    pending = [stdlib]
    while pending:
        directory = pending.pop()
        for name, node in sorted(files.children(directory).items()):
            path = f"{directory}/{name}"
            if isinstance(node, Directory):
                if name not in NOT_OF_STDLIB:
                    pending.append(path)
            elif name.endswith((".py", ".so")) and not name.startswith(("_test", "xxlimited")):
                file = files.file(path)
                if file is not None and file.kept:
                    yield path, file


def _below(prefix: str, path: str) -> str:
    return path[len(prefix) + 1 :] if prefix else path


def _archive(files: FileSystem, about: _About, inside: Mapping[str, File]) -> Iterator[bytes]:
    document = msgspec.json.encode(about, order="deterministic")
    yield _header("interpreter.json", len(document)) + document + bytes(-len(document) % tarfile.BLOCKSIZE)
    for path, file in sorted(inside.items()):
        yield _header(path, file.size)
        for offset in range(0, file.size, _CHUNK):
            yield files.bytes_of(file, _CHUNK, offset)
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(path: str, size: int) -> bytes:
    header = tarfile.TarInfo(f"{_ROOT}/{path}")
    header.size, header.mtime, header.mode = size, EPOCH, 0o644
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def unpack(blobs: BlobStore, digest: str, directory: Path) -> RunnableInterpreter:
    """Make an interpreter runnable.

    It runs on hosts of its machine whose kernel is not older than its C library wants, below a directory whose files may be run.

    Args:
        directory: is there as a whole when this returns; what was in its place is gone.

    Raises:
        InputError: the blob is missing, or not what its digest says, or not such an archive.
        TargetError: the disk is full.
    """
    with new_directory(directory) as fresh:
        blobs.copy_to(digest, whole := fresh / ".tar")
        with whole.open("rb") as file:
            try:
                archive.unpack(iter(lambda: file.read(_CHUNK), b""), fresh, max_bytes=_MAX_BYTES, max_entries=_MAX_FILES)
            except TargetError as error:
                raise InputError(f"blob {digest[:19]} is no interpreter", why=f"{error.what}: {error.why}") from error
        whole.unlink()
        about = _about(fresh, digest)
        for program in (fresh / "loader" / about.loader, fresh / about.python):
            program.chmod(0o755)
    return RunnableInterpreter(
        argv=(
            str(directory / "loader" / about.loader),
            "--library-path",
            str(directory / "libraries"),
            str(directory / about.python),
        ),
        # The C locale is compiled into the C library: no file of the host's is read for it.
        env={"PATH": "/nonexistent", "HOME": "/nonexistent", "LC_ALL": "C"},
        version=about.version,
    )


def _about(directory: Path, digest: str) -> _About:
    try:
        about = msgspec.json.decode((directory / "interpreter.json").read_bytes(), type=_About)
    except (OSError, ValueError) as error:
        raise InputError(f"blob {digest[:19]} is no interpreter", why=f"interpreter.json: {error}") from error
    for place in (f"loader/{about.loader}", about.python):
        if not (directory / place).is_file():
            raise InputError(f"blob {digest[:19]} is no interpreter", why=f"it has no {place}")
    return about
