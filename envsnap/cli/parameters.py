"""Kinds of values that options take."""

from __future__ import annotations

from pathlib import Path

import click

from envsnap.errors import InputError


class InputFile(click.Path):
    """A file that is read. Raises InputError where it is not there, as of a lock: the input is wrong, and not the words."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, exists=True, dir_okay=False)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        try:
            super().convert(str(value), param, ctx)
        except click.BadParameter as error:
            option = param.opts[0] if param is not None else "a file"
            raise InputError(f"cannot read {option}", why=error.message.rstrip("."), hint="name a file that is there") from error
        return Path(str(value))


FILE = InputFile()
