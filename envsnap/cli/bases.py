"""`envsnap bases`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from envsnap.cli import completion, main, moving
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options

if TYPE_CHECKING:
    from envsnap.model.base import Family

_HELP = """What is known of base images.

\b
list               the catalogue, and the images whose contents are known here
show REF|RELEASE   a row of the catalogue: each value, and how it is known
inspect REF        what an image is, what it says against its row, and what is in it
refresh [REF]…     ask the registries, and propose a change of the catalogue as a diff
export REF FILE    what is in it, as one file; it is read first where it is not known
import FILE…       take over what others exported
"""
_WORDS: dict[str, tuple[int, int | None]] = {  # how many each takes, from and to
    "list": (0, 0),
    "show": (1, 1),
    "inspect": (1, 1),
    "refresh": (0, None),
    "export": (2, 2),
    "import": (1, None),
}
_USAGE = {"list": "", "show": " REF|RELEASE", "inspect": " REF", "refresh": " [REF]…", "export": " REF FILE", "import": " FILE…"}
_FAMILIES = ("pytorch", "tensorflow", "paddlepaddle")  # `Family`, whose module every command would import for it
_OPTIONS = {"deep": ("inspect",), "family": ("list", "show", "refresh"), "output": ("refresh",)}  # what each is for


@click.command(help=_HELP, epilog="Example:  envsnap bases inspect python:3.11-slim-bookworm --deep")
@click.argument("action", type=click.Choice(list(_WORDS)), default="list")
@click.argument("words", metavar="[REF] [FILE]…", nargs=-1, shell_complete=completion.files)
@click.option("--deep", is_flag=True, help="inspect: read all that is in the image, once, unless that was done before.")
@click.option("--family", type=click.Choice(_FAMILIES), help="list, show, refresh: of one framework alone.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="refresh: write the diff to a file.")
@registry_options
@main.shared_options
def command(
    console: Console,
    action: str,
    words: tuple[str, ...],
    deep: bool,
    family: Family | None,
    output: Path | None,
    registries: Registries,
) -> None:
    """See `_HELP`."""
    _require(action, words)
    from envsnap.report import bases as report
    from envsnap.workflows import inspect as workflow

    if action == "list":
        found = workflow.listed(cache_directory(), family)
        parts = (found.releases, found.torch_wheels, found.inventories)
        console.answer(report.list_screen(*parts, found.floors), report.list_document(*parts))
        return
    if action == "show":
        rows = workflow.rows(words[0], family)
        console.answer(report.show_screen(rows, console.width), report.show_document(rows))
        return
    if action == "import":
        taken = [workflow.load(Path(word), cache_directory()) for word in words]
        console.answer(report.imported_screen(taken), report.imported_document(taken))
        return
    if action == "refresh":
        _refresh(console, words, family, output, registries)
        return
    with moving.places(registries) as places:
        if action == "inspect":
            seen = workflow.inspect(words[0], places, console, deep=deep)
            console.answer(report.screen(seen), report.document(seen))
            return
        file = Path(words[1])
        given = workflow.export(words[0], file, places, console)
    console.answer(report.exported_screen(given, words[1], file.stat().st_size), report.exported_document(given, words[1]))


def _refresh(console: Console, words: tuple[str, ...], family: Family | None, output: Path | None, registries: Registries) -> None:
    """The diff alone goes to stdout, so that it can be piped, or into a file; what was found is talk."""
    from envsnap.report import bases as report
    from envsnap.storage import write_file
    from envsnap.workflows.refresh import refresh

    registry = registries.client()
    try:
        found = refresh(words, family, registry, console, day=str(dt.datetime.now(dt.timezone.utc).date()))
    finally:
        registry.close()
    for line in report.refreshed_summary(found):
        console.note(line)
    file = str(output) if output is not None else None
    if output is not None:
        write_file(output, found.diff.encode())
    if file is not None:
        console.answer(report.refreshed_screen(found, file), report.refreshed_document(found, file))
    elif found.diff or console.json:
        console.hand_over(f"{report.refreshed_screen(found, file)}\n", report.refreshed_document(found, file))


def _require(action: str, words: tuple[str, ...]) -> None:
    least, most = _WORDS[action]
    if len(words) < least or (most is not None and len(words) > most):
        raise click.UsageError(f"it is: envsnap bases {action}{_USAGE[action]}")
    context = click.get_current_context()
    for name, actions in _OPTIONS.items():
        if action not in actions and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} is for: {', '.join(f'envsnap bases {one}' for one in actions)}")
