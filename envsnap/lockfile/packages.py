"""Installed distributions -> locked packages: where each came from, and what proves it.

What no origin proves is `rebuilt` where a wheel was made of its installed files, else `unproven`; why is always said: in its
origin's reason, or as a problem under "packages.NAME".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from envsnap import redaction
from envsnap.lockfile import validate
from envsnap.lockfile.chains import Chains
from envsnap.lockfile.explain import misfit
from envsnap.model import torch_version
from envsnap.model.base import InstalledDistribution
from envsnap.model.facts import Distribution, Problem, SystemOwner
from envsnap.model.kinds import PackageName, Version, WheelTag
from envsnap.model.lock import EnvLock, LockedConda, LockedPackage, LockedSource
from envsnap.model.origins import (
    AnyOrigin,
    BaseOrigin,
    CondaOrigin,
    DirectoryOrigin,
    EditableOrigin,
    IndexOrigin,
    SystemOrigin,
    UnknownOrigin,
    VcsOrigin,
    WheelOrigin,
)


class WheelAnswer(Struct, frozen=True, kw_only=True):
    """The wheel file of an installed distribution, as its index publishes it: its RECORD is the installed one's.

    Attributes:
        file: wheel file name; sha256: 64 hex digits.
        index: as in `IndexOrigin`; None for the default index.
        yanked: withdrawn since.
    """

    file: str
    sha256: str
    index: str | None = None
    yanked: bool = False


class Unfound(Struct, frozen=True, kw_only=True):
    """No index is known to have the wheel.

    Attributes:
        reason: one sentence.
        everyone_asked: all indexes answered, so it is not to be had; else somebody could not be asked.
    """

    reason: str
    everyone_asked: bool


class Packed(Struct, frozen=True, kw_only=True):
    """A wheel made of what is installed.

    Attributes:
        file: wheel file name; blob: its digest.
        files: as in `LockedPackage`; None for an editable of the project, whose files are the source's.
    """

    file: str
    blob: str
    files: str | None


class _Doubt(Exception):
    """Nothing proves a package.

    Attributes:
        origin: what is known all the same; None when nothing is.
        package: as it would be without the doubt.
    """

    def __init__(self, reason: str, origin: AnyOrigin | None = None, package: LockedPackage | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.origin = origin or UnknownOrigin(reason=reason)
        self.package = package


class Evidence(Struct, frozen=True, kw_only=True):
    """What was asked about the distributions; the arguments of `assemble`, by normalised name.

    Attributes:
        root: absolute path on the target of the directory that `source` describes; None without a source.
        conda: what conda installed, as it will be in the lock.
        known: those that `recognised` found: they stay as they were locked.
        base: what the image has that the environment was made in; home: that image.
        releases: release of NVIDIA's images ("25.03") -> reference of the image whose own builds carry it in their version
            (`Catalog.images_for`).
        rivals: names of packages that would take the place of what NVIDIA builds for its images (`Catalog.rivals`).
    """

    wheels: Mapping[str, WheelAnswer | Unfound]
    packed: Mapping[str, Packed]
    source: LockedSource | None
    root: str | None
    releases: Mapping[str, str] = {}
    rivals: Collection[str] = ()
    base: Mapping[str, InstalledDistribution] = {}
    home: str = ""
    conda: LockedConda | None = None
    known: Mapping[str, LockedPackage] = {}


def recognised(distributions: Sequence[Distribution], lock: EnvLock | None) -> dict[str, LockedPackage]:
    """By name, those that are still what a lock of their environment says, byte for byte. Editables are looked at anew."""
    locked = {package.name: package for package in lock.packages} if lock is not None else {}
    first: dict[str, Distribution] = {}
    for distribution in distributions:
        first.setdefault(distribution.name, distribution)
    return {name: locked[name] for name, found in first.items() if name in locked and _is_still(found, locked[name])}


def _is_still(distribution: Distribution, package: LockedPackage) -> bool:
    if _is_editable(distribution) or isinstance(package.origin, EditableOrigin):
        return False
    if isinstance(package.origin, SystemOrigin):
        of_system = distribution.system is not None and _of_system(distribution.system) == package.origin
        return of_system and (distribution.version, distribution.edited) == (package.version, package.modified)
    # What was packed has its edits among its files; of anything else `files` is what RECORD says.
    packed = package.blob is not None and package.provenance == "rebuilt"
    files = distribution.actual_files if packed else distribution.files
    return (distribution.version, files, distribution.modified or ()) == (package.version, package.files, package.modified)


def to_pack(distributions: Sequence[Distribution], wheels: Mapping[str, WheelAnswer | Unfound], rescue: frozenset[str]) -> frozenset[str]:
    """Names of those that need a wheel made of what is installed: installed from no index, edited, or not to be had any more. What the
    operating system's package manager installed is to be had from there, where that knows its files.

    Args:
        rescue: names of others that are asked for, or "all": an index that cannot be asked now may never answer again.
    """
    return frozenset(found.name for found in distributions if _needs_packing(found, wheels.get(found.name), rescue))


def _needs_packing(distribution: Distribution, answer: WheelAnswer | Unfound | None, rescue: frozenset[str]) -> bool:
    if distribution.conda is not None:
        return False
    asked_for = bool(rescue & {distribution.name, "all"})
    if distribution.system is not None:
        return asked_for or (distribution.system.modified != () and not _is_the_indexs(distribution, answer))
    if _is_editable(distribution) or from_project(distribution):
        return True
    if distribution.files is None or (torch_version.read(distribution.version).ngc is not None and not distribution.modified):
        return False
    return bool(distribution.modified) or asked_for or (not isinstance(answer, WheelAnswer | None) and answer.everyone_asked)


def _is_the_indexs(distribution: Distribution, answer: WheelAnswer | Unfound | None) -> bool:
    """Whether what a package of the operating system brought is the index's wheel file by file."""
    return distribution.files is not None and distribution.modified == () and isinstance(answer, WheelAnswer)


def of_base(distribution: Distribution, base: Mapping[str, InstalledDistribution]) -> bool:
    """Whether a distribution is the one that the image has: the same RECORD, or, of what neither has one, the same place."""
    was = base.get(distribution.name)
    if was is None or distribution.changed or _is_editable(distribution) or from_project(distribution):
        return False
    same_place = distribution.location.lstrip("/") == was.site
    return (distribution.version, distribution.files) == (was.version, was.files) and (was.files is not None or same_place)


def from_project(distribution: Distribution) -> bool:
    """Installed from a directory or a repository: no index is asked."""
    url = distribution.direct_url or {}
    return "dir_info" in url or "vcs_info" in url


def in_place(distribution: Distribution, root: str | None) -> bool:
    """An editable of the project at `root`: the source has its files."""
    url = str((distribution.direct_url or {}).get("url", ""))
    paths = (unquote(urlsplit(url).path), *distribution.editable_paths)
    return _is_editable(distribution) and all(_inside(path, root) is not None for path in paths)


def packages(distributions: Sequence[Distribution], evidence: Evidence) -> tuple[tuple[LockedPackage, ...], tuple[Problem, ...]]:
    """Every distribution that `import` sees, and what was left out or could not be proven."""
    installed, problems = _installed(distributions)
    locked: list[LockedPackage] = []
    for distribution in installed:
        package, doubts = _package(distribution, evidence)
        locked.append(package)
        problems += doubts
    if evidence.base or any(isinstance(package.origin, BaseOrigin) for package in locked):
        chains = Chains(installed)
        locked = [_explained(package, chains, evidence) for package in locked]
    return tuple(locked), tuple(problems)


def _explained(package: LockedPackage, chains: Chains, evidence: Evidence) -> LockedPackage:
    """A package of an environment in an image, with who wants it in the place of one of the image's own."""
    was = evidence.base.get(package.name)
    if isinstance(package.origin, BaseOrigin) or (was is None and package.name not in evidence.rivals):
        return package
    return replace(package, required_by=chains.required_by(package.name, was.version if was is not None else None))


def _installed(distributions: Sequence[Distribution]) -> tuple[list[Distribution], list[Problem]]:
    """Those that `import` sees: the first of each name on sys.path, with a name and version that a lock can hold."""
    first: dict[str, Distribution] = {}
    problems: list[Problem] = []
    for distribution in distributions:
        where = f"packages.{distribution.name}"
        if misfit(distribution.name, PackageName) or misfit(distribution.version, Version):
            problems.append(Problem(where=where, what=f"left out: no lock can hold the name or version {distribution.version!r}"))
        elif distribution.name in first:
            shadowed = f"{distribution.version} in {distribution.location} is hidden by {first[distribution.name].version}"
            problems.append(Problem(where=where, what=f"left out: {shadowed}, which comes first on sys.path"))
        else:
            first[distribution.name] = distribution
    return list(first.values()), problems


def _package(distribution: Distribution, evidence: Evidence) -> tuple[LockedPackage, list[Problem]]:
    if distribution.name in evidence.known:
        return evidence.known[distribution.name], []
    editable = _is_editable(distribution)
    tags, problems = _tags(distribution)
    unproven = LockedPackage(
        name=distribution.name,
        version=distribution.version,
        origin=UnknownOrigin(reason=""),
        tags=tags,
        files=None if editable else distribution.files,
        requested=distribution.requested,
        modified=() if _is_the_indexs(distribution, evidence.wheels.get(distribution.name)) else distribution.edited,
        device_code=distribution.device_code,
        provenance="unproven",
    )
    try:
        package = _proven(unproven, distribution, evidence)
        if package.modified and package.provenance != "rebuilt":
            raise _Doubt(f"files were edited after it was installed: {_few(package.modified)}", package.origin, package)
        if package.provenance in ("index", "system") and package.name in evidence.packed:
            raise _Doubt("a wheel of what is installed was asked for", package.origin, package)
        if refused := _refused(package, evidence):
            raise _Doubt(f"what is said of its origin cannot be locked: {refused}")
    except _Doubt as doubt:
        package, doubts = _doubted(unproven, doubt, evidence)
        return package, [*problems, *doubts]
    return package, problems


def _doubted(unproven: LockedPackage, doubt: _Doubt, evidence: Evidence) -> tuple[LockedPackage, list[Problem]]:
    """The package with what is known of its origin, rebuilt where a wheel was made of it, and the reason."""
    unknown = UnknownOrigin(reason=doubt.reason)
    packed = evidence.packed.get(unproven.name)
    if packed is not None and packed.files is not None:
        rebuilt = replace(unproven, file=packed.file, blob=packed.blob, files=packed.files, provenance="rebuilt")
        known = _first_fit([replace(rebuilt, origin=origin) for origin in (doubt.origin, unknown)], evidence)
        return known, [Problem(where=f"packages.{known.name}", what=f"rebuilt from what is installed: {doubt.reason}")]
    # An edited one can be had again without the edit: its wheel stays known.
    drafts = [replace(doubt.package, provenance="unproven")] if doubt.package is not None else []
    known = _first_fit([*drafts, replace(unproven, origin=doubt.origin), replace(unproven, origin=unknown)], evidence)
    if isinstance(known.origin, UnknownOrigin):
        return known, []
    return known, [Problem(where=f"packages.{known.name}", what=f"unproven: {doubt.reason}")]


def _first_fit(drafts: Sequence[LockedPackage], evidence: Evidence) -> LockedPackage:
    """The first that a reader would not refuse, else the last."""
    return next((draft for draft in drafts if not _refused(draft, evidence)), drafts[-1])


def _refused(package: LockedPackage, evidence: Evidence) -> str:
    """Why a reader would refuse this package; "" when it would not."""
    return misfit(package, LockedPackage) or next(validate.package_problems(package, evidence.source), "")


def _proven(package: LockedPackage, distribution: Distribution, evidence: Evidence) -> LockedPackage:
    """The package with its origin, proof and provenance. Raises _Doubt."""
    if distribution.conda is not None:
        return _from_conda(package, distribution.conda, evidence)
    if of_base(distribution, evidence.base):
        return replace(package, origin=BaseOrigin(reference=evidence.home), modified=(), provenance="base")
    if distribution.system is not None and not _is_the_indexs(distribution, evidence.wheels.get(package.name)):
        return _from_system(package, distribution.system)
    direct_url = distribution.direct_url
    if direct_url is not None:
        url = redaction.url(str(direct_url.get("url", "")))
        if "vcs_info" in direct_url:
            return _from_vcs(package, url, direct_url, evidence)
        if "dir_info" in direct_url:
            return _from_directory(package, url, distribution, evidence)
        return _from_archive(package, url, direct_url, evidence)
    if distribution.installer == "conda":
        raise _Doubt("conda installed it, and nothing in conda-meta says which package it is of")
    if distribution.metadata_dir.endswith((".egg-info", ".egg")):
        raise _Doubt("installed as an egg: nothing records its files or where they came from")
    if release := torch_version.read(distribution.version).ngc:
        return _from_base(package, release, evidence)
    return _from_index(package, evidence)


def _from_conda(package: LockedPackage, name: str, evidence: Evidence) -> LockedPackage:
    """Part of a package of conda; what of that is in no channel is in the tree that was kept."""
    owner = next((one for one in evidence.conda.packages if one.name == name), None) if evidence.conda is not None else None
    if owner is None:
        raise _Doubt(f"it is of conda's package {name}, which no lock can hold")
    origin = CondaOrigin(url=owner.url or "", build=owner.build)
    if owner.is_to_be_had:
        return replace(package, origin=origin, provenance="conda")
    assert evidence.conda is not None
    if evidence.conda.tree is None:
        raise _Doubt(f"it is of conda's package {name}, which is in no channel or was edited, and could not be kept", origin)
    return replace(package, origin=origin, provenance="rebuilt")


def _from_system(package: LockedPackage, owner: SystemOwner) -> LockedPackage:
    origin = _of_system(owner)
    if origin.files is None:
        raise _Doubt(f"it is of {owner.manager}'s package {owner.package}, of whose files that keeps no digests", origin)
    return replace(package, origin=origin, provenance="system")


def _of_system(owner: SystemOwner) -> SystemOrigin:
    return SystemOrigin(package=owner.package, version=owner.version, arch=owner.arch, files=owner.files)


def _from_base(package: LockedPackage, release: str, evidence: Evidence) -> LockedPackage:
    """NVIDIA's own build: only the image that it was built for has it."""
    reference = evidence.releases.get(release)
    if reference is None:
        raise _Doubt(f"built by NVIDIA for its images of release {release}, which the catalogue does not know")
    return replace(package, origin=BaseOrigin(reference=reference), provenance="base")


def _from_vcs(package: LockedPackage, url: str, direct_url: Mapping[str, Any], evidence: Evidence) -> LockedPackage:
    info = _mapping(direct_url["vcs_info"])
    vcs: Any = info.get("vcs")
    origin = VcsOrigin(
        vcs=vcs,
        url=url,
        commit=str(info.get("commit_id", "")),
        subdirectory=direct_url.get("subdirectory"),
    )
    return _with_blob(replace(package, origin=origin, provenance="vcs"), evidence)


def _from_directory(package: LockedPackage, url: str, distribution: Distribution, evidence: Evidence) -> LockedPackage:
    editable = _is_editable(distribution)
    path = _inside(unquote(urlsplit(url).path), evidence.root)
    if path is None:
        outside = EditableOrigin() if editable else DirectoryOrigin()
        raise _Doubt(f"installed from {url}, which is outside the project that is captured", outside)
    if not editable:
        return _with_blob(replace(package, origin=DirectoryOrigin(path=path), provenance="source"), evidence)
    imports = [_inside(entry, evidence.root) for entry in distribution.editable_paths]
    origin = EditableOrigin(path=path, import_paths=tuple(entry for entry in imports if entry is not None))
    if None in imports:
        raise _Doubt("editable, and some of what it puts on sys.path is outside the project that is captured", origin)
    return _with_blob(replace(package, origin=origin, provenance="source"), evidence)


def _with_blob(package: LockedPackage, evidence: Evidence) -> LockedPackage:
    if package.name not in evidence.packed:
        raise _Doubt("its installed files could not be packed as a wheel", package.origin)
    packed = evidence.packed[package.name]
    return replace(package, file=packed.file, blob=packed.blob)


def _from_archive(package: LockedPackage, url: str, direct_url: Mapping[str, Any], evidence: Evidence) -> LockedPackage:
    """A file installed by path or URL is the index's when the index publishes the same bytes."""
    sha256 = _archive_sha256(_mapping(direct_url.get("archive_info")))
    answer = evidence.wheels.get(package.name)
    if isinstance(answer, WheelAnswer) and sha256 == answer.sha256:
        return _from_index(package, evidence)
    was = evidence.base.get(package.name)
    if package.modified and was is not None and was.version == package.version:
        raise _Doubt(f"the image's own, and files of it were changed: {_few(package.modified)}", WheelOrigin(url=url))
    raise _Doubt(f"installed from the file {url}, and no index is known to publish it", WheelOrigin(url=url))


def _archive_sha256(info: Mapping[str, Any]) -> str | None:
    algorithm, _, value = str(info.get("hash", "")).partition("=")  # how it was written before `hashes`
    return {algorithm: value, **_mapping(info.get("hashes"))}.get("sha256")


def _from_index(package: LockedPackage, evidence: Evidence) -> LockedPackage:
    answer = evidence.wheels.get(package.name, Unfound(reason="no index was asked for it", everyone_asked=False))
    if isinstance(answer, Unfound):
        raise _Doubt(answer.reason)
    if package.files is None:
        raise _Doubt("it has no usable RECORD, so its files cannot be held against the index's")
    return replace(
        package,
        origin=IndexOrigin(index=answer.index, yanked=answer.yanked),
        file=answer.file,
        sha256=answer.sha256,
        provenance="index",
    )


def _is_editable(distribution: Distribution) -> bool:
    return bool(_mapping((distribution.direct_url or {}).get("dir_info")).get("editable"))


def _mapping(value: Any) -> Mapping[str, Any]:
    """A part of direct_url.json that should be a mapping; what is none is empty."""
    return value if isinstance(value, Mapping) else {}


def _inside(path: str, root: str | None) -> str | None:
    """`path` relative to `root`, "" for the root itself; None when it lies elsewhere."""
    if root is None or not PurePosixPath(path).is_relative_to(root):
        return None
    relative = str(PurePosixPath(path).relative_to(root))
    return "" if relative == "." else relative


def _tags(distribution: Distribution) -> tuple[tuple[str, ...], list[Problem]]:
    """The tags of WHEEL that a lock can hold. They come from a file that anybody could have written."""
    refused = {tag: why for tag in _expanded(distribution.tags) if (why := misfit(tag, WheelTag))}
    problems = [Problem(where=f"packages.{distribution.name}.tags", what=f"left out: {why}") for why in refused.values()]
    return tuple(tag for tag in _expanded(distribution.tags) if tag not in refused), problems


def _expanded(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags one by one ("py2.py3-none-any" is two), in WHEEL's order, each once."""
    expanded = ("-".join(parts) for tag in tags for parts in product(*(part.split(".") for part in tag.split("-"))))
    return tuple(dict.fromkeys(expanded))


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
