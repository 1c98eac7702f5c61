"""The other ways to carry an environment, for the table of candidates: each of the three has a row, and says what it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from envsnap.model import torch_version
from envsnap.model.base import Base, Family, Release
from envsnap.model.catalog import Catalog
from envsnap.model.frameworks import DISTRIBUTIONS, Framework
from envsnap.model.lock import EnvLock, LockedPackage
from envsnap.model.plan import Candidate, Strategy
from envsnap.plan import bases, delta

_SHOWN_RELEASES = 3
_FRAMEWORKS: Mapping[Family, Framework] = {"pytorch": "torch", "tensorflow": "tensorflow", "paddlepaddle": "paddle"}


def alternatives(lock: EnvLock, catalog: Catalog, judged: Sequence[Candidate]) -> list[Candidate]:
    """Candidates besides those that were judged, by the catalogue alone; nobody was asked about them.

    A strategy that cannot carry the environment has its row, too, with what it would break and what would make it possible.
    """
    taken = {candidate.base.reference for candidate in judged}
    if delta.base_of(lock) is not None:
        others = [*map(bases.of_release, _newest(lock, catalog)), bases.slim(lock, catalog)]
        return [_without_its_image(base, lock, catalog) for base in others if base.reference not in taken]
    python = bases.minor(lock.python.version)
    debian = [Base(reference=name, family="debian") for name, known in catalog.assembled.items() if known.python == python]
    fitting = bases.fitting_releases(lock, catalog)[:_SHOWN_RELEASES] or _newest(lock, catalog)
    others = [*map(bases.of_release, fitting), bases.slim(lock, catalog), *debian]
    rows = [unasked(base, lock, catalog) for base in others if base.reference not in taken]
    nearest = _nearest(lock, catalog)
    return [*rows, *([_not_made_in(nearest, lock, catalog)] if nearest is not None else [])]


def unasked(base: Base, lock: EnvLock, catalog: Catalog) -> Candidate:
    """A candidate that nobody asked for."""
    found = bases.judge(base, lock, catalog)
    how = "by what is known of it" if base.config is not None else "by the catalogue"
    made = "; made of packages, where no registry can be reached" if base.is_made_here else ""
    return replace(found, reason=f"fits, {how}{made}") if found.possible else found


def _newest(lock: EnvLock, catalog: Catalog) -> list[Release]:
    """The newest release for the environment's framework whose Python and driver floor are known; none where there is none."""
    releases = catalog.of_family(bases.family(lock))
    return [one for one in releases if one.python is not None and bases.release_floor(one, catalog) is not None][:1]


def _without_its_image(base: Base, lock: EnvLock, catalog: Catalog) -> Candidate:
    """An environment that is an image with a difference, on another base and isolated."""
    reason = bases.refused_elsewhere(lock)
    strategy: Strategy = "slim" if base.release is None else "ngc-venv"
    return replace(_refused(base, strategy, catalog), reason=reason, breaks=(reason,), way=bases.ISOLATED)


def _refused(base: Base, strategy: Strategy, catalog: Catalog) -> Candidate:
    """A candidate that is not possible, with what is known of its base."""
    return Candidate(
        base=base,
        strategy=strategy,
        possible=False,
        reason="",
        python=bases.python_of(base, catalog),
        driver=bases.release_floor(base.release, catalog) if base.release is not None else None,
        pull_bytes=bases.pull_bytes(base),
    )


def _nearest(lock: EnvLock, catalog: Catalog) -> Release | None:
    """The newest release with the environment's minor version of its framework; the newest of all where none has that."""
    own = _framework(lock)
    releases = [one for one in catalog.of_family(bases.family(lock)) if one.framework is not None]
    wanted = bases.minor(own.version) if own is not None else ""
    same = [one for one in releases if bases.minor(torch_version.read(one.framework or "").public) == wanted]
    return next(iter([*same, *releases]), None)


def _framework(lock: EnvLock) -> LockedPackage | None:
    names = DISTRIBUTIONS[_FRAMEWORKS[bases.family(lock)]]
    return next((package for package in lock.packages if package.name in names), None)


def _not_made_in(release: Release, lock: EnvLock, catalog: Catalog) -> Candidate:
    """The image that is nearest to what the environment could have been made in, and was not."""
    own, total = _framework(lock), len(lock.packages)
    name = own.name if own is not None else release.family
    has = f"this is {own.version} of an index" if own is not None else "the environment has none"
    plain = sum(_is_python_alone(package) for package in lock.packages)
    python, theirs = bases.minor(lock.python.version), bases.minor(release.python or "")
    bound = sum(_loads_in_alone(package, python) for package in lock.packages)
    loads = f"{bound} of {total} packages were built for Python {python} and do not load in its {theirs}"
    return replace(
        _refused(bases.of_release(release), "ngc-delta", catalog),
        reason=f"the environment was not made in it: its {name} is NVIDIA's {release.framework}, {has}",
        exact=(f"at most {plain} of {total} packages, which are Python code alone",) if plain else (),
        differs=(f"{name} {release.framework} in place of {own.version}",) if own is not None else (),
        breaks=(
            *([loads] if bound and theirs and python != theirs else []),
            *([f"what was built for {name} {own.version} meets another"] if own is not None else []),
        ),
        way="install the rest in a container of it, and envsnap capture --container NAME",
    )


def _is_python_alone(package: LockedPackage) -> bool:
    return any(tag.startswith("py3-none-any") for tag in package.tags)


def _loads_in_alone(package: LockedPackage, python: str) -> bool:
    """Whether its compiled code loads in this minor version of Python and in no other."""
    own = f"cp{python.replace('.', '')}"
    return bool(package.tags) and all(tag.split("-")[1].startswith(own) for tag in package.tags)
