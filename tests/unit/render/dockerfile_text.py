"""A small reader of Dockerfiles: enough of BuildKit's line rules to see what a text would make it do."""

from __future__ import annotations

import re


def instructions(text: str) -> list[tuple[str, str]]:
    """(keyword, arguments) of every instruction: comment lines dropped, continued lines joined."""
    found: list[tuple[str, str]] = []
    pending = ""
    for line in text.split("\n"):
        if line.lstrip().startswith("#") or (not pending and not line.strip()):
            continue
        if line.endswith("\\"):
            pending += line[:-1]
            continue
        keyword, _, arguments = (pending + line).strip().partition(" ")
        found.append((keyword.upper(), arguments.strip()))
        pending = ""
    assert not pending
    return found


def assignments(arguments: str) -> dict[str, str]:
    r"""NAME="value" pairs of ENV and LABEL, with `\\`, `\"` and `\$` undone."""
    found = {}
    while arguments := arguments.strip():
        match = re.match(r'([A-Za-z0-9_.]+)="((?:[^"\\$]|\\["\\$])*)"(?:\s|\Z)', arguments)
        assert match, arguments
        found[match[1]] = re.sub(r'\\(["\\$])', r"\1", match[2])
        arguments = arguments[match.end() :]
    return found
