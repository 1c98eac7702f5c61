"""What is installed in an image: by dpkg, and for its Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from envsnap.guest.distributions import is_editable
from envsnap.guest.metadata import Headers, identity, read_direct_url
from envsnap.guest.modules import unowned_modules
from envsnap.guest.paths import install_prefix
from envsnap.guest.record import canonical_digest, payload, read_record
from envsnap.guest.text import Problems
from envsnap.inventory.files import Directory, FileSystem
from envsnap.model.base import InstalledSystemPackage

_STATUS, _STATUS_OF_EACH = "var/lib/dpkg/status", "var/lib/dpkg/status.d"  # the latter in images without dpkg itself
_SYSTEM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:-]*\Z")


def status_of_dpkg(files: FileSystem) -> str | None:
    """The text of dpkg's database; None where there is none."""
    return files.text(_STATUS)


def system_packages(files: FileSystem) -> list[InstalledSystemPackage]:
    """Those that are installed, sorted; what has no name that a package can have is left out."""
    each = (files.text(f"{_STATUS_OF_EACH}/{name}") for name in sorted(files.children(_STATUS_OF_EACH)) if not name.endswith(".md5sums"))
    found = {
        (package.name, package.arch): package
        for text in (status_of_dpkg(files), *each)
        for paragraph in re.split(r"\n\s*\n", text or "")
        if (package := _system_package(Headers(paragraph.lstrip("\n")))) is not None
    }
    return [found[key] for key in sorted(found)]


def _system_package(fields: Headers) -> InstalledSystemPackage | None:
    name, version, arch = (fields.one(field) for field in ("package", "version", "architecture"))
    installed = fields.one("status").split()[2:] in ([], ["installed"])  # status.d has no such field
    if not installed or not version or not _SYSTEM_NAME.match(name):
        return None
    return InstalledSystemPackage(name=name, version=version, arch=arch)


class Distribution(NamedTuple):
    """A distribution.

    Attributes:
        name, version, site, files: as of `InstalledDistribution`.
        record: as it is; None without one.
        tops: what is its own in the site directory: the first part of each path, without what follows a dot.
    """

    name: str
    version: str
    site: str
    files: str | None
    record: bytes | None
    tops: frozenset[str]


def unowned(files: FileSystem, sites: Iterable[str], known: Iterable[Distribution]) -> list[str]:
    """What could be imported from site directories and is none of these distributions', paths without links, sorted."""
    owned = frozenset[str]().union(*(one.tops for one in known))
    places = {found[0]: found[1] for site in sites if (found := files.walk(site)) is not None}
    return sorted(
        f"{place}/{name}" for place, node in places.items() if isinstance(node, Directory) for name in unowned_modules(node.children, owned)
    )


def distributions(files: FileSystem, sites: Iterable[str]) -> list[Distribution]:
    """Sorted by name. Of two with one name it is the first on the path that imports see; as `guest.distributions` reads them."""
    found: dict[str, Distribution] = {}
    seen: set[str] = set()
    for site in sites:
        place = files.walk(site)
        if place is None or not isinstance(place[1], Directory) or place[0] in seen:
            continue
        seen.add(place[0])
        for distribution in _in_directory(files, f"/{site}", place[0], place[1]):
            found.setdefault(distribution.name, distribution)
    return [found[name] for name in sorted(found)]


def _in_directory(files: FileSystem, location: str, real: str, directory: Directory) -> Iterator[Distribution]:
    for name in sorted(directory.children):
        if name.startswith("~"):
            continue
        if name.endswith(".dist-info") and (metadata := files.text(f"{real}/{name}/METADATA")) is not None:
            yield from _dist_info(files, location, real, name, metadata)
        elif name.endswith(".egg-info"):
            metadata = files.text(f"{real}/{name}/PKG-INFO") or files.text(f"{real}/{name}")
            named = identity(Headers(metadata), name, name, Problems()) if metadata is not None else None
            if named is not None:
                yield Distribution(*named, real, None, None, frozenset((files.text(f"{real}/{name}/top_level.txt") or "").split()))


def _dist_info(files: FileSystem, location: str, real: str, name: str, metadata: str) -> Iterator[Distribution]:
    named = identity(Headers(metadata), name, name, Problems())
    if named is None:
        return
    direct_url = files.text(f"{real}/{name}/direct_url.json")
    record = files.text(f"{real}/{name}/RECORD")
    entries, malformed = read_record(record or "", location, install_prefix(location))
    usable = record is not None and not malformed
    if is_editable(read_direct_url(direct_url, name, Problems()) if direct_url is not None else None, entries):
        usable = False
    yield Distribution(
        *named,
        real,
        canonical_digest(payload(entries, name)) if usable else None,
        record.encode("utf-8", "surrogateescape") if record is not None else None,
        frozenset(entry.path.partition("/")[0].partition(".")[0] for entry in entries),
    )
