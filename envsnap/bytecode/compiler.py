"""From modules to a layer of their byte code: some processes at a time, and nothing twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from envsnap.blobs import BlobStore
from envsnap.bytecode.interpreters import Interpreter, NotFound
from envsnap.bytecode.running import Compiled, Module, Process
from envsnap.errors import InputError, TargetError
from envsnap.layers import environment
from envsnap.layers.kept import read_modules
from envsnap.layers.wheel import read_sources
from envsnap.layers.writer import LayerWriter
from envsnap.model.kinds import Digest
from envsnap.model.layers import Layout, PlannedWheel
from envsnap.notes import read_note, write_note
from envsnap.oci.paths import parents
from envsnap.storage import disk_errors
from envsnap.target import GUEST_DIRECTORY

if TYPE_CHECKING:
    from typing_extensions import Self

_CHUNK_BYTES = 1 << 20
"""Of source that is compiled at a time. Modules do not mind each other's company: this decides no digest."""
_PROCESS_BYTES = 32 << 20
"""Of source that one process compiles before another takes its place: from Python 3.12 on it keeps every name that it has seen."""
LARGEST_SOURCE = 16 << 20
"""Bytes of a module that is compiled: more of them would take GBs of memory, and modules of that size are data."""

_FRAME = struct.Struct(">II")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Modules that are to be compiled: those of a wheel, or of a tree.

    Attributes:
        name: for people.
        sha256: of the wheel or the tree, hex; None where nobody vouches that these are its modules.
        read: path in the layer, below the layout's lib/python3.11, and source. Called at most once, in one thread.
            When it raises, nothing that came out of it is kept.
    """

    name: str
    sha256: str | None
    read: Callable[[], Iterable[tuple[str, bytes]]]


def sources_of(wheel: PlannedWheel, path: Path, layout: Layout) -> Sources:
    """The modules of a wheel that lies at `path`; reading them raises as `layers.wheel.read_sources`."""

    def read() -> Iterator[tuple[str, bytes]]:
        with disk_errors(f"read {wheel.file}", path), path.open("rb") as file:
            yield from read_sources(file, layout, file=wheel.file, sha256=wheel.sha256, largest=LARGEST_SOURCE)

    return Sources(name=f"{wheel.name} {wheel.version}", sha256=wheel.sha256, read=read)


def sources_of_tree(tree: str, kept: BlobStore, layout: Layout) -> Sources:
    """The modules of a tree that the lock keeps for the layout's prefix; reading them raises InputError: it is missing, changed or damaged.

    Args:
        tree: its digest.
    """

    def read() -> Iterator[tuple[str, bytes]]:
        return read_modules(kept.pieces(tree), top=layout.prefix, python=layout.python, largest=LARGEST_SOURCE)

    return Sources(name="conda's packages", sha256=tree.removeprefix("sha256:"), read=read)


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the byte code of a wheel or a tree came down to. Attributes: pieces: blobs, each of a chunk of modules."""

    pieces: tuple[Digest, ...]


class _KeptChunk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the byte code of a chunk of modules came down to. Attributes: piece: blob; None where none of them compiles."""

    piece: Digest | None


class Compiler:
    """Makes byte code for one version of Python. It may be used from several threads, and runs at most `workers` processes for all.

    Args:
        version: exact version of the image's interpreter, "3.11.2".
        find: called once, when something must be compiled.
        cache: byte code is kept in its blobs, and what it was made of in its `bytecode/`, by the hash of a wheel or a tree; in its
            `modules/`, by the modules themselves, where such a hash is not known.
        own: names the image's own interpreter (`BytecodeLayer.own`). What that made is kept by this name, too, and found by it alone.
    """

    def __init__(
        self, version: str, find: Callable[[], Interpreter | NotFound], cache: Path, *, own: str = "", workers: int | None = None
    ) -> None:
        self._version = version
        self._own = own
        self._find = find
        self._found: Interpreter | NotFound | None = None
        self._finding = threading.Lock()
        self._cache = cache
        self._store = BlobStore(cache / "blobs")
        self._workers = workers or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(max_workers=self._workers, thread_name_prefix="bytecode")
        self._idle: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for process in self._idle:
            process.close()

    def write_layer(
        self, sources: Sequence[Sources], layout: Layout, writer: LayerWriter, on_source: Callable[[int], object] = lambda _: None
    ) -> bool:
        """Write the byte code of modules, and the directories above it, into a layer. Returns whether the image's own interpreter made any.

        Where two sources have the same module, the first one's counts, as for the module itself.

        Args:
            on_source: told of each number of bytes of source whose byte code is there.

        Raises:
            TargetError: no interpreter of the version can be run here, or the disk is full.
            EngineError: the interpreter failed.
            InputError: whatever `Sources.read` raises.
        """
        made = [self._known(one, layout) or self._make(one, layout, on_source) for one in sources]
        environment.directories(layout, writer)
        folders = set[str]()
        for _, kept in made:
            for digest in kept.pieces:
                for path, data in _frames(self._store.read(digest), digest):
                    if writer.content(path) is None:
                        _ancestors(path, layout, folders, writer)
                        writer.file(path, data)
        return any(maker for maker, _ in made)

    def _known(self, sources: Sources, layout: Layout) -> tuple[str, _Kept] | None:
        """What was made before, and whose word that is (see `_maker`); None where it was not, or is not what it was."""
        for maker in ("", self._own) if sources.sha256 is not None else ():
            kept = read_note(self._place(sources.sha256, layout, maker), _Kept)
            with contextlib.suppress(InputError):
                for digest in kept.pieces if kept is not None else ():
                    self._store.touch(digest)
                    self._store.read(digest)
                if kept is not None:
                    return maker, kept
        return None

    def _make(self, sources: Sources, layout: Layout, on_source: Callable[[int], object]) -> tuple[str, _Kept]:
        interpreter = self._interpreter()
        maker = self._maker(interpreter)
        pieces: list[str | None] = []
        running: deque[Future[str | None]] = deque()
        try:
            for chunk in _chunks(sources, layout):
                running.append(self._pool.submit(self._compile, interpreter, chunk, sources, on_source))
                if len(running) > 2 * self._workers:  # what waits lies in memory
                    pieces.append(running.popleft().result())
            pieces += [future.result() for future in running]
        except BaseException:
            for future in running:
                future.cancel()
            raise
        kept = _Kept(pieces=tuple(digest for digest in pieces if digest is not None))
        if sources.sha256 is not None:
            write_note(self._place(sources.sha256, layout, maker), kept)
        return maker, kept

    def _compile(
        self, interpreter: Interpreter, chunk: Sequence[Module], sources: Sources, on_source: Callable[[int], object]
    ) -> str | None:
        place = self._cache / "modules" / f"{self._name(chunk, self._maker(interpreter))}.json"
        kept = self._known_chunk(place)
        if kept is None:
            with self._process(interpreter) as process:
                kept = _KeptChunk(piece=self._piece(process.compile(chunk, sources.name)))
            if sources.sha256 is None:
                write_note(place, kept)
        on_source(sum(len(module.source) for module in chunk))
        return kept.piece

    @contextmanager
    def _process(self, interpreter: Interpreter) -> Iterator[Process]:
        """One that nobody else asks meanwhile; after a failure it is asked no more."""
        try:
            process = self._idle.pop()
        except IndexError:
            process = Process(interpreter)
        fine = False
        try:
            yield process
            fine = process.source_bytes < _PROCESS_BYTES
        finally:
            if fine:
                self._idle.append(process)
            else:
                process.close()

    def _known_chunk(self, place: Path) -> _KeptChunk | None:
        kept = read_note(place, _KeptChunk)
        try:
            if kept is not None and kept.piece is not None:
                self._store.touch(kept.piece)
                self._store.read(kept.piece)
        except InputError:
            return None
        return kept

    def _piece(self, compiled: Sequence[Compiled]) -> str | None:
        if not compiled:
            return None
        with self._store.writer(durable=False) as blob:
            for one in compiled:
                path = one.path.encode()
                blob.write(b"".join((_FRAME.pack(len(path), len(one.data)), path, one.data)))
        return blob.digest

    def _interpreter(self) -> Interpreter:
        with self._finding:
            if self._found is None:
                self._found = self._find()
        if isinstance(self._found, NotFound):
            raise TargetError("byte code cannot be made on this host", why=self._found.reason, hint=self._found.hint)
        return self._found

    def _maker(self, interpreter: Interpreter) -> str:
        """Whose word byte code is: "" for one that counts for all images, else the name of the image's own interpreter."""
        assert self._own or not interpreter.is_own, "an image's own interpreter has a name"
        return self._own if interpreter.is_own else ""

    def _place(self, sha256: str | None, layout: Layout, maker: str) -> Path:
        key = json.dumps([_how(), sha256, layout.prefix, layout.python, self._version, *filter(None, (maker,))])
        return self._cache / "bytecode" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def _name(self, chunk: Sequence[Module], maker: str) -> str:
        """Of a chunk: everything that decides its byte code, and who made it."""
        modules = [(module.path, len(module.source)) for module in chunk]
        hashed = hashlib.sha256(json.dumps([_how(), self._version, modules, *filter(None, (maker,))]).encode())
        for module in chunk:
            hashed.update(module.source)
        return hashed.hexdigest()


@cache
def _how() -> str:
    """Names the way that byte code is made: a change of the script makes it anew."""
    return hashlib.sha256((GUEST_DIRECTORY / "compile.py").read_bytes()).hexdigest()


def _chunks(sources: Sources, layout: Layout) -> Iterator[list[Module]]:
    chunk: list[Module] = []
    size = 0
    for path, source in sources.read():
        if not path.endswith(".py") or not path.startswith(f"{layout.prefix}/lib/python{layout.python}/") or len(source) > LARGEST_SOURCE:
            continue
        chunk.append(Module(path, source))
        size += len(source)
        if size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _frames(data: bytes, digest: str) -> Iterator[Compiled]:
    place = 0
    while place < len(data):
        with contextlib.suppress(struct.error, UnicodeDecodeError):
            path_size, size = _FRAME.unpack_from(data, place)
            start = place + _FRAME.size + path_size
            place, path = start + size, data[start - path_size : start].decode()
            if place <= len(data):
                yield Compiled(path, data[start:place])
                continue
        raise InputError(f"blob {digest[:19]} is no byte code", why="it ends early", hint="envsnap cache prune")


def _ancestors(path: str, layout: Layout, written: set[str], writer: LayerWriter) -> None:
    missing = takewhile(lambda folder: folder not in written and folder.startswith(layout.prefix), parents(path))
    for one in reversed([*missing]):
        written.add(one)
        environment.directory(one, layout, writer)
