"""The GPU architectures that compiled extensions hold code for, read from their fat binaries.

nvcc puts the device code of each translation unit into one *fat binary*: cubins, machine code for one real architecture each (sm_90),
and PTX, which a driver compiles for any GPU that is not older than its virtual architecture (compute_90). They lie one after
another in the section .nv_fatbin, and a table in .nvFatBinSegment registers them with the CUDA runtime when the object is loaded. What a
library keeps elsewhere and loads by itself (cuFFT does), or for a device linker (__nv_relfatbin), is not looked at.

NVIDIA describes neither format. How they are read here was found by comparing with cuobjdump of CUDA 13 (docs/gpu-architectures.md).
Headers alone are read, so that it takes milliseconds whatever the size, and compressed code need not be inflated.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from functools import partial
from typing import Callable, Iterable, Iterator

from .distributions import Installed
from .elf import ELF_FAULTS, parse_named_sections
from .needs import shared_objects
from .text import Problems, described

MAGIC = 0xBA55ED50
# magic, version, bytes of this header, bytes of what follows it
HEADER = struct.Struct("<IHHQ")
# kind, version, bytes of this header and of what follows it, compressed size, options, minor and major version, architecture, name, flags
ENTRY = struct.Struct("<HHIQIIHHIIIQ")
KINDS = {1: "compute_", 2: "sm_"}  # PTX and cubins; others (LTO-IR) are for linkers, and no GPU runs them
SPECIFIC = 0x300000  # of the flags
SUFFIXES = {0: "", 0x100000: "a", 0x200000: "f"}  # for exactly this GPU; for its family
MAX_ENTRIES = 1_000_000  # of one file: cuBLASLt has 6,000
MAX_PADDING = 1 << 12
ALIGNMENT = 8


# NVIDIA's own libraries. A wheel that bundles some (older builds of torch, nvJPEG in torchvision) was not built for what they were.
OF_NVIDIA = re.compile(r"lib(?:cublas|cudnn|cufft|cufile|curand|cusolver|cusparse|cutensor|nccl|npp|nvjpeg|nvshmem)[A-Za-z_]*[.-]")


def device_code(found: Installed, problems: Problems) -> dict[str, list[str]] | None:
    """The document's `DeviceCode` of a distribution; None where its shared objects hold no fat binaries.

    A file that cannot be read is a problem, and what is known comes from the others.
    """
    some: set[str] = set()
    most: set[str] = set()
    seen = set()
    for path in shared_objects(found):
        if not found.name.startswith("nvidia-") and OF_NVIDIA.match(os.path.basename(path)):
            continue
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            continue  # that a file of its RECORD is not there, or cannot be read, is integrity's to say
        try:
            status = os.fstat(handle)
            binaries = [] if (status.st_dev, status.st_ino) in seen else list(fat_binaries(partial(pread, handle)))
            seen.add((status.st_dev, status.st_ino))
        except ELF_FAULTS as error:
            problems.add(path, f"the GPU architectures of its code cannot be read: {described(error)}")
            continue
        finally:
            os.close(handle)
        count = Counter(architecture for binary in binaries for architecture in binary)
        some.update(count)
        most.update(architecture for architecture, times in count.items() if 2 * times > len(binaries))
    if not some:
        return None
    return {
        "cubins": ordered(name for name in some if name.startswith("sm_")),
        "ptx": ordered(name for name in some if name.startswith("compute_")),
        "partial": ordered(some - most),
    }


def pread(handle: int, size: int, offset: int) -> bytes:
    return os.pread(handle, size, offset)


def ordered(architectures: Iterable[str]) -> list[str]:
    """Cubins before PTX, each by its number: sm_90 sm_90a sm_100 compute_90."""
    return sorted(architectures, key=lambda name: (name.startswith("compute_"), int(name.rpartition("_")[2].rstrip("af")), name))


def fat_binaries(read: Callable[[int, int], bytes]) -> Iterator[frozenset[str]]:
    """The architectures of each fat binary of a file that has code for any.

    Args:
        read: gives some bytes at an offset, fewer at the end of the file.

    Raises:
        ELF_FAULTS: one of them, for a file that is broken.
    """
    sections = parse_named_sections(read)
    if ".nv_fatbin" not in sections or ".nvFatBinSegment" not in sections:
        return
    place = sections[".nv_fatbin"].offset
    end = place + sections[".nv_fatbin"].size
    entries = 0
    while (place := next_header(read, place, end)) < end:
        magic, _, header, length = HEADER.unpack(read(HEADER.size, place))
        if magic != MAGIC or header < HEADER.size or place + header + length > end:
            raise ValueError(f"no fat binary at byte {place}")
        architectures = set()
        entry, place = place + header, place + header + length
        while entry < place:
            kind, _, header, length, _, _, _, _, number, _, _, flags = ENTRY.unpack(read(ENTRY.size, entry))
            entries += 1
            if header < ENTRY.size or entry + header + length > place or entries > MAX_ENTRIES:
                raise ValueError(f"no code at byte {entry}")
            entry += header + length
            if kind in KINDS:
                architectures.add(KINDS[kind] + architecture(number, flags))
        if architectures:
            yield frozenset(architectures)


def architecture(number: int, flags: int) -> str:
    if not 10 <= number <= 999 or flags & SPECIFIC not in SUFFIXES:
        raise ValueError(f"no architecture is {number} with the flags {flags:#x}")
    return f"{number}{SUFFIXES[flags & SPECIFIC]}"


def next_header(read: Callable[[int, int], bytes], place: int, end: int) -> int:
    """Where the next fat binary begins, past the zeros that a linker puts between two; `end` where none comes."""
    window = read(min(MAX_PADDING, end - place), place) if place < end else b""
    padding = len(window) - len(window.lstrip(b"\0"))
    if padding == len(window):
        if place + padding < end:
            raise ValueError(f"nothing but zeros at byte {place}")
        return end
    return place + padding - padding % ALIGNMENT
