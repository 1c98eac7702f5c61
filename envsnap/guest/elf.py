"""What an ELF file needs, and where its sections are (gABI, chapters "Section Header", "Program Header" and "Dynamic Section")."""

from __future__ import annotations

import os
import struct
from typing import Callable, NamedTuple

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
ELF_FAULTS = (struct.error, ValueError, IndexError, OSError, OverflowError, MemoryError)
DT_NULL, DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH = 0, 1, 5, 14, 15, 29
SHT_NULL, SHT_NOBITS = 0, 8
MAX_SECTIONS, MAX_SECTION_NAMES = 10_000, 1 << 20  # of an honest file: some 40, and 400 bytes of names


class Elf(NamedTuple):
    """What the dynamic linker reads of a file.

    Attributes:
        machine: (class, e_machine): two files with different ones cannot be in one process.
        soname: "" when the file has none.
        needed: sonames in order.
        search: RUNPATH, or RPATH, unexpanded.
        interpreter: of an executable, else "".
    """

    machine: tuple[int, int]
    soname: str
    needed: tuple[str, ...]
    search: tuple[str, ...]
    interpreter: str


def read_elf(path: str) -> Elf | None:
    """None for whatever is not a well-formed ELF file."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return parse_elf(lambda size, offset: os.pread(handle, size, offset))
    except ELF_FAULTS:
        return None
    finally:
        os.close(handle)


def parse_elf(read: Callable[[int, int], bytes]) -> Elf | None:
    head = read(64, 0)
    if head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", head, 18)
    (table,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
    size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    form, picks = (order + "IIQQQQQQ", (0, 2, 3, 5)) if wide else (order + "8I", (0, 1, 2, 4))
    raw = read(size * count, table)
    segments = []
    for number in range(count):
        fields = struct.unpack_from(form, raw, number * size)
        segments.append([fields[pick] for pick in picks])

    def text_at(offset: int, limit: int = 4096) -> str:
        return read(limit, offset).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")

    interpreter = next((text_at(offset) for kind, offset, _, _ in segments if kind == PT_INTERP), "")
    dynamic = next(((offset, length) for kind, offset, _, length in segments if kind == PT_DYNAMIC), None)
    tags = dynamic_tags(read(dynamic[1], dynamic[0]), order + ("qQ" if wide else "iI")) if dynamic else []
    strings = next((value for tag, value in tags if tag == DT_STRTAB), 0)
    start = next((offset + strings - address for kind, offset, address, length in segments
                  if kind == PT_LOAD and address <= strings < address + length), 0)  # fmt: skip

    def named(wanted: int) -> tuple[str, ...]:
        return tuple(text_at(start + value, 512) for tag, value in tags if tag == wanted)

    search = (named(DT_RUNPATH) or named(DT_RPATH) or ("",))[0]
    soname = (named(DT_SONAME) or ("",))[0]
    return Elf((head[4], machine), soname, named(DT_NEEDED), tuple(filter(None, search.split(":"))), interpreter)


def dynamic_tags(raw: bytes, form: str) -> list[tuple[int, int]]:
    step = struct.calcsize(form)
    tags = []
    for tag, value in struct.iter_unpack(form, raw[: len(raw) - len(raw) % step]):
        if tag == DT_NULL:
            break
        tags.append((tag, value))
    return tags


def parse_sections(read: Callable[[int, int], bytes]) -> dict[str, tuple[int, int]]:
    """Offset and size of each section that has bytes in the file, by name; of several with one name the first.

    Empty for whatever is not a 64-bit ELF file of this byte order: nothing else holds GPU code. Raises one of ELF_FAULTS for a broken one.
    """
    head = read(64, 0)
    if head[:6] != b"\x7fELF\x02\x01" or len(head) < 64:
        return {}
    (table,) = struct.unpack_from("<Q", head, 40)
    size, count, names = struct.unpack_from("<HHH", head, 58)
    if not table or not count:
        return {}
    if size != 64 or count > MAX_SECTIONS:
        raise ValueError("no section headers where they should be")
    raw = read(size * count, table)
    headers = [struct.unpack_from("<IIQQQQ", raw, number * size) for number in range(count)]
    _, _, _, _, start, length = headers[names]
    text = read(min(length, MAX_SECTION_NAMES), start)
    found: dict[str, tuple[int, int]] = {}
    for name, kind, _, _, offset, length in headers:
        if kind not in (SHT_NULL, SHT_NOBITS):
            found.setdefault(text[name : text.index(b"\0", name)].decode("ascii", "replace"), (offset, length))
    return found
