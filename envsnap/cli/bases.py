"""`envsnap bases`."""

from __future__ import annotations

from pathlib import Path

import click

from envsnap.cli import main, moving
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options

_HELP = """What is known of base images.

\b
list               the catalogue, and the images whose contents are known here
inspect REF        what an image is, and what is in it
export REF FILE    what is in it, as one file; it is read first where it is not known
import FILE…       take over what others exported
"""
_WORDS = {"list": 0, "inspect": 1, "export": 2, "import": None}  # how many each takes; None: one or more


@click.command(help=_HELP, epilog="Example:  envsnap bases inspect python:3.11-slim-bookworm --deep")
@click.argument("action", type=click.Choice(list(_WORDS)), default="list")
@click.argument("words", metavar="[REF] [FILE]…", nargs=-1)
@click.option("--deep", is_flag=True, help="inspect: read all that is in the image, once, unless that was done before.")
@registry_options
@main.shared_options
def command(console: Console, action: str, words: tuple[str, ...], deep: bool, registries: Registries) -> None:
    """See `_HELP`."""
    _require(action, words)
    from envsnap.report import bases as report
    from envsnap.workflows import inspect as workflow

    if action == "list":
        found = workflow.listed(cache_directory())
        console.answer(report.list_screen(found.releases, found.inventories), report.list_document(found.releases, found.inventories))
        return
    if action == "import":
        taken = [workflow.load(Path(word), cache_directory()) for word in words]
        console.answer(report.imported_screen(taken), report.imported_document(taken))
        return
    with moving.places(registries) as places:
        if action == "inspect":
            seen = workflow.inspect(words[0], places, console, deep=deep)
            console.answer(report.screen(seen), report.document(seen))
            return
        file = Path(words[1])
        given = workflow.export(words[0], file, places, console)
    console.answer(report.exported_screen(given, words[1], file.stat().st_size), report.exported_document(given, words[1]))


def _require(action: str, words: tuple[str, ...]) -> None:
    wanted = _WORDS[action]
    usage = {"list": "", "inspect": " REF", "export": " REF FILE", "import": " FILE…"}[action]
    if (wanted is None and not words) or (wanted is not None and len(words) != wanted):
        raise click.UsageError(f"it is: envsnap bases {action}{usage}")
