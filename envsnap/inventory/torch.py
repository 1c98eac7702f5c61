"""What the torch of a base has for extensions to bind to."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from functools import partial

import msgspec

from envsnap.blobs import BlobStore
from envsnap.errors import InputError
from envsnap.guest.elf import ELF_FAULTS, parse_symbols
from envsnap.inventory.files import File, FileSystem
from envsnap.model import abi
from envsnap.model.abi import SharedObject, TorchLibraries
from envsnap.model.base import BaseInventory
from envsnap.model.kinds import plain

_MOST_BYTES = 64 << 20
"""Of the document. That of torch 2.12.1 has 41,000 symbols and 4 MB."""


def keep(files: FileSystem, sites: Iterable[str], blobs: BlobStore) -> str | None:
    """Put what the libraries of the first torch on Python's path define into a blob; returns its digest.

    None without a torch, and for one with a library that cannot be read.
    """
    for site in sites:
        libraries = [_library(files, name, file) for name, file in _files(files, f"{site}/torch/lib")]
        read = [library for library in libraries if library is not None]
        if libraries:
            # Of half of them nobody could say that a symbol is missing.
            document = msgspec.json.encode(plain(abi.torch_libraries(read)))
            return blobs.put(gzip.compress(document, mtime=0)) if len(read) == len(libraries) else None
    return None


def recall(inventory: BaseInventory, blobs: BlobStore) -> TorchLibraries | None:
    """What was kept; None where nothing was.

    Raises:
        InputError: the blob is gone, was changed, or is none that `keep` wrote.
    """
    if inventory.torch_libraries is None:
        return None
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        data = stream.decompress(blobs.read(inventory.torch_libraries), _MOST_BYTES)
        return msgspec.json.decode(data, type=TorchLibraries)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError("refused what is known of a base's torch", why=f"blob {inventory.torch_libraries[:19]}…: {error}") from error


def _files(files: FileSystem, directory: str) -> Iterator[tuple[str, File]]:
    for name in sorted(files.children(directory)):
        file = files.file(f"{directory}/{name}") if abi.SONAME.match(name) else None
        if file is not None:
            yield name, file


def _library(files: FileSystem, name: str, file: File) -> SharedObject | None:
    try:
        symbols = parse_symbols(partial(files.table_of, file))
    except ELF_FAULTS:
        return None
    return SharedObject(path=name, **symbols._asdict()) if symbols is not None else None
