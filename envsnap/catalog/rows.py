"""The files of NVIDIA's releases: a comment of how to read them, then one row per image, each written in one way only.

So a change of a row is a change of its lines and of no others, and a proposal can be shown as a diff.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import msgspec

from envsnap.model.base import Family, Release
from envsnap.model.kinds import plain

FAMILIES: tuple[Family, ...] = ("pytorch", "tensorflow", "paddlepaddle")
_BEGIN = "\nreleases:\n"


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    family: Family
    releases: tuple[dict[str, Any], ...]


def path(family: Family) -> str:
    """Of its file, in the project's own tree."""
    return f"envsnap/catalog/data/ngc-{family}.yaml"


def text(family: Family) -> str:
    """Its file."""
    return (files("envsnap.catalog") / "data" / f"ngc-{family}.yaml").read_text(encoding="utf-8")


def read(family: Family) -> tuple[Release, ...]:
    """Its rows, newest first. Raises `msgspec.ValidationError`: the file is malformed."""
    document = msgspec.yaml.decode(text(family), type=_File)
    return tuple(msgspec.convert({"family": document.family, **row}, Release) for row in document.releases)


def with_rows(whole: str, releases: Sequence[Release]) -> str:
    """The text of a file with these rows in place of its own; its head stays."""
    head, begin, _ = whole.partition(_BEGIN)
    return f"{head}{begin}" + "\n".join(map(written, releases))


def written(release: Release) -> str:
    """A row as it is in its file: every text between double quotes, so that no version reads as a number."""
    fields = {name: value for name, value in plain(release).items() if name != "family"}
    lines = [line for name, value in fields.items() for line in _lines(name, value)]
    return "".join(f"{'- ' if number == 0 else '  '}{line}\n" for number, line in enumerate(lines))


def _lines(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{name}:", *(f"  {key}: {_scalar(text)}" for key, text in value.items())]
    if isinstance(value, list) and name in ("sources", "notes"):
        return [f"{name}:", *(f"  - {_scalar(item)}" for item in value)]
    return [f"{name}: {_scalar(value)}"]


def _scalar(value: Any) -> str:
    # As JSON, which is YAML but for a few characters that YAML takes for the end of a line.
    return json.dumps(value, ensure_ascii=isinstance(value, str) and not value.isprintable())
