"""`envsnap pull`."""

from __future__ import annotations

from pathlib import Path

import click

from envsnap.cli import main, moving
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options

_LAYOUT = "oci:"


@click.command(epilog="Example:  envsnap pull registry.example.com/vision/yolo-train:2026-q4")
@click.argument("reference", metavar="REF")
@click.option("--to", default="engine", show_default=True, metavar="engine|oci:DIR", help="Into the engine, or an OCI image layout.")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Refuse what is not signed with this public key.")
@registry_options
@main.shared_options
def command(console: Console, reference: str, to: str, key: Path | None, registries: Registries) -> None:
    """Bring an image of a registry here. What is not what its digest says is refused, and with --key what is not signed with it."""
    from envsnap.report import transfer as report
    from envsnap.workflows import attest, transfer

    directory = _directory(to)
    public = attest.public_key(key) if key is not None else None
    with moving.places(registries) as places:
        verify = attest.signed_with(public, places.registry) if public is not None else None
        moved = transfer.pull(reference, places, console, directory=directory, verify=verify)
    place = str(directory) if directory is not None else "the engine"
    console.answer(report.pulled_screen(moved, place), report.pulled_document(moved, str(directory) if directory is not None else to))


def _directory(to: str) -> Path | None:
    if to == "engine":
        return None
    if not to.startswith(_LAYOUT) or to == _LAYOUT:
        raise click.BadParameter(f"{to!r} is neither engine nor oci:DIR", param_hint="--to")
    return Path(to.removeprefix(_LAYOUT))
