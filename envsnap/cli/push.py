"""`envsnap push`."""

from __future__ import annotations

import click

from envsnap.cli import main, moving
from envsnap.cli.console import Console


@click.command(epilog="Example:  envsnap push lockfiles/yolo-train.yaml registry.example.com/vision/yolo-train:2026-q4")
@click.argument("image")
@click.argument("references", nargs=-1, metavar="[REF]...")
@main.shared_options
def command(console: Console, image: str, references: tuple[str, ...]) -> None:
    """Send an image to registries: by a name or digest of it, its lock's file, or the lock's name. Only what they lack is uploaded."""
    from envsnap.report import transfer as report
    from envsnap.workflows import transfer

    with moving.places() as places:
        moved, sent = transfer.push(image, references, places, console)
    console.answer(report.pushed_screen(moved, sent), report.pushed_document(moved, sent))
