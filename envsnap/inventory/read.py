"""From the bytes of a base image to what is known of it."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError, innermost
from envsnap.inventory import interpreter, packages, torch
from envsnap.inventory.files import Directory, FileSystem, Link
from envsnap.inventory.libraries import Libraries, libc_of
from envsnap.inventory.python import Python, find_python
from envsnap.layers.reader import inflated
from envsnap.model import base
from envsnap.model.base import BaseInventory, ImageConfig, InstalledDistribution
from envsnap.model.kinds import RelativePath
from envsnap.progress import Progress
from envsnap.storage import disk_errors

_SONAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+._-]{0,199}\Z")
_RELEASE = re.compile(r"^(ID|VERSION_ID)=(?:\"([^\"\n]*)\"|'([^'\n]*)'|([^\s\"']*))\s*$", re.MULTILINE)
_MOUNTED = frozenset({"dev", "proc", "sys"})  # a runtime's, whatever the image says
_MAX_BYTES = 1 << 40  # of an image, uncompressed: no node holds more


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSource:
    """A layer, or all of an image in one.

    Attributes:
        name: for messages ("layer 3 of 12 of debian:bookworm").
        diff_id: digest that its uncompressed bytes must have; None where nobody said one.
        open: its bytes, compressed or not, from the start, however often it is called.
    """

    name: str
    diff_id: str | None
    open: Callable[[], Iterator[bytes]]


def read_inventory(
    reference: str, layers: Iterable[LayerSource], config: ImageConfig, *, blobs: BlobStore, scratch: Path, progress: Progress
) -> BaseInventory:
    """Read an image's layers in order, none of them whole, and each once: but for one with hard links that come after what they link to.

    Every uncompressed byte is held against the diff_id that the config names: what is remembered under a config's digest is what that
    config means.

    Args:
        reference: for messages.
        config: of the image: its architecture, and the PATH that programs are found on.
        blobs: where dpkg's status, RECORDs and the interpreter are put.
        scratch: directory on a disk, for contents while they pass: up to some hundred MB.

    Raises:
        InputError: a layer is damaged, or one that no honest tool writes.
        EngineError: a layer holds other bytes than the config says.
        TargetError: the disk is full.
    """
    with disk_errors(f"write below {scratch}", scratch):
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=scratch) as spool:
            files = FileSystem(spool)
            left = _MAX_BYTES
            for layer in layers:
                content = _Hashed(layer, left)
                unfilled = files.apply(content, what=layer.name)
                content.require(reference)
                left -= content.size
                if unfilled:
                    files.fill(again := _Hashed(layer, content.size), unfilled, what=layer.name)
                    again.require(reference)
            return _inventory(files, config, blobs, progress)


class _Hashed:
    """A layer's uncompressed bytes, hashed as they pass. Attributes: size: so far, in bytes."""

    def __init__(self, layer: LayerSource, limit: int) -> None:
        self._layer = layer
        self._limit = limit
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in inflated(self._opened(), what=self._layer.name):
            self.size += len(piece)
            if self.size > self._limit:
                raise InputError(f"refused {self._layer.name}", why=f"it makes the image larger than {_MAX_BYTES >> 30} GiB")
            self._hash.update(piece)
            yield piece

    def _opened(self) -> Iterator[bytes]:
        """What a network or a socket says goes on under the layer's name: other errors are of the disk here."""
        try:
            yield from self._layer.open()
        except OSError as error:
            raise EngineError(f"cannot read {self._layer.name}", why=innermost(error), hint="try again") from error

    def require(self, reference: str) -> None:
        """Raises EngineError unless all that passed is what the config says."""
        digest, expected = f"sha256:{self._hash.hexdigest()}", self._layer.diff_id
        if expected not in (None, digest):
            raise EngineError(
                f"cannot read what is in {reference}",
                why=f"{self._layer.name} holds {digest[:19]}…, and the image's config says {expected[:19]}…",
                hint="its manifest and its config do not belong together; choose another base",
            )


def _inventory(files: FileSystem, config: ImageConfig, blobs: BlobStore, progress: Progress) -> BaseInventory:
    libraries = Libraries(files, config.architecture)
    system = packages.system_packages(files)
    found = find_python(files, libraries, config.env, {package.name: package.version for package in system})
    python = found if isinstance(found, Python) else None
    if isinstance(found, str):
        progress.detail(f"no Python is known: {found}")
    for doubt in python.doubts if python else ():
        progress.warning(doubt)
    known = packages.distributions(files, python.sites) if python else []
    status = packages.status_of_dpkg(files)
    cache = files.file("etc/ld.so.cache")
    return BaseInventory(
        distribution=_distribution(files),
        python=python.version if python else None,
        python_path=python.executable if python else None,
        libc=libc_of(files, libraries),
        # A name that no lock can hold is one that nothing will ask for.
        sonames=frozenset(name for name in libraries.sonames() if _SONAME.match(name)),
        complete=True,
        directories=_directories(files),
        links=_links(files),
        system_packages=tuple(system),
        dpkg_status=_put(blobs, status.encode("utf-8", "surrogateescape")) if status else None,
        loader_cache=_put(blobs, files.bytes_of(cache)) if cache is not None and cache.kept else None,
        packages=tuple(_installed(known, blobs)),
        unowned=tuple(filter(_writable, packages.unowned(files, python.sites, known))) if python else (),
        interpreter=interpreter.pack(files, libraries, python, blobs) if python else None,
        torch_libraries=torch.keep(files, python.sites, blobs) if python else None,
    )


def _distribution(files: FileSystem) -> str:
    text = files.text("etc/os-release") or files.text("usr/lib/os-release") or ""
    found = {name: double or single or bare for name, double, single, bare in _RELEASE.findall(text)}
    return " ".join(found[name] for name in ("ID", "VERSION_ID") if found.get(name))


def _directories(files: FileSystem) -> dict[str, base.Directory]:
    return {
        path: base.Directory(mode=node.mode, uid=node.uid, gid=node.gid)
        for path, node in files.tree()
        if isinstance(node, Directory) and (node.mode, node.uid, node.gid) != (0o755, 0, 0) and path not in _MOUNTED and _writable(path)
    }


def _links(files: FileSystem) -> dict[str, str]:
    found = {path: files.walk(path) for path, node in files.tree() if isinstance(node, Link) and _writable(path)}
    return {path: to[0] for path, to in found.items() if to is not None and isinstance(to[1], Directory) and _writable(to[0])}


def _writable(path: str) -> bool:
    """Whether a document can say a path: nothing of ours goes below one with control characters, back slashes or other bytes than UTF-8."""
    try:
        msgspec.convert(path, RelativePath)
        path.encode("utf-8")
    except (msgspec.ValidationError, UnicodeEncodeError):
        return False
    return True


def _installed(known: Iterable[packages.Distribution], blobs: BlobStore) -> Iterator[InstalledDistribution]:
    for found in known:
        record = _put(blobs, found.record) if found.record is not None else None
        yield InstalledDistribution(name=found.name, version=found.version, site=found.site, files=found.files, record=record)


def _put(blobs: BlobStore, data: bytes) -> str:
    with blobs.writer(durable=False) as blob:
        blob.write(data)
    return blob.digest
