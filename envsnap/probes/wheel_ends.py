"""The ends of wheels (`WheelEnd`) that a capture read, kept by the hash that an index publishes for the wheel."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec

from envsnap.notes import read_note, write_note
from envsnap.probes.wheel_record import DIRECTORY_LIMIT_BYTES, RECORD_LIMIT_BYTES, WheelEnd


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attributes: packed: the directory and RECORD, one after the other, by zlib. directory_bytes: of the first."""

    size_bytes: int
    stem: str
    directory_bytes: int
    packed: bytes


class WheelEnds:
    """In a cache's `records/`."""

    def __init__(self, cache: Path) -> None:
        self._directory = cache / "records"

    def keep(self, sha256: str, end: WheelEnd) -> None:
        """Raises TargetError: the cache cannot be written."""
        packed = zlib.compress(end.directory + end.record, 6)
        kept = _Kept(size_bytes=end.size_bytes, stem=end.stem, directory_bytes=len(end.directory), packed=packed)
        write_note(self._place(sha256), kept)

    def find(self, sha256: str) -> WheelEnd | None:
        """None where none was kept, or the file is damaged."""
        kept = read_note(self._place(sha256), _Kept)
        if kept is None:
            return None
        try:
            data = zlib.decompressobj().decompress(kept.packed, DIRECTORY_LIMIT_BYTES + RECORD_LIMIT_BYTES)
        except zlib.error:
            return None
        directory, record = data[: kept.directory_bytes], data[kept.directory_bytes :]
        return WheelEnd(size_bytes=kept.size_bytes, directory=directory, stem=kept.stem, record=record)

    def forget(self, sha256: str) -> None:
        """It turned out to be of another file."""
        self._place(sha256).unlink(missing_ok=True)

    def _place(self, sha256: str) -> Path:
        return self._directory / f"{sha256}.end"
