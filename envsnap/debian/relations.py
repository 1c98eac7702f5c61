"""What packages say of each other: Depends, Provides, Conflicts (Debian Policy 7.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from envsnap.errors import InputError

_ONE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9+.-]*)(?::(?P<arch>[a-z0-9-]+))?\s*"
    r"(?:\(\s*(?P<relation><<|<=|=|>=|>>|<|>)\s*(?P<version>[^\s)]+)\s*\))?\s*\Z"
)


@dataclass(frozen=True, slots=True)
class Relation:
    """`name:arch (>= version)`. Attributes: arch: "" or a qualifier, "any" among them. relation: "" for any version."""

    name: str
    arch: str = ""
    relation: str = ""
    version: str = ""

    def __str__(self) -> str:
        return self.name + (f":{self.arch}" if self.arch else "") + (f" ({self.relation} {self.version})" if self.relation else "")


Group = tuple[Relation, ...]
"""Alternatives: one of them is enough."""


def parse(text: str) -> tuple[Group, ...]:
    """A relationship field: all groups must hold.

    Raises:
        InputError: it is none.
    """
    return tuple(tuple(_one(part) for part in group.split("|")) for group in text.replace("\n", " ").split(",") if group.strip())


def _one(text: str) -> Relation:
    found = _ONE.match(text.strip())
    if found is None:
        raise InputError("cannot read a package's relations", why=f"{text.strip()[:80]!r} is none")
    return Relation(found["name"], found["arch"] or "", found["relation"] or "", found["version"] or "")
