"""What brought a package in: from one that was asked for by name, over what it requires."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from envsnap.model.facts import Distribution


class Chains:
    """Of distributions that are installed side by side. What they require is read once, whatever is asked."""

    def __init__(self, distributions: Sequence[Distribution]) -> None:
        self._installed = {one.name: one for one in distributions}

    def required_by(self, name: str, version: str | None) -> tuple[str, ...]:
        """Who requires another version than the image has, each after what brought it in: "vllm 0.8.1 > middle 2.0: six>=1.17".

        Args:
            version: None where the image has no package of that name, or nobody knows: then everyone who requires one is meant.
        """
        excluding: dict[str, SpecifierSet] = {}
        for requirer, specifier in self._requirers.get(name, ()):
            if version is None or not _met(specifier, version):
                excluding.setdefault(requirer, specifier)
        return tuple(sorted(f"{self._chain(requirer)}: {name}{specifier}" for requirer, specifier in excluding.items()))

    def _chain(self, name: str) -> str:
        """The shortest way from one that was asked for by name; of one that none of those brought in, itself."""
        way = [name]
        while (above := self._above.get(way[-1])) is not None:
            way.append(above)
        return " > ".join(f"{name} {self._installed[name].version}" for name in reversed(way))

    @cached_property
    def _requirers(self) -> Mapping[str, Sequence[tuple[str, SpecifierSet]]]:
        """Name -> who requires it, and which versions of it."""
        found: dict[str, list[tuple[str, SpecifierSet]]] = defaultdict(list)
        for one in self._installed.values():
            for requirement in _requirements(one):
                found[canonicalize_name(requirement.name)].append((one.name, requirement.specifier))
        return found

    @cached_property
    def _above(self) -> Mapping[str, str | None]:
        """Name -> who brought it in on the shortest way; None for one that was asked for. Others are not there."""
        requires: dict[str, list[str]] = defaultdict(list)
        for name, requirers in self._requirers.items():
            for requirer, _ in requirers:
                requires[requirer].append(name)
        reached: dict[str, str | None] = {one.name: None for one in self._installed.values() if one.requested}
        pending = deque(reached)
        while pending:
            above = pending.popleft()
            for name in requires[above]:
                if name in self._installed and name not in reached:
                    reached[name] = above
                    pending.append(name)
        return reached


def _met(specifier: SpecifierSet, version: str) -> bool:
    """Whether it takes a version; of one that is none nobody can say that it does not."""
    try:
        return specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return True


def _requirements(distribution: Distribution) -> Iterator[Requirement]:
    """Without those that an extra brings, and what is none."""
    for line in distribution.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or "extra" not in str(requirement.marker):
            yield requirement
