"""Wheels that are made for tests: as plain or as odd as a test needs them."""

from __future__ import annotations

import base64
import hashlib
import io
import stat
import zipfile
from collections.abc import Mapping
from typing import NamedTuple


class File(NamedTuple):
    """A member. Attributes: attributes: the upper half of the external ones; record: its line in RECORD, None for the true one."""

    data: bytes
    attributes: int = stat.S_IFREG | 0o644
    method: int = zipfile.ZIP_DEFLATED
    zip64: bool = False
    record: str | None = None


PROGRAM = File(b"\x7fELF" + bytes(range(256)) * 40, stat.S_IFREG | 0o755)
SCHEMES: Mapping[str, File | bytes] = {
    "pkg/__init__.py": b"VALUE = 1\n",
    "pkg/empty.py": b"",
    "pkg/run.sh": File(b"#!/bin/sh\nexit 0\n", stat.S_IFREG | 0o754),
    "pkg/bits-without-kind": File(b"x", 0o755),
    "pkg/stored.bin": File(bytes(5000) + b"abc" * 3000 + bytes(70), method=zipfile.ZIP_STORED),
    "pkg/large.bin": File(b"0123456789" * 300_000, zip64=True),
    "pkg/" + "long-" * 24 + "name/" + "deep-" * 30 + ".txt": b"far\n",
    "pkg/größe-日本.txt": "ä\n".encode(),
    "pkg/comma, quote.txt": b",\n",
    "pkg/__pycache__/stale.cpython-311.pyc": b"\x00stale",
    "pkg/sourceless.pyc": b"\x00kept",
    "pkg-1.0.data/purelib/pure.py": b"PURE = 1\n",
    "pkg-1.0.data/platlib/plat.py": b"PLAT = 1\n",
    "pkg-1.0.data/data/share/pkg/data.txt": b"data\n",
    "pkg-1.0.data/data/bin/plain": File(b"#!python\nleft as it is\n", stat.S_IFREG | 0o755),
    "pkg-1.0.data/headers/pkg.h": b"#define PKG 1\n",
    "pkg-1.0.data/scripts/tool": File(b"#!python -E\nprint('tool')\n", stat.S_IFREG | 0o755),
    "pkg-1.0.data/scripts/windowed": File(b"#!pythonw\nprint('windowed')\n", stat.S_IFREG | 0o644),
    "pkg-1.0.data/scripts/native": PROGRAM,
    "pkg-1.0.data/scripts/main-script.py": b"#!python\nmade for an entry point\n",
    "pkg-1.0.dist-info/entry_points.txt": (
        b"[console_scripts]\nmain = pkg.cli:run.now [extra]\n# none\nsecond=pkg:go\n\n[gui_scripts]\nwin = pkg:gui\n\n[other]\nnot = one\n"
    ),
}
"""Of "pkg" 1.0: every scheme, mode and kind of name."""


def metadata(name: str = "pkg", version: str = "1.0") -> dict[str, File | bytes]:
    return {
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{name}-{version}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }


def make_wheel(
    members: Mapping[str, File | bytes],
    *,
    name: str = "pkg",
    version: str = "1.0",
    record: bytes | None = None,
    more_record: str = "",
    method: int | None = None,
) -> bytes:
    """A wheel with its metadata and RECORD, the members in this order, then the metadata that is not among them.

    Args:
        record: all of it; more_record: further lines.
        method: of all members; None for each one's own.
    """
    given = {**members, **{path: data for path, data in metadata(name, version).items() if path not in members}}
    files = {path: file if isinstance(file, File) else File(file) for path, file in given.items()}
    signatures = (".jws", ".p7s", "/")
    lines = [line(path, file.data) if file.record is None else file.record for path, file in files.items() if not path.endswith(signatures)]
    data = f"{''.join(lines)}{more_record}{name}-{version}.dist-info/RECORD,,\n".encode() if record is None else record
    files[f"{name}-{version}.dist-info/RECORD"] = File(data)
    return make_zip({path: file if method is None else file._replace(method=method) for path, file in files.items()})


def line(path: str, data: bytes) -> str:
    """Of a RECORD."""
    quoted = '"' + path.replace('"', '""') + '"' if "," in path or '"' in path else path
    return f"{quoted},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}\n"


def make_zip(files: Mapping[str, File]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, file in files.items():
            info = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr, info.compress_type = 3, file.attributes << 16, file.method
            with archive.open(info, "w", force_zip64=file.zip64) as target:
                target.write(file.data)
    return out.getvalue()
