"""Which base images to ask about, and whether one that is known can carry the lock."""

from __future__ import annotations

import re
from collections.abc import Mapping

from envsnap.errors import NoBase, PlanError, UsageError
from envsnap.model import torch_version
from envsnap.model.base import Base, Family, Release
from envsnap.model.catalog import Catalog, family_of, numbers
from envsnap.model.kinds import ARCHITECTURES
from envsnap.model.lock import EnvLock
from envsnap.model.origins import BaseOrigin
from envsnap.model.plan import Candidate, Strategy
from envsnap.plan import delta

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*(@sha256:[0-9a-f]{64})?\Z")
_SHOWN_BUILDS = 3
_TITLES: Mapping[Family, str] = {"pytorch": "PyTorch", "tensorflow": "TensorFlow", "paddlepaddle": "PaddlePaddle"}
ISOLATED = "an environment with its framework from an index, captured: that is isolated from the image's"
"""What would let another base carry an environment that is an image with a difference."""


def candidate_references(lock: EnvLock, catalog: Catalog, asked: str | None) -> tuple[Base, ...]:
    """The bases whose digest, config and inventory are wanted, best first; nothing else is known of them yet.

    Args:
        asked: None for the image that the environment was made in, where it was; None or "ngc" for the newest NGC release that fits,
            "slim", or an image reference.

    Raises:
        NoBase: no NGC release in the catalogue fits.
        UsageError: `asked` is no image reference.
    """
    home = delta.base_of(lock)
    if asked is None and home is not None and _REFERENCE.match(home):
        release = catalog.release_of(home.partition("@")[0])
        return (Base(reference=home, family=f"ngc-{release.family if release is not None else family(lock)}", release=release),)
    if asked is None or asked == "ngc":
        fitting = fitting_releases(lock, catalog)
        if not fitting:
            raise _no_release(lock, catalog)
        return (of_release(fitting[0]),)
    small = slim(lock, catalog)
    if asked in ("slim", small.reference):  # by either name the same, as far as it is known and in what is not
        return (small,)
    if asked in catalog.assembled:
        return (Base(reference=asked, family="debian"),)
    if not _REFERENCE.match(asked):
        raise UsageError(f"not an image reference: {asked!r}", hint="--base ngc, --base slim or --base REPOSITORY:TAG")
    release = catalog.release_of(asked)
    return (of_release(release) if release else Base(reference=asked, family="other"),)


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
    """Whether this base can carry the lock: the hard constraints, each with its sentence; and what is exact there and what is not."""
    refusal = _refusal(base, lock, catalog)
    return Candidate(
        base=base,
        strategy=strategy(base, lock),
        possible=not refusal,
        reason=refusal or f"{why(base, lock, catalog)}{_held_against(base, lock, catalog)}",
        python=python_of(base, catalog),
        carried=carries(base, lock, catalog),
        driver=release_floor(base.release, catalog) if base.release is not None else None,
        pull_bytes=pull_bytes(base),
        exact=() if refusal else _exact(base, lock, catalog),
        differs=() if refusal else _differs(base, lock, catalog),
        breaks=(refusal,) if refusal else (),
        way=_way(base, lock, catalog) if refusal else "",
    )


def strategy(base: Base, lock: EnvLock) -> Strategy:
    """How a base would carry the lock."""
    if delta.base_of(lock) is not None and base.family not in ("slim", "debian"):
        return "ngc-delta"
    return "ngc-venv" if base.family.startswith("ngc-") else "slim" if base.family in ("slim", "debian") else "venv"


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
        its_own = "; it carries the captured interpreter" if carries(base, lock, catalog) else ""
        if release == newest:
            return f"NGC is the default; {release.release} is the newest release in the catalogue whose {known} are known{its_own}"
        return f"an NGC release, {release.release}, whose {known} are known{its_own}"
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


def libc_of(base: Base, catalog: Catalog) -> str:
    """The C library, "glibc 2.36", as far as it is known: seen inside, or that of its distribution; "" unknown."""
    if base.inventory is not None:
        return base.inventory.libc
    found = catalog.libraries.glibc.get(distribution_of(base, catalog) or "")
    return f"glibc {found}" if found is not None else ""


def family(lock: EnvLock) -> Family:
    """Whose images are meant for it."""
    return family_of(package.name for package in lock.packages)


def pull_bytes(base: Base) -> int | None:
    """What is to be pulled of a base, compressed: 0 where an engine has it; None unknown."""
    if base.in_engine:
        return 0
    if base.config is not None and base.config.size_bytes is not None:
        return base.config.size_bytes
    return base.release.pull_bytes if base.release is not None else None


def refused_elsewhere(lock: EnvLock) -> str:
    """Why an environment that is an image with a difference cannot be carried by what has not that image's packages."""
    own = (package for package in lock.packages if isinstance(package.origin, BaseOrigin))
    nvidias_first = sorted(own, key=lambda package: torch_version.read(package.version).ngc is None)
    builds = [f"{package.name} {package.version}" for package in nvidias_first]
    more = f" and {len(builds) - _SHOWN_BUILDS} more" if len(builds) > _SHOWN_BUILDS else ""
    return f"no index has what the environment has of {delta.base_of(lock)}: {', '.join(builds[:_SHOWN_BUILDS])}{more}"


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


def _releases_for(lock: EnvLock, catalog: Catalog) -> list[Release]:
    """The NGC releases with the captured Python, newest first; where there is none, those that can carry the interpreter, if it was kept.

    Those of the environment's own framework, or PyTorch's where none of them is known to have that Python: the packages are isolated
    from the base's.
    """
    own = family(lock)
    families: tuple[Family, ...] = (own, "pytorch")
    for series in families:
        releases = list(catalog.of_family(series))
        if lock.python.conda is not None:  # which brings its own
            return releases
        same = [release for release in releases if release.python is not None and minor(release.python) == minor(lock.python.version)]
        if same:
            return same
    if lock.python.tree is None:
        return []
    # Whether the interpreter is needed there, and runs, is decided by the release's Python and by its distribution.
    return [release for release in catalog.of_family(own) if release.python is not None and release.ubuntu is not None]


def of_release(release: Release) -> Base:
    return Base(reference=release.reference, family=f"ngc-{release.family}", release=release)


def _refusal(base: Base, lock: EnvLock, catalog: Catalog) -> str:
    needed, architecture = minor(lock.python.version), ARCHITECTURES[lock.python.interpreter.machine]
    if delta.base_of(lock) is not None and (refused := _refused_delta(base, lock)):
        return refused
    if carries(base, lock, catalog):
        if refused := _refused_libc(base, lock, catalog):
            return refused
    elif lock.python.conda is None and (refused := _refused_python(base, needed, catalog)):
        return refused
    if base.config is not None and base.config.architecture != architecture:
        return f"it is for {base.config.architecture}; the environment was captured on {architecture}"
    return ""


def _refused_delta(base: Base, lock: EnvLock) -> str:
    """Why a base cannot be what the environment was made in."""
    if strategy(base, lock) != "ngc-delta":
        return refused_elsewhere(lock)
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


def _refused_libc(base: Base, lock: EnvLock, catalog: Catalog) -> str:
    """Why the lock's own interpreter cannot run on this base."""
    assert lock.python.tree is not None
    needed, found = lock.python.tree.libc, libc_of(base, catalog)
    has_none = f"it has no Python {minor(lock.python.version)}, and the captured interpreter"
    if not found:
        return f"{has_none} needs glibc {needed}: which C library it has is not known"
    name, _, version = found.partition(" ")
    if name != "glibc":
        return f"{has_none} needs glibc; it has {found}"
    if numbers(version) < numbers(needed):
        return f"{has_none} needs glibc {needed} or newer; it has {version}"
    return ""


def _exact(base: Base, lock: EnvLock, catalog: Catalog) -> tuple[str, ...]:
    """What of the captured environment is there to the byte."""
    proven = sum(package.provenance != "unproven" for package in lock.packages)
    if strategy(base, lock) == "ngc-delta" and base.inventory is not None:
        kept = len(delta.delta(lock, base.inventory.packages).kept)
        return (
            f"{_packages(kept)} as the image has {'it' if kept == 1 else 'them'}",
            *([f"{proven - kept} besides"] if proven > kept else []),
        )
    if lock.python.conda is not None:
        return (_packages(proven), f"conda's {len(lock.python.conda.packages)}, Python {lock.python.version} among them")
    carried = f"the interpreter, Python {lock.python.version}"
    return (_packages(proven), *([carried] if carries(base, lock, catalog) else []))


def _packages(number: int) -> str:
    return f"{number} package{'' if number == 1 else 's'}"


def _differs(base: Base, lock: EnvLock, catalog: Catalog) -> tuple[str, ...]:
    """What is another than the captured one although the base is possible."""
    if strategy(base, lock) == "ngc-delta":
        return ()
    python, distribution, captured = python_of(base, catalog), distribution_of(base, catalog), lock.observed.platform.distribution
    own = python is not None and lock.python.conda is None and not carries(base, lock, catalog)
    # Of some only the minor version is known, which is the captured one.
    exact = python if own and python is not None and python.count(".") > 1 else None
    return (
        *([f"Python {exact} in place of {lock.python.version}"] if exact not in (None, lock.python.version) else []),
        *([f"a Python {python} of which no more is known, in place of {lock.python.version}"] if own and exact is None else []),
        *(
            [f"system libraries of {distribution} in place of {captured}'s"]
            if distribution and captured and distribution != captured
            else []
        ),
    )


def _way(base: Base, lock: EnvLock, catalog: Catalog) -> str:
    """What would make a base possible that is not; "" where nothing does."""
    if delta.base_of(lock) is not None:
        return "" if strategy(base, lock) == "ngc-delta" else ISOLATED
    if lock.python.conda is not None:
        return ""
    found = python_of(base, catalog)
    if lock.python.tree is None:
        lacking = base.inventory is not None and found is None
        other = lacking or (found is not None and minor(found) != minor(lock.python.version))
        return "envsnap capture --rescue python: the interpreter is kept, and carried" if other else ""
    return f"envsnap bases inspect {base.reference} --deep" if carries(base, lock, catalog) and not libc_of(base, catalog) else ""


def _no_release(lock: EnvLock, catalog: Catalog) -> NoBase:
    python, driver = minor(lock.python.version), lock.observed.gpu.driver
    own = family(lock)
    known = sorted({minor(release.python) for release in catalog.of_family(own) if release.python}, key=numbers)
    hint = other_bases(python, catalog)
    if _releases_for(lock, catalog):
        cause = f"those with Python {python} need a newer driver than {driver}, or theirs is not known"
    else:
        cause = f"the environment's packages are built for Python {python}; the releases have {', '.join(known)}"
        hint = f"capture --rescue python keeps the interpreter, and a release carries it;   or   {hint}"
    return NoBase(f"no NGC {_TITLES[own]} release in the catalogue fits", why=cause, hint=hint)
