"""`envsnap pull`."""

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

_LAYOUT = "oci:"


@click.command(epilog="Example:  envsnap pull registry.example.com/vision/yolo-train:2026-q4")
@click.argument("reference", metavar="REF")
@click.option(
    "--to",
    metavar="engine|cache|oci:DIR",
    help="The engine, envsnap's own store, or an OCI image layout.  [default: the engine where one answers, else the store]",
)
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Refuse what is not signed with this public key.")
@registry_options
@main.shared_options
def command(console: Console, reference: str, to: str | None, key: Path | None, registries: Registries) -> None:
    """Bring an image of a registry here. What is not what its digest says is refused, and with --key what is not signed with it."""
    from envsnap.report import transfer as report
    from envsnap.workflows import attest, transfer

    kept, directory = _where(to)
    public = attest.public_key(key) if key is not None else None
    with bounded_cache(console), moving.places(registries) as places:
        verify = attest.signed_with(public, places.registry) if public is not None else None
        moved, place = transfer.pull(reference, places, console, to=kept, directory=directory, verify=verify)
    console.answer(report.pulled_screen(moved, place), report.pulled_document(moved, place))


def _where(to: str | None) -> tuple[To | None, Path | None]:
    """Who is to keep it, or the directory of a layout."""
    if to is None:
        return None, None
    if to == "engine":
        return "engine", None
    if to == "cache":
        return "cache", None
    if not to.startswith(_LAYOUT) or to == _LAYOUT:
        raise click.BadParameter(f"{to!r} is neither engine nor cache nor oci:DIR", param_hint="--to")
    return None, Path(to.removeprefix(_LAYOUT))
