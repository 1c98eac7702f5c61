"""`envsnap save`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from envsnap.cli import completion, main, moving
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options

if TYPE_CHECKING:
    from envsnap.publish.write import Form


@click.command(epilog="Example:  envsnap save lockfiles/yolo-train.yaml yolo-train.tar   then, there:   envsnap load yolo-train.tar")
@click.argument("image", metavar="IMAGE|LOCK", shell_complete=completion.files)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["docker-archive", "oci-archive", "oci-dir"]),
    default="docker-archive",
    show_default=True,
    help="docker-archive is an OCI archive, too; oci-dir is a directory.",
)
@click.option("--with-base/--without-base", default=True, show_default=True, help="The base's layers, too.")
@registry_options
@main.shared_options
def command(console: Console, image: str, file: Path, form: Form, with_base: bool, registries: Registries) -> None:
    """Write an image into a file, for a machine that reaches no registry."""
    from envsnap.report import transfer as report
    from envsnap.workflows import transfer

    with moving.places(registries) as places:
        moved, saved = transfer.save(image, file, places, console, form=form, with_base=with_base)
    console.answer(report.saved_screen(moved, saved), report.saved_document(moved, saved))
