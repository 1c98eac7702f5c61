"""Shared objects with fat binaries, made byte by byte: what nvcc would put there, without the code itself."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

FLAGS = {"": 0x11, "a": 0x100011, "f": 0x200011}


def entry(architecture: str, *, code: bytes = b"\x7fELF code", kind: int | None = None, flags: int | None = None) -> bytes:
    """Of a fat binary. Args: architecture: "sm_90a" or "compute_90"."""
    name, _, number = architecture.partition("_")
    suffix = number[-1] if number[-1] in "af" else ""
    kind = {"sm": 2, "compute": 1}[name] if kind is None else kind
    code += bytes(-len(code) % 8)
    head = (kind, 0x101, 64, len(code), 0, 0, 8, 1, int(number.rstrip("af")), 0, 0, FLAGS[suffix] if flags is None else flags)
    return struct.pack("<HHIQIIHHIIIQ", *head) + bytes(16) + code


def binary(*entries: bytes | str) -> bytes:
    """A fat binary. Args: entries: made by `entry`, or architectures."""
    body = b"".join(entry(item) if isinstance(item, str) else item for item in entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def shared_object(sections: Mapping[str, bytes]) -> bytes:
    """An ELF file of these sections and the table of their names, its headers at the end."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    body, headers = b"", bytes(64)
    for name, data in {**sections, ".shstrtab": names}.items():
        body += bytes(-len(body) % 8)
        headers += struct.pack(
            "<IIQQQQIIQQ", names.index(b"\0" + name.encode() + b"\0") + 1, 1, 0, 0, 64 + len(body), len(data), 0, 0, 8, 0
        )
        body += data
    body += bytes(-len(body) % 8)
    count = len(sections) + 2
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 64 + len(body), 0, 64, 56, 0, 64, count, count - 1)
    return head + body + headers


def extension(binaries: Sequence[bytes], **more: bytes) -> bytes:
    """A shared object that registers fat binaries. Args: more: sections by their names without the dot."""
    registered = bytes(24 * len(binaries))
    return shared_object(
        {".text": b"\xc3", ".nv_fatbin": b"".join(binaries), ".nvFatBinSegment": registered, **{f".{n}": d for n, d in more.items()}}
    )
