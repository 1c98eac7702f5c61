"""Licences as wheels themselves say them: an SPDX expression in `License-Expression`, and nothing else, as free text would be a guess."""

from __future__ import annotations

import re
import zlib
from email.parser import HeaderParser
from pathlib import Path
from zipfile import BadZipFile, ZipFile

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA\Z")
_MAX_BYTES = 1 << 20  # of a METADATA, with the project's description in it


def of_metadata(text: str) -> str | None:
    """The expression in METADATA, in its canonical form; None where there is none, or one that SPDX does not know."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    said = HeaderParser().parsestr(text).get("License-Expression")
    if said is None:
        return None
    try:
        return str(canonicalize_license_expression(str(said)))
    except InvalidLicenseExpression:
        return None


def of_wheel(path: Path) -> str | None:
    """The expression in a wheel's METADATA; None also for what cannot be read: whoever unpacks it will say so."""
    try:
        with ZipFile(path) as wheel:
            name = next((name for name in wheel.namelist() if _METADATA.match(name)), None)
            if name is None:
                return None
            with wheel.open(name) as file:
                return of_metadata(file.read(_MAX_BYTES).decode("utf-8", "replace"))
    except (BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error):
        return None
