"""Names of an image, and where they lie below the directory that holds its file system."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

_MAX_LINKS = 40  # for one name, as the kernel allows
_MAX_DEPTH = 255  # what removes a tree goes down by recursion


class LeadsNowhere(Exception):
    """A name that no directory of an image can have."""


def resolve(root: str, path: str, *, make: Callable[[str], object] | None = None) -> str | None:
    """Where a name of an image really lies: links on the way lead to places of the image, whatever they say, and ".." ends at its root.

    Args:
        path: with or without a leading "/".
        make: called with each directory that is missing; without it what is missing makes the answer None.

    Returns:
        A place below `root` without a link in it. All but its last part are directories; that, too, where `make` is given.

    Raises:
        LeadsNowhere: links go round in circles, or something that is no directory is in the way.
    """
    done: list[str] = []
    pending = path.split("/")[::-1]
    links = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        place = "/".join((root, *done, part))
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            if make is None:
                return None
            make(place)
            mode = stat.S_IFDIR
        if stat.S_ISLNK(mode):
            links += 1
            if links > _MAX_LINKS:
                raise LeadsNowhere(f"the links of {path!r} go round in circles")
            target = str(Path(place).readlink())
            if target.startswith("/"):
                done.clear()
            pending += target.split("/")[::-1]
            continue
        if not stat.S_ISDIR(mode) and (pending or make is not None):
            raise LeadsNowhere(f"{path!r} leads through what is no directory")
        done.append(part)
        if len(done) > _MAX_DEPTH:
            raise LeadsNowhere(f"a directory lies more than {_MAX_DEPTH} deep")
    return "/".join((root, *done))


def read(root: str, path: str, *, limit: int) -> bytes | None:
    """The content of a file of the image, at most `limit` bytes of it; None where it has none that can be read."""
    try:
        place = resolve(root, path)
        if place is None or not stat.S_ISREG(os.lstat(place).st_mode):
            return None
        with Path(place).open("rb") as file:
            return file.read(limit)
    except (LeadsNowhere, OSError):
        return None
