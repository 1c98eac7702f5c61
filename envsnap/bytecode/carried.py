"""The interpreter that a lock keeps (`LockedTree`, or conda's in `LockedConda.tree`), on this host."""

from __future__ import annotations

import re
from pathlib import Path

from envsnap import archive
from envsnap.blobs import BlobStore
from envsnap.bytecode.interpreters import Command
from envsnap.errors import InputError, TargetError
from envsnap.layers.reader import LayerReader
from envsnap.storage import disk_errors, new_directory

_CHUNK = 1 << 20
_MAX_BYTES = 1 << 30


def unpack_carried(blobs: BlobStore, digest: str, program: str, directory: Path) -> Command:
    """Unpack it; it can be started where this host has the C library and the libraries that it needs, which whoever asks it finds out.

    Args:
        program: file name of the program in its `bin/`, "python3.11".
        directory: is there as a whole when this returns; what was in its place is gone.

    Raises:
        InputError: the blob is missing, or not what its digest says, or no such archive.
        TargetError: the disk is full.
    """
    with new_directory(directory) as fresh:
        blobs.copy_to(digest, whole := fresh / ".tar")
        with whole.open("rb") as file:
            try:
                archive.unpack(iter(lambda: file.read(_CHUNK), b""), fresh)
            except TargetError as error:
                raise InputError(f"blob {digest[:19]} is no interpreter", why=f"{error.what}: {error.why}") from error
        whole.unlink()
        found = fresh / "bin" / program
        if not found.is_file():
            raise InputError(f"blob {digest[:19]} is no interpreter", why=f"it has no bin/{program}")
        found.chmod(0o755)
    return Command(argv=(str(directory / "bin" / program),))


def unpack_conda(blobs: BlobStore, digest: str, python: str, directory: Path) -> Command:
    """Unpack the interpreter of a tree of conda's packages, and of its library what there is to compile with: no other package.

    Args:
        python: "3.11". directory: as in `unpack_carried`.

    Raises:
        InputError: the blob is missing, or not what its digest says, or has no interpreter.
        TargetError: the disk is full.
    """
    program, left = f"bin/python{python}", _MAX_BYTES
    wanted = re.compile(rf"{re.escape(program)}\Z|lib/libpython3[^/]*\Z|lib/python{re.escape(python)}/(?!site-packages/).*\.py\Z")
    with new_directory(directory) as fresh, disk_errors(f"write {directory}", directory):
        reader = LayerReader(blobs.pieces(digest), what=f"blob {digest[:19]}")
        for member in reader:
            if member.kind != "file" or not wanted.match(member.path):
                continue
            left -= member.size
            if left < 0:
                raise InputError(f"refused blob {digest[:19]}", why=f"its Python has more than {_MAX_BYTES} bytes")
            (place := fresh / member.path).parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                file.writelines(reader.content())
        if not (fresh / program).is_file():
            raise InputError(f"blob {digest[:19]} is no interpreter", why=f"it has no {program}")
        (fresh / program).chmod(0o755)
    return Command(argv=(str(directory / program),), env={"LD_LIBRARY_PATH": str(directory / "lib")})
