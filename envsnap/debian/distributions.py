"""The distributions that are known here: what their suites are called and who signs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envsnap.errors import PlanError
from envsnap.model.debian import ArchiveName
from envsnap.model.kinds import ARCHITECTURES


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Attributes:
    name: as BaseInventory.distribution has it ("debian 12").
    suites: in this order an index is read; of each, the archive that it lies in.
    """

    name: str
    codename: str
    suites: tuple[tuple[str, ArchiveName], ...]

    @property
    def vendor(self) -> str:
        """Whose keys: "debian" or "ubuntu"."""
        return self.name.partition(" ")[0]


def _distribution(vendor: str, number: str, codename: str) -> Distribution:
    suites: tuple[tuple[str, ArchiveName], ...] = (
        (codename, "main"),
        (f"{codename}-updates", "main"),
        (f"{codename}-security", "security"),
    )
    return Distribution(name=f"{vendor} {number}", codename=codename, suites=suites)


_ALL = (
    _distribution("debian", "11", "bullseye"),
    _distribution("debian", "12", "bookworm"),
    _distribution("debian", "13", "trixie"),
    _distribution("ubuntu", "20.04", "focal"),
    _distribution("ubuntu", "22.04", "jammy"),
    _distribution("ubuntu", "24.04", "noble"),
)
COMPONENTS: Mapping[str, tuple[str, ...]] = {"debian": ("main",), "ubuntu": ("main", "universe")}
"""What is searched where the configuration does not say: free software with (and, with Ubuntu, without) its maker's support."""


def find(name: str) -> Distribution:
    """A distribution by its name ("debian 12") or as the base of an image is called ("debian:bookworm", "debian:12").

    Raises:
        PlanError: it is none of those that are known here.
    """
    vendor, _, version = name.replace(":", " ").partition(" ")
    for one in _ALL:
        if vendor == one.vendor and version in (one.codename, one.name.partition(" ")[2]):
            return one
    raise PlanError(
        f"packages of {name} are not known here",
        why=f"known are {', '.join(f'{one.name} ({one.codename})' for one in _ALL)}",
        hint="build with --engine docker",
    )


def architecture(machine: str) -> str:
    """As Debian names it, which is how images do, too. Raises PlanError: another than x86_64 and aarch64."""
    if machine in ARCHITECTURES:
        return ARCHITECTURES[machine]
    if machine in ARCHITECTURES.values():
        return machine
    raise PlanError(f"packages for {machine} are not known here", why=f"known are {', '.join(ARCHITECTURES)}")
