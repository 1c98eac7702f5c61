"""A package as an index or dpkg's database describes it: what its dependencies are resolved by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from envsnap.debian.control import Stanza, stanzas
from envsnap.debian.relations import Group, Relation, parse
from envsnap.errors import InputError
from envsnap.model.debian import ArchiveName, DebFile

_PRIORITIES = ("required", "important", "standard", "optional")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Attributes:
    depends: Pre-Depends, then Depends. excludes: Conflicts, then Breaks.
    priority: 0 for "required" and up.
    source_of: the .deb, of a package that an index offers; None for an installed one.
    """

    name: str
    version: str
    arch: str
    depends: tuple[Group, ...] = ()
    provides: tuple[Relation, ...] = ()
    excludes: tuple[Relation, ...] = ()
    essential: bool = False
    priority: int = len(_PRIORITIES)
    source_of: DebFile | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def offered(fields: Stanza, archive: ArchiveName) -> Package:
    """A package of an index. Raises InputError: a field is missing or not what it must be."""
    try:
        file = msgspec.convert(
            {
                "name": fields["Package"],
                "version": fields["Version"],
                "arch": fields["Architecture"],
                "path": fields["Filename"].removeprefix("./"),
                "sha256": fields["SHA256"],
                "size_bytes": int(fields["Size"]),
                "archive": archive,
            },
            DebFile,
        )
    except (KeyError, ValueError, msgspec.ValidationError) as error:
        raise InputError("cannot read an index of packages", why=f"{fields.get('Package', 'a stanza')}: {error}") from error
    return _package(fields, file)


def installed(status: str) -> Iterator[Package]:
    """The packages that a /var/lib/dpkg/status calls installed. Raises InputError."""
    for fields in stanzas(status, what="cannot read dpkg's database"):
        if fields.get("Status", "").split()[-1:] == ["installed"]:
            yield _package(fields, None)


def _package(fields: Stanza, file: DebFile | None) -> Package:
    def relations(*names: str) -> tuple[Group, ...]:
        return tuple(group for name in names for group in parse(fields.get(name, "")))

    def single(*names: str) -> tuple[Relation, ...]:
        return tuple(relation for group in relations(*names) for relation in group)

    priority = fields.get("Priority", "")
    return Package(
        name=fields.get("Package", ""),
        version=fields.get("Version", ""),
        arch=fields.get("Architecture", ""),
        depends=relations("Pre-Depends", "Depends"),
        provides=single("Provides"),
        excludes=single("Conflicts", "Breaks"),
        essential=fields.get("Essential") == "yes",
        priority=_PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES),
        source_of=file,
    )
