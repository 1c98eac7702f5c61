"""The uncompressed bytes of a layer."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zstandard

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# Small, because what a gzip member leaves over is copied: layers with a member for each file have some in every piece.
_INPUT_BYTES = 16 << 10
_OUTPUT_BYTES = 1 << 20
_ZSTD_WINDOW_BYTES = 128 << 20  # of the highest level that build tools offer; a frame may ask for 2 GiB


class Damaged(Exception):
    """What was to be read cannot be what it should be. Its text is a sentence without its subject: "it ends early"."""


def uncompressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a gzip or zstd stream, piece by piece; what is neither comes as it is.

    The first bytes decide: registries are full of media types that say another compression than there is.

    Raises:
        Damaged: it is no such stream, or ends early, or this Python cannot read zstd.
    """
    stream = iter(pieces)
    head = b""
    while len(head) < len(_ZSTD) and (piece := next(stream, None)) is not None:
        head += piece
    if head.startswith(_GZIP):
        return _gzip(_joined(head, stream))
    if head.startswith(_ZSTD):
        return _zstd(_joined(head, stream))
    return _joined(head, stream)


def _joined(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


def _gzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 1952, with as many members as there are."""
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), _INPUT_BYTES):
                data: bytes | memoryview = view[start : start + _INPUT_BYTES]
                while data:
                    if member.eof:
                        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
                    if content := member.decompress(data, _OUTPUT_BYTES):
                        yield content
                    data = member.unused_data if member.eof else member.unconsumed_tail
        # A full piece of output may have left some behind.
        while not member.eof and (content := member.decompress(b"", _OUTPUT_BYTES)):
            yield content
    except zlib.error as error:
        raise Damaged(f"it is not gzip all through: {error}") from error
    if not member.eof:
        raise Damaged("it ends in the middle of its gzip stream")


def _zstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise Damaged("it is compressed with zstd, which needs the zstandard package: pip install envsnap[zstd]") from error
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    frame: zstandard.ZstdDecompressionObj = decompressor.decompressobj()
    try:
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), _INPUT_BYTES):
                data: bytes = bytes(view[start : start + _INPUT_BYTES])
                while data:
                    if frame.eof:
                        frame = decompressor.decompressobj()
                    if content := frame.decompress(data):
                        yield content
                    data = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise Damaged(f"it is not zstd all through: {error}") from error
    if not frame.eof:
        raise Damaged("it ends in the middle of its zstd stream")
