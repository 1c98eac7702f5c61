"""The file system of an image, made of its layers in order, as far as an inventory needs it.

What is kept in memory: directories, symbolic links, and the few files that `wanted` names. Their contents go to one temporary file
without a name, which no way of ending leaves behind. A layer can do to this tree what it could do to a disk, and nothing to this host's.
Semantics: the OCI image specification, "Image Layer Filesystem Changeset".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, TypeAlias

from envsnap.errors import InputError
from envsnap.inventory import wanted
from envsnap.layers.reader import LayerReader, Member
from envsnap.layers.symbols import table_parts

_WHITEOUT, _OPAQUE, _AUFS = ".wh.", ".wh..wh..opq", ".wh..wh."
_MAX_PATH = 4096  # characters (PATH_MAX of Linux)
_MAX_LINKS = 40  # that one path may lead through (MAXSYMLINKS of Linux)
_MAX_NODES = 500_000  # an NGC image has some 60,000 directories and links
_MAX_NAME_BYTES = 64 << 20  # of all names together
_MAX_STEPS = 200_000_000  # of walking and removing
_MAX_SPOOL_BYTES = 8 << 30
_SEARCH_BYTES, _MATCH_BYTES = 4 << 20, 1 << 10


class Directory:
    """Attributes: layer: the last that had something to say of it or of what is in it, counted from 1."""

    __slots__ = ("children", "gid", "layer", "mode", "uid")

    def __init__(self, layer: int, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        self.layer = layer
        self.mode, self.uid, self.gid = mode, uid, gid
        self.children: dict[str, Node] = {}


class Link:
    """A symbolic link."""

    __slots__ = ("layer", "target")

    def __init__(self, layer: int, target: str) -> None:
        self.layer = layer
        self.target = target


class File:
    """A regular file. Attributes: start: of its content in the spool; -1 where that was not kept."""

    __slots__ = ("layer", "mode", "size", "start")

    def __init__(self, layer: int, mode: int, size: int = 0, start: int = -1) -> None:
        self.layer = layer
        self.mode, self.size, self.start = mode, size, start

    @property
    def kept(self) -> bool:
        return self.start >= 0


Node: TypeAlias = "Directory | Link | File"
Unfilled: TypeAlias = Mapping[str, Sequence[tuple[str, File]]]
"""Path of a file in a layer -> hard links to it that are wanted under their own path, and lack its content."""


class FileSystem:
    """An empty root, until layers are put on it.

    Args:
        spool: an empty file for contents, which belongs to this from now on.
    """

    def __init__(self, spool: IO[bytes]) -> None:
        self.root = Directory(0)
        self._spool = spool
        self._end = 0  # of the spool, holes among it
        self._spooled = 0  # bytes that were written
        self._parts: dict[int, list[tuple[int, int]]] = {}
        self._layer = 0
        self._nodes = self._name_bytes = self._steps = 0
        self._last: tuple[str, str, Directory] | None = None
        self._what = ""
        self._unfilled: dict[str, list[tuple[str, File]]] = {}

    # Putting layers on it

    def apply(self, tar: Iterable[bytes], *, what: str) -> Unfilled:
        """Put a layer on what is there.

        Args:
            tar: its uncompressed archive in pieces; all are read.
            what: names the layer in an error.

        Returns:
            Hard links to files that came before them, when nobody could know that they are needed: `fill` reads the layer again for these.

        Raises:
            InputError: it is no tar archive, or one that no honest tool writes.
        """
        self._what = what
        self._layer += 1
        self._last = None
        self._unfilled = {}
        self._spool.seek(self._end)
        reader = LayerReader(tar, what=what)
        for member in reader:
            if len(member.path) > _MAX_PATH:
                raise self._refused(f"{member.path[:100]}… is longer than a path can be")
            path, _, name = member.path.rpartition("/")
            if wanted.outside(member.path):
                continue
            if not name:
                if member.kind == "directory":
                    self.root.mode, self.root.uid, self.root.gid = member.mode, member.uid, member.gid
            elif name.startswith(_WHITEOUT):
                self._white_out(path, name)
            else:
                self._put(path, name, member, reader)
        return self._unfilled

    def fill(self, tar: Iterable[bytes], unfilled: Unfilled, *, what: str) -> None:
        """Give hard links their content. Args: as of `apply`, for the same layer; unfilled: what that returned."""
        self._what = what
        self._spool.seek(self._end)
        reader = LayerReader(tar, what=what)
        for member in reader:
            links = [(place, file) for place, file in unfilled.get(member.path, ()) if wanted.content(place, member.size)]
            if member.kind == "file" and links:
                whole = next((place for place, _ in links if not wanted.tables(place)), links[0][0])
                start = self._keep(whole, member.size, reader)
                for _, file in links:
                    file.start, file.size, file.mode = start, member.size, member.mode

    def _put(self, path: str, name: str, member: Member, reader: LayerReader) -> None:
        real, parent = self._parent(path)
        old = parent.children.get(name)
        match member.kind:
            case "directory":
                if isinstance(old, Directory):
                    old.layer, old.mode, old.uid, old.gid = self._layer, member.mode, member.uid, member.gid
                else:
                    self._set(parent, name, Directory(self._layer, member.mode, member.uid, member.gid))
            case "link":
                self._count(len(member.target))
                self._set(parent, name, Link(self._layer, member.target))
            case "hard link":
                self._set(parent, name, self._again(f"{real}/{name}" if real else name, member))
            case "file":
                place = f"{real}/{name}" if real else name
                self._set(parent, name, self._file(place, member, reader))
            case _:
                self._set(parent, name, None)

    def _file(self, place: str, member: Member, reader: LayerReader) -> File | None:
        if not wanted.content(place, member.size):
            return File(self._layer, member.mode) if wanted.name(place) else None
        return File(self._layer, member.mode, member.size, self._keep(place, member.size, reader))

    def _keep(self, place: str, size: int, reader: LayerReader) -> int:
        """Put the content that comes now into the spool, or what is needed of it, with holes in between; returns where it starts."""
        start = self._end
        self._end += size
        if wanted.tables(place):
            parts = self._parts[start] = []
            for offset, part in table_parts(reader.content()):
                self._count_spooled(len(part))
                self._spool.seek(start + offset)
                self._spool.write(part)
                parts.append((offset, offset + len(part)))
            self._spool.seek(self._end)
        else:
            self._count_spooled(size)
            for piece in reader.content():
                self._spool.write(piece)
        return start

    def _count_spooled(self, size: int) -> None:
        self._spooled += size
        if self._spooled > _MAX_SPOOL_BYTES:
            raise self._refused(f"it has more than {_MAX_SPOOL_BYTES >> 30} GiB of libraries and packages' records")

    def _again(self, place: str, member: Member) -> Node | None:
        """What a hard link is: what its target is."""
        path, _, name = member.target.rpartition("/")
        found = self.walk(path)
        node = found[1].children.get(name) if found is not None and isinstance(found[1], Directory) else None
        if isinstance(node, Link):
            return Link(self._layer, node.target)
        if isinstance(node, File) and node.kept:
            return File(self._layer, node.mode, node.size, node.start)
        file = File(self._layer, member.mode)
        if wanted.content(place, 0):
            self._unfilled.setdefault(member.target, []).append((place, file))
            return file
        return file if wanted.name(place) else None

    def _set(self, parent: Directory, name: str, node: Node | None) -> None:
        """Put a node in the place of what is there; None for one that need not be remembered."""
        old = parent.children.pop(name, None)
        if isinstance(old, (Directory, Link)):  # the way to the last parent may have led through it
            self._last = None
        if node is not None:
            self._count(len(name))
            parent.children[name] = node

    def _parent(self, path: str) -> tuple[str, Directory]:
        """The directory that a member lies in, made where it is missing, and its path with links resolved."""
        if self._last is not None and self._last[0] == path:
            return self._last[1], self._last[2]
        found = self.walk(path, make=True)
        if found is None or not isinstance(found[1], Directory):
            raise self._refused(f"the path {path[:200]!r} leads through links that go round in circles")
        self._last = (path, found[0], found[1])
        return found[0], found[1]

    def _white_out(self, path: str, name: str) -> None:
        found = self.walk(path)
        if found is None or not isinstance(found[1], Directory) or (name.startswith(_AUFS) and name != _OPAQUE):
            return
        self._last = None
        directory = found[1]
        if name == _OPAQUE:
            self._empty(directory)
        else:
            self._remove(directory, name.removeprefix(_WHITEOUT))

    def _remove(self, parent: Directory, name: str) -> None:
        """Take away what the layers below have under a name; what this one has already put there stays."""
        node = parent.children.get(name)
        if isinstance(node, Directory) and node.layer == self._layer:
            self._empty(node)
        elif node is not None and node.layer < self._layer:
            del parent.children[name]

    def _empty(self, directory: Directory) -> None:
        pending = [directory]
        while pending:
            current = pending.pop()
            for name, node in list(current.children.items()):
                self._step()
                if node.layer < self._layer:
                    del current.children[name]
                elif isinstance(node, Directory):
                    pending.append(node)

    def _count(self, name_bytes: int) -> None:
        self._nodes += 1
        self._name_bytes += name_bytes
        if self._nodes > _MAX_NODES or self._name_bytes > _MAX_NAME_BYTES:
            raise self._refused(f"it has more than {_MAX_NODES:,} directories and links, or names of more than {_MAX_NAME_BYTES >> 20} MiB")

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise self._refused("its links and whiteouts are more than can be followed")

    def _refused(self, why: str) -> InputError:
        return InputError(f"refused {self._what}", why=why)

    # Reading it

    def walk(self, path: str, *, make: bool = False, start: str = "") -> tuple[str, Node] | None:
        """What a path leads to, links followed, the last one too, and its path without links.

        Args:
            path: absolute or not, ".." allowed: the root is its own parent.
            make: directories that are missing, as engines make them; also where a file is in the way.
            start: directory that a relative path starts from, without links.

        Returns:
            None where there is nothing, or links go round in circles.
        """
        names = [] if path.startswith("/") or not start else start.split("/")
        trail = [self.root]
        for name in names:
            node = trail[-1].children.get(name)
            if not isinstance(node, Directory):
                return None
            trail.append(node)
        pending = path.split("/")[::-1]
        links = 0
        while pending:
            self._step()
            name = pending.pop()
            here = trail[-1]
            if make:
                here.layer = self._layer
            if name in ("", "."):
                continue
            if name == "..":
                del trail[max(1, len(names)) :], names[-1:]
                continue
            child = here.children.get(name)
            if isinstance(child, Link):
                links += 1
                if links > _MAX_LINKS:
                    return None
                if child.target.startswith("/"):
                    del trail[1:], names[:]
                pending += child.target.split("/")[::-1]
                continue
            if make and not isinstance(child, Directory):
                child = Directory(self._layer)
                self._set(here, name, child)
            if isinstance(child, Directory):
                trail.append(child)
                names.append(name)
            elif child is None or any(part not in ("", ".") for part in pending):
                return None
            else:
                return "/".join((*names, name)), child
        if make:
            trail[-1].layer = self._layer
        return "/".join(names), trail[-1]

    def file(self, path: str) -> File | None:
        """The regular file that a path leads to."""
        found = self.walk(path)
        return found[1] if found is not None and isinstance(found[1], File) else None

    def children(self, path: str) -> Mapping[str, Node]:
        """What is in the directory that a path leads to; nothing where there is none."""
        found = self.walk(path)
        return found[1].children if found is not None and isinstance(found[1], Directory) else {}

    def tree(self) -> Iterator[tuple[str, Node]]:
        """Every node and its path, a directory before what is in it; the root is "" and comes first."""
        pending: list[tuple[str, Node]] = [("", self.root)]
        while pending:
            path, node = pending.pop()
            yield path, node
            if isinstance(node, Directory):
                pending += ((f"{path}/{name}" if path else name, child) for name, child in sorted(node.children.items(), reverse=True))

    def table_of(self, file: File, size: int, offset: int) -> bytes:
        """As `bytes_of`, of a file of which parts were kept; empty for bytes that are not all in these."""
        end = offset
        for first, last in self._parts.get(file.start, ()):  # ascending
            if first <= end < last:
                end = last
        return self.bytes_of(file, size, offset) if offset + size <= end else b""

    def bytes_of(self, file: File, size: int | None = None, offset: int = 0) -> bytes:
        """Part of a file's content, or all of it; less where it ends before. Empty where it was not kept."""
        left = max(0, file.size - offset) if file.kept and offset >= 0 else 0
        self._spool.seek(file.start + offset if left else 0)
        return self._spool.read(left if size is None else max(0, min(size, left)))

    def search(self, file: File, pattern: re.Pattern[bytes]) -> set[bytes]:
        """What the first group of a pattern matches anywhere in a file; no match may be longer than 1 KiB."""
        found: set[bytes] = set()
        for start in range(0, file.size if file.kept else 0, _SEARCH_BYTES):
            found |= {match[1] for match in pattern.finditer(self.bytes_of(file, _SEARCH_BYTES + _MATCH_BYTES, start))}
        return found

    def text(self, path: str) -> str | None:
        """The text of a file whose content was kept, whatever its encoding."""
        file = self.file(path)
        return self.bytes_of(file).decode("utf-8", "surrogateescape") if file is not None and file.kept else None
