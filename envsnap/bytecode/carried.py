"""The interpreter that a lock keeps (`LockedTree`), on this host."""

from __future__ import annotations

from pathlib import Path

from envsnap import archive
from envsnap.bytecode.interpreters import Command
from envsnap.errors import InputError, TargetError
from envsnap.storage import BlobStore, new_directory

_CHUNK = 1 << 20


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
