"""`envsnap load`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from envsnap.cli import main, moving
from envsnap.cli.cache import bounded_cache
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options

if TYPE_CHECKING:
    from envsnap.workflows.transfer import To


@click.command(epilog="Example:  envsnap load yolo-train.tar -t yolo-train:2026-q4")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-t", "--tag", multiple=True, metavar="REF", help="What to call it; may be given more than once. Default: its names.")
@click.option(
    "--to", type=click.Choice(["engine", "cache"]), help="Default: the engine where one answers; from the cache, push sends it on."
)
@registry_options
@main.shared_options
def command(console: Console, file: Path, tag: tuple[str, ...], to: To | None, registries: Registries) -> None:
    """Take an image from an archive or an image layout. All of it is hashed first."""
    from envsnap.report import transfer as report
    from envsnap.workflows import transfer

    with bounded_cache(console), moving.places(registries) as places:
        moved, landed = transfer.load(file, tag, places, console, to=to)
    console.answer(report.loaded_screen(moved, landed), report.loaded_document(moved, landed))
