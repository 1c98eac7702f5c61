"""Inflating what is not trusted: never more than was announced, and with whichever library is fastest here, since all say the same."""

from __future__ import annotations

import importlib
import importlib.util
import zlib
from collections.abc import Iterator
from typing import Any

from envsnap.errors import InputError

_engine: Any = importlib.import_module("isal.isal_zlib" if importlib.util.find_spec("isal") else "zlib")

crc32_of = _engine.crc32
DEFLATE_ERRORS: tuple[type[Exception], ...] = (zlib.error, _engine.error)
_PIECE = 256 << 10  # small enough for a core's cache, and for several wheels at once


def gzip_stream() -> Any:
    """What inflates one member of a gzip file, as `zlib.decompressobj` does."""
    return _engine.decompressobj(16 + 15)


class Inflater:
    """One raw deflate stream of an announced size.

    Args:
        path: for the error.
        size: bytes that it must give.
    """

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._size = self._left = size
        self._crc = 0
        self._stream = _engine.decompressobj(-15)

    def inflate(self, piece: bytes | memoryview) -> Iterator[bytes]:
        """What a further piece of the stream gives, in pieces of at most 256 KiB.

        Raises:
            InputError: it is no deflate, goes on after its end, or gives more than was announced.
        """
        stream = self._stream
        if stream.eof and piece:
            raise self._refused("there is more after the end of its deflate stream")
        while True:
            try:
                data = stream.decompress(piece, min(self._left + 1, _PIECE))
            except DEFLATE_ERRORS as error:
                raise self._refused("it is no deflate stream") from error
            self._left -= len(data)
            if self._left < 0:
                raise self._refused(f"more than the announced {self._size:,} bytes come out of it")
            if data:
                self._crc = crc32_of(data, self._crc)
                yield data
            if stream.unused_data:
                raise self._refused("there is more after the end of its deflate stream")
            piece = stream.unconsumed_tail
            if stream.eof or (not piece and len(data) < _PIECE):
                return

    def finish(self, crc32: int) -> None:
        """Raises InputError: the stream has not ended, gave too little, or its checksum is another."""
        if not self._stream.eof:
            raise self._refused("its deflate stream is cut off")
        if self._left:
            raise self._refused(f"less than the announced {self._size:,} bytes come out of it")
        if self._crc != crc32:
            raise self._refused("its CRC-32 is another than the announced one")

    def _refused(self, why: str) -> InputError:
        return InputError(f"refused {self._path!r}", why=why)
