"""Symbols of shared objects that pass by: all of them, with little of the file in memory."""

from __future__ import annotations

import io
import re
import shutil
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsnap.errors import InputError
from envsnap.layers import symbols
from envsnap.layers.symbols import read_symbols, table_parts, wheel_symbols
from envsnap.model.abi import SharedObject
from tests.fakes.shared_objects import EMPTY, ERROR, TENSOR, shared_object

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")

FILE = "kernels-1.0-cp311-cp311-linux_x86_64.whl"
SYMBOLS = SharedObject(
    path="kernels/_C.so", needed=("libc10.so",), undefined=frozenset({EMPTY, ERROR}), defined=frozenset({TENSOR, "used"})
)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """With more GPU code than is kept of any segment."""
    place = tmp_path_factory.mktemp("made") / "_C.so"
    return shared_object(place, defines=(TENSOR,), needs=(EMPTY, ERROR), libraries=("libc10.so",), room=40 << 20).read_bytes()


def pieces(data: bytes, size: int = 100_000) -> Iterator[bytes]:
    yield from (data[start : start + size] for start in range(0, len(data), size))


def wheel(data: bytes, method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("kernels/__init__.py", "")
        archive.writestr("kernels/_C.so", data)
    return out


def test_tables_at_both_ends_are_found_and_what_is_between_is_not_kept(large: bytes) -> None:
    assert len(large) > 40 << 20
    assert read_symbols("kernels/_C.so", pieces(large)) == SYMBOLS
    assert sum(len(part) for _, part in table_parts(pieces(large))) < 20 << 20


def test_code_is_not_kept(tmp_path: Path) -> None:
    place = shared_object(tmp_path / "_C.so", defines=(TENSOR,), room=8 << 20, flags="ax")
    data = place.read_bytes()
    assert sum(len(part) for _, part in table_parts(pieces(data))) < 1 << 20 < len(data)
    found = read_symbols("_C.so", pieces(data))
    assert found is not None and TENSOR in found.defined


@pytest.mark.parametrize("size", [7, 63, 5000, 1 << 20])
def test_parts_are_those_of_the_file_however_it_is_cut(large: bytes, size: int) -> None:
    small = large[:200_000]
    found = list(table_parts(pieces(small, size)))
    assert found
    assert all(small[start : start + len(part)] == part for start, part in found)


def test_memory_is_held_to_a_limit(large: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "_MOST", 1 << 20)
    assert sum(len(part) for _, part in table_parts(pieces(large))) <= 1 << 20
    assert read_symbols("kernels/_C.so", pieces(large)) is None  # its section headers were not kept


def test_what_is_no_shared_object_has_no_parts() -> None:
    for data in (b"", b"\x7fELF", b"text" * 100_000):
        assert list(table_parts(pieces(data))) == []
        assert read_symbols("x.so", pieces(data)) is None


def test_a_table_that_was_not_kept_is_not_taken_for_an_empty_one(large: bytes) -> None:
    """An offset of the symbol table into the middle of the GPU code, where there are zeros."""
    raw = bytearray(large)
    (table,) = struct.unpack_from("<Q", raw, 40)
    number = next(n for n in range(40) if struct.unpack_from("<I", raw, table + 64 * n + 4)[0] == 11)
    struct.pack_into("<Q", raw, table + 64 * number + 24, 30 << 20)
    assert read_symbols("x.so", pieces(bytes(raw))) is None


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED], ids=["deflated", "stored"])
def test_the_shared_objects_of_a_wheel(large: bytes, method: int) -> None:
    assert list(wheel_symbols(wheel(large, method), file=FILE)) == [("kernels/_C.so", SYMBOLS)]


def test_one_that_cannot_be_read_is_told_from_one_that_needs_nothing() -> None:
    assert list(wheel_symbols(wheel(b"\x7fELF" + bytes(100)), file=FILE)) == [("kernels/_C.so", None)]


def test_a_wheel_is_not_trusted(large: bytes) -> None:
    with pytest.raises(InputError) as caught:
        list(wheel_symbols(io.BytesIO(b"no wheel"), file=FILE))
    assert "it is no zip archive" in caught.value.why
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        whole = wheel(large[:100_000], method).getvalue()
        place = whole.index(b"kernels/_C.so") + 100
        damaged = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        with pytest.raises(InputError, match=re.escape("_C.so")):
            list(wheel_symbols(io.BytesIO(damaged), file=FILE))
