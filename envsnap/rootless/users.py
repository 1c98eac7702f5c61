"""Who an image's processes are, by its own files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from envsnap.errors import TargetError
from envsnap.rootless.inside import read

_MAX_BYTES = 1 << 20
_MAX_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Attributes: uid, gid: as the image's processes see themselves. home: by the image's passwd, "/" for who is not in it."""

    uid: int
    gid: int
    home: str


def identity(root: Path, user: str) -> Identity:
    """Read an image's `User`, or docker's `--user`: "", "1000", "1000:1000", "name" or "name:group".

    Raises:
        TargetError: a name that the image does not know.
    """
    name, _, group = (user or "0").partition(":")
    known = [row for row in _rows(root, "etc/passwd") if len(row) >= 6]
    entry = next((row for row in known if row[0] == name), None) or next((row for row in known if row[2] == name), None)
    uid = _number(entry[2]) if entry else _number(name)
    gid = _number(entry[3]) if entry else 0
    if group:
        entry_of_group = next((row for row in _rows(root, "etc/group") if len(row) >= 3 and row[0] == group), None)
        gid = _number(entry_of_group[2] if entry_of_group else group)
    if uid is None or gid is None:
        raise TargetError(
            f"the image knows no user {user}",
            why="neither its /etc/passwd nor its /etc/group says who that is",
            hint="numbers need no entry there: --user 1000:1000",
        )
    return Identity(uid=uid, gid=gid, home=(entry[5] if entry else "") or "/")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_ID else None


def _rows(root: Path, path: str) -> list[list[str]]:
    text = (read(str(root), path, limit=_MAX_BYTES) or b"").decode("utf-8", "replace")
    return [line.split(":") for line in text.splitlines()]
