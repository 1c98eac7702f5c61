"""What registries said of the catalogue's images, and the change of the catalogue that would follow."""

from __future__ import annotations

from envsnap.model.base import Release, Statement
from envsnap.model.kinds import Digest, Value


class Asked(Value, frozen=True, kw_only=True):
    """An image that a registry told of.

    Attributes:
        reference: as it was asked for; digest: what that stands for.
        row: the catalogue's; None where it would be a new one.
        statements: held against the row.
        proposed: the row as it would be; the row itself where nothing changes.
    """

    reference: str
    digest: Digest
    row: Release | None
    statements: tuple[Statement, ...]
    proposed: Release


class Skipped(Value, frozen=True, kw_only=True):
    """An image that nothing is proposed for. Attributes: why: one line."""

    reference: str
    why: str


class Refreshed(Value, frozen=True, kw_only=True):
    """Attributes:
    diff: of the catalogue's files, as `git apply` takes it; "" where nothing changes.
    asked, skipped: in the order in which they were asked for.
    """

    diff: str
    asked: tuple[Asked, ...]
    skipped: tuple[Skipped, ...]
