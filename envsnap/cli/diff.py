"""`envsnap diff`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from envsnap.cli import completion, main
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console

LOCK = click.Path(path_type=Path)
GRADES = ("breaking", "numeric", "cosmetic")


@click.command(epilog="Example:  envsnap diff lockfiles/yolo-train.yaml   (against the live environment)")
@click.argument("left", metavar="A", type=LOCK)
@click.argument("right", metavar="[B]", type=LOCK, required=False)
@click.option(
    "--python",
    metavar="P",
    shell_complete=completion.files,
    help="Without B: the live interpreter to compare with.  [default: as for capture]",
)
@click.option("--container", metavar="C", help="Without B: compare with what is inside a running container.")
@click.option("--image", metavar="REF", help="Without B: compare with an image that the local engine has.")
@click.option("--ssh", "host", metavar="HOST", help="Without B: compare with the environment of another host.")
@click.option(
    "--project",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Without B: where the project is.  [default: the current directory, where the lock has a project]",
)
@click.option(
    "--fail-on",
    type=click.Choice(GRADES),
    default="cosmetic",
    show_default=True,
    help="Exit with 7 for differences of this grade and graver ones alone.",
)
@main.shared_options
def command(
    console: Console,
    left: Path,
    right: Path | None,
    python: str | None,
    container: str | None,
    image: str | None,
    host: str | None,
    project: Path | None,
    fail_on: str,
) -> None:
    """Every difference of two locks, or of a lock and the live environment. Exit code 7 where they differ."""
    if right is not None and any(option is not None for option in (python, container, image, host, project)):
        raise click.UsageError("--python, --container, --image, --ssh and --project name the live environment, and two locks were given")
    from envsnap.report import diff as report
    from envsnap.workflows import drift as workflow
    from envsnap.workflows import targets

    if right is not None:
        compared = workflow.of_locks(left, right)
    else:
        place = targets.Place(python=python, container=container, image=image, host=host)
        compared = workflow.of_live(left, place, project=project, env=os.environ, cache=cache_directory(), progress=console)
    screen = report.screen(
        compared.differences,
        str(left),
        compared.name,
        locks=(compared.left, compared.right),
        not_compared=compared.not_compared,
        width=console.width,
        full=console.verbosity > 0,
    )
    console.answer(screen, report.document(compared.differences))
    if any(GRADES.index(difference.grade) <= GRADES.index(fail_on) for difference in compared.differences):
        main.answer_no()
