"""Other versions of a package: the wheel of an index that fits an interpreter, and what wheels require."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from itertools import product
from pathlib import Path
from typing import IO, cast

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from envsnap.probes.index import Broken, Found, PipConfig, published
from envsnap.probes.pages import ListedFile, Location, NoProject, Pages, Unanswered
from envsnap.probes.wheel_record import PiecewiseFile, Unreadable, installed_files
from envsnap.progress import Progress
from envsnap.storage import write_file

_THREADS = 12
_METADATA_LIMIT_BYTES = 16 << 20
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A wheel of an index.

    Attributes:
        index: as in the lock's IndexOrigin.
        version: as its METADATA writes it, which is what an installation says too.
        tags: of its WHEEL, expanded, in WHEEL's order: as a capture finds them.
        files: as in `LockedPackage.files`.
        requires: its Requires-Dist lines; requires_python: "" where it does not say.
    """

    file: str
    version: str
    sha256: str
    index: str | None
    yanked: bool
    tags: tuple[str, ...]
    files: str
    requires: tuple[str, ...]
    requires_python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotThere:
    """All were asked and nobody has it. Attributes: near: versions that there are wheels of for this interpreter, around it."""

    reason: str
    near: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAnswered:
    """Somebody could not be asked."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A package whose wheel an index has. Attributes: index: as in the lock's IndexOrigin."""

    name: str
    file: str
    sha256: str
    index: str | None


class Releases:
    """Asks the indexes of a pip configuration.

    Args:
        cache: as for `envsnap.probes.index`; what a wheel requires is read once ever.
    """

    def __init__(self, config: PipConfig, *, offline: bool, cache: Path) -> None:
        self._pages = Pages(cache, offline=offline, ca_bundle=None, pip_cert=config.certificates_file(cache))
        self._kept = cache / "requires"
        self._locations = config.locations()

    def find(
        self, name: str, version: str, supported: Sequence[str], *, index: str | None, python: str
    ) -> Release | NotThere | NotAnswered:
        """The best wheel of exactly this version, a local part included.

        Args:
            supported: tags that the interpreter takes, best first.
            index: where the package came from; None for the default index, or where that is not known.
            python: "3.11".
        """
        ranks = {tag: rank for rank, tag in enumerate(supported)}
        silent: list[str] = []
        fitting: set[str] = set()
        refused: list[str] = []
        locations = self._where(index)
        if not locations:
            return NotAnswered(reason=f"{index}, where it came from, is not in pip's configuration here")
        for location in locations:
            try:
                files = self._files(location, name)
            except Unanswered as error:
                silent.append(str(error))
                continue
            candidates = [(rank, file) for file in files if (rank := _rank(file.name, name, ranks)) is not None]
            fitting |= {_version(file.name) for _, file in candidates}
            same = sorted(((rank, file) for rank, file in candidates if _is(file.name, version)), key=lambda pair: pair[0])
            for _, file in same:
                answer = published(file, location)
                if isinstance(answer, Found):
                    try:
                        return self._release(location, file, answer, python)
                    except Unanswered as error:
                        silent.append(str(error))
                        break
                (silent if isinstance(answer, Broken) else refused).append(answer.reason)
        if silent:
            return NotAnswered(reason="; ".join(dict.fromkeys(silent)))
        none = f"no index has a wheel of {name} {version} that fits this interpreter"
        return NotThere(reason="; ".join(dict.fromkeys(refused)) or none, near=_near(fitting - {str(Version(version))}, version))

    def _where(self, index: str | None) -> list[Location]:
        """Where a package of that index is looked for. A name that a private index has may be anybody's elsewhere: for such a package
        no other index is asked, but for folders that are named on purpose.
        """
        if index is None:
            return sorted(self._locations, key=lambda each: each.label is not None)
        same = [location for location in self._locations if location.label == index]
        links = [location for location in self._locations if location.kind == "find-links" and location not in same]
        return [*same, *links] if same else links

    def find_all(
        self, wanted: Sequence[tuple[str, str]], supported: Sequence[str], *, python: str, progress: Progress
    ) -> dict[str, Release | NotThere | NotAnswered]:
        """`find` for many names and versions at once, by name."""
        with progress.task("ask the package indexes", total=len(wanted), unit="packages") as task, ThreadPoolExecutor(_THREADS) as pool:
            found = {}
            work = pool.map(lambda each: self.find(each[0], each[1], supported, index=None, python=python), wanted)
            for (name, _), answer in zip(wanted, work, strict=True):
                found[name] = answer
                task.advance(1)
        return found

    def requires(self, packages: Sequence[Known], progress: Progress) -> dict[str, tuple[str, ...]]:
        """Requires-Dist lines of each package, by name; those that cannot be read are left out."""
        with progress.task("what the packages require", total=len(packages), unit="packages") as task, ThreadPoolExecutor(_THREADS) as pool:
            found: dict[str, tuple[str, ...]] = {}
            for package, lines in zip(packages, pool.map(self._requires_of, packages), strict=True):
                if lines is not None:
                    found[package.name] = lines
                task.advance(1)
        return found

    def _requires_of(self, package: Known) -> tuple[str, ...] | None:
        kept = self._kept / package.sha256
        if (known := _read_kept(kept)) is not None:
            return known
        try:
            requires = self._read_requires(package)
        except (Unanswered, Unreadable):
            return None
        write_file(kept, json.dumps({"requires": requires}).encode("ascii"))
        return requires

    def _read_requires(self, package: Known) -> tuple[str, ...]:
        for location in self._locations:
            if location.label == package.index:
                for file in self._files(location, package.name):
                    if file.name == package.file and _is_published(file, location, package.sha256):
                        with self._pages.opened(location, file) as wheel:
                            return read_requires(wheel)
        raise Unanswered("no longer there")

    def _release(self, location: Location, file: ListedFile, found: Found, python: str) -> Release:
        try:
            with self._pages.opened(location, file) as wheel:
                files = installed_files(wheel, python)
                metadata, tags = _headers(wheel, "METADATA"), _tags(_headers(wheel, "WHEEL"))
        except Unreadable as error:
            raise Unanswered(f"{location.shown} has {file.name}, and {error}") from error
        version = str(metadata.get("Version", ""))
        if not _is(file.name, version):
            raise Unanswered(f"{location.shown} has {file.name}, and its METADATA says version {version or 'none'}")
        return Release(
            file=file.name,
            version=version,
            sha256=found.sha256,
            index=found.index,
            yanked=found.yanked,
            tags=tags,
            files=files,
            requires=_requires_dist(metadata),
            requires_python=str(metadata.get("Requires-Python", "")),
        )

    def _files(self, location: Location, name: str) -> Sequence[ListedFile]:
        try:
            return self._pages.project(location, name) if location.kind == "index" else self._pages.links(location)
        except NoProject:
            return ()


def read_requires(wheel: IO[bytes] | PiecewiseFile) -> tuple[str, ...]:
    """Requires-Dist lines of a wheel's METADATA. Raises Unreadable."""
    return _requires_dist(_headers(wheel, "METADATA"))


def _requires_dist(metadata: Message) -> tuple[str, ...]:
    return tuple(str(line) for line in metadata.get_all("Requires-Dist", []))


def _headers(wheel: IO[bytes] | PiecewiseFile, part: str) -> Message:
    """METADATA or WHEEL."""
    try:
        with zipfile.ZipFile(cast("IO[bytes]", wheel)) as archive:
            names = [info for info in archive.infolist() if re.fullmatch(rf"[^/]+\.dist-info/{part}", info.filename)]
            if len(names) != 1:
                raise Unreadable(f"it has {len(names) or 'no'} {part}")
            with archive.open(names[0]) as file:
                data = file.read(_METADATA_LIMIT_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise Unreadable(f"it is not a wheel that can be read ({type(error).__name__})") from error
    if len(data) > _METADATA_LIMIT_BYTES:
        raise Unreadable(f"its {part} has more than {_METADATA_LIMIT_BYTES >> 20} MiB")
    return HeaderParser().parsestr(data.decode("utf-8", "replace"))


def _tags(wheel: Message) -> tuple[str, ...]:
    lines = [str(line).split("-") for line in wheel.get_all("Tag", [])]
    expanded = ("-".join(parts) for line in lines if len(line) == 3 for parts in product(*(part.split(".") for part in line)))
    return tuple(dict.fromkeys(expanded))


def _read_kept(kept: Path) -> tuple[str, ...] | None:
    """None where nothing usable is kept."""
    try:
        known = json.loads(kept.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    lines = known.get("requires") if isinstance(known, dict) else None
    return tuple(map(str, lines)) if isinstance(lines, list) else None


def _is_published(file: ListedFile, location: Location, sha256: str) -> bool:
    answer = published(file, location)
    return isinstance(answer, Found) and answer.sha256 == sha256


def _rank(file: str, name: str, ranks: Mapping[str, int]) -> int | None:
    """How well a wheel fits, 0 for best; None for one of another project or interpreter."""
    try:
        project, _, _, tags = parse_wheel_filename(file)
    except (InvalidWheelFilename, InvalidVersion):
        return None
    found = [ranks[str(tag)] for tag in tags if str(tag) in ranks]
    return min(found) if found and canonicalize_name(project) == name else None


def _version(file: str) -> str:
    return str(parse_wheel_filename(file)[1])


def _is(file: str, version: str) -> bool:
    try:
        return parse_wheel_filename(file)[1] == Version(version)
    except InvalidVersion:
        return False


def _near(versions: Iterable[str], wanted: str) -> tuple[str, ...]:
    """Those around the one that was asked for, oldest first."""
    asked = Version(wanted)
    known = sorted(version for version in map(Version, versions) if asked.is_prerelease or not version.is_prerelease)
    place = bisect(known, asked)
    start = max(0, min(place - _SHOWN // 2, len(known) - _SHOWN))
    return tuple(map(str, known[start : start + _SHOWN]))
