"""The system packages that a base lacks, from what is wanted to what can be pinned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from envsnap.debian import scripts
from envsnap.debian.archive import Archive
from envsnap.debian.deb import Deb
from envsnap.debian.package import Package, installed
from envsnap.debian.resolve import Resolution, are_there, resolve
from envsnap.model.debian import NeedsShell, SystemPlan


def plan(archive: Archive, wanted: Sequence[str], captured: Sequence[str], status: bytes) -> SystemPlan:
    """What has to be installed for packages to be there, and whether a layer can do it. The .debs are in the cache afterwards.

    The archive is asked only for what the base lacks.

    Args:
        wanted: names, or "name=version".
        captured: names that another distribution may not have; those that this one has are wanted, too.
        status: the base's /var/lib/dpkg/status.

    Raises:
        PlanError: a package cannot be had, or two exclude each other.
        EngineError: a mirror does not answer, or what it sends is not what is signed.
        InputError: a stanza, a .deb or `status` cannot be read; offline, something is not kept.
    """
    present = tuple(installed(status.decode("utf-8", "replace")))
    if are_there((*wanted, *captured), present, archive.arch):
        return SystemPlan(distribution=archive.distribution.name, arch=archive.arch, packages=(), needs_shell=())
    index = archive.index()
    resolution = resolve(index, (*wanted, *(name for name in captured if index.candidates(name))), present, archive.arch)
    files = tuple(package.source_of for package in resolution.packages if package.source_of is not None)
    archive.fetch(files)
    return SystemPlan(
        distribution=archive.distribution.name,
        arch=archive.arch,
        packages=files,
        needs_shell=tuple(_needs_shell(archive, resolution, present)),
    )


def _needs_shell(archive: Archive, resolution: Resolution, present: Sequence[Package]) -> Iterator[NeedsShell]:
    names = {package.name for package in (*present, *resolution.packages)}
    owners: dict[str, list[Package]] = defaultdict(list)
    for package in resolution.packages:
        assert package.source_of is not None
        with archive.open(package.source_of) as file:
            deb = Deb(file, package.source_of)
        reasons = list(scripts.matter(deb))
        paths = _paths(deb)
        reasons += scripts.watched(paths, names)
        if package.name in resolution.upgrades:
            reasons.append(f"it replaces the base's {resolution.upgrades[package.name]}")
        if any(path.startswith("etc/ld.so.conf.d/") for path in paths):
            reasons.append("its libraries lie where only ldconfig makes them found")
        for path in paths:
            owners[path].append(package)
        yield from (NeedsShell(package=package.name, because=reason) for reason in reasons)
    for path, sharing in owners.items():
        if len(sharing) > 1:
            yield NeedsShell(package=sharing[0].name, because=f"{sharing[1].name} has /{path}, too")


def _paths(deb: Deb) -> tuple[str, ...]:
    """Its files, as its own lists name them: telling so from its archive would take unpacking it."""
    summed = [line[34:] for line in deb.text("md5sums").splitlines()]
    return (*summed, *(line.strip().lstrip("/") for line in deb.text("conffiles").splitlines() if line.startswith("/")))
