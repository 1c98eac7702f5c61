"""What an ELF file needs and has (gABI, chapters "Section Header", "Symbol Table", "Program Header" and "Dynamic Section")."""

from __future__ import annotations

import os
import struct
from typing import Callable, NamedTuple

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
ELF_FAULTS = (struct.error, ValueError, IndexError, OSError, OverflowError, MemoryError)
DT_NULL, DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH = 0, 1, 5, 14, 15, 29
SHT_NULL, SHT_DYNAMIC, SHT_NOBITS, SHT_DYNSYM = 0, 6, 8, 11
SHN_UNDEF, STB_GLOBAL, STB_WEAK, STB_GNU_UNIQUE = 0, 1, 2, 10
SYMBOL = struct.Struct("<IBBHQQ")
MAX_SECTIONS, MAX_SECTION_NAMES = 10_000, 1 << 20  # of an honest file: some 40, and 400 bytes of names
MAX_TABLE = 64 << 20  # of symbols, and of their names: torch's largest have 2 and 6 MB


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


class Section(NamedTuple):
    """Where a section lies in its file. Attributes: name: place in the table of names. link: number of the section with its strings."""

    name: int
    kind: int
    offset: int
    size: int
    link: int


def parse_sections(read: Callable[[int, int], bytes]) -> list[Section]:
    """In the file's order. Empty for whatever is not a 64-bit ELF file of this byte order, and for one without section headers.

    Args:
        read: gives some bytes at an offset, fewer at the end of the file.

    Raises:
        ELF_FAULTS: one of them, for a broken file.
    """
    head = read(64, 0)
    if head[:6] != b"\x7fELF\x02\x01" or len(head) < 64:
        return []
    (table,) = struct.unpack_from("<Q", head, 40)
    size, count = struct.unpack_from("<HH", head, 58)
    if not table or not count:
        return []
    if size != 64 or count > MAX_SECTIONS:
        raise ValueError("no section headers where they should be")
    raw = read(size * count, table)
    headers = [struct.unpack_from("<IIQQQQI", raw, number * size) for number in range(count)]
    return [Section(name, kind, offset, length, link) for name, kind, _, _, offset, length, link in headers]


def parse_named_sections(read: Callable[[int, int], bytes]) -> dict[str, Section]:
    """Those that have bytes in the file, by name; of several with one name the first. Arguments and errors as of `parse_sections`."""
    sections = parse_sections(read)
    if not sections:
        return {}
    (names,) = struct.unpack_from("<H", read(64, 0), 62)
    text = read(min(sections[names].size, MAX_SECTION_NAMES), sections[names].offset)
    found: dict[str, Section] = {}
    for section in sections:
        if section.kind not in (SHT_NULL, SHT_NOBITS):
            found.setdefault(text[section.name : text.index(b"\0", section.name)].decode("ascii", "replace"), section)
    return found


class Symbols(NamedTuple):
    """What the dynamic linker binds.

    Attributes:
        needed: sonames in order.
        undefined: names that others must define; those that may be missing (weak ones) are not among them.
        defined: names that others find here.
    """

    needed: tuple[str, ...]
    undefined: frozenset[str]
    defined: frozenset[str]


def parse_symbols(read: Callable[[int, int], bytes]) -> Symbols | None:
    """None for whatever is not a 64-bit shared object of this byte order with section headers. Names that are not ASCII are left out.

    Arguments and errors as of `parse_sections`.
    """
    sections = parse_sections(read)
    dynamic = next((section for section in sections if section.kind == SHT_DYNAMIC), None)
    table = next((section for section in sections if section.kind == SHT_DYNSYM), None)
    if dynamic is None or table is None:
        return None
    strings = whole(read, sections[dynamic.link])
    tags = dynamic_tags(whole(read, dynamic), "<qQ")
    needed = tuple(name_in(strings, value).decode("utf-8", "surrogateescape") for tag, value in tags if tag == DT_NEEDED)
    if table.link != dynamic.link:
        strings = whole(read, sections[table.link])
    raw = whole(read, table)
    undefined: set[str] = set()
    defined: set[str] = set()
    left = MAX_TABLE
    for place, info, _, section, _, _ in SYMBOL.iter_unpack(raw[: len(raw) - len(raw) % SYMBOL.size]):
        if info >> 4 not in (STB_GLOBAL, STB_WEAK, STB_GNU_UNIQUE) or (info >> 4 == STB_WEAK and section == SHN_UNDEF):
            continue
        name = name_in(strings, place)
        left -= len(name)  # tables that are small can say the same long name again and again
        if left < 0:
            raise ValueError("its symbols' names are more than an honest file has")
        if name.isascii():
            (undefined if section == SHN_UNDEF else defined).add(name.decode("ascii"))
    return Symbols(needed, frozenset(undefined), frozenset(defined))


def whole(read: Callable[[int, int], bytes], section: Section) -> bytes:
    data = read(section.size, section.offset) if section.size <= MAX_TABLE else b""
    if len(data) != section.size:
        raise ValueError(f"a table of {section.size} bytes at {section.offset} cannot be read")
    return data


def name_in(strings: bytes, place: int) -> bytes:
    return strings[place : strings.index(b"\0", place)]
