"""Size and sources of wheels by their hash: what an image's layers are laid out by. It is remembered in `cache/wheels/`, and only of bytes
that were hashed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from envsnap.blobs import BlobStore
from envsnap.errors import InputError
from envsnap.layers.installed import sizes
from envsnap.layers.zip import read_archive
from envsnap.notes import read_note, write_note
from envsnap.probes.wheel_ends import WheelEnds
from envsnap.probes.wheels import Wheels

Facts = tuple[int, int]
"""Bytes of a wheel, and of the Python files in it."""


class _Remembered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    size_bytes: int
    source_bytes: int


def find(hashes: Iterable[str], wheels: Wheels, cache: Path) -> dict[str, Facts]:
    """Of wheels by their hash: remembered, or read from the files at hand; those that are neither are left out.

    Raises:
        InputError: a file is no wheel.
    """
    return {sha256: facts for sha256 in hashes if (facts := _find(sha256, wheels, cache)) is not None}


def unhashed(hashes: Iterable[str], wheels: Wheels, cache: Path) -> dict[str, Facts]:
    """As `find`, of wheels at hand that nothing is remembered of, and without hashing them: right only if the files are.

    Whoever makes a layer of them hashes them, and finds out.
    """
    facts: dict[str, Facts] = {}
    for sha256 in hashes:
        if _recall(sha256, cache) is None and (path := wheels.path(sha256)) is not None:
            with contextlib.suppress(InputError, OSError):  # damaged, it seems: `find` says
                facts[sha256] = _read(path)
    return facts


def said(hashes: Iterable[str], ends: WheelEnds) -> dict[str, Facts]:
    """As `find`, by what an index said of wheels that were never here: something can be foretold from it, and nothing made."""
    facts: dict[str, Facts] = {}
    for sha256 in hashes:
        if (end := ends.find(sha256)) is not None:
            with contextlib.suppress(InputError):
                facts[sha256] = (end.size_bytes, sizes(end.directory, end.size_bytes, end.stem)[1])
    return facts


def size(sha256: str, blobs: BlobStore, cache: Path) -> int | None:
    """Bytes of a wheel: as they were counted when it was hashed, or lie here, or an index said at the capture; None for none of these.

    Args:
        blobs: beside the lock, which may have some.
    """
    if (remembered := _recall(sha256, cache)) is not None:
        return remembered[0]
    digest = f"sha256:{sha256}"
    here = (found for store in (BlobStore(cache / "blobs"), blobs) if (found := store.size(digest)) is not None)
    end = WheelEnds(cache).find(sha256)
    return next(here, end.size_bytes if end is not None else None)


def remember(sha256: str, facts: Facts, cache: Path) -> None:
    """Have them found by `find`. Args: facts: of the very bytes that have this hash.

    Raises:
        TargetError: the cache cannot be written.
    """
    if _recall(sha256, cache) != facts:
        size_bytes, source_bytes = facts
        write_note(_place(sha256, cache), _Remembered(size_bytes=size_bytes, source_bytes=source_bytes))


def _find(sha256: str, wheels: Wheels, cache: Path) -> Facts | None:
    remembered = _recall(sha256, cache)
    if remembered is not None:
        return remembered
    path = wheels.checked(sha256)
    if path is None:
        return None
    found = _read(path)
    remember(sha256, found, cache)
    return found


def _recall(sha256: str, cache: Path) -> Facts | None:
    remembered = read_note(_place(sha256, cache), _Remembered)
    return (remembered.size_bytes, remembered.source_bytes) if remembered is not None else None


def _read(path: Path) -> Facts:
    with path.open("rb") as file:
        members = read_archive(file, path.name).members
        return os.fstat(file.fileno()).st_size, sum(member.size for member in members if member.name.endswith(".py"))


def _place(sha256: str, cache: Path) -> Path:
    return cache / "wheels" / f"{sha256}.json"
