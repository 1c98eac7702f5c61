"""From the packages that are wanted to all that must be installed: a pure function of the index and of what is there.

As `apt-get install --no-install-recommends` does it where nothing conflicts: what is installed stays, the first alternative that can be had
is taken, the newest version of a name. There is no search: where a choice leads into a conflict, the error says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from envsnap.debian import version
from envsnap.debian.index import Index
from envsnap.debian.package import Package
from envsnap.debian.relations import Group, Relation
from envsnap.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Attributes:
    packages: to install, sorted by name.
    upgrades: those among them that replace an installed version: name -> that version.
    """

    packages: tuple[Package, ...]
    upgrades: Mapping[str, str]


def resolve(index: Index, wanted: Sequence[str], installed: Iterable[Package], arch: str) -> Resolution:
    """The closure of Depends and Pre-Depends.

    Args:
        wanted: names, or "name=version".
        arch: of the system; a package of another one satisfies nothing.

    Raises:
        PlanError: a package cannot be had, or two exclude each other; the chain that led there is named.
    """
    state = _of(index, installed, arch)
    for name in wanted:
        state.need((_relation(name),), ())
    state.check_conflicts()
    chosen = sorted(state.chosen.values(), key=lambda package: package.name)
    return Resolution(
        packages=tuple(chosen),
        upgrades={package.name: state.replaced[package.name] for package in chosen if package.name in state.replaced},
    )


def are_there(wanted: Iterable[str], installed: Iterable[Package], arch: str) -> bool:
    """Whether packages are there already, so that no index need be asked. Args as of `resolve`."""
    state = _of(Index(()), installed, arch)
    return all(state.is_met(_relation(name)) for name in wanted)


def _relation(wanted: str) -> Relation:
    name, equals, exact = wanted.partition("=")
    return Relation(name, "", "=" if equals else "", exact)


def _of(index: Index, installed: Iterable[Package], arch: str) -> _State:
    state = _State(index, arch)
    for package in sorted(installed, key=lambda package: package.name):
        if package.arch in (arch, "all"):
            state.add(package)
    return state


@dataclass(slots=True)
class _State:
    """What is there and what was chosen. Attributes: why: name of a chosen package -> the packages that led to it."""

    index: Index
    arch: str
    present: dict[str, Package] = field(default_factory=dict)
    providers: dict[str, set[str]] = field(default_factory=dict)
    chosen: dict[str, Package] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    why: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, package: Package) -> None:
        self.present[package.name] = package
        for provided in package.provides:
            self.providers.setdefault(provided.name, set()).add(package.name)

    def need(self, first: Group, chain: tuple[str, ...]) -> None:
        """Satisfy a group and all that follows from it, breadth first: dependencies may go in circles."""
        pending = [(first, chain)]
        while pending:
            group, chain = pending.pop(0)
            if any(self.is_met(relation) for relation in group):
                continue
            package = self.choose(group, chain)
            before = self.present.get(package.name)
            if package.name in self.chosen:
                raise PlanError(
                    f"cannot install {_either(group)}",
                    why=f"{_led(chain)} needs it, and {self.chosen[package.name]} was chosen for {_led(self.why[package.name])}",
                )
            if before is not None:
                self.replaced[package.name] = before.version
            self.chosen[package.name] = package
            self.why[package.name] = chain
            self.add(package)
            pending += [(dependency, (*chain, package.name)) for dependency in package.depends]

    def is_met(self, relation: Relation) -> bool:
        """Whether something that is there or chosen satisfies a relation."""
        if not self.fits(relation):
            return False
        own = self.present.get(relation.name)
        if own is not None and version.satisfies(own.version, relation.relation, relation.version):
            return True
        return any(_provides(self.present[name], relation) for name in self.providers.get(relation.name, ()))

    def fits(self, relation: Relation) -> bool:
        return relation.arch in ("", "any", "native", self.arch)

    def choose(self, group: Group, chain: tuple[str, ...]) -> Package:
        for relation in group:
            if not self.fits(relation):
                continue
            for package in self.index.candidates(relation.name):
                if version.satisfies(package.version, relation.relation, relation.version):
                    return package
            for package in self.index.providers(relation.name):
                if _provides(package, relation):
                    return package
        raise PlanError(
            f"cannot install {_either(group)}",
            why=f"{_led(chain)} needs it, and no index has it" if chain else "no index has it",
            hint="its distribution may name it otherwise, or the mirror may be out of date",
        )

    def check_conflicts(self) -> None:
        for package in sorted(self.present.values(), key=lambda package: package.name):
            for relation in package.excludes:
                for name in sorted({relation.name, *self.providers.get(relation.name, ())}):
                    other = self.present.get(name)
                    if other is None or other is package or not {package.name, other.name} & self.chosen.keys():
                        continue
                    if _excluded(other, relation):
                        raise PlanError(
                            f"cannot install {package.name} beside {other.name}",
                            why=f"{self.said(package)} excludes {relation}, and {self.said(other)} is that",
                        )

    def said(self, package: Package) -> str:
        if package.name not in self.chosen:
            return f"the base's {package}"
        chain = self.why[package.name]
        return f"{package} (for {_led(chain)})" if chain else str(package)


def _provides(package: Package, relation: Relation) -> bool:
    """A name that is provided without a version satisfies no relation that asks for one (Debian Policy 7.5)."""
    return any(
        provided.name == relation.name
        and (
            not relation.relation or (provided.relation == "=" and version.satisfies(provided.version, relation.relation, relation.version))
        )
        for provided in package.provides
    )


def _excluded(other: Package, relation: Relation) -> bool:
    if other.name == relation.name and version.satisfies(other.version, relation.relation, relation.version):
        return True
    return _provides(other, relation)


def _either(group: Group) -> str:
    return " or ".join(map(str, group))


def _led(chain: tuple[str, ...]) -> str:
    return " → ".join(chain) or "the plan"
