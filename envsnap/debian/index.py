"""An archive's `Packages` files, searched without holding more than their text.

Debian's main index has 60,000 stanzas in 50 MB, and a resolution asks for a few hundred: only where each begins is noted, and what is
asked for is read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from envsnap.debian import version
from envsnap.debian.control import stanza
from envsnap.debian.package import Package, offered
from envsnap.errors import InputError
from envsnap.model.debian import ArchiveName

_MARK = re.compile(rb"^(Package|Provides|Essential): *([^\n]*)", re.MULTILINE)
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9+.-]*")


class Index:
    """Packages by name, and who provides a name. Args: files: the text of each `Packages` file and the archive that it is of."""

    def __init__(self, files: Iterable[tuple[bytes, ArchiveName]]) -> None:
        self._files = list(files)
        self._named: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._provided: dict[str, set[str]] = defaultdict(set)
        self._essential: set[str] = set()
        self._read: dict[tuple[int, int], Package] = {}
        for number, (text, _) in enumerate(self._files):
            self._scan(number, text)

    def _scan(self, number: int, text: bytes) -> None:
        name = ""
        for found in _MARK.finditer(text):
            key, value = found.groups()
            if key == b"Package":
                name = value.strip().decode("ascii", "replace")
                self._named[name].append((number, found.start()))
            elif key == b"Essential":
                if value.strip() == b"yes":
                    self._essential.add(name)
            else:
                for part in value.split(b","):
                    virtual = _NAME.match(part.strip())
                    if virtual is not None:
                        self._provided[virtual[0].decode()].add(name)

    def candidates(self, name: str) -> Sequence[Package]:
        """The packages of a name, newest first.

        Raises:
            InputError: a stanza cannot be read.
        """
        found = {package.version: package for package in map(self._at, self._named.get(name, ()))}
        return sorted(found.values(), key=lambda package: version.key(package.version), reverse=True)

    def providers(self, name: str) -> Sequence[Package]:
        """Packages that provide a name without having it: each one's newest, the preferred one first. Raises as `candidates`."""
        newest = (self.candidates(provider)[0] for provider in self._provided.get(name, ()) if provider != name)
        real = (package for package in newest if any(provided.name == name for provided in package.provides))
        return sorted(real, key=lambda package: (package.priority, package.name))

    def essential(self) -> Sequence[str]:
        """Names of the packages that every system has."""
        return sorted(self._essential)

    def _at(self, place: tuple[int, int]) -> Package:
        if place not in self._read:
            number, start = place
            text, archive = self._files[number]
            begin = text.rfind(b"\n\n", 0, start) + 2 if text.rfind(b"\n\n", 0, start) >= 0 else 0
            end = text.find(b"\n\n", start)
            raw = text[begin : end if end >= 0 else len(text)]
            try:
                fields = stanza(raw.decode("utf-8").strip("\n"), what="cannot read an index of packages")
            except UnicodeDecodeError as error:
                raise InputError("cannot read an index of packages", why="it is not UTF-8") from error
            self._read[place] = offered(fields, archive)
        return self._read[place]
