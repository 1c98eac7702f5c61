"""The distributions of an environment."""

from __future__ import annotations

import os
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from .editables import editable_mapping, editable_paths
from .metadata import Headers, identity, read_direct_url, wheel_tags
from .modules import is_public, modules_of_directory, modules_of_files, unowned_modules
from .paths import install_prefix, is_site_directory
from .record import Entry, canonical_digest, installed_path, payload, read_record
from .text import Problems, counted, first_line, hash_or_none, is_below, list_directory, read_text, reason


class Installed(NamedTuple):
    """One distribution.

    Attributes:
        facts: the document's `Distribution`, without `modified`; `conda` is filled in by `of_conda`.
        prefix: that its location belongs to.
        entries: of RECORD; None without one.
    """

    facts: dict[str, Any]
    prefix: str
    entries: list[Entry] | None

    @property
    def name(self) -> str:
        return str(self.facts["name"])

    @property
    def location(self) -> str:
        return str(self.facts["location"])

    def path_of(self, entry: Entry) -> str:
        return installed_path(entry.path, self.location, self.prefix)

    def payload(self) -> list[Entry]:
        return payload(self.entries or (), os.path.basename(self.facts["metadata_dir"]))


def read_dist_info(location: str, metadata_name: str, problems: Problems) -> Installed | None:
    directory = os.path.join(location, metadata_name)
    files = list_directory(directory, problems)

    def text(name: str) -> str | None:
        return read_text(os.path.join(directory, name), f"{metadata_name}/{name}", problems) if name in files else None

    metadata, wheel, direct_url_text = text("METADATA"), text("WHEEL"), text("direct_url.json")
    if metadata is None:
        if os.path.isdir(directory) and "METADATA" not in files:
            problems.add(metadata_name, "has no METADATA and is not counted as a distribution")
        return None
    headers, wheel_headers = Headers(metadata), Headers(wheel or "")
    named = identity(headers, directory, f"{metadata_name}/METADATA", problems)
    if named is None:
        return None
    if wheel is None:
        problems.add(metadata_name, "has no WHEEL file")
    direct_url = None if direct_url_text is None else read_direct_url(direct_url_text, f"{metadata_name}/direct_url.json", problems)
    prefix = install_prefix(location)
    record = parse_record(text("RECORD"), metadata_name, location, prefix, problems)
    entries, top_level = record.entries or [], (text("top_level.txt") or "").split()
    editable = is_editable(direct_url, entries)
    contents = editable_contents(location, metadata_name, entries, top_level, problems) if editable else Contents(
        canonical_digest(payload(entries, metadata_name)) if record.usable else None, [],
        modules_of_files(entry.path for entry in entries) or set(filter(is_public, top_level)))  # fmt: skip
    facts = {
        "name": named[0],
        "version": named[1],
        "location": location,
        "metadata_dir": directory,
        "installer": first_line(text("INSTALLER") or ""),
        "requested": "REQUESTED" in files,
        "tags": wheel_tags(wheel_headers),
        "build": wheel_headers.one("build"),
        "direct_url": direct_url,
        "files": contents.files,
        "size_bytes": sum(entry.size for entry in entries if entry.size > 0),
        "editable_paths": contents.editable_paths,
        "modules": sorted(contents.modules),
        "requires": headers.all("requires-dist"),
        "requires_python": headers.one("requires-python"),
        "conda": None,
    }
    return Installed(facts, prefix, record.entries)


class Record(NamedTuple):
    """Attributes: entries: None without the file; usable: it is there and every line of it is well-formed."""

    entries: list[Entry] | None
    usable: bool


def parse_record(text: str | None, metadata_name: str, location: str, prefix: str, problems: Problems) -> Record:
    if text is None:
        problems.add(metadata_name, "has no RECORD, so its files cannot be told")
        return Record(None, usable=False)
    entries, malformed = read_record(text, location, prefix)
    if malformed:
        problems.add(f"{metadata_name}/RECORD", f"has {counted(len(malformed), 'malformed line')}, the first at {malformed[0]}")
    return Record(entries, usable=not malformed)


class Contents(NamedTuple):
    """Attributes: files: digest of the payload; None for editables and without a usable RECORD."""

    files: str | None
    editable_paths: list[str]
    modules: set[str]


def editable_contents(
    location: str, metadata_name: str, entries: Sequence[Entry], top_level: Iterable[str], problems: Problems
) -> Contents:
    mapping = editable_mapping(location, entries, problems)
    paths = editable_paths(mapping, metadata_name, problems)
    if not mapping:
        problems.add(metadata_name, "is an editable install of a kind that does not say what it puts on sys.path")
    declared = set(filter(is_public, top_level)) or {mapped.module.partition(".")[0] for mapped in mapping if mapped.module}
    return Contents(None, paths, declared or {module for path in paths for module in modules_of_directory(path, problems)})


def is_editable(direct_url: Mapping[str, Any] | None, entries: Iterable[Entry]) -> bool:
    information = (direct_url or {}).get("dir_info")
    if isinstance(information, dict) and information.get("editable") is True:
        return True
    return any(entry.path.startswith("__editable__") for entry in entries)


def read_egg_info(location: str, metadata_name: str, problems: Problems) -> Installed | None:
    """A distribution in the formats before wheels: a directory with PKG-INFO, or that file alone. Outside a site directory it
    is what `setup.py develop` leaves in a source tree that is on sys.path.
    """
    path = os.path.join(location, metadata_name)
    is_directory = os.path.isdir(path)
    where = f"{metadata_name}/PKG-INFO" if is_directory else metadata_name
    text = read_text(os.path.join(location, where), where, problems)
    if text is None:
        if is_directory and not os.path.exists(os.path.join(path, "PKG-INFO")):
            problems.add(metadata_name, "has no PKG-INFO and is not counted as a distribution")
        return None
    headers = Headers(text)
    owner = os.path.dirname(path) if metadata_name == "EGG-INFO" else path
    named = identity(headers, owner, where, problems)
    if named is None:
        return None
    top_level = read_text(os.path.join(path, "top_level.txt"), f"{metadata_name}/top_level.txt", problems) if is_directory else None
    editable = [] if is_site_directory(location) or metadata_name == "EGG-INFO" else [location]
    modules = set(filter(is_public, (top_level or "").split())) or {
        module for directory in editable for module in modules_of_directory(directory, problems)
    }
    facts = {
        "name": named[0],
        "version": named[1],
        "location": location,
        "metadata_dir": path,
        "editable_paths": editable,
        "modules": sorted(modules),
        "requires": headers.all("requires-dist"),
        "requires_python": headers.one("requires-python"),
        "conda": None,
    }
    return Installed(facts, install_prefix(location), None)


def read_distributions(directories: Iterable[str], problems: Problems) -> list[Installed]:
    """Every distribution on sys.path, sorted by name. Of two with one name the first on the path is what imports see; of two in one
    directory, what an interrupted upgrade leaves, it is the one whose files are there.
    """
    found: dict[str, Installed] = {}
    for location in directories:
        for metadata_name in list_directory(location, problems):
            candidate = read_distribution(location, metadata_name, problems)
            if candidate is None:
                continue
            winner = found.setdefault(candidate.name, candidate)
            if winner is candidate:
                continue
            if winner.location == location and files_as_recorded(candidate) > files_as_recorded(winner):
                found[candidate.name], winner, candidate = candidate, candidate, winner
            # A source tree keeps the egg-info of its last build beside the code that an editable install points to.
            if location not in winner.facts["editable_paths"]:
                problems.add(
                    candidate.facts["metadata_dir"],
                    f"{candidate.name} {candidate.facts['version']} is hidden by {winner.facts['version']} in {winner.location}",
                )
    return [found[name] for name in sorted(found)]


def unowned(directories: Iterable[str], distributions: Iterable[Installed]) -> list[str]:
    """Paths of what could be imported from site directories and is of none of these."""
    owned = {module for found in distributions for module in found.facts["modules"]}
    owned.update(entry.path.partition("/")[0].partition(".")[0] for found in distributions for entry in found.entries or ())
    places = [place for place in directories if is_site_directory(place)]
    return [os.path.join(place, name) for place in places for name in unowned_modules(list_directory(place, Problems()), owned)]


SAMPLE = 200


def files_as_recorded(found: Installed) -> float:
    """Share of its files, of a sample, that are as its RECORD says."""
    sample = [entry for entry in found.payload() if entry.sha256 and not is_below(found.path_of(entry), found.facts["metadata_dir"])][
        :SAMPLE
    ]
    return sum(hash_or_none(found.path_of(entry)) == entry.sha256 for entry in sample) / max(len(sample), 1)


def of_conda(distributions: Iterable[Installed], owner: Mapping[str, str]) -> list[Installed]:
    """With the name of the conda package that each belongs to. Args: owner: of a metadata directory."""
    return [found._replace(facts={**found.facts, "conda": owner.get(found.facts["metadata_dir"])}) for found in distributions]


def read_distribution(location: str, metadata_name: str, problems: Problems) -> Installed | None:
    """The distribution that a name in a directory of sys.path stands for; None for other names and what cannot be read."""
    try:
        if metadata_name.startswith("~"):
            problems.add(os.path.join(location, metadata_name), "is the leftover of an interrupted uninstall")
        elif metadata_name.endswith(".dist-info"):
            return read_dist_info(location, metadata_name, problems)
        elif metadata_name.endswith(".egg-info") or (metadata_name == "EGG-INFO" and location.endswith(".egg")):
            return read_egg_info(location, metadata_name, problems)
    except Exception as error:  # whatever else is broken about it, the others are still to be read
        problems.add(metadata_name, f"cannot be read: {type(error).__name__}: {reason(error)}")
    return None
