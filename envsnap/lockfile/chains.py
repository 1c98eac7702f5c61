"""What brought a package in: from one that was asked for by name, over what it requires."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from envsnap.model.facts import Distribution


def required_by(name: str, version: str | None, distributions: Sequence[Distribution]) -> tuple[str, ...]:
    """Who requires another version of a package than its image has, each after what brought it in.

    Args:
        version: that the image has; None where it has no package of that name, or nobody knows: then everyone who requires one is meant.
    """
    wanted = ((one, spec) for one in distributions if (spec := _excluding(one, name, version)) is not None)
    return tuple(sorted(f"{' > '.join(_chain(one, distributions))}: {name}{spec}" for one, spec in wanted))


def _excluding(distribution: Distribution, name: str, version: str | None) -> str | None:
    """What a distribution requires of another, where a version does not meet it; None where it does, or nothing is required."""
    for requirement in _requirements(distribution):
        if canonicalize_name(requirement.name) != name:
            continue
        if version is None:
            return str(requirement.specifier)
        if requirement.specifier:
            try:
                met = requirement.specifier.contains(version, prereleases=True)
            except InvalidVersion:
                continue
            if not met:
                return str(requirement.specifier)
    return None


def _requirements(distribution: Distribution) -> Iterator[Requirement]:
    return filter(None, map(_requirement, distribution.requires))


@cache
def _requirement(line: str) -> Requirement | None:
    """None for one that an extra brings, and for what is none."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    return requirement if requirement.marker is None or "extra" not in str(requirement.marker) else None


def _chain(distribution: Distribution, distributions: Sequence[Distribution]) -> list[str]:
    """The shortest way from one that was asked for by name to this one, as "name version"."""
    ways, seen = deque([[distribution]]), {distribution.name}
    while ways:
        way = ways.popleft()
        if way[0].requested:
            return [f"{one.name} {one.version}" for one in way]
        for one in distributions:
            if one.name not in seen and any(canonicalize_name(found.name) == way[0].name for found in _requirements(one)):
                seen.add(one.name)
                ways.append([one, *way])
    return [f"{distribution.name} {distribution.version}"]
