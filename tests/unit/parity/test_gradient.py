"""Relative L2 distance of gradients."""

from __future__ import annotations

import math
import struct
import time

import pytest

from envsnap.parity import distance


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def test_equal_is_zero() -> None:
    assert distance(floats(1, -2, 3), floats(1, -2, 3)) == 0.0


def test_it_is_the_distance_over_the_reference_s_norm() -> None:
    assert distance(floats(3, 4), floats(3, 4.5)) == pytest.approx(0.1)
    assert distance(floats(3, 4), floats(0, 0)) == 1.0


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (floats(1, 2), floats(1)),
        (floats(1), b"\0\0\x80"),
        (b"abc", b"abc"),
        (floats(math.nan), floats(math.nan)),
        (floats(1), floats(math.nan)),
        (floats(1), floats(math.inf)),
        (floats(math.inf), floats(math.inf)),
        (floats(0, 0), floats(0, 1)),
    ],
    ids=["length", "cut", "no floats", "nan", "nan found", "inf found", "inf", "zero"],
)
def test_where_there_is_no_such_number(left: bytes, right: bytes) -> None:
    assert distance(left, right) == math.inf


def test_nothing_and_zero_are_equal_to_themselves() -> None:
    assert distance(b"", b"") == 0.0
    assert distance(floats(0, 0), floats(0, 0)) == 0.0


def test_chunks_do_not_show() -> None:
    many = [math.sin(n) for n in range(200_000)]
    off = [value * (1 + 1e-3) for value in many]
    assert distance(floats(*many), floats(*off)) == pytest.approx(1e-3, rel=1e-4)


def test_tiny_and_huge_values_neither_vanish_nor_overflow() -> None:
    assert distance(floats(1e-38, 2e-38), floats(1e-38, 2.2e-38)) == pytest.approx(0.0894, rel=1e-2)
    assert distance(floats(3e38, 3e38), floats(3e38, 1.5e38)) == pytest.approx(0.3536, rel=1e-2)


def test_three_million_parameters_take_seconds_at_most() -> None:
    data = floats(*([0.5] * 1000)) * 3000
    started = time.perf_counter()
    assert distance(data, data) == 0.0
    assert time.perf_counter() - started < 5.0
