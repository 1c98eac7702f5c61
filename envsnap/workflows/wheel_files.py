"""Which files an image's wheels have where, by their RECORDs: one path has one content, whichever layers the wheels lie in."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from envsnap.errors import InputError
from envsnap.layers import zip  # noqa: A004  (a module of the room)
from envsnap.layers.record import Row, places, read_rows
from envsnap.layers.scripts import entry_point_scripts, wraps
from envsnap.model.layers import LayerPlan, Layout, PlannedWheel, WheelsLayer
from envsnap.oci.paths import parents
from envsnap.probes.wheel_ends import WheelEnds

_RECORD_BYTES = 64 << 20
_TEXT_BYTES = 16 << 20
_FEW = 4

Find = Callable[[str], Path | None]
"""SHA-256 -> where that wheel lies; None when it is not at hand."""


class Record(NamedTuple):
    """What a wheel says of its files, by their path in it.

    Attributes:
        members: empty where the wheel is not at hand.
        entry_points: entry_points.txt; "" where there is none, or the wheel is not at hand.
    """

    rows: Mapping[str, Row]
    members: Mapping[str, zip.Member]
    entry_points: str = ""


class _File(NamedTuple):
    """Attributes: sha256: "" where RECORD has none. checksum: size and CRC-32; None where the wheel is not at hand."""

    wheel: PlannedWheel
    sha256: str
    checksum: tuple[int, int] | None


def wheel_record(file: str, sha256: str, wheel: Find, cache: Path) -> Record:
    """RECORD of a wheel: of the file where it is at hand, else as a capture read it; nothing where neither is.

    Raises:
        InputError: it is refused.
    """
    path = wheel(sha256)
    try:
        if path is not None:
            with path.open("rb") as opened:
                archive = zip.read_archive(opened, file)
                members = {member.name: member for member in archive.members}

                def read(name: str, limit: int) -> bytes:
                    # What it brings along below its own packages may have metadata, too, as in setuptools.
                    own = (one for one in archive.members if one.name.endswith(f".dist-info/{name}") and one.name.count("/") == 1)
                    found = next(own, None)
                    return zip.read_member(opened, archive, found, limit) if found is not None else b""

                text = read("entry_points.txt", _TEXT_BYTES).decode("utf-8", "replace")
                return Record(read_rows(read("RECORD", _RECORD_BYTES)), members, text)
        end = WheelEnds(cache).find(sha256)
        return Record(read_rows(end.record) if end is not None else {}, {})
    except ValueError as error:
        raise InputError(f"refused {file}", why=str(error)) from error


def require_one_content(plan: LayerPlan, wheel: Find, cache: Path) -> None:
    """Refuse two wheels of an image that have one path with other content, or of which one has a file where the other has a directory.

    The layer above would win, in silence. Within a layer it is seen when the layer is made; this is for all of them, before any is.

    Raises:
        InputError: there are two.
    """
    files: dict[str, _File] = {}
    folders: dict[str, PlannedWheel] = {}
    for layer in plan.layers:
        for one in layer.wheels if isinstance(layer, WheelsLayer) else ():
            unlike: dict[str, tuple[PlannedWheel, list[str]]] = {}
            for path, file in _files(one, plan.layout, wheel, cache):
                other = files.setdefault(path, file)
                if other.wheel is not one and not _same(other, file):
                    unlike.setdefault(other.wheel.name, (other.wheel, []))[1].append(path)
                if (theirs := folders.get(path, one)) is not one:
                    raise _refused(one, theirs, f"/{path} is a file of {one.file} and a directory of {theirs.file}")
                for folder in parents(path):
                    if folder in folders:
                        break
                    folders[folder] = one
                    if (held := files.get(folder)) is not None and held.wheel is not one:
                        raise _refused(held.wheel, one, f"/{folder} is a file of {held.wheel.file} and a directory of {one.file}")
            for theirs, paths in unlike.values():
                more = f" and {len(paths) - _FEW} more" if len(paths) > _FEW else ""
                raise _refused(theirs, one, f"both have {', '.join(f'/{path}' for path in sorted(paths)[:_FEW])}{more}, with other content")


def _files(one: PlannedWheel, layout: Layout, wheel: Find, cache: Path) -> Iterator[tuple[str, _File]]:
    """What a wheel puts where, as far as its RECORD says it: scripts for entry points are made, and in no wheel."""
    record = Record({}, {})
    # A wheel that is refused is so when its layer is made, by whoever hashes it too, and can tell a damaged copy. Where its layer is
    # remembered it is not needed, and is not fetched for this: if it is not at hand, and no capture on this machine read its RECORD, what
    # it has where is not known, and nothing is held against it.
    with contextlib.suppress(InputError, OSError):
        record = wheel_record(one.file, one.sha256, wheel, cache)
    scripts: Mapping[str, bytes] = {}
    with contextlib.suppress(ValueError):  # so is one with entry points that are none
        scripts = entry_point_scripts(record.entry_points, layout.program, layout.python)
    for path, name in places(record.rows, layout):
        folder, _, script = name.partition(".data/scripts/")
        if script and "/" not in folder and wraps(script, scripts):
            continue
        member = record.members.get(name)
        yield path, _File(one, record.rows[name].sha256, (member.size, member.crc32) if member is not None else None)
    made = {f"{layout.site}/{name}": text.encode() for name, text in one.extra.items()}
    made |= {f"{layout.prefix}/bin/{name}": script for name, script in scripts.items()}
    for path, data in made.items():
        yield path, _File(one, hashlib.sha256(data).hexdigest(), None)


def _same(one: _File, other: _File) -> bool:
    """What cannot be told apart counts as the same."""
    if one.sha256 and other.sha256:
        return one.sha256 == other.sha256
    return None in (one.checksum, other.checksum) or one.checksum == other.checksum


def _refused(one: PlannedWheel, other: PlannedWheel, why: str) -> InputError:
    return InputError(
        f"{one.name} {one.version} and {other.name} {other.version} cannot be in one image",
        why=why,
        hint="install what is wanted of both where the environment is, and capture again: both then have the files that lie there"
        "; of two scripts for entry points take away the package of one",
    )
