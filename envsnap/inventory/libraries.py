"""Which shared libraries the dynamic loader of an image finds, and what a program of it needs of them."""

from __future__ import annotations

import posixpath
import re
import struct
from collections.abc import Iterable, Iterator

from envsnap.guest.elf import ELF_FAULTS, Elf, parse_elf
from envsnap.guest.libraries import expanded
from envsnap.inventory.files import File, FileSystem
from envsnap.inventory.wanted import LIBRARY

# glibc's elf/cache.c: the new format, alone or behind the old one; offsets count from its own start.
_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER_BYTES = 48
_COUNT = struct.Struct("<I")
_ENTRY = struct.Struct("<iIIIQ")
# Architecture as images name it -> (flags of its entries in the cache, multiarch directory).
_ARCHITECTURES = {"amd64": (0x0303, "x86_64-linux-gnu"), "arm64": (0x0A03, "aarch64-linux-gnu")}
_GLIBC = re.compile(rb"GNU C Library [^\n\0]{0,200}release version ([0-9]+\.[0-9]+)")
_MAX_READ = 1 << 20  # of an ELF file's tables, at once


class Libraries:
    """The loader's view. Args: architecture: of the image, "amd64" or "arm64"; libraries of others are left out."""

    def __init__(self, files: FileSystem, architecture: str) -> None:
        self._files = files
        self._flags: int | None
        multiarch: str | None
        self._flags, multiarch = _ARCHITECTURES.get(architecture, (None, None))
        roots = ("lib", "usr/lib", "lib64", "usr/lib64", "usr/local/lib")
        # Debian's loader knows the multiarch directories by itself; /usr/local/lib is known to musl's alone, to others by their cache.
        self._directories = (*(f"{root}/{multiarch}" for root in roots[:2] if multiarch), *roots[: 5 if has_musl(files) else 4])
        self._cache = dict(self._cached())

    def sonames(self) -> frozenset[str]:
        """Those in the loader's cache, as `ldconfig -p` prints it, and those that lie where it looks without one."""
        lying = {
            name
            for directory in self._directories
            for name in self._files.children(directory)
            if name not in self._cache and LIBRARY.match(name) and self._is_called(name, f"{directory}/{name}")
        }
        return frozenset(self._cache.keys() | lying)

    def _is_called(self, name: str, path: str) -> bool:
        """Whether a library is there under its own soname: ldconfig passes over what is called otherwise (`libacl.so.1.1.2301`)."""
        file = self._files.file(path)
        elf = self.elf(file) if file is not None else None
        return elf is not None and (elf.soname or name) == name

    def find(self, soname: str, like: Elf, search: Iterable[str] = ()) -> tuple[str, File, Elf] | None:
        """The library that a program would get: its path, links resolved, and what is in it.

        Args:
            like: the file that needs it: another machine's library is passed over.
            search: directories that come first.
        """
        candidates = [f"{directory}/{soname}" for directory in search]
        candidates += [self._cache[soname]] if soname in self._cache else []
        candidates += [f"{directory}/{soname}" for directory in self._directories]
        for candidate in [soname] if "/" in soname else candidates:
            found = self._files.walk(candidate)
            if found is not None and isinstance(found[1], File):
                elf = self.elf(found[1])
                if elf is not None and elf.machine == like.machine:
                    return found[0], found[1], elf
        return None

    def path(self, soname: str) -> File | None:
        """The first file under a soname, whatever is in it."""
        places = [self._cache[soname]] if soname in self._cache else [f"{directory}/{soname}" for directory in self._directories]
        return next((file for place in places if (file := self._files.file(place)) is not None), None)

    def elf(self, file: File) -> Elf | None:
        """What an ELF file says of itself; None for any other, and for one whose content was not kept."""
        try:
            return parse_elf(lambda size, offset: self._files.bytes_of(file, min(size, _MAX_READ), offset))
        except ELF_FAULTS:
            return None

    def closure(self, starts: Iterable[tuple[str, File]]) -> tuple[dict[str, File], set[str]]:
        """What files need, directly or not: libraries by soname, and the sonames that nothing was found for."""
        found: dict[str, File] = {}
        missing: set[str] = set()
        pending = [(path, elf) for path, file in starts if (elf := self.elf(file)) is not None]
        while pending:
            path, elf = pending.pop()
            for soname in elf.needed:
                name = posixpath.basename(soname)
                if name in found or name in missing:
                    continue
                library = self.find(soname, elf, expanded(elf.search, f"/{path}"))
                if library is None:
                    missing.add(name)
                    continue
                found[name] = library[1]
                pending.append((library[0], library[2]))
        return found, missing

    def _cached(self) -> Iterator[tuple[str, str]]:
        """Soname and path of each library in etc/ld.so.cache that is there, the best first."""
        file = self._files.file("etc/ld.so.cache")
        data = self._files.bytes_of(file) if file is not None else b""
        start = data.find(_MAGIC)
        if start < 0:
            return
        data = data[start:]
        (count,) = _COUNT.unpack_from(data.ljust(_HEADER_BYTES, b"\0"), len(_MAGIC))
        seen = set()
        for number in range(min(count, (len(data) - _HEADER_BYTES) // _ENTRY.size)):
            flags, key, value, _, _ = _ENTRY.unpack_from(data, _HEADER_BYTES + number * _ENTRY.size)
            soname, path = _string(data, key), _string(data, value)
            if self._flags in (None, flags) and soname not in seen and self._files.file(path) is not None:
                seen.add(soname)
                yield soname, path


def libc_of(files: FileSystem, libraries: Libraries) -> str:
    """The C library: "glibc 2.36", as `getconf GNU_LIBC_VERSION` says it; "musl"; empty for another."""
    glibc = libraries.path("libc.so.6")
    if glibc is not None and (said := files.search(glibc, _GLIBC)):
        return f"glibc {min(said).decode('ascii')}"
    return "musl" if has_musl(files) else ""


def has_musl(files: FileSystem) -> bool:
    return any(name.startswith("ld-musl-") for name in files.children("lib"))


def _string(data: bytes, offset: int) -> str:
    return data[offset : data.find(b"\0", offset)].decode("utf-8", "surrogateescape")
