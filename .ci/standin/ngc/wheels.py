"""Wheels of the package index, rebuilt as if NVIDIA had built them; and small wheels that stand in for NVIDIA's own packages."""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

Change = Callable[[str, bytes], bytes | None]
"""Path in the wheel and content -> other content; None leaves the file out."""

SEARCH = re.compile(rb"(?<=\0)\$ORIGIN[^\0]*/nvidia/[^\0]*\0")
"""The search path of an ELF file of torch, among the index's nvidia-* packages."""


def rebuild(wheel: Path, version: str, drop: re.Pattern[str], change: Change, to: Path) -> Path:
    """Write the wheel under another version, tagged as a local build ("linux_x86_64").

    Args:
        drop: requirements that the local build does not declare ("nvidia-.*").
        change: what else differs.
    """
    with zipfile.ZipFile(wheel) as old:
        (name,) = {info.filename.split("-")[0] for info in old.infolist() if info.filename.endswith(".dist-info/METADATA")}
        (info_folder,) = {path.split("/")[0] for path in old.namelist() if path.endswith(".dist-info/METADATA")}
        new_folder = f"{name}-{version}.dist-info"
        tag = re.sub(r"-[^-]*\.whl\Z", "", wheel.name).split("-", 2)[2]
        made = to / f"{name}-{version}-{tag}-linux_x86_64.whl"
        with WheelWriter(made, new_folder) as new:
            for info in old.infolist():
                path = info.filename
                if info.is_dir() or path == f"{info_folder}/RECORD":
                    continue
                content: bytes | None = old.read(info)
                if path == f"{info_folder}/METADATA":
                    content = other_metadata(content or b"", version, drop)
                elif path == f"{info_folder}/WHEEL":
                    content = re.sub(rb"(?m)^Tag: .*\n", b"", content or b"").rstrip() + f"\nTag: {tag}-linux_x86_64\n".encode()
                else:
                    content = change(path, content or b"")
                if content is not None:
                    new.add(re.sub(rf"\A{re.escape(info_folder)}/", f"{new_folder}/", path), content, info.external_attr)
    return made


def other_metadata(text: bytes, version: str, drop: re.Pattern[str]) -> bytes:
    head, blank, body = text.decode().partition("\n\n")
    lines = []
    for line in head.split("\n"):
        field, _, value = line.partition(": ")
        if field == "Version":
            lines.append(f"Version: {version}")
        elif field != "Requires-Dist" or not drop.match(value):
            lines.append(line)
    return ("\n".join(lines) + blank + body).encode()


def without_search_path(content: bytes) -> bytes:
    """An ELF file that finds CUDA's libraries where the system has them: its own folder is all that it searches besides."""
    return SEARCH.sub(lambda found: b"$ORIGIN".ljust(len(found[0]), b"\0"), content) if content[:4] == b"\x7fELF" else content


def small(name: str, version: str, files: dict[str, str], requires: Iterable[str], python: str, to: Path) -> Path:
    """Write a wheel of a few text files."""
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    tag = f"cp{python.replace('.', '')}-cp{python.replace('.', '')}-linux_x86_64"
    made = to / f"{name.replace('-', '_')}-{version}-{tag}.whl"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: A stand-in for NVIDIA's own build\n"]
    metadata += [f"Requires-Dist: {one}\n" for one in requires]
    with WheelWriter(made, folder) as new:
        for path, text in files.items():
            new.add(path, text.encode())
        new.add(f"{folder}/METADATA", "".join(metadata).encode())
        new.add(f"{folder}/WHEEL", f"Wheel-Version: 1.0\nGenerator: envsnap-standin\nRoot-Is-Purelib: false\nTag: {tag}\n".encode())
    return made


class WheelWriter:
    """Writes files, and RECORD last."""

    def __init__(self, path: Path, info_folder: str) -> None:
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._record = f"{info_folder}/RECORD"
        self._rows: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write(self._record, "".join([*self._rows, f"{self._record},,\n"]).encode(), 0o644 << 16)
        self._archive.close()

    def add(self, path: str, content: bytes, attributes: int = 0o644 << 16) -> None:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        name = f'"{path}"' if "," in path else path
        self._rows.append(f"{name},sha256={digest},{len(content)}\n")
        self._write(path, content, attributes)

    def _write(self, path: str, content: bytes, attributes: int) -> None:
        member = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
        member.external_attr, member.compress_type = attributes, zipfile.ZIP_DEFLATED
        self._archive.writestr(member, content)
