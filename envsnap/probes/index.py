"""The exact wheel behind an installed package, and the hash that its index publishes for it.

pip keeps no note of the file that it installed, but the WHEEL metadata repeats the tags of its name: name, version, build and the
*set* of tags together are the file. Nothing similar is ever taken instead, and a file of the right name that would install other
files is not it either.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from packaging.tags import Tag, parse_tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from envsnap.oci.digest import DIGEST
from envsnap.probes.pages import ListedFile, Location, NoProject, Pages, Unanswered, index_label
from envsnap.probes.tree import hash_file
from envsnap.probes.wheel_ends import WheelEnds
from envsnap.probes.wheel_record import Unreadable, files_of, read_end
from envsnap.progress import SILENT, Progress
from envsnap.storage import write_file

_THREADS = 12
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An installed package.

    Attributes:
        name: normalised; tags: the Tag lines of its WHEEL; build: its Build line, "".
        files: digest of its canonical RECORD, which the wheel must have too; None to take the file by its name alone.
    """

    name: str
    version: str
    tags: tuple[str, ...]
    build: str = ""
    files: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipConfig:
    """Where pip looks, and whom it trusts, as it resolved it.

    Attributes:
        index_url: None for the default index.
        cert: pip's setting of that name: where its own certificates lie, on the machine that it was asked on; None without.
        certificates: what lies there, PEM; None where that cannot be read.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    cert: str | None = None
    certificates: str | None = None

    @staticmethod
    def from_facts(pip_config: Mapping[str, Any] | None) -> PipConfig:
        """From `CollectedFacts.pip_config`; pip's defaults where the target has no pip."""
        values = pip_config or {}
        return PipConfig(
            index_url=values.get("index_url") or None,
            extra_index_urls=tuple(values.get("extra_index_urls") or ()),
            find_links=tuple(values.get("find_links") or ()),
            no_index=bool(values.get("no_index")),
            cert=values.get("cert") or None,
            certificates=values.get("certificates"),
        )

    def locations(self) -> tuple[Location, ...]:
        """In the order in which they are preferred: the index, the extra ones, find-links."""
        from pypi_simple import PYPI_SIMPLE_ENDPOINT

        default = PYPI_SIMPLE_ENDPOINT.rstrip("/")
        urls = () if self.no_index else (self.index_url or default, *self.extra_index_urls)
        indexes = [Location(url=url, kind="index", label=None if url.rstrip("/") == default else index_label(url)) for url in urls]
        return (*indexes, *(Location(url=url, kind="find-links", label="find-links") for url in self.find_links))

    def certificates_file(self, cache: Path) -> Path | None:
        """Those of `cert` as a file of this machine, whichever they were read on; where there are none, the place that lacks them."""
        if self.cert is None or self.certificates is None:
            return Path(self.cert) if self.cert is not None else None
        data = self.certificates.encode()
        path = cache / "certificates" / hashlib.sha256(data).hexdigest()
        if not path.is_file():
            write_file(path, data)
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Attributes:
    file: name of the wheel.
    sha256: as the index publishes it; of the file itself where that is local.
    index: as in the lock's IndexOrigin.
    size_bytes: None where the index does not say.
    """

    file: str
    sha256: str
    index: str | None
    yanked: bool = False
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Everybody was asked and nobody has it. Attributes: other_files: somebody has a file of that name, which is not it."""

    reason: str
    other_files: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Nobody has it of those that could be asked, and somebody could not."""

    reason: str


Answer: TypeAlias = Found | Absent | Broken


def find_wheels(
    wanted: Sequence[Wanted],
    config: PipConfig,
    *,
    offline: bool,
    cache: Path,
    python: str = "",
    ca_bundle: Path | None = None,
    progress: Progress = SILENT,
) -> Mapping[str, Answer]:
    """The wheel of each package, by name. Asks each index once for each package, many at a time; a wheel's RECORD is read once ever.

    Args:
        python: "3.11": where header files are installed.

    A local index or folder that is not there is left out with a warning, as pip does.

    Raises:
        InputError: the certificates to trust are not there.
    """
    pages = Pages(cache, offline=offline, ca_bundle=ca_bundle, pip_cert=config.certificates_file(cache))
    records = Records(cache, pages, python)
    locations, links = [], {}
    for location in config.locations():
        if location.directory is not None and not location.directory.exists():
            progress.warning(f"{location.shown} is in pip's configuration and does not exist")
            continue
        locations.append(location)
        if location.kind == "find-links":
            links[location] = _links(pages, location)
    with progress.task("ask the package indexes", total=len(wanted), unit="packages") as task, ThreadPoolExecutor(_THREADS) as pool:
        answers: dict[str, Answer] = {}
        for package, answer in zip(wanted, pool.map(lambda each: _find(each, locations, links, records), wanted), strict=True):
            answers[package.name] = answer
            task.advance(1)
    return answers


def _links(pages: Pages, location: Location) -> Sequence[ListedFile] | Broken:
    try:
        return pages.links(location)
    except Unanswered as error:
        return Broken(reason=str(error))


def _find(
    wanted: Wanted, locations: Sequence[Location], links: Mapping[Location, Sequence[ListedFile] | Broken], records: Records
) -> Answer:
    """The first location that has the file; nothing is final before all were asked."""
    misses: list[Absent | Broken] = []
    for location in locations:
        answer = _ask(wanted, location, links.get(location), records)
        if isinstance(answer, Found):
            return answer
        misses.append(answer)
    broken = [miss for miss in misses if isinstance(miss, Broken)]
    if broken:
        return Broken(reason="; ".join(dict.fromkeys(miss.reason for miss in broken)))
    telling = [miss for miss in misses if isinstance(miss, Absent) and miss.other_files] or misses
    return Absent(reason="; ".join(dict.fromkeys(miss.reason for miss in telling)) or "pip is configured to ask no index")


def _ask(wanted: Wanted, location: Location, links: Sequence[ListedFile] | Broken | None, records: Records) -> Answer:
    if isinstance(links, Broken):
        return links
    try:
        files = records.pages.project(location, wanted.name) if links is None else links
    except NoProject:
        return Absent(reason=f"{location.shown} has no project {wanted.name}")
    except Unanswered as error:
        return Broken(reason=str(error))
    try:
        tags, version = _tags(wanted), Version(wanted.version)
    except (InvalidVersion, ValueError):
        return Absent(reason=f"no wheel can have the version {wanted.version!r} and the tags {', '.join(wanted.tags) or 'none'}")
    same = [file for file in files if _is_wheel_of(file.name, wanted.name, version)]
    built = [(file, parse_wheel_filename(file.name)[3]) for file in same if parse_wheel_filename(file.name)[2] == _build(wanted.build)]
    exact = [file for file, named in built if named == tags]
    if not exact and wanted.files is not None:
        exact = [file for file, named in built if _is_renamed(tags, named)]
    if not same:
        return Absent(reason=f"{location.shown} has no wheel of {wanted.name} {wanted.version}")
    if not exact:
        return Absent(reason=f"{location.shown} has wheels of {wanted.name} {wanted.version}, none with the installed one's tags")
    return _proven(wanted, exact[0], location, records)


def _proven(wanted: Wanted, file: ListedFile, location: Location, records: Records) -> Answer:
    """The file, if what is installed is what it installs."""
    answer = published(file, location)
    if not isinstance(answer, Found) or wanted.files is None:
        return answer
    try:
        files = records.files(location, file, answer.sha256)
    except Unanswered as error:
        return Broken(reason=str(error))
    except Unreadable as error:
        return Absent(reason=f"{location.shown} has {file.name}, and {error}")
    if files != wanted.files:
        return Absent(reason=f"what is installed is not {file.name} as {location.shown} has it: their files differ", other_files=True)
    return answer


class Records:
    """What each wheel installs, by its hash: read once, and kept for ever, together with what was read for it."""

    def __init__(self, cache: Path, pages: Pages, python: str) -> None:
        self.pages = pages
        self._directory = cache / "records"
        self._ends = WheelEnds(cache)
        self._python = python

    def files(self, location: Location, file: ListedFile, sha256: str) -> str:
        """Digest of the canonical RECORD of the wheel once installed. Raises Unanswered, Unreadable."""
        kept = self._directory / f"{sha256}-{self._python}"
        known = _read_digest(kept)
        if known and self._ends.find(sha256) is not None:
            return known
        try:
            with self.pages.opened(location, file) as wheel:
                end = read_end(wheel)
        except Unanswered:
            if known:
                return known
            raise
        digest = files_of(end, self._python)
        self._ends.keep(sha256, end)
        write_file(kept, f"{digest}\n".encode())
        return digest


def _read_digest(kept: Path) -> str:
    """An earlier answer; "" where there is none."""
    try:
        known = kept.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return known if DIGEST.match(known) else ""


def published(file: ListedFile, location: Location) -> Answer:
    """A file by the hash that its place publishes, or by its own where it lies on this machine."""
    sha256, size_bytes = file.sha256, file.size_bytes
    if file.local is not None:
        try:
            sha256, size_bytes = hash_file(Path(file.local)), Path(file.local).stat().st_size
        except OSError as error:
            return Broken(reason=f"{file.local} cannot be read: {error.strerror}")
        if file.sha256 not in (None, sha256):
            return Broken(reason=f"{file.local} is not the file whose sha256 {location.shown} publishes")
    if sha256 is None or not _SHA256.match(sha256):
        return Absent(reason=f"{location.shown} publishes no sha256 for {file.name}")
    return Found(file=file.name, sha256=sha256, index=location.label, yanked=file.yanked, size_bytes=size_bytes)


def _tags(wanted: Wanted) -> frozenset[Tag]:
    """Raises ValueError: it names none."""
    if not wanted.tags:
        raise ValueError("no tags")
    return frozenset(tag for line in wanted.tags for tag in parse_tag(line))


def _is_renamed(inside: frozenset[Tag], named: frozenset[Tag]) -> bool:
    """Built for "linux" and uploaded under a name that promises more (Paddle's wheels are): what it installs has to prove it."""

    def kinds(tags: frozenset[Tag], linux: str) -> set[tuple[str, str, str]]:
        return {(tag.interpreter, tag.abi, re.sub(linux, "", tag.platform)) for tag in tags}

    return kinds(inside, r"\Alinux(?=_)") == kinds(named, r"\Amanylinux(?:_\d+_\d+|\d+)(?=_)")


def _build(text: str) -> tuple[()] | tuple[int, str]:
    """As `parse_wheel_filename` has it."""
    match = re.match(r"(\d+)(.*)", text)
    return () if match is None else (int(match[1]), match[2])


def _is_wheel_of(file: str, name: str, version: Version) -> bool:
    if not file.endswith(".whl") or canonicalize_name(file.partition("-")[0]) != name:
        return False
    try:
        return parse_wheel_filename(file)[1] == version
    except InvalidWheelFilename:
        return False
