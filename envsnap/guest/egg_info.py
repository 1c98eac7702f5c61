"""An .egg-info, the format before wheels, as the .dist-info that it would be today."""

from __future__ import annotations

import re
from email.parser import HeaderParser
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Dict


def from_egg_info(path: Path) -> Dict[str, bytes]:
    """Files of a .dist-info, made from an .egg-info directory or file."""
    if path.is_file():
        return {"METADATA": path.read_bytes()}
    files = {"METADATA": with_requirements(path)}
    for name in ("entry_points.txt", "top_level.txt"):
        if (path / name).is_file():
            files[name] = (path / name).read_bytes()
    return files


def with_requirements(egg_info: Path) -> bytes:
    """PKG-INFO with the requirements of requires.txt, which older setuptools kept apart."""
    text = (egg_info / "PKG-INFO").read_bytes()
    headers = HeaderParser().parsestr(text.decode("utf-8", "surrogateescape"))
    requirements = [] if headers.get_all("Requires-Dist") else PathDistribution(egg_info).requires or []
    if not requirements:
        return text
    extras = dict.fromkeys(re.findall(r"""extra == ["']([^"']+)["']""", "\n".join(requirements)))
    known = set(headers.get_all("Provides-Extra") or ())
    added = [*(f"Provides-Extra: {extra}" for extra in extras if extra not in known), *(f"Requires-Dist: {line}" for line in requirements)]
    head, separator, body = text.partition(b"\n\n")
    # Provides-Extra is of version 2.1.
    head = re.sub(rb"\AMetadata-Version: (?:1\.[0-9]|2\.0)(?=\r?\n)", b"Metadata-Version: 2.1", head.rstrip(b"\n"))
    return head + b"\n" + "\n".join(added).encode() + (separator + body if separator else b"\n")
