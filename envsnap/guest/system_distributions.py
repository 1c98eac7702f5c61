"""Distributions that the operating system's package manager installed: of which package each is, and whether its files are as brought."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Mapping, NamedTuple, Sequence

from .distributions import Installed
from .integrity import added_files
from .os_packages import Brought, SystemPackage, brought_by, owners_of
from .record import Entry, canonical_digest
from .text import is_below, open_regular


def of_system(distributions: Sequence[Installed], *, integrity: bool) -> dict[str, dict[str, Any]]:
    """By name, the document's `SystemOwner` of those whose metadata a package brought and that nobody has installed anew since.

    Args:
        integrity: hold all files against the digests that the package manager keeps; else the metadata alone.
    """
    candidates = {found.name: found for found in distributions if found.facts["conda"] is None and not found.facts["editable_paths"]}
    metadata = {name: metadata_file(found.facts["metadata_dir"]) for name, found in candidates.items()}
    owners = owners_of(metadata.values())
    packages = {name: owners[path] for name, path in metadata.items() if path in owners}
    brought = brought_by(packages.values())
    owned = {
        name: Owned(candidates[name], package, brought.get(package))
        for name, package in packages.items()
        if is_as_brought(metadata[name], brought.get(package))
    }
    added = added_to(owned, distributions) if integrity and owned else {}
    return {name: {**one.facts(), **(one.checked(added.get(name, {})) if integrity else NOT_CHECKED)} for name, one in owned.items()}


NOT_CHECKED: Mapping[str, Any] = {"files": None, "modified": None}


def metadata_file(directory: str) -> str:
    """The real path of METADATA or PKG-INFO, or of an .egg-info that is a file itself."""
    names = ("METADATA", "PKG-INFO") if os.path.isdir(directory) else ()
    inside = (os.path.join(directory, name) for name in names)
    return os.path.realpath(next(filter(os.path.exists, inside), directory))


def is_as_brought(path: str, brought: Brought | None) -> bool:
    """Metadata of another installation of the package lie in the place of those of the package manager's; of no digest nothing is known."""
    if brought is None or path not in brought.digests:
        return brought is None
    digests = digests_or_none(path, brought.algorithm)
    return digests is not None and digests[0] == brought.digests[path]


class Owned(NamedTuple):
    """A distribution, the package that has it, and what that brought; None where nobody keeps digests of it."""

    found: Installed
    package: SystemPackage
    brought: Brought | None

    def site(self) -> str:
        return os.path.realpath(self.found.location)

    def in_site(self) -> dict[str, str]:
        """What the package brought to the site directory: path relative to that -> digest. Documentation and the like may be left
        out at will when a package is installed, as in the images of distributions.
        """
        site = self.site()
        digests = self.brought.digests if self.brought is not None else {}
        return {path[len(site) + 1 :]: digest for path, digest in digests.items() if is_below(path, site) and not path.endswith(".pyc")}

    def facts(self) -> dict[str, str]:
        package = self.package
        return {"manager": package.manager, "package": package.name, "version": package.version, "arch": package.arch}

    def checked(self, added: Mapping[str, str]) -> Mapping[str, Any]:
        """The digest of the files as they are, and those that are not as they were brought. Args: added: path -> file."""
        if self.brought is None:
            return NOT_CHECKED
        entries, modified = [], []
        for path, digest in self.in_site().items():
            digests = digests_or_none(os.path.join(self.site(), path), self.brought.algorithm)
            if digests is None:
                modified.append(f"missing: {path}")
                continue
            if digests[0] != digest:
                modified.append(path)
            entries.append(Entry(path, digests[1], -1))
        for path, file in added.items():
            digests = digests_or_none(file, "sha256")
            if digests is not None:
                modified.append(f"added: {path}")
                entries.append(Entry(path, digests[1], -1))
        return {"files": canonical_digest(entries), "modified": sorted(modified)}


def added_to(owned: Mapping[str, Owned], distributions: Sequence[Installed]) -> dict[str, dict[str, str]]:
    """By name, files in the folders of what a package brought that neither a package nor a RECORD has: path -> file."""
    restated = [
        found._replace(entries=[Entry(path, "", -1) for path in owned[found.name].in_site()]) if found.name in owned else found
        for found in distributions
    ]
    seen: list[tuple[str, str, str]] = [(found.name, path, file) for found, path, file in added_files(restated) if found.name in owned]
    others = owners_of(os.path.realpath(file) for _, _, file in seen)
    recorded = {found.path_of(entry) for found in distributions for entry in found.entries or ()}
    added: dict[str, dict[str, str]] = {}
    for name, path, file in seen:
        if os.path.realpath(file) not in others and file not in recorded:
            added.setdefault(name, {})[path] = file
    return added


def digests_or_none(path: str, algorithm: str) -> tuple[str, str] | None:
    """By `algorithm` and by SHA-256, read once; None when it cannot be read, or a host of FIPS's refuses the algorithm."""
    try:
        given, sha256 = hashlib.new(algorithm), hashlib.sha256()
        with open(open_regular(path), "rb", buffering=0) as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                given.update(piece)
                sha256.update(piece)
    except (OSError, ValueError):
        return None
    return given.hexdigest(), sha256.hexdigest()
