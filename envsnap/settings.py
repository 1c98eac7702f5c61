"""Settings from files: `envsnap.toml`, or `[tool.envsnap]` in a pyproject.toml, nearest upwards from where one stands.

A file sets any option of any command: a table per command, keys as the option is spelt without its dashes.

    [build]
    base = "slim"
    ca-bundle = "/etc/ssl/certs/company.pem"

The order is default < file < ENVSNAP_* variable < flag; click keeps where each value came from, and `envsnap config` shows it.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envsnap.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# command -> the options it knows, as spelt on the command line without dashes ("ca-bundle")
Known = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettings:
    """What a file sets.

    Attributes:
        path: the file; None when there is none.
        values: command -> option ("ca-bundle") -> value as TOML gave it.
    """

    path: Path | None
    values: Mapping[str, Mapping[str, Any]]


def read(start: Path, known: Known) -> FileSettings:
    """The nearest settings at or above `start`.

    Raises:
        InputError: the file is not TOML, or has a command or option that does not exist (the nearest name is offered).
    """
    for path, table in _candidates(start):
        return FileSettings(path=path, values=_checked(path, table, known))
    return FileSettings(path=None, values={})


def passed_over(path: Path) -> Path | None:
    """The pyproject.toml beside a settings file whose [tool.envsnap] nobody reads, because envsnap.toml comes first."""
    project = path.with_name("pyproject.toml")
    if path == project or not project.is_file():
        return None
    try:
        tools = _toml(project).get("tool")
    except InputError:  # it is not read: what is wrong with it is not envsnap's to say
        return None
    return project if isinstance(tools, dict) and "envsnap" in tools else None


def _candidates(start: Path) -> Iterator[tuple[Path, Any]]:
    for directory in (start, *start.parents):
        own = directory / "envsnap.toml"
        if own.is_file():
            yield own, _toml(own)
        project = directory / "pyproject.toml"
        if project.is_file():
            tools = _toml(project).get("tool")
            if isinstance(tools, dict) and "envsnap" in tools:
                yield project, tools["envsnap"]


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML", why=str(error)) from error
    except OSError as error:
        raise InputError(f"cannot read {path}", why=error.strerror or str(error)) from error


def _checked(path: Path, table: Any, known: Known) -> dict[str, dict[str, Any]]:
    if not isinstance(table, dict):
        raise InputError(f"{path}: tool.envsnap must be a table", hint="write [tool.envsnap.build] and the options below it")
    checked: dict[str, dict[str, Any]] = {}
    for command, options in table.items():
        if command not in known:
            raise InputError(f"{path}: no command is called {command!r}", hint=_nearest(command, known))
        if not isinstance(options, dict):
            raise InputError(f"{path}: {command} must be a table", hint=f"write [{command}] and the options below it")
        for option in options:
            if option not in known[command]:
                raise InputError(f"{path}: {command}.{option}: no such option", hint=_nearest(option, known[command]))
        checked[command] = dict(options)
    return checked


def _nearest(word: str, words: Mapping[str, Any] | frozenset[str]) -> str:
    close = difflib.get_close_matches(word, sorted(words), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(words))}"
