"""The options of run and export, which say how an image is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from envsnap.cli import completion

if TYPE_CHECKING:
    from envsnap.workflows.launch import Caller, Wishes

F = TypeVar("F", bound=Callable[..., Any])


_SOURCES = click.core.ParameterSource
_BY_STRENGTH = (_SOURCES.COMMANDLINE, _SOURCES.ENVIRONMENT, _SOURCES.DEFAULT_MAP)
"""Where a setting comes from: a flag is stronger than a variable, and that than a file."""


class WithCommand(click.Command):
    """One that takes another command, whose options are not its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            said = f"{error.format_message()} Options of the command that is to run follow after --"
            raise click.UsageError(said, ctx) from error
        if not ctx.resilient_parsing:  # completion, of a line that is not whole yet
            self._require_whole(ctx, typed)
        return rest

    def _require_whole(self, ctx: click.Context, typed: list[str]) -> None:
        """Raises UsageError: an option that stands among the command's words was taken for one of envsnap's."""
        words: tuple[str, ...] = ctx.params.get("command") or ()
        end = typed.index("--") if "--" in typed else len(typed)
        early = len(words) - len(typed[end + 1 :])
        if early > 0 and tuple(typed[max(0, end - early) : end]) != words[:early]:
            raise click.UsageError(f"There are options among the words of {words[0]!r}. The command that is to run follows after --", ctx)


def launch_options(function: F) -> F:
    """Collected by `wishes`. What follows `--` is the command."""
    options = (
        click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD…]"),
        click.option(
            "--data",
            multiple=True,
            metavar="DIR[:TARGET][:rw]",
            shell_complete=completion.directories,
            help="Mount a directory, read-only and at the same path unless it says otherwise. May be given more than once.",
        ),
        click.option(
            "--project",
            type=click.Path(path_type=Path),
            metavar="DIR",
            shell_complete=completion.directories,
            help="The project that is worked in; mounted below /workspace.  [default: the one around this directory]",
        ),
        click.option("--no-project", is_flag=True, help="Mount no project: the image's own copy is what runs."),
        click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; a name alone has the value of outside."),
        click.option("-p", "--publish", multiple=True, metavar="[HOST:]PORT", help="As docker's."),
        click.option("--user", metavar="UID[:GID]|root|image", help="Who runs inside.  [default: you, so that files in mounts are yours]"),
        click.option("--shm-size", metavar="SIZE", help="Shared memory of its own, as docker's.  [default: the host's, --ipc=host]"),
    )
    for option in reversed(options):
        function = option(function)
    return function


def wishes(
    *,
    command: tuple[str, ...],
    gpus: str | None,
    data: tuple[str, ...],
    project: Path | None,
    no_project: bool,
    env: tuple[str, ...],
    publish: tuple[str, ...],
    user: str | None,
    shm_size: str | None,
) -> Wishes:
    """Raises UsageError: two options that exclude each other."""
    from envsnap.errors import UsageError
    from envsnap.workflows.launch import Wishes

    if project is not None and no_project:
        said = {name: click.get_current_context().get_parameter_source(name) for name in ("project", "no_project")}
        strongest = next(source for source in _BY_STRENGTH if source in said.values())
        project, no_project = (project if said["project"] is strongest else None), said["no_project"] is strongest
    if project is not None and no_project:
        raise UsageError("--project mounts a project, and --no-project none", hint="leave one of the two out")
    return Wishes(
        command=command,
        gpus=gpus,
        data=data,
        env=env,
        ports=publish,
        user=user,
        project=project,
        with_project=not no_project,
        shm_size=shm_size,
    )


def caller() -> Caller:
    from envsnap.workflows.launch import Caller

    return Caller(uid=os.getuid(), gid=os.getgid(), directory=Path.cwd(), env=os.environ)
