"""Dynamic symbols, of shared objects that a real linker made."""

from __future__ import annotations

import contextlib
import shutil
import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envsnap.guest import elf
from envsnap.guest.elf import ELF_FAULTS, Section, Symbols, parse_sections, parse_symbols
from tests.fakes.shared_objects import EMPTY, ERROR, TENSOR, WRAP, shared_object

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda size, offset: data[offset : offset + size]


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    place = tmp_path_factory.mktemp("made") / "_C.so"
    libraries = ("libc10.so", "libtorch.so")
    return shared_object(place, defines=(TENSOR, "local"), needs=(EMPTY, ERROR), may_need=(WRAP,), libraries=libraries).read_bytes()


def section(data: bytes, kind: int) -> tuple[int, Section]:
    return next((number, found) for number, found in enumerate(parse_sections(reader(data))) if found.kind == kind)


def header_of(data: bytes, number: int) -> int:
    return int(struct.unpack_from("<Q", data, 40)[0]) + 64 * number


def changed(data: bytes, place: int, form: str, value: int) -> bytes:
    raw = bytearray(data)
    struct.pack_into(form, raw, place, value)
    return bytes(raw)


def test_what_a_linker_binds(extension: bytes) -> None:
    assert parse_symbols(reader(extension)) == Symbols(
        needed=("libc10.so", "libtorch.so"), undefined=frozenset({EMPTY, ERROR}), defined=frozenset({TENSOR, "local", "used"})
    )


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20], ids=["empty", "only the magic", "a script"])
def test_other_files_have_none(data: bytes) -> None:
    assert parse_symbols(reader(data)) is None


def test_neither_has_one_without_section_headers(extension: bytes) -> None:
    assert parse_symbols(reader(changed(extension, 40, "<Q", 0))) is None
    assert parse_symbols(reader(changed(extension, 60, "<H", 0))) is None


def test_tables_are_held_to_limits_and_to_the_file(extension: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    number, table = section(extension, elf.SHT_DYNSYM)
    header = header_of(extension, number)
    broken = {  # why it must not be read
        "larger than the file": changed(extension, header + 32, "<Q", len(extension)),
        "beyond the file": changed(extension, header + 24, "<Q", 1 << 60),
        "strings of no section": changed(extension, header + 40, "<I", 200),
        "a name of no string": changed(extension, table.offset + 24, "<I", 1 << 30),
        "many sections": changed(extension, 60, "<H", 20_000),
    }
    for data in broken.values():
        with pytest.raises(ELF_FAULTS):
            parse_symbols(reader(data))
    monkeypatch.setattr(elf, "MAX_TABLE", table.size - 1)
    with pytest.raises(ValueError, match="cannot be read"):
        parse_symbols(reader(extension))


def test_a_long_name_that_is_said_again_and_again_fills_no_memory(extension: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    _, table = section(extension, elf.SHT_DYNSYM)
    monkeypatch.setattr(elf, "MAX_TABLE", 4096)
    symbols = struct.pack("<IBBHQQ", 1, 0x10, 0, 1, 0, 0) * 100
    strings = b"\0" + b"x" * 1000 + b"\0"
    monkeypatch.setattr(elf, "whole", lambda _, found: symbols if found == table else strings)
    with pytest.raises(ValueError, match="more than an honest file has"):
        parse_symbols(reader(extension))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), damage=st.binary(min_size=1, max_size=16))
def test_no_damage_does_more_than_a_fault(extension: bytes, share: float, damage: bytes) -> None:
    place = int(share * len(extension))
    with contextlib.suppress(*ELF_FAULTS):
        parse_symbols(reader(extension[:place] + damage + extension[place + len(damage) :]))
