"""`envsnap config`: every setting, its value, and where it came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from envsnap import redaction, settings
from envsnap.cli import main
from envsnap.cli.console import Console
from envsnap.errors import InputError

_HELP = """Show each setting with its value and its source: default < file < ENVSNAP_* variable < flag.

A file is the nearest envsnap.toml, or pyproject.toml with [tool.envsnap], at or above this directory: a table per command, as in [build].
The variable of an option that may be given more than once holds all its values, quoted as in a shell:
ENVSNAP_BUILD_ENV="A=1 'B=two words'".
"""


@click.command(help=_HELP, epilog="Example:  ENVSNAP_BUILD_BASE=slim envsnap config")
@main.shared_options
def command(console: Console) -> None:
    """See `_HELP`."""
    context = click.get_current_context()
    path: Path | None = context.meta.get(main.SETTINGS_FILE)
    over = settings.passed_over(path) if path is not None else None
    if over is not None:
        console.warning(f"{over} is not read: {path} comes first")
    rows = [row for name in main.COMMANDS for row in _rows(name, context, path, console)]
    width = max(len(row["setting"]) for row in rows)
    screen = "\n".join(f"{row['setting']:<{width}}  {_shown(row):<24}  {row['source']}" for row in rows)
    console.answer(screen, {"settings": rows, "file": str(path) if path else None, "not_read": str(over) if over else None})


def _rows(name: str, context: click.Context, path: Path | None, console: Console) -> list[dict[str, Any]]:
    """Each option of a command. Args: context: of `envsnap config`. path: the settings file."""
    command = main.group.get_command(context, name)
    assert command is not None
    own = click.Context(command, info_name=name, parent=context.parent)
    file_values = own.default_map or {}
    rows = []
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or parameter.name is None:
            continue
        setting = f"{name}.{next(word for word in parameter.opts if word.startswith('--')).lstrip('-')}"
        value, source = parameter.get_default(own), "default"
        if parameter.name in file_values:
            value, source = file_values[parameter.name], f"file {path}"
        variable = _variable(name, parameter)
        if variable is not None:
            value, source = os.environ[variable], f"variable {variable}"
        try:
            value = _typed(parameter, own, value, variable is not None)
        except (click.BadParameter, InputError) as error:  # its command will refuse it, too
            said = f"{error.what}: {error.why}" if isinstance(error, InputError) else error.format_message()
            console.warning(f"{setting}, {source}: {said}")
        rows.append({"setting": setting, "value": _plain(value), "source": source})
    return rows


def _variable(name: str, option: click.Option) -> str | None:
    """The variable that sets an option of the command `name`, as click asks them; None where none is set."""
    own = (option.envvar,) if isinstance(option.envvar, str) else tuple(option.envvar or ())
    named = f"ENVSNAP_{name}_{option.name}".upper().replace("-", "_")
    return next((one for one in (*own, named) if os.environ.get(one)), None)


def _typed(option: click.Option, context: click.Context, value: Any, from_variable: bool) -> Any:
    """A value as the option's command gets it. Raises click.BadParameter, InputError: it is none that the option can have."""
    if from_variable:
        value = option.value_from_envvar(context)
    if not isinstance(value, str | int | float | list | tuple | Path):
        value = None  # click has marks of its own for what has no default
    return option.type_cast_value(context, value)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        return redaction.text(value)  # the address of a mirror may hold a password
    return value if isinstance(value, bool | int | float) else None


def _shown(row: dict[str, Any]) -> str:
    value = row["value"]
    if value in (None, []) or (not value and row["source"] == "default"):
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
