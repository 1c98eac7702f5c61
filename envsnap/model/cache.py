"""What a cache keeps, as numbers."""

from __future__ import annotations

from envsnap.model.kinds import Value


class Kept(Value, frozen=True, kw_only=True):
    """Attributes: kind: "layers", "wheels", … entries: files, or directories that go as a whole. bytes: on disk."""

    kind: str
    entries: int
    bytes: int


class CacheState(Value, frozen=True, kw_only=True):
    """Attributes: directory: where it lies. kinds: largest first."""

    directory: str
    kinds: tuple[Kept, ...]

    @property
    def bytes(self) -> int:
        return sum(kept.bytes for kept in self.kinds)
