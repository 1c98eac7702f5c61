"""The delta: what a captured environment has besides, or in place of, what its base image has.

An environment that was made inside NVIDIA's image is that image's own, with packages added, changed or taken away. What the base still has
byte for byte stays where it is, and is proven in the image by its RECORD like anything else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from envsnap.errors import PlanError
from envsnap.model import torch_version
from envsnap.model.base import InstalledDistribution
from envsnap.model.catalog import Catalog, Protected
from envsnap.model.lock import EnvLock, LockedPackage
from envsnap.model.origins import BaseOrigin, SystemOrigin, UnknownOrigin

_FEW = 6
# It goes into a Dockerfile as it is.
_SITE = re.compile(r"(?P<prefix>[A-Za-z0-9._+/-]+?)/lib/python(?P<minor>\d+\.\d+)/(?:site|dist)-packages\Z")


class Replaced(NamedTuple):
    """A package that the environment has in another version than the base, or with other files."""

    package: LockedPackage
    was: InstalledDistribution


class Delta(NamedTuple):
    """Attributes:
    kept: those of the base that the environment has unchanged.
    added: those that the base has not.
    removed: those of the base that the environment has not.
    """

    kept: tuple[InstalledDistribution, ...]
    added: tuple[LockedPackage, ...]
    replaced: tuple[Replaced, ...]
    removed: tuple[InstalledDistribution, ...]


class Unowned(NamedTuple):
    """What is NVIDIA's in the base and no package's. Attributes: name: of the package that it would be. path: as of `BaseInventory`."""

    name: str
    path: str


class Taken(NamedTuple):
    """A protected package of the base that the delta would take the place of. Attributes: by: None where it is taken away."""

    was: InstalledDistribution | Unowned
    by: LockedPackage | None


def base_of(lock: EnvLock) -> str | None:
    """The image that packages of the lock are part of; None for an environment that owes nothing to one."""
    return next((package.origin.reference for package in lock.packages if isinstance(package.origin, BaseOrigin)), None)


def delta(lock: EnvLock, base: Sequence[InstalledDistribution]) -> Delta:
    """Compare by name, version and `files`: the digest of what RECORD names, by which two installs are the same.

    Raises:
        PlanError: what the lock has as part of its base is not in this one.
    """
    there = {distribution.name: distribution for distribution in base}
    kept, added, replaced = [], [], []
    for package in lock.packages:
        was = there.get(package.name)
        if was is not None and is_same(package, was):
            kept.append(was)
        elif isinstance(package.origin, BaseOrigin) and not package.modified:
            raise _another_base(package, was)
        elif was is None:
            added.append(package)
        else:
            replaced.append(Replaced(package, was))
    names = {package.name for package in lock.packages}
    removed = tuple(distribution for distribution in base if distribution.name not in names)
    return Delta(tuple(kept), tuple(added), tuple(replaced), removed)


def is_same(package: LockedPackage, was: InstalledDistribution) -> bool:
    """Whether a package is the base's. Edits in place make another one of it: its version and RECORD still say the old one."""
    comparable = package.files is not None or isinstance(package.origin, BaseOrigin | SystemOrigin | UnknownOrigin)
    return comparable and not package.modified and (package.version, package.files) == (was.version, was.files)


def site_of(base: Sequence[InstalledDistribution], python: str, reference: str) -> tuple[str, str]:
    """The site directory that the base's own packages for its Python are in, and the prefix that it belongs to; both without a leading "/".

    Args:
        python: "3.12".

    Raises:
        PlanError: there is none.
    """
    known = Counter(found[0] for one in base if (found := _SITE.match(one.site)) is not None and found["minor"] == python)
    if not known:
        raise PlanError(
            f"{reference} has no packages for Python {python}",
            why="an environment that was made inside an image is put beside that image's own packages",
            hint="--base REF names the image that it was made in",
        )
    site = max(sorted(known), key=lambda one: known[one])
    found = _SITE.match(site)
    assert found is not None
    return site, found["prefix"]


def taken(found: Delta, unowned: Sequence[str], catalog: Catalog) -> Iterator[Taken]:
    """What the base protects and the delta does not leave alone: replaced, hidden by another with its modules, or taken away.

    Args:
        unowned: as of `BaseInventory`. What is put in lies over it, or is found before it, whichever of the site directories it is in.
    """
    base = [*found.kept, *(one.was for one in found.replaced), *found.removed]
    rules = {distribution.name: catalog.protection(distribution.name) for distribution in base}
    for package, was in found.replaced:
        if is_protected(was, rules[was.name]):
            yield Taken(was, package)
    brought: Mapping[str, LockedPackage] = {package.name: package for package in (*found.added, *(one.package for one in found.replaced))}
    for distribution in base:
        rule = rules[distribution.name]
        for name in rule.hides if rule is not None else ():
            if name != distribution.name and name in brought:
                yield Taken(distribution, brought[name])
    for path in unowned:
        rule = catalog.protection_of(path.rpartition("/")[2].partition(".")[0])
        if rule is not None:
            names = dict.fromkeys((*rule.names, *rule.hides))
            yield from (Taken(Unowned(rule.names[0], path), brought[name]) for name in names if name in brought)
    for distribution in found.removed:
        if is_protected(distribution, rules[distribution.name]):
            yield Taken(distribution, None)


def is_protected(distribution: InstalledDistribution, rule: Protected | None) -> bool:
    """NVIDIA's own build: by its version, or by its name in NVIDIA's images."""
    return rule is not None or torch_version.read(distribution.version).ngc is not None


def require_allowed(found: Sequence[Taken], allowed: Collection[str], reference: str, catalog: Catalog) -> None:
    """Raises PlanError: a protected package would be touched, and nobody allowed it; each with what wants it so."""
    left = [one for one in found if one.was.name not in allowed and "all" not in allowed]
    if not left:
        return
    flags = "   ".join(f"--allow-replace {name}" for name in sorted({one.was.name for one in left})[:_FEW])
    more = f"; and {len(left) - _FEW} more" if len(left) > _FEW else ""
    nearest = _nearest(left, catalog)
    isolated = "   or an environment with torch from an index, captured: it is isolated from the base's"
    raise PlanError(
        f"{_names(left)} of {reference} would not stay as NVIDIA built {'it' if len(left) == 1 else 'them'}",
        why="; ".join(_sentence(one) for one in left[:_FEW]) + more,
        hint=f"undo that in the environment and capture again;   or   {flags};{nearest}{isolated}",
    )


def _nearest(found: Sequence[Taken], catalog: Catalog) -> str:
    """Where torch of an index took the place of NVIDIA's: the newest of its images with that release of torch; "" for none."""
    wanted = next((one.by.version for one in found if one.by is not None and one.by.name == one.was.name == "torch"), None)
    if wanted is None:
        return ""
    release = torch_version.read(wanted).public.partition("a")[0]
    for image in catalog.of_family("pytorch"):
        if image.torch is not None and torch_version.read(image.torch).public.partition("a")[0] == release:
            return f"   or make it in {image.reference}, whose own torch is {image.torch};"
    return ""


def notes(found: Delta) -> Iterator[str]:
    """What a person should know of a delta that goes ahead."""
    for package, was in found.replaced:
        said = f"{was.name} {was.version} of the base is replaced by {package.version}"
        yield f"{said}: {'; '.join(package.required_by)}" if package.required_by else f"{said}, as captured"
    if found.removed:
        names = ", ".join(f"{one.name} {one.version}" for one in found.removed[:_FEW])
        more = f" and {len(found.removed) - _FEW} more" if len(found.removed) > _FEW else ""
        yield f"the environment has not, and so the image has not: {names}{more} of the base"


def _another_base(package: LockedPackage, was: InstalledDistribution | None) -> PlanError:
    found = f"it has {was.version} with other files" if was is not None and was.version == package.version else "it has none"
    if was is not None and was.version != package.version:
        found = f"it has {was.version}"
    assert isinstance(package.origin, BaseOrigin)
    return PlanError(
        f"the base is not the one that the environment was made in: {package.name} {package.version}",
        why=f"{found}, and no index has that build",
        hint=f"--base {package.origin.reference}",
    )


def _names(found: Sequence[Taken]) -> str:
    names = sorted({_called(one.was) for one in found})
    return ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")


def _called(was: InstalledDistribution | Unowned) -> str:
    return f"{was.name} (/{was.path})" if isinstance(was, Unowned) else f"{was.name} {was.version}"


def _sentence(one: Taken) -> str:
    if one.by is None:
        return f"{one.was.name} is not in the environment any more"
    what = f"{one.by.name} {one.by.version}"
    if isinstance(one.was, Unowned):
        said = f"{what} brings what the base has as /{one.was.path}, which is no package's"
    elif (one.by.name, one.by.version) == (one.was.name, one.was.version) and one.by.modified:
        return f"files of {one.was.name} were changed ({', '.join(one.by.modified[:_FEW])}{', …' if len(one.by.modified) > _FEW else ''})"
    else:
        said = f"{what} takes its place" if one.by.name == one.was.name else f"{what} brings the same modules as {one.was.name}"
    return f"{said} ({'; '.join(one.by.required_by)})" if one.by.required_by else said
