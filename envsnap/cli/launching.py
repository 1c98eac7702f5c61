"""The options of run and export, which say how an image is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from envsnap.workflows.launch import Caller, Wishes

F = TypeVar("F", bound=Callable[..., Any])


def launch_options(function: F) -> F:
    """Collected by `wishes`. What follows `--` is the command."""
    options = (
        click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD…]"),
        click.option(
            "--data",
            multiple=True,
            metavar="DIR[:TARGET][:rw]",
            shell_complete=_directories,
            help="Mount a directory, read-only and at the same path unless it says otherwise. May be given more than once.",
        ),
        click.option(
            "--project",
            type=click.Path(path_type=Path),
            metavar="DIR",
            shell_complete=_directories,
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


def _directories(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[click.shell_completion.CompletionItem]:  # noqa: ARG001  # click's signature
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]
