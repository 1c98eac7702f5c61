"""Layers made by hand, good ones and others."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from typing import Any

from envsnap.oci.documents import Config, canonical, read_config
from envsnap.rootless.unpack import OpenLayer

Member = tuple[str, bytes, bytes | str, int]
"""Name, kind as tar has it, content or target, mode."""


def directory(name: str, mode: int = 0o755) -> Member:
    return name, tarfile.DIRTYPE, b"", mode


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> Member:
    return name, tarfile.REGTYPE, content, mode


def link(name: str, target: str) -> Member:
    return name, tarfile.SYMTYPE, target, 0o777


def hard_link(name: str, target: str) -> Member:
    return name, tarfile.LNKTYPE, target, 0o644


def special(name: str, kind: bytes = tarfile.CHRTYPE) -> Member:
    return name, kind, b"", 0o666


def tar(*members: Member, **more: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, content, mode in members:
            header = tarfile.TarInfo(name)
            header.type, header.mode, header.mtime = kind, mode, 315532800
            for attribute, value in more.items():
                setattr(header, attribute, value)
            if isinstance(content, str):
                header.linkname = content
                archive.addfile(header)
            else:
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    return out.getvalue()


def diff_id(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def zipped(data: bytes, members: int = 1) -> bytes:
    """In so many gzip members."""
    size = max(1, -(-len(data) // members))
    return b"".join(gzip.compress(data[start : start + size], mtime=0) for start in range(0, len(data), size))


def pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def image(*layers: tuple[Member, ...], **run: Any) -> tuple[Config, list[tuple[str, OpenLayer]]]:
    """A whole image: its config, and diff_id and opener of each layer."""
    data = [tar(*members) for members in layers]
    diff_ids = [diff_id(one) for one in data]
    document = {"architecture": "amd64", "os": "linux", "config": run, "rootfs": {"type": "layers", "diff_ids": diff_ids}}

    def opener(one: bytes) -> OpenLayer:
        return lambda: pieces(one, 1 << 16)

    return read_config(canonical(document), what="test"), [(name, opener(one)) for name, one in zip(diff_ids, data, strict=True)]
