"""Deflate (RFC 1951) written by hand, so that no compressor decides a layer's bytes.

The same input gives the same output with every zlib, every version of Python and on every machine. Three ways, each for what it is
good at: `bulk` copies and tells long runs of zeros by their length; `headers` is for tar headers, short ASCII between zeros; `text`
searches for repetitions, and is for small texts of our own, since it is Python and does some MB/s.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import lru_cache

STORED_LIMIT = 0xFFFF
"""Bytes that one stored block can hold."""
LAST_EMPTY = b"\x01\x00\x00\xff\xff"
"""A stored block of nothing that ends a stream."""

_STORED = struct.Struct("<BHH")
_SYNC = b"\x00\x00\xff\xff"  # with three bits before it: a stored block of nothing, after which the next byte begins a block
_LONG_ZEROS = re.compile(rb"\0{64,}")
_ZEROS = re.compile(rb"\0{4,}")
_LONGEST = 258
_SHORTEST = 4  # a match of three bytes is seldom shorter than its literals
_WINDOW = 32768


def _reversed(value: int, bits: int) -> int:
    """Codes are packed from their most significant bit, all else from the least."""
    return int(f"{value:0{bits}b}"[::-1], 2)


def _fixed(symbol: int) -> tuple[int, int]:
    """Code and its bits of a literal or length in a block with the fixed codes (RFC 1951 §3.2.6)."""
    if symbol < 144:
        return _reversed(0x30 + symbol, 8), 8
    if symbol < 256:
        return _reversed(0x190 + symbol - 144, 9), 9
    return (_reversed(symbol - 256, 7), 7) if symbol < 280 else (_reversed(0xC0 + symbol - 280, 8), 8)


def _ranges(first: int, groups: int, per_group: int, plain: int) -> list[tuple[int, int]]:
    """(smallest value, extra bits) of each symbol (RFC 1951 §3.2.5): `plain` ones of one value each, then groups of ever more bits."""
    ranges = [(first + number, 0) for number in range(plain)]
    for bits in range(1, groups + 1):
        for _ in range(per_group):
            value, before = ranges[-1]
            ranges.append((value + (1 << before), bits))
    return ranges


def _length_codes() -> list[tuple[int, int]]:
    """Code and bits for each length up to the longest; the first three cannot be told."""
    codes = [(0, 0)] * (_LONGEST + 1)
    for symbol, (smallest, extra) in enumerate(_ranges(3, 5, 4, 8), 257):
        code, bits = _fixed(symbol)
        for more in range(1 << extra):
            codes[smallest + more] = (code | more << bits, bits + extra)
    codes[_LONGEST] = _fixed(285)
    return codes


_LITERALS = [_fixed(symbol) for symbol in range(256)]
_ASCII = bytes(code if bits == 8 else 0 for code, bits in _LITERALS)  # bytes below 144, whose codes are a byte each
_WIDE = re.compile(rb"[\x90-\xff]")
_LENGTHS = _length_codes()
_DISTANCES = _ranges(1, 13, 2, 4)


class _Bits:
    """Bits put one behind the other, the first into the lowest of a byte."""

    def __init__(self, value: int, count: int) -> None:
        self._value = value
        self._count = count
        self._out: list[bytes] = []

    def put(self, value: int, count: int) -> None:
        self._value |= value << self._count
        self._count += count
        if self._count > 4096:
            self._spill()

    def literals(self, data: bytes) -> None:
        if _WIDE.search(data) is None:
            self.put(int.from_bytes(data.translate(_ASCII), "little"), 8 * len(data))
        else:
            for byte in data:
                self.put(*_LITERALS[byte])

    def _spill(self) -> None:
        whole = self._count >> 3
        self._out.append((self._value & ((1 << 8 * whole) - 1)).to_bytes(whole, "little"))
        self._value >>= 8 * whole
        self._count &= 7

    def end(self) -> bytes:
        self.put(0, -self._count % 8)
        self._spill()
        return b"".join(self._out)


@lru_cache(maxsize=4096)
def _zeros(count: int) -> tuple[int, int]:
    """Bits that stand for a run of at least four zeros in a block with the fixed codes: a zero, then matches at distance one."""
    value, bits = _LITERALS[0]
    left = count - 1
    while left:
        # What is left must be long enough for a match itself.
        length = left if left <= _LONGEST else _LONGEST if left - _LONGEST >= 3 else _LONGEST - 3
        code, width = _LENGTHS[length]
        value |= code << bits
        bits += width + 5  # the code of distance one is five zeros
        left -= length
    return value, bits


def headers(data: bytes) -> bytes:
    """A whole stream, of one block, for short ASCII between runs of zeros."""
    bits = _Bits(0b011, 3)
    place = 0
    for run in _ZEROS.finditer(data):
        start, end = run.span()
        if start > place:
            bits.literals(data[place:start])
        bits.put(*_zeros(end - start))
        place = end
    bits.literals(data[place:])
    bits.put(0, 7)
    return bits.end()


@lru_cache(maxsize=256)
def _zero_block(count: int) -> bytes:
    """A block that is not the last, of zeros alone, after which the next byte begins a block."""
    bits = _Bits(0b010, 3)
    bits.put(*_zeros(count))
    bits.put(0, 7 + 3)
    return bits.end() + _SYNC


def bulk(data: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """Blocks for as much data as there is, none of them the last: pieces of `data` itself between headers."""
    view, place = memoryview(data), 0
    for run in _LONG_ZEROS.finditer(view):
        start, end = run.span()
        yield from _stored(view[place:start])
        yield _zero_block(end - start)
        place = end
    yield from _stored(view[place:])


def _stored(view: memoryview) -> Iterator[bytes | memoryview]:
    for start in range(0, len(view), STORED_LIMIT):
        piece = view[start : start + STORED_LIMIT]
        yield _STORED.pack(0, len(piece), len(piece) ^ 0xFFFF)
        yield piece


def text(data: bytes) -> bytes:
    """A whole stream, of one block, for what repeats itself."""
    bits = _Bits(0b011, 3)
    seen: dict[bytes, int] = {}
    place = literals = 0
    last = len(data) - _SHORTEST
    while place <= last:
        key = data[place : place + _SHORTEST]
        found = seen.get(key, -_WINDOW - 1)
        seen[key] = place
        distance = place - found
        if distance > _WINDOW:
            place += 1
            continue
        length = _common(data, found, place)
        if literals < place:
            bits.literals(data[literals:place])
        bits.put(*_LENGTHS[length])
        bits.put(*_distance(distance))
        for inside in range(place + 1, min(place + length, last + 1)):
            seen[data[inside : inside + _SHORTEST]] = inside
        place += length
        literals = place
    bits.literals(data[literals:])
    bits.put(0, 7)
    return bits.end()


def _common(data: bytes, left: int, right: int) -> int:
    """How many bytes are the same from two places on, at most the longest match."""
    one, other = data[left : left + _LONGEST], data[right : right + _LONGEST]
    if len(one) > len(other):
        one = one[: len(other)]
    if one == other:
        return len(one)
    differ = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return (differ & -differ).bit_length() - 1 >> 3


@lru_cache(maxsize=_WINDOW)
def _distance(distance: int) -> tuple[int, int]:
    symbol = next(number for number in range(len(_DISTANCES) - 1, -1, -1) if _DISTANCES[number][0] <= distance)
    smallest, extra = _DISTANCES[symbol]
    return _reversed(symbol, 5) | distance - smallest << 5, 5 + extra
