"""Where untrusted text leaves for a Dockerfile: values are quoted, comments cannot end, and what cannot be quoted is refused."""

from __future__ import annotations

import re
import textwrap
import unicodedata

from envsnap.errors import PlanError

WIDTH = 118
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*(@sha256:[0-9a-f]{64})?\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?\Z")


def quoted(value: str) -> str:
    r"""A value of ENV or LABEL in double quotes: no expansion, no escape, no end before its end.

    Inside double quotes BuildKit's lexer knows `\`, `"` and `$`; a line end cannot be written at all.

    Raises:
        PlanError: the value holds a line end or another control character.
    """
    if any(unicodedata.category(character) == "Cc" and character != "\t" for character in value):
        raise PlanError("a value cannot be written into a Dockerfile", why=f"it holds a control character: {value[:80]!r}")
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'


def comment(text: str, indent: str = "") -> str:
    """Free text as comment lines; white space and whatever does not print becomes a space."""
    words = "".join(character if _prints(character) else " " for character in text).split()
    return textwrap.fill(
        " ".join(words),
        width=WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def image(reference: str) -> str:
    """An image reference for FROM. Raises PlanError for anything that is none."""
    if not _IMAGE.match(reference):
        raise PlanError(f"not an image reference: {reference!r}")
    return reference


def user(name: str) -> str:
    """A user for USER. Raises PlanError for anything that is none."""
    if not _USER.match(name):
        raise PlanError("the base's user cannot be written into a Dockerfile", why=repr(name))
    return name


def one_line(path: str) -> str:
    """A line of a .pth file. `site` executes lines that start with "import" and splits at every kind of line end.

    Raises:
        PlanError: it would be read as more than one line.
    """
    if len(path.splitlines()) != 1:
        raise PlanError("a directory of the project cannot be put on Python's path", why=f"its name holds a line end: {path!r}")
    return path


def _prints(character: str) -> bool:
    return unicodedata.category(character)[0] not in "CZ"
