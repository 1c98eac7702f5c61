"""`envsnap diff`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from envsnap.cli import main
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console

LOCK = click.Path(path_type=Path)


@click.command(epilog="Example:  envsnap diff lockfiles/yolo-train.yaml   (against the live environment)")
@click.argument("left", metavar="A", type=LOCK)
@click.argument("right", metavar="[B]", type=LOCK, required=False)
@click.option("--python", metavar="P", help="Without B: the live interpreter to compare with.  [default: as for capture]")
@click.option("--project", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path(), show_default=".", metavar="DIR")
@click.option(
    "--fail-on",
    type=click.Choice(["breaking", "numeric", "cosmetic"]),
    default="cosmetic",
    show_default=True,
    help="Exit with 7 for differences of this grade and graver ones alone.",
)
@main.shared_options
def command(console: Console, left: Path, right: Path | None, python: str | None, project: Path, fail_on: str) -> None:
    """Every difference of two locks, or of a lock and the live environment. Exit code 7 where they differ."""
    if right is not None and python is not None:
        raise click.UsageError("--python names the live environment, and two locks were given")
    from envsnap.report import diff as report
    from envsnap.workflows import drift as workflow

    differences, other = workflow.differences(
        left, right, python=python, project=project, env=os.environ, cache=cache_directory(), progress=console
    )
    console.answer(report.screen(differences, str(left), other), report.document(differences))
    counted = ("breaking", "numeric", "cosmetic")
    if any(counted.index(difference.grade) <= counted.index(fail_on) for difference in differences):
        main.answer_no()
