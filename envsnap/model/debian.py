"""Packages of Debian and Ubuntu as files with a hash: what a plan pins, so that a layer can be made of them again."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from envsnap.model.kinds import Hex64, SystemName, Value

PoolPath: TypeAlias = Annotated[
    str,
    Meta(pattern=r"^(?!/)(?!(?:.*/)?\.\.?(?:/|\Z))[A-Za-z0-9+._~:/-]+\.deb\Z", max_length=1000, description="below the archive's address"),
]
DebianVersion: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.+~:-]+\Z", max_length=200)]
Architecture: TypeAlias = Annotated[str, Meta(pattern=r"^(?:amd64|arm64)\Z", description="of a system, as Debian names it")]
PackageArchitecture: TypeAlias = Annotated[str, Meta(pattern=r"^(?:all|amd64|arm64)\Z", description="of a package")]
ArchiveName: TypeAlias = Literal["main", "security"]
"""Which archive of a distribution: security updates may lie in one of their own. Its address is configuration, never part of a plan."""


class DebFile(Value, frozen=True, kw_only=True):
    """One .deb of a signed index.

    Attributes:
        path: below the archive's address ("pool/main/z/zlib/zlib1g_1.2.13_amd64.deb").
    """

    name: SystemName
    version: DebianVersion
    arch: PackageArchitecture
    path: PoolPath
    sha256: Hex64
    size_bytes: int
    archive: ArchiveName = "main"

    @property
    def digest(self) -> str:
        """As a blob."""
        return f"sha256:{self.sha256}"


class NeedsShell(Value, frozen=True, kw_only=True):
    """Why a package cannot become a layer as it is. Attributes: because: "its postinst runs adduser", a clause."""

    package: SystemName
    because: str


class SystemPlan(Value, frozen=True, kw_only=True):
    """The packages that a base lacks, dependencies included, sorted by name.

    Attributes:
        distribution: "debian 12".
        needs_shell: empty when all of them can be a layer; else an engine has to install them.
    """

    distribution: str
    arch: Architecture
    packages: tuple[DebFile, ...]
    needs_shell: tuple[NeedsShell, ...] = ()
