"""`envsnap capture`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from envsnap.cli import completion, main
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console


@click.command(epilog="Example:  envsnap capture --python .venv --smoke")
@click.option(
    "--python",
    shell_complete=completion.files,
    metavar="P",
    help="Interpreter, or directory of an environment; a path there, with another place.  [default: the active one, else python3]",
)
@click.option("--container", metavar="C", help="Capture inside a running container, by name or ID.")
@click.option("--image", metavar="REF", help="Capture an image that the local engine has, in a container without network.")
@click.option("--ssh", "host", metavar="HOST", help="Capture on another host, through the system's ssh.")
@click.option(
    "--wandb",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Make a lock of what a W&B run wrote down: wandb/run-… or wandb/offline-run-….",
)
@click.option(
    "--project",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="The project whose git repository belongs to the environment.  [default: the current directory; none for another place]",
)
@click.option("--name", metavar="N", help="Name of the lock and its images.  [default: the project directory's]")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="[default: lockfiles/NAME.yaml]")
@click.option("--smoke", is_flag=True, help="Train a small model twice and keep what it did, for verify to compare.")
@click.option("--smoke-seed", type=int, default=0, show_default=True, metavar="N", help="Seed of the smoke-train.")
@click.option("--offline", is_flag=True, help="Ask no package index: only what is known without a network.")
@click.option(
    "--rescue",
    multiple=True,
    metavar="NAME|python|conda|all",
    help="Keep a wheel of this package as it is installed, although an index may have it; python: the interpreter.  "
    "[repeatable; what neither an index nor the operating system has is always kept]",
)
@main.shared_options
def command(
    console: Console,
    python: str | None,
    container: str | None,
    image: str | None,
    host: str | None,
    wandb: Path | None,
    project: Path | None,
    name: str | None,
    output: Path | None,
    smoke: bool,
    smoke_seed: int,
    offline: bool,
    rescue: tuple[str, ...],
) -> None:
    """Write the facts of an environment that works into a lock. The environment is not changed."""
    if wandb is not None and (python is not None or smoke or rescue):
        raise click.UsageError("--wandb reads what a run wrote down: --python, --smoke and --rescue are for environments that are there")
    from packaging.utils import canonicalize_name

    from envsnap.report import capture as report
    from envsnap.workflows import capture as workflow
    from envsnap.workflows import targets

    request = workflow.CaptureRequest(
        place=targets.Place(python=python, image=image, container=container, host=host, wandb=wandb),
        project=project,
        name=name,
        output=output,
        smoke=smoke,
        seed=smoke_seed,
        offline=offline,
        rescue=frozenset(canonicalize_name(package) for package in rescue),
    )
    lock, path = workflow.capture(request, env=os.environ, cache=cache_directory(), progress=console)
    screen = report.screen(lock, str(path), width=console.width, full=console.verbosity > 0)
    console.answer(screen, report.document(lock, str(path)))
