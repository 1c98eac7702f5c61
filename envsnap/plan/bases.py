"""Which base images to ask about, and whether one that is known can carry the lock."""

from __future__ import annotations

import re
from collections.abc import Mapping

from envsnap.errors import PlanError, UsageError
from envsnap.model import torch_version
from envsnap.model.base import Base, Family, Release
from envsnap.model.catalog import Catalog, family_of, numbers
from envsnap.model.kinds import ARCHITECTURES
from envsnap.model.lock import BaseOrigin, EnvLock
from envsnap.model.plan import Candidate, Strategy
from envsnap.plan import delta

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*(@sha256:[0-9a-f]{64})?\Z")
_SHOWN_RELEASES = 3
_SHOWN_BUILDS = 3
_TITLES: Mapping[Family, str] = {"pytorch": "PyTorch", "tensorflow": "TensorFlow", "paddlepaddle": "PaddlePaddle"}
_UNASKED = {"debian": "fits by the catalogue; made of packages, where no registry can be reached"}


def candidate_references(lock: EnvLock, catalog: Catalog, asked: str | None) -> tuple[Base, ...]:
    """The bases whose digest, config and inventory are wanted, best first; nothing else is known of them yet.

    Args:
        asked: None for the image that the environment was made in, where it was; None or "ngc" for the newest NGC release that fits,
            "slim", or an image reference.

    Raises:
        PlanError: no NGC release in the catalogue fits.
        UsageError: `asked` is no image reference.
    """
    home = delta.base_of(lock)
    if asked is None and home is not None and _REFERENCE.match(home):
        return (Base(reference=home, family="ngc-pytorch", release=catalog.release_of(home.partition("@")[0])),)
    if asked is None or asked == "ngc":
        fitting = fitting_releases(lock, catalog)
        if not fitting:
            raise _no_release(lock, catalog)
        return (_of_release(fitting[0]),)
    if asked == "slim":
        return (slim(lock, catalog),)
    if asked in catalog.assembled:
        return (Base(reference=asked, family="debian"),)
    if not _REFERENCE.match(asked):
        raise UsageError(f"not an image reference: {asked!r}", hint="--base ngc, --base slim or --base REPOSITORY:TAG")
    release = catalog.release_of(asked)
    return (_of_release(release) if release else Base(reference=asked, family="other"),)


def fitting_releases(lock: EnvLock, catalog: Catalog) -> list[Release]:
    """The NGC releases, newest first, whose Python, CUDA and driver floor are known and met."""
    driver = lock.observed.gpu.driver
    known = ((release, release_floor(release, catalog)) for release in _releases_for(lock, catalog))
    return [release for release, floor in known if floor is not None and (driver is None or numbers(driver) >= numbers(floor))]


def release_floor(release: Release, catalog: Catalog) -> str | None:
    """The oldest driver for an NGC release: its documentation's branch, else that of its CUDA's major version."""
    if release.driver_branch_min is not None:
        return release.driver_branch_min
    return catalog.driver_floor(release.cuda) if release.cuda is not None else None


def slim(lock: EnvLock, catalog: Catalog) -> Base:
    return Base(reference=catalog.slim.reference.replace("{minor}", minor(lock.python.version)), family="slim")


def judge(base: Base, lock: EnvLock, catalog: Catalog) -> Candidate:
    """Whether this base can carry the lock: the hard constraints, each with its sentence."""
    refusal = _refusal(base, lock, catalog)
    return Candidate(
        base=base,
        strategy=strategy(base, lock),
        possible=not refusal,
        reason=refusal or f"{why(base, lock, catalog)}{_held_against(base, lock, catalog)}",
        pull_bytes=_pull_bytes(base),
        breaks=() if refusal else _breaks(base, lock, catalog),
    )


def alternatives(lock: EnvLock, catalog: Catalog, taken: frozenset[str]) -> list[Candidate]:
    """Other bases that would do by the catalogue alone, for the table of candidates; nobody was asked about them."""
    python = minor(lock.python.version)
    debian = [Base(reference=name, family="debian") for name, known in catalog.assembled.items() if known.python == python]
    if delta.base_of(lock) is not None:  # no index has its builds
        return []
    others = [*map(_of_release, fitting_releases(lock, catalog)[:_SHOWN_RELEASES]), slim(lock, catalog), *debian]
    return [
        Candidate(
            base=base,
            strategy=strategy(base, lock),
            possible=True,
            reason=_UNASKED.get(base.family, "fits by the catalogue; its registry was not asked"),
            breaks=_breaks(base, lock, catalog),
        )
        for base in others
        if base.reference not in taken
    ]


def strategy(base: Base, lock: EnvLock) -> Strategy:
    """How a base would carry the lock."""
    if delta.base_of(lock) is not None and base.family not in ("slim", "debian"):
        return "ngc-delta"
    return "ngc-venv" if base.family == "ngc-pytorch" else "slim" if base.family in ("slim", "debian") else "venv"


def why(base: Base, lock: EnvLock, catalog: Catalog) -> str:
    """Why this base. It is rendered: the same sentence whether or not somebody looked inside, and whatever driver was observed."""
    python = minor(lock.python.version)
    if strategy(base, lock) == "ngc-delta":
        return "the image that the environment was made in: its own packages stay as they are, and the difference goes on top"
    release = base.release
    if release is not None and (floor := release_floor(release, catalog)) is not None:
        known = f"CUDA ({release.cuda}) and driver floor ({floor})"
        if lock.python.conda is None and not carries(base, lock, catalog):
            known = f"Python ({python}), {known}"
        newest = next((other for other in _releases_for(lock, catalog) if release_floor(other, catalog) is not None), None)
        if release == newest:
            return f"NGC is the default; {release.release} is the newest release in the catalogue whose {known} are known"
        return f"an NGC release, {release.release}, whose {known} are known"
    if lock.python.conda is not None:
        return "asked for; Python comes with conda's packages"
    if carries(base, lock, catalog):
        return f"asked for; it has no Python {python}, and the captured interpreter is carried"
    if base.family == "debian":
        distribution = catalog.assembled[base.reference].distribution.capitalize()
        return f"asked for: {distribution}'s own packages with Python {python}, put together here"
    if base.family == "slim":
        return f"asked for: a small base, {catalog.slim.distribution} with Python {python}"
    return f"asked for; its Python is {python}, as captured"


def python_of(base: Base, catalog: Catalog) -> str | None:
    """The version of the base's `python3` as far as it is known: "3.12.3", or "3.12" from the catalogue; None unknown."""
    if base.inventory is not None:
        return base.inventory.python
    if base.family == "debian":
        return catalog.assembled[base.reference].python
    if base.release is not None and base.release.python is not None:
        return base.release.python
    if base.config is not None and re.match(r"\d+\.\d+", stated := base.config.env.get("PYTHON_VERSION", "")):
        return stated
    found = re.search(r"(?:^|/)python:(\d+\.\d+)-slim-", base.reference) if base.family == "slim" else None
    return found[1] if found else None


def carries(base: Base, lock: EnvLock, catalog: Catalog) -> bool:
    """Whether the lock's own interpreter goes in, because the base's is of another minor version, or there is none."""
    if lock.python.tree is None or lock.python.conda is not None:
        return False
    found = python_of(base, catalog)
    return found is None or minor(found) != minor(lock.python.version)


def distribution_of(base: Base, catalog: Catalog) -> str | None:
    """The distribution, "debian 12", as far as it is known: seen inside, by the catalogue, or by the labels of Ubuntu's own images."""
    if base.inventory is not None:
        return base.inventory.distribution
    if base.release is not None and base.release.ubuntu is not None:
        return f"ubuntu {base.release.ubuntu}"
    if base.family == "debian":
        return catalog.assembled[base.reference].distribution
    if base.family == "slim":
        return catalog.slim.distribution
    labels = base.config.labels if base.config is not None else {}
    if labels.get("org.opencontainers.image.ref.name") == "ubuntu" and "org.opencontainers.image.version" in labels:
        return f"ubuntu {labels['org.opencontainers.image.version']}"
    return None


def minor(version: str) -> str:
    """What packages are built for: "3.11" of "3.11.7"."""
    return ".".join(version.split(".")[:2])


def other_bases(python: str, catalog: Catalog) -> str:
    """What to try instead, for a minor version."""
    assembled = [f"--base {name}, " for name, known in catalog.assembled.items() if known.python == python]
    return f"{''.join(assembled)}--base slim, or --base REF for an image with Python {python}"


def unknown(base: Base, what: str) -> PlanError:
    """What to say when something about the chosen base is not known: what, why, and how to make it known."""
    return PlanError(
        f"{what} of {base.reference} is not known",
        why=base.unknown_because or "neither the catalogue nor the image's config says, and nobody has looked inside it",
        hint=f"envsnap bases inspect {base.reference} --deep   looks inside;   or name another base: --base slim, --base REF",
    )


def _held_against(base: Base, lock: EnvLock, catalog: Catalog) -> str:
    """How the captured driver stands to the floor of an NGC release, as the end of a sentence."""
    floor = release_floor(base.release, catalog) if base.release is not None else None
    if floor is None:
        return ""
    driver = lock.observed.gpu.driver
    if driver is None:
        return " (no driver was there at the capture to hold against it)"
    return f", and met by driver {driver}" if numbers(driver) >= numbers(floor) else f"; the captured driver, {driver}, is older"


def _pull_bytes(base: Base) -> int | None:
    if base.in_engine:
        return 0
    return base.config.size_bytes if base.config is not None else None


def _releases_for(lock: EnvLock, catalog: Catalog) -> list[Release]:
    """The NGC releases with the captured Python, newest first; all where there is none and the interpreter can be carried.

    Those of the environment's own framework, or PyTorch's where none of them is known to have that Python: the packages are isolated
    from the base's.
    """
    own = _family(lock)
    families: tuple[Family, ...] = (own, "pytorch")
    for family in families:
        releases = list(catalog.of_family(family))
        if lock.python.conda is not None:  # which brings its own
            return releases
        same = [release for release in releases if release.python is not None and minor(release.python) == minor(lock.python.version)]
        if same:
            return same
    return list(catalog.of_family(own)) if lock.python.tree is not None else []


def _family(lock: EnvLock) -> Family:
    return family_of(package.name for package in lock.packages)


def _of_release(release: Release) -> Base:
    return Base(reference=release.reference, family=f"ngc-{release.family}", release=release)


def _refusal(base: Base, lock: EnvLock, catalog: Catalog) -> str:
    needed, architecture = minor(lock.python.version), ARCHITECTURES[lock.python.interpreter.machine]
    if delta.base_of(lock) is not None and (refused := _refused_delta(base, lock)):
        return refused
    if carries(base, lock, catalog):
        if refused := _refused_libc(base, lock):
            return refused
    elif lock.python.conda is None and (refused := _refused_python(base, needed, catalog)):
        return refused
    if base.config is not None and base.config.architecture != architecture:
        return f"it is for {base.config.architecture}; the environment was captured on {architecture}"
    return ""


def _refused_delta(base: Base, lock: EnvLock) -> str:
    """Why a base cannot be what the environment was made in."""
    if strategy(base, lock) != "ngc-delta":
        own = (package for package in lock.packages if isinstance(package.origin, BaseOrigin))
        nvidias_first = sorted(own, key=lambda package: torch_version.read(package.version).ngc is None)
        builds = [f"{package.name} {package.version}" for package in nvidias_first]
        more = f" and {len(builds) - _SHOWN_BUILDS} more" if len(builds) > _SHOWN_BUILDS else ""
        return f"no index has what the environment has of {delta.base_of(lock)}: {', '.join(builds[:_SHOWN_BUILDS])}{more}"
    if base.inventory is None or not base.inventory.packages:
        return "which packages it has is not known"
    try:
        delta.delta(lock, base.inventory.packages)
    except PlanError as error:
        return f"{error.what}; {error.why}"
    return ""


def _refused_python(base: Base, needed: str, catalog: Catalog) -> str:
    if base.inventory is not None and base.inventory.python is None:
        return "it has no python3, and the environment is made with the base's interpreter"
    found = python_of(base, catalog)
    if found is None:
        return "its Python is not known"
    if minor(found) != needed:
        return f"its Python is {minor(found)}; the environment's packages are built for {needed}"
    return ""


def _refused_libc(base: Base, lock: EnvLock) -> str:
    """Why the lock's own interpreter cannot run on this base."""
    assert lock.python.tree is not None
    needed, found = lock.python.tree.libc, base.inventory.libc if base.inventory is not None else ""
    has_none = f"it has no Python {minor(lock.python.version)}, and the captured interpreter"
    if not found:
        return f"{has_none} needs glibc {needed}: which C library it has is not known"
    name, _, version = found.partition(" ")
    if name != "glibc":
        return f"{has_none} needs glibc; it has {found}"
    if numbers(version) < numbers(needed):
        return f"{has_none} needs glibc {needed} or newer; it has {version}"
    return ""


def _breaks(base: Base, lock: EnvLock, catalog: Catalog) -> tuple[str, ...]:
    """What differs from the captured environment although the base is possible."""
    python, distribution, captured = python_of(base, catalog), distribution_of(base, catalog), lock.observed.platform.distribution
    exact = python is not None and python.count(".") > 1 and lock.python.conda is None and not carries(base, lock, catalog)
    return (
        *([f"Python {python} in place of {lock.python.version}"] if exact and python != lock.python.version else []),
        *(
            [f"system libraries of {distribution} in place of {captured}'s"]
            if distribution and captured and distribution != captured
            else []
        ),
    )


def _no_release(lock: EnvLock, catalog: Catalog) -> PlanError:
    python, driver = minor(lock.python.version), lock.observed.gpu.driver
    family = _family(lock)
    known = sorted({minor(release.python) for release in catalog.of_family(family) if release.python}, key=numbers)
    hint = other_bases(python, catalog)
    if _releases_for(lock, catalog):
        cause = f"those with Python {python} need a newer driver than {driver}, or theirs is not known"
    else:
        cause = f"the environment's packages are built for Python {python}; the releases have {', '.join(known)}"
        hint = f"capture --rescue python keeps the interpreter, and a release carries it;   or   {hint}"
    return PlanError(f"no NGC {_TITLES[family]} release in the catalogue fits", why=cause, hint=hint)
