"""Packages as a layer: their files as they are, and dpkg's database as if it had installed them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import takewhile
from typing import BinaryIO

from envsnap.blobs import BlobStore
from envsnap.debian import database, loader
from envsnap.debian.database import Installed
from envsnap.debian.deb import Deb
from envsnap.debian.loader import Libraries
from envsnap.errors import InputError
from envsnap.layers.reader import Member
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import BaseInventory, Directory
from envsnap.model.debian import DebFile
from envsnap.oci.paths import parents

OpenDeb = Callable[[DebFile], AbstractContextManager[BinaryIO]]
"""A .deb that was fetched, open for reading from any place."""

_LINK_LIMIT = 40  # as the kernel


def write(
    packages: Sequence[DebFile], open_deb: OpenDeb, inventory: BaseInventory, blobs: BlobStore, writer: LayerWriter, *, arch: str
) -> None:
    """Write packages into a layer above a base; ordered by name, whatever order they come in.

    Args:
        inventory: of the base; `blobs` has what it names.
        arch: as Debian names it ("amd64").

    Raises:
        InputError: a .deb or a blob is missing, not what its digest says, or refused; two packages have one file.
    """
    tree = Tree(writer, arch, inventory.directories, inventory.links)
    installed = [tree.install(file, open_deb) for file in sorted(packages, key=lambda file: file.name)]
    status = blobs.read(inventory.dpkg_status) if inventory.dpkg_status is not None else b""
    database.write(tree.file, status, installed)
    if inventory.loader_cache is not None:
        tree.write_loader_cache(blobs.read(inventory.loader_cache))


def _none(path: str) -> bool:  # noqa: ARG001  # it is asked of every path
    return False


class Tree:
    """A layer that packages are unpacked into.

    Args:
        arch: as Debian names it.
        directories: how the base keeps those that are not root's with 0755; these stay as they are.
        links: directories of the base that are links, and where they lead ("lib": "usr/lib"): what packages put there lands there.
        excludes: paths of packages that are left out, and out of dpkg's lists.
        reads: paths of packages whose content is wanted in `texts`.

    Attributes:
        paths: all files and links of the packages, as they are in the image; texts: content by path, as packages name it.
    """

    def __init__(
        self,
        writer: LayerWriter,
        arch: str,
        directories: Mapping[str, Directory],
        links: Mapping[str, str],
        *,
        excludes: Callable[[str], bool] = _none,
        reads: Callable[[str], bool] = _none,
    ) -> None:
        self._writer = writer
        self._directories = directories
        self.links = links
        self._excludes = excludes
        self._reads = reads
        self._libraries = Libraries(arch, merged="lib" in links)
        self._made: set[str] = set()
        self.paths: set[str] = set()
        self.texts: dict[str, bytes] = {}

    def install(self, file: DebFile, open_deb: OpenDeb) -> Installed:
        """Write the files of one package. Raises as `write`."""
        with open_deb(file) as opened:
            package = Installed(Deb(opened, file))
            for member, content in package.deb.members():
                if member.path and not self._excludes(member.path):
                    package.paths.append(member.path)
                    self._add(member, content, package.md5)
        return package

    def file(self, path: str, data: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
        """A file of ours."""
        place = self.place(path)
        self._ancestors(place)
        self._writer.file(place, data, mode, uid, gid)

    def link(self, path: str, target: str) -> None:
        place = self.place(path)
        self._ancestors(place)
        self._writer.symlink(place, target)

    def directory(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """A directory; where the base says how it keeps it, that counts."""
        place = self.place(path)
        self._ancestors(place)
        self._directory(place, Directory(mode=mode, uid=uid, gid=gid))

    def place(self, path: str) -> str:
        """Where a path leads in the base: the links among its directories, itself included, are followed."""
        place = path
        for _ in range(_LINK_LIMIT):
            link = next((parent for parent in (place, *parents(place)) if parent in self.links), None)
            if link is None:
                return place
            place = f"{self.links[link]}{place.removeprefix(link)}".lstrip("/")
        raise InputError(f"refused the base's links at {path!r}", why="they lead in a circle")

    def write_loader_cache(self, before: bytes) -> None:
        """/etc/ld.so.cache with the libraries that were written in it. Args: before: the base's; b"" for none."""
        own = loader.read(before)
        self.file(loader.CACHE, loader.write([*self._libraries.entries(), *own]))

    def _add(self, member: Member, content: Iterator[memoryview], md5: dict[str, str]) -> None:
        if member.kind == "directory":
            self.directory(member.path, member.mode, member.uid, member.gid)
            return
        # What a package calls a link may be a directory of the base: its folders are followed, it is not.
        folder, slash, name = member.path.rpartition("/")
        place = f"{self.place(folder)}{slash}{name}"
        self.paths.add(place)
        if member.kind == "link" and place in self.links:
            return  # the base's own, which leads where it should
        self._ancestors(place)
        if member.kind == "link":
            self._writer.symlink(place, member.target)
            self._libraries.link(place, member.target)
        elif member.kind == "hard link":
            self._writer.hardlink(place, self.place(member.target), member.mode, member.uid, member.gid)
            md5[member.path] = md5[member.target]
        else:
            pieces: Iterable[memoryview] = content
            if self._reads(member.path):
                self.texts[member.path] = b"".join(content)
                pieces = (memoryview(self.texts[member.path]),)
            if self._libraries.is_one(place):
                pieces = self._libraries.teed(place, pieces)
            sums = hashlib.md5(usedforsecurity=False)
            self._writer.stream(place, _summed(pieces, sums), size=member.size, mode=member.mode, uid=member.uid, gid=member.gid)
            md5[member.path] = sums.hexdigest()

    def _ancestors(self, place: str) -> None:
        for folder in reversed([*takewhile(lambda folder: folder not in self._made, parents(place))]):
            self._directory(folder, Directory())

    def _directory(self, place: str, otherwise: Directory) -> None:
        if place and place not in self._made:
            self._made.add(place)
            kept = self._directories.get(place, otherwise)
            self._writer.directory(place, kept.mode, kept.uid, kept.gid)


def _summed(content: Iterable[memoryview], sums: hashlib._Hash) -> Iterator[memoryview]:
    for piece in content:
        sums.update(piece)
        yield piece
