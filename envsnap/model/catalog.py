"""What the project knows beforehand: base images, drivers, variables that steer, and who packages which library.

The data lie in `envsnap/catalog/data/`, each file with its sources; `envsnap.catalog` reads them into these types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal

from envsnap.model import torch_version
from envsnap.model.base import Family, Release
from envsnap.model.frameworks import DISTRIBUTIONS, Framework, frameworks_of
from envsnap.model.gpus import Gpus
from envsnap.model.kinds import PackageName, Soname, SystemName, Value

_FAMILIES: Mapping[Framework, Family] = {"torch": "pytorch", "tensorflow": "tensorflow", "paddle": "paddlepaddle"}

Treatment = Literal["keep", "neutral", "driver-paths", "run-time", "unsettled"]


class ForOlder(Value, frozen=True, kw_only=True):
    """Another neutral value for versions of `package` below `than`."""

    package: PackageName
    than: str
    value: str


class VariableRule(Value, frozen=True, kw_only=True):
    """How a variable of a base image is treated, so that it does not steer the environment.

    Attributes:
        pattern: a name, or one with `*` for any text.
        treatment: keep, neutral (set to `value`), driver-paths (only elements below `paths` stay), run-time (never carried
            over), or unsettled (it steers, but no value is known to mean its absence).
        reason: a clause that completes "NAME: …".
    """

    pattern: str
    treatment: Treatment
    reason: str
    value: str | None = None
    paths: tuple[str, ...] = ()
    for_older: ForOlder | None = None


class Library(Value, frozen=True, kw_only=True):
    """Who packages a library.

    Attributes:
        package: its name in every distribution of the catalogue that `elsewhere` does not name.
        elsewhere: distribution ("debian 13") -> the name there, or None where that distribution has no such library.
    """

    soname: Soname
    package: SystemName | None = None
    elsewhere: Mapping[str, SystemName | None] = {}


class CudaDriver(Value, frozen=True, kw_only=True):
    """A CUDA version ("13.0.2"; a major version, "13", for a floor) and a Linux driver. `source`: key of `Drivers.sources`."""

    cuda: str
    driver: str
    source: str


class ForwardSupport(Value, frozen=True, kw_only=True):
    """The driver branches for which NVIDIA supports the compatibility package of a CUDA version ("12.8").

    Attributes:
        pruned: branches at their end of life are left out, and no edition is known in which they were not yet.
    """

    cuda: str
    branches: tuple[str, ...]
    pruned: bool = False
    source: str


class Drivers(Value, frozen=True, kw_only=True):
    """Attributes:
    floors: per CUDA major version, the oldest driver that runs any of its minor versions.
    toolkits: per toolkit, the driver that it was shipped with, newest first.
    forward: a CUDA version may have several rows, of several editions of NVIDIA's table.
    """

    sources: Mapping[str, str]
    floors: tuple[CudaDriver, ...]
    toolkits: tuple[CudaDriver, ...]
    forward: tuple[ForwardSupport, ...]

    def shipped_with(self, cuda: str) -> str | None:
        """The driver that a toolkit came with: of "13.0.2" that row's, of "13.0", or an update that no table has, the nearest before.

        None for a minor version that no table has.
        """
        asked = numbers(cuda)
        same = [row for row in self.toolkits if numbers(row.cuda)[:2] == asked[:2]]
        before = [row for row in same if numbers(row.cuda)[:3] <= asked[:3]]
        row = max(before, key=_cuda) if before else min(same, key=_cuda, default=None)
        return row.driver if row is not None else None

    def cuda_of(self, driver: str) -> str | None:
        """The newest CUDA version, "12.2", that a driver has all of; None for one that is older than the table."""
        known = (row for row in self.toolkits if numbers(row.driver) <= numbers(driver))
        row = max(known, key=_cuda, default=None)
        return minor_of(row.cuda) if row is not None else None

    def supports(self, cuda: str, branch: str) -> bool | None:
        """Whether the compatibility package of a CUDA version is for a driver branch; None where no edition of the table says."""
        rows = [row for row in self.forward if numbers(row.cuda) == numbers(cuda)[:2]]
        if any(branch in row.branches for row in rows):
            return True
        return None if not rows or any(row.pruned for row in rows) else False


class Slim(Value, frozen=True, kw_only=True):
    """The small base. Attributes: reference: with `{minor}` in place of "3.11"."""

    reference: str
    distribution: str


class Assembled(Value, frozen=True, kw_only=True):
    """A base that is made of a distribution's packages alone. Attributes: python: "3.11"."""

    distribution: str
    python: str


class Libraries(Value, frozen=True, kw_only=True):
    """Attributes:
    distributions: those that the table speaks for.
    glibc: distribution -> the version that it has in all of its life.
    libc: always there.
    driver: put into a container by its runtime, never by a package.
    """

    distributions: tuple[str, ...]
    glibc: Mapping[str, str]
    libc: frozenset[Soname]
    driver: frozenset[Soname]
    libraries: tuple[Library, ...]


class Protected(Value, frozen=True, kw_only=True):
    """What NVIDIA builds for its images. Attributes: modules: what is imported; hides: distributions of an index that bring the same."""

    names: tuple[PackageName, ...]
    modules: tuple[str, ...]
    hides: tuple[PackageName, ...] = ()


class TorchWheel(Value, frozen=True, kw_only=True):
    """What the default index has under a version of torch.

    Attributes:
        cuda: of the wheel for x86_64.
        cuda_on_aarch64: whether the wheel for aarch64 has it, too, or is for the CPU alone; None: not seen.
        torchvision: the version that is resolved beside it.
        source: key of `TorchWheels.sources`.
    """

    torch: str
    cuda: str
    cuda_on_aarch64: bool | None = None
    torchvision: str
    source: str


class TorchWheels(Value, frozen=True, kw_only=True):
    """Attributes: wheels: newest first."""

    sources: Mapping[str, str]
    wheels: tuple[TorchWheel, ...]


class Catalog(Value, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        releases: family after family, each newest first.
        assembled: by what `--base` calls them ("debian:bookworm").
    """

    releases: tuple[Release, ...]
    torch_wheels: TorchWheels
    drivers: Drivers
    gpus: Gpus
    variables: tuple[VariableRule, ...]
    libraries: Libraries
    slim: Slim
    assembled: Mapping[str, Assembled]
    protected: tuple[Protected, ...] = ()

    def protection(self, name: str) -> Protected | None:
        """Of a distribution in one of NVIDIA's images; None for one that any index has just so."""
        return next((rule for rule in self.protected if name in rule.names), None)

    @property
    def rivals(self) -> frozenset[str]:
        """Names of packages that, from an index, take the place of what NVIDIA builds for its images."""
        return frozenset(name for rule in self.protected for name in (*rule.names, *rule.hides))

    def protection_of(self, module: str) -> Protected | None:
        """Of what is imported by that name; None for what NVIDIA does not build."""
        return next((rule for rule in self.protected if module in rule.modules), None)

    def driver_floor(self, cuda: str) -> str | None:
        """The oldest Linux driver that runs a CUDA version ("13.0", "12.4.1"); None when nobody is known to have said."""
        major, *minor = cuda.split(".")
        for floor in self.drivers.floors:
            if floor.cuda == major:
                return floor.driver
        same = [row.driver for row in self.drivers.toolkits if row.cuda.split(".")[: 1 + len(minor[:1])] == [major, *minor[:1]]]
        return min(same, key=numbers, default=None)

    def package_for(self, soname: str, distribution: str) -> str | None:
        """The package that brings a library in a distribution; None when the catalogue does not know one."""
        if distribution not in self.libraries.distributions:
            return None
        for library in self.libraries.libraries:
            if library.soname == soname:
                return library.elsewhere.get(distribution, library.package)
        return None

    def variable(self, name: str) -> VariableRule | None:
        """The first rule that matches; None for a variable that steers nothing known."""
        return next((rule for rule in self.variables if fnmatchcase(name, rule.pattern)), None)

    def release_of(self, reference: str) -> Release | None:
        """The row of exactly this reference."""
        return next((release for release in self.releases if release.reference == reference), None)

    def named(self, word: str) -> tuple[Release, ...]:
        """The rows that a person means by a reference, a tag ("26.07-py3") or a release ("26.07")."""
        return tuple(row for row in self.releases if word in (row.reference, row.reference.rpartition(":")[2], row.release))

    def of_family(self, family: Family) -> tuple[Release, ...]:
        """Its releases, newest first."""
        return tuple(release for release in self.releases if release.family == family)

    def images_for(self, installed: Mapping[str, str]) -> Mapping[str, str]:
        """Release ("25.03") -> reference of its image, in the family that an environment is of.

        Args:
            installed: name -> version.
        """
        family = family_of(installed)
        of_tensorflow = next((version for name, version in installed.items() if name in DISTRIBUTIONS["tensorflow"]), "")
        # Until 23.03 there were two images of TensorFlow a month.
        wanted = f"-tf{of_tensorflow.partition('.')[0]}-" if family == "tensorflow" else ""
        return {release.release: release.reference for release in self.of_family(family) if wanted in release.reference}

    def release_called(self, family: Family, tag: str) -> Release | None:
        """The row that an image means which says of itself what it is: "26.07", or "22.03-tf1"."""
        found = (release for release in self.of_family(family) if release.reference.rpartition(":")[2] == f"{tag}-py3")
        return next(found, None)

    def releases_of_torch(self, version: str) -> tuple[Release, ...]:
        """The NGC PyTorch releases, newest first, that have this build of torch; none for a build that is not NVIDIA's.

        One where the version says its release. NVIDIA has put one build of torch into two releases in a row: where only the
        commit is said, these are both.
        """
        asked = torch_version.read(version)
        releases = self.of_family("pytorch")
        if asked.ngc is not None:
            return tuple(release for release in releases if release.release == asked.ngc)
        if asked.commit is None:
            return ()
        known = ((release, torch_version.read(release.torch)) for release in releases if release.torch is not None)
        return tuple(release for release, torch in known if torch_version.same_build(asked, torch))

    def torch_wheel(self, version: str) -> TorchWheel | None:
        """What the default index has under a public version, "2.12.1"."""
        return next((wheel for wheel in self.torch_wheels.wheels if wheel.torch == version), None)


def family_of(packages: Iterable[str]) -> Family:
    """The family of an environment with these packages; PyTorch's where it has no framework."""
    found = frameworks_of(frozenset(packages))
    return _FAMILIES[found[0]] if found else "pytorch"


def numbers(version: str) -> tuple[int, ...]:
    """The parts of "580.65.06" as (580, 65, 6), so that versions of drivers and of CUDA compare as numbers."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def minor_of(cuda: str) -> str:
    """The minor version: "13.3" of "13.3.1.008"."""
    return ".".join(cuda.split(".")[:2])


def branch_of(driver: str) -> str:
    """The branch of a driver: "580" of "580.159.04"."""
    return driver.partition(".")[0]


def _cuda(row: CudaDriver) -> tuple[int, ...]:
    return numbers(row.cuda)
