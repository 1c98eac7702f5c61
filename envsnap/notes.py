"""What is remembered in a cache and can be found out again: small documents, believed only as they were written under their name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from envsnap.storage import write_file

T = TypeVar("T")


class _Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attributes: sha256: of the file's name and of `of` as it stands in the file."""

    of: msgspec.Raw
    sha256: str


def write_note(path: Path, value: msgspec.Struct) -> None:
    """Remember something that can be found out again. Raises as `write_file`."""
    data = msgspec.json.encode(value)
    write_file(path, msgspec.json.encode(_Note(of=msgspec.Raw(data), sha256=_note_digest(path, data))), durable=False)


def read_note(path: Path, kind: type[T]) -> T | None:
    """What was remembered there; None where nothing was, or the file is not what was written under its name."""
    try:
        note = msgspec.json.decode(path.read_bytes(), type=_Note)
        return msgspec.json.decode(note.of, type=kind) if _note_digest(path, note.of) == note.sha256 else None
    except (OSError, ValueError):  # msgspec's errors are ValueErrors, and not all of its ValueErrors are its own
        return None


def _note_digest(path: Path, data: bytes | msgspec.Raw) -> str:
    return hashlib.sha256(b"\n".join((os.fsencode(path.name), data))).hexdigest()
