"""The distance of two gradients: one number that tells harmless changes from harmful ones (parity §1)."""

from __future__ import annotations

import math
import sys
from array import array

_CHUNK_BYTES = 1 << 18
_ITEM_BYTES = 4


def distance(reference: bytes, found: bytes) -> float:
    """Relative L2 distance |found - reference| / |reference| of two arrays of little-endian float32.

    `math.inf` where there is no such number: lengths differ, a value is not finite, or only the reference is all zero.
    """
    if len(reference) != len(found) or len(reference) % _ITEM_BYTES:
        return math.inf
    distances: list[float] = []
    norms: list[float] = []
    for start in range(0, len(reference), _CHUNK_BYTES):
        left, right = (_floats(side[start : start + _CHUNK_BYTES]) for side in (reference, found))
        distances.append(math.dist(left, right))
        norms.append(math.hypot(*left))
    apart, norm = math.hypot(*distances), math.hypot(*norms)
    if not (math.isfinite(apart) and math.isfinite(norm)):
        return math.inf
    if apart == 0.0:
        return 0.0
    return apart / norm if norm > 0.0 else math.inf


def _floats(data: bytes) -> array[float]:
    values = array("f", data)
    if sys.byteorder == "big":
        values.byteswap()
    return values
