"""`envsnap push`."""

from __future__ import annotations

import click

from envsnap.cli import completion, main, moving
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options


@click.command(epilog="Example:  envsnap push lockfiles/yolo-train.yaml registry.example.com/vision/yolo-train:2026-q4")
@click.argument("image", shell_complete=completion.files)
@click.argument("references", nargs=-1, metavar="[REF]...")
@registry_options
@main.shared_options
def command(console: Console, image: str, references: tuple[str, ...], registries: Registries) -> None:
    """Send an image to registries: by a name or digest of it, its lock's file, or the lock's name. Only what they lack is uploaded.

    The image alone: its lock, provenance and bill of materials are put beside it by build --push.
    """
    from envsnap.report import transfer as report
    from envsnap.workflows import transfer

    with moving.places(registries) as places:
        moved, sent = transfer.push(image, references, places, console)
    console.answer(report.pushed_screen(moved, sent), report.pushed_document(moved, sent))
