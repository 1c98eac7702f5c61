"""`envsnap config`: every setting, its value, and where it came from."""

from __future__ import annotations

import os
from typing import Any

import click

from envsnap import redaction
from envsnap.cli import main
from envsnap.cli.console import Console


@click.command(epilog="Example:  ENVSNAP_BUILD_BASE=slim envsnap config")
@main.shared_options
def command(console: Console) -> None:
    """Show each setting with its value and its source: default < file < ENVSNAP_* variable < flag."""
    context = click.get_current_context()
    group = main.group
    file_values = context.parent.default_map or {} if context.parent is not None else {}
    rows = [
        row for name in group.list_commands(context) for row in _rows(name, group.get_command(context, name), file_values.get(name, {}))
    ]
    width = max(len(row["setting"]) for row in rows)
    screen = "\n".join(f"{row['setting']:<{width}}  {_shown(row['value']):<24}  {row['source']}" for row in rows)
    console.answer(screen, {"settings": rows})


def _rows(name: str, command: click.Command | None, file_values: dict[str, Any]) -> list[dict[str, Any]]:
    assert command is not None
    rows = []
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or parameter.name is None:
            continue
        long = next(word for word in parameter.opts if word.startswith("--")).lstrip("-")
        named = f"ENVSNAP_{name}_{parameter.name}".upper().replace("-", "_")
        own = (parameter.envvar,) if isinstance(parameter.envvar, str) else tuple(parameter.envvar or ())
        variable = next((one for one in (*own, named) if os.environ.get(one)), named)  # as click asks them
        value, source = parameter.get_default(click.Context(command)), "default"
        if parameter.name in file_values:
            value, source = file_values[parameter.name], "file"
        if os.environ.get(variable):
            value, source = os.environ[variable], f"variable {variable}"
        rows.append({"setting": f"{name}.{long}", "value": _plain(value), "source": source})
    return rows


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        return redaction.text(value)  # the address of a mirror may hold a password
    return value if isinstance(value, bool | int | float) else None


def _shown(value: Any) -> str:
    return "-" if value in (None, [], False) else str(value)
