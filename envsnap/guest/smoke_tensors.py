"""Tensors in a file of the safetensors layout, written and read without any framework."""

from __future__ import annotations

import json
import struct
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from .smoke_errors import Unable


class RawTensor(NamedTuple):
    """Attributes: dtype: "F32" or "I64"; data: little-endian, row-major."""

    dtype: str
    shape: Tuple[int, ...]
    data: bytes


ITEM_BYTES = {"F32": 4, "I64": 8}
MAX_HEADER_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 28


def pack_tensors(tensors: Mapping[str, RawTensor]) -> bytes:
    """The safetensors layout: length of the header (u64), JSON header, data. Same tensors, same bytes."""
    header: Dict[str, Dict[str, Any]] = {}
    end = 0
    for name, tensor in sorted(tensors.items()):
        start, end = end, end + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(tensor.data for _, tensor in sorted(tensors.items()))


def unpack_tensors(data: bytes) -> Dict[str, RawTensor]:
    """Read the safetensors layout from an untrusted file: every number is checked before it is used.

    Raises:
        Unable: it is malformed, too large, or its tensors overlap or leave gaps.
    """
    if not 8 <= len(data) <= MAX_FILE_BYTES:
        raise Unable(f"anchor: {len(data)} bytes are not a file of weights")
    (length,) = struct.unpack_from("<Q", data)
    if length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise Unable(f"anchor: the header claims {length} bytes")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Unable(f"anchor: the header is not readable: {error}") from error
    if not isinstance(header, dict):
        raise Unable("anchor: the header is not an object")
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + length :]
    spans: List[Tuple[int, int]] = []
    tensors: Dict[str, RawTensor] = {}
    for name, entry in header.items():
        start, end = _checked_span(name, entry, len(body))
        spans.append((start, end))
        tensors[name] = RawTensor(entry["dtype"], tuple(entry["shape"]), bytes(body[start:end]))
    covered = 0
    for start, end in sorted(spans):
        if start != covered:
            raise Unable(f"anchor: tensors overlap or leave a gap at byte {covered}")
        covered = end
    if covered != len(body):
        raise Unable(f"anchor: {len(body) - covered} bytes belong to no tensor")
    return tensors


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _checked_span(name: str, entry: Any, available: int) -> Tuple[int, int]:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        sizes = [*shape, start, end]
        plain = isinstance(shape, list) and all(type(size) is int and 0 <= size <= MAX_FILE_BYTES for size in sizes)
        right = plain and len(shape) <= 8 and start <= end <= available and end - start == ITEM_BYTES[dtype] * _product(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise Unable(f"anchor: tensor {name!r} is not described as safetensors does") from error
    if not right:
        raise Unable(f"anchor: tensor {name!r} does not fit its description")
    return start, end


def _product(numbers: Sequence[int]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result
