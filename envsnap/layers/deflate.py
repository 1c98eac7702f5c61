"""Deflate (RFC 1951) written by hand, so that no compressor decides a layer's bytes.

The same input gives the same output with every zlib, every version of Python and on every machine. Three ways, each for what it is
good at: `bulk` copies and tells long runs of zeros by their length; `headers` is for tar headers, short ASCII between zeros; `text`
searches for repetitions, and is for small texts of our own, since it is Python and does some 4 MB/s.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush

STORED_LIMIT = 0xFFFF
"""Bytes that one stored block can hold."""
LAST_EMPTY = b"\x01\x00\x00\xff\xff"
"""A stored block of nothing that ends a stream."""

_STORED = struct.Struct("<BHH")
_SYNC = b"\x00\x00\xff\xff"  # with three bits before it: a stored block of nothing, after which the next byte begins a block
_LONG_ZEROS = bytes(64)
_WHOLE_RUN = re.compile(rb"\0*")
_ZEROS = re.compile(rb"\0{4,}")
_LONGEST = 258
_SHORTEST = 5  # of a match; shorter ones save next to nothing
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


def _symbols(ranges: Sequence[tuple[int, int]], first: int) -> list[int]:
    """Value -> symbol; values below the smallest have none."""
    symbols = [0] * ranges[0][0]
    for symbol, (_, bits) in enumerate(ranges, first):
        symbols += [symbol] * (1 << bits)
    return symbols


_LENGTH_RANGES = [*_ranges(3, 5, 4, 8), (258, 0)]
_LENGTH_SYMBOLS = [*_symbols(_LENGTH_RANGES[:-1], 257)[:_LONGEST], 285]
_DISTANCE_RANGES = _ranges(1, 13, 2, 4)
_DISTANCE_SYMBOLS = _symbols(_DISTANCE_RANGES, 0)
_END = 256
_FIXED = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, [5] * 30
"""Bits of the fixed codes: literals and lengths, distances (RFC 1951 §3.2.6)."""
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)

_LITERALS = [_fixed(symbol) for symbol in range(256)]
_ASCII = bytes(code if bits == 8 else 0 for code, bits in _LITERALS)  # bytes below 144, whose codes are a byte each
_WIDE = re.compile(rb"[\x90-\xff]")


@lru_cache(maxsize=4096)
def _zeros(count: int) -> tuple[int, int]:
    """Bits that stand for a run of at least four zeros in a block with the fixed codes: a zero, then matches at distance one."""
    value, bits = _LITERALS[0]
    left = count - 1
    while left:
        # What is left must be long enough for a match itself.
        length = left if left <= _LONGEST else _LONGEST if left - _LONGEST >= 3 else _LONGEST - 3
        symbol = _LENGTH_SYMBOLS[length]
        smallest, extra = _LENGTH_RANGES[symbol - 257]
        code, width = _fixed(symbol)
        value |= (code | length - smallest << width) << bits
        bits += width + extra + 5  # the code of distance one is five zeros
        left -= length
    return value, bits


def headers(data: bytes) -> bytes:
    """A whole stream, of one block, for short ASCII between runs of zeros."""
    if _WIDE.search(data) is not None:
        return text(data)
    value, count, place = 0b011, 3, 0
    codes = data.translate(_ASCII)
    for run in _ZEROS.finditer(data):
        start, end = run.span()
        if start > place:
            value |= int.from_bytes(codes[place:start], "little") << count
            count += 8 * (start - place)
        more, bits = _zeros(end - start)
        value |= more << count
        count += bits
        place = end
    value |= int.from_bytes(codes[place:], "little") << count
    count += 8 * (len(data) - place) + 7  # the end's code is seven zeros
    return value.to_bytes((count + 7) >> 3, "little")


@lru_cache(maxsize=256)
def _zero_block(count: int) -> bytes:
    """A block that is not the last, of zeros alone, after which the next byte begins a block."""
    value, bits = _zeros(count)
    # Three bits before it, seven of its end, three of the block that holds nothing.
    return (0b010 | value << 3).to_bytes((3 + bits + 7 + 3 + 7) >> 3, "little") + _SYNC


def bulk(data: bytes) -> Iterator[bytes | memoryview]:
    """Blocks for as much data as there is, none of them the last: pieces of `data` itself between headers."""
    view, place = memoryview(data), 0
    while (start := data.find(_LONG_ZEROS, place)) >= 0:
        end = _WHOLE_RUN.match(data, start).end()  # type: ignore[union-attr]  # it matches whatever is there
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
    literals, matches = _repetitions(data)
    used = Counter(b"".join(literals))
    used.update(_LENGTH_SYMBOLS[length] for length, _ in matches)
    used[_END] = 1
    far = Counter(_DISTANCE_SYMBOLS[distance] for _, distance in matches)
    codes = _lengths_of_codes(used, 286, 15), _lengths_of_codes(far, 30, 15)
    own, fixed = _dynamic_header(*codes), "110"
    if len(own) + _cost(used, codes[0]) + _cost(far, codes[1]) < len(fixed) + _cost(used, _FIXED[0]) + _cost(far, _FIXED[1]):
        return _packed(own, literals, matches, *codes)
    return _packed(fixed, literals, matches, *_FIXED)


def _repetitions(data: bytes) -> tuple[list[bytes], list[tuple[int, int]]]:
    """What is said as it is, and the (length, distance) of what is said by pointing back, in turns; the first comes first and last."""
    literals, matches = list[bytes](), list[tuple[int, int]]()
    seen: dict[bytes, int] = {}
    place = done = 0
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
        literals.append(data[done:place])
        matches.append((length, distance))
        done = place + length
        place = done  # what a match covers is not remembered: three percent more bytes, half the time
    literals.append(data[done:])
    return literals, matches


def _common(data: bytes, left: int, right: int) -> int:
    """How many bytes are the same from two places on, at most the longest match."""
    other = b""
    for reach in (32, _LONGEST):  # most end soon
        one, other = data[left : left + reach], data[right : right + reach]
        differ = int.from_bytes(one[: len(other)], "little") ^ int.from_bytes(other, "little")
        if differ:
            return (differ & -differ).bit_length() - 1 >> 3
    return len(other)


def _lengths_of_codes(used: Counter[int], symbols: int, limit: int) -> list[int]:
    """Bits of each symbol's code, 0 for none (Huffman); at least two have one, as some readers want it."""
    weights = {symbol: used[symbol] for symbol in range(symbols) if used[symbol]}
    for symbol in range(2):
        if len(weights) < 2:
            weights.setdefault(symbol, 1)
    while True:
        lengths = [0] * symbols
        # Ties are broken by age, so that there is one outcome.
        heap: list[tuple[int, int, tuple[int, ...]]] = [(weight, symbol, (symbol,)) for symbol, weight in sorted(weights.items())]
        heapify(heap)
        age = symbols
        while len(heap) > 1:
            (one, _, left), (other, _, right) = heappop(heap), heappop(heap)
            for symbol in left + right:
                lengths[symbol] += 1
            heappush(heap, (one + other, age, left + right))
            age += 1
        if max(lengths) <= limit:
            return lengths
        weights = {symbol: weight + 1 >> 1 for symbol, weight in weights.items()}  # flatter, until it fits


def _cost(used: Counter[int], lengths: Sequence[int]) -> int:
    return sum(count * lengths[symbol] for symbol, count in used.items())


def _codes(lengths: Sequence[int]) -> list[str]:
    """Each symbol's code, as its bits in their order (RFC 1951 §3.2.2)."""
    codes = [""] * len(lengths)
    code = 0
    for bits in range(1, max(lengths) + 1):
        for symbol, length in enumerate(lengths):
            if length == bits:
                codes[symbol] = f"{code:0{bits}b}"
                code += 1
        code <<= 1
    return codes


def _number(value: int, bits: int) -> str:
    """A number that is no code: its lowest bit comes first."""
    return f"{value:0{bits}b}"[::-1] if bits else ""


def _dynamic_header(literals: Sequence[int], distances: Sequence[int]) -> str:
    """The last block's header with codes of its own (RFC 1951 §3.2.7)."""
    said: list[tuple[int, str]] = []
    for run in re.finditer(rb"\0{3,138}|.", bytes([*literals, *distances]), re.DOTALL):
        length, count = run[0][0], len(run[0])
        if count == 1:
            said.append((length, ""))
        else:
            said.append((17, _number(count - 3, 3)) if count <= 10 else (18, _number(count - 11, 7)))
    lengths = _lengths_of_codes(Counter(symbol for symbol, _ in said), 19, 7)
    codes = _codes(lengths)
    sent = len(_ORDER)
    while not lengths[_ORDER[sent - 1]]:
        sent -= 1
    counts = _number(len(literals) - 257, 5) + _number(len(distances) - 1, 5) + _number(sent - 4, 4)
    return "101" + counts + "".join(_number(lengths[symbol], 3) for symbol in _ORDER[:sent]) + "".join(codes[s] + more for s, more in said)


def _packed(
    header: str,
    literals: Sequence[bytes],
    matches: Sequence[tuple[int, int]],
    literal_lengths: Sequence[int],
    distance_lengths: Sequence[int],
) -> bytes:
    codes, far = _codes(literal_lengths), _codes(distance_lengths)
    literal = codes.__getitem__
    out = [header]
    for plain, (length, distance) in zip(literals, matches, strict=False):
        out.extend(map(literal, plain))
        symbol = _LENGTH_SYMBOLS[length]
        smallest, bits = _LENGTH_RANGES[symbol - 257]
        out.append(codes[symbol] + _number(length - smallest, bits))
        symbol = _DISTANCE_SYMBOLS[distance]
        smallest, bits = _DISTANCE_RANGES[symbol]
        out.append(far[symbol] + _number(distance - smallest, bits))
    out.extend(map(literal, literals[-1]))
    out.append(codes[_END])
    bits_in_order = "".join(out)
    return int(bits_in_order[::-1], 2).to_bytes((len(bits_in_order) + 7) // 8, "little")
