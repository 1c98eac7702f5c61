"""`envsnap export`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from envsnap.cli import completion, launching, main, moving
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options
from envsnap.errors import UsageError
from envsnap.workflows.formats import FORMATS

_HELP = "Write how an image is run in a format of others: {}.".format(", ".join(f"{row.what} ({name})" for name, row in FORMATS.items()))


@click.command(
    cls=launching.WithCommand,
    help=_HELP + "\n\nNo secret is in what is written: its place is named there.",
    epilog="Example:  envsnap export lockfiles/yolo-train.yaml --format k8s --gpus 8 -o job.yaml -- python train.py",
)
@click.argument("image", metavar="LOCK|IMAGE", shell_complete=completion.files)
@click.option("--format", "form", type=click.Choice(list(FORMATS)), required=True)
@launching.launch_options
@click.option("--gpus", metavar="all|none|N|device=0,2", help="As docker's.  [default: all, or one where a number is wanted]")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="[default: standard output]")
@registry_options
@main.shared_options
def command(console: Console, image: str, form: str, output: Path | None, registries: Registries, **options: Any) -> None:
    """See `_HELP`."""
    from envsnap.report import launch as report
    from envsnap.workflows import export, runnable

    wishes, caller = launching.wishes(**options), launching.caller()
    with moving.places(registries) as places:
        found = runnable.find(image, places)
    asked = export.Asked(image=found, wishes=wishes, caller=caller, place=output, progress=console)
    text = FORMATS[form].text(asked)
    document = report.exported(form, found.pinned, output, text, console.warnings)
    if output is None:
        console.hand_over(text, document)
    else:
        _put(output, text.encode(), console)
        console.answer(report.written(output), document)


def _put(place: Path, data: bytes, console: Console) -> None:
    """Raises UsageError: what is there is no file, as a device is none, and must not become one. TargetError: it cannot be written."""
    from envsnap.storage import disk_errors, write_file

    with disk_errors(f"write {place}", place):
        file = Path(os.path.realpath(place))
        there = place.exists()
        if there and not place.is_file():
            raise UsageError(f"-o {place}: what is there is no file", hint="without -o it goes to standard output")
        if there and (file.stat().st_size != len(data) or file.read_bytes() != data):
            console.note(f"{place} was there, and is replaced")
    write_file(file, data)
