"""`envsnap relock`."""

from __future__ import annotations

from pathlib import Path

import click

from envsnap.cli import main
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console


@click.command(epilog="Example:  envsnap relock lockfiles/yolo-train.yaml numpy==2.2.6")
@click.argument("lock", type=click.Path(path_type=Path))
@click.argument("changes", metavar="NAME==VERSION…", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="[default: the lock itself]")
@click.option("--dry-run", is_flag=True, help="Show what would change, and write nothing.")
@click.option("--allow-conflict", is_flag=True, help="Go on where a package requires what the new set has not.")
@click.option("--offline", is_flag=True, help="Ask no package index: only what is known of earlier answers.")
@main.shared_options
def command(
    console: Console, lock: Path, changes: tuple[str, ...], output: Path | None, dry_run: bool, allow_conflict: bool, offline: bool
) -> None:
    """The same environment with packages changed on purpose; everything else stays as it was."""
    from envsnap.report import relock as report
    from envsnap.workflows import places
    from envsnap.workflows import relock as workflow

    if output is not None:
        places.lock_path("x", output)
    done = workflow.relock(
        lock,
        [workflow.Wish.of(change) for change in changes],
        output=output,
        dry_run=dry_run,
        allow_conflict=allow_conflict,
        offline=offline,
        cache=cache_directory(),
        progress=console,
    )
    shown = (done.before, done.lock, str(done.path), done.differences, [str(conflict) for conflict in done.conflicts], done.unknown)
    screen = report.screen(*shown, written=not dry_run, width=console.width, full=console.verbosity > 0)
    console.answer(screen, report.document(*shown, written=not dry_run))
