"""deb822(5): stanzas of fields, as they stand in indexes, in .deb files and in dpkg's database."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envsnap.errors import InputError

_FIELD = re.compile(r"[!-9;-~]+\Z")  # printable ASCII without space and colon

Stanza = dict[str, str]
"""Fields in the order of the file; a field of several lines keeps its line breaks and the indentation of what follows the first."""


def stanza(text: str, *, what: str) -> Stanza:
    """One stanza.

    Args:
        what: what cannot be read when it is none.

    Raises:
        InputError: a line that is neither a field nor its continuation.
    """
    fields: Stanza = {}
    last = ""
    for line in text.splitlines():
        if line[:1] in (" ", "\t"):
            if not last:
                raise InputError(what, why=f"a continuation before any field: {line[:60]!r}")
            fields[last] += "\n" + line
            continue
        name, colon, value = line.partition(":")
        if not colon or not _FIELD.match(name):
            raise InputError(what, why=f"not a field: {line[:60]!r}")
        if name in fields:
            raise InputError(what, why=f"the field {name} is there twice")
        last = name
        fields[name] = value.strip()
    return fields


def stanzas(text: str, *, what: str) -> Iterator[Stanza]:
    """All stanzas of a text; raises as `stanza`."""
    for block in re.split(r"\n(?:[ \t]*\n)+", text):
        if block.strip():
            yield stanza(block.strip("\n"), what=what)


def dump(fields: Stanza) -> str:
    """A stanza as text, with the line break at its end."""
    return "".join(f"{name}:{'' if value.startswith(chr(10)) or not value else ' '}{value}\n" for name, value in fields.items())
