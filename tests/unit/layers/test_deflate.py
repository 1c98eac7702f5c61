"""What is deflated by hand: any inflater reads it, and it is always the same."""

from __future__ import annotations

import hashlib
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsnap.layers import deflate

isal_zlib = pytest.importorskip("isal.isal_zlib")

repetitive = st.lists(st.sampled_from([b"\0" * 40, b"abc", b"\xff\xfe", b"name: value\n", "größe".encode(), b"x" * 300]), max_size=60).map(
    b"".join
)
contents = st.one_of(st.binary(max_size=3000), repetitive)


def inflated(stream: bytes) -> bytes:
    plain = zlib.decompressobj(-15)
    data = plain.decompress(stream)
    assert plain.eof and not plain.unused_data
    assert isal_zlib.decompress(stream, -15) == data
    return data


@given(contents)
@settings(max_examples=150, deadline=None)
def test_all_three_ways_give_the_bytes_back(data: bytes) -> None:
    assert inflated(deflate.text(data)) == data
    assert inflated(deflate.headers(data)) == data
    assert inflated(b"".join(deflate.bulk(data)) + deflate.LAST_EMPTY) == data


@pytest.mark.parametrize("count", [1, 3, 4, 63, 64, 257, 258, 259, 260, 261, 262, 515, 516, 517, 518, 519, 520, 70_000])
def test_runs_of_zeros_of_every_length(count: int) -> None:
    data = b"a" + bytes(count) + b"b"
    assert inflated(deflate.headers(data)) == data
    assert inflated(b"".join(deflate.bulk(data)) + deflate.LAST_EMPTY) == data


def test_every_length_and_far_distances() -> None:
    generator = random.Random(7)
    pool = generator.randbytes(33_000)
    data = pool + b"".join(pool[start : start + length] for length, start in zip(range(3, 262), range(0, 33_000, 127), strict=False))
    assert inflated(deflate.text(data)) == data


def test_codes_are_held_to_what_the_format_can_say() -> None:
    weights = [1, 1]
    while len(weights) < 22:
        weights.append(weights[-1] + weights[-2])  # Fibonacci's numbers: the deepest tree that there is
    data = bytearray(b"".join(bytes([byte]) * weight for byte, weight in enumerate(weights)))
    random.Random(1).shuffle(data)
    assert inflated(deflate.text(bytes(data))) == data


def test_the_bytes_are_these_for_ever() -> None:
    """A change here changes the digest of every layer that was made before."""
    data = b"".join(b"- name: package-%d\n  version: 1.%d\n  files: sha256:%x\n" % (n, n * 7 % 13, n**9) for n in range(400)) + bytes(500)
    assert hashlib.sha256(deflate.text(data)).hexdigest() == "c56b5ac4f43ea0d2ba7e4dfe8ff36199c9be32c6ba50bd4621d5e51cbb3e8a01"
    assert hashlib.sha256(deflate.headers(data)).hexdigest() == "346f9022f95a0c0eb8dd07791d99d84035fee302cb0d1570a267fe965442636b"
    assert hashlib.sha256(b"".join(deflate.bulk(data))).hexdigest() == "52f63db6f2ed6ca0dfa157a3e0617188b9d08ef7ef4576bb6df95d12f0e0dafd"


def test_text_comes_near_what_a_compressor_makes() -> None:
    data = b"".join(
        b"- name: package-%d\n  version: 1.%d\n  files: sha256:%s\n" % (n, n, hashlib.sha256(b"%d" % n).hexdigest().encode())
        for n in range(600)
    )
    assert len(deflate.text(data)) < 1.12 * len(zlib.compress(data, 6))
