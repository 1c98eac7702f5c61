"""`envsnap export`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from envsnap.cli import completion, launching, main, moving, parameters
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options
from envsnap.errors import UsageError
from envsnap.workflows.formats import FORMATS, ImageFormat, LockFormat

_COMMON = frozenset({"image", "form", "output", "json", "quiet", "verbose"})


def _named(kind: type[ImageFormat | LockFormat]) -> str:
    return ", ".join(f"{row.what} ({name})" for name, row in FORMATS.items() if isinstance(row, kind))


_HELP = f"""Write a lock in a format of others: how its image is run, in {_named(ImageFormat)}; its packages, for which no image is
needed, in {_named(LockFormat)}.

No secret is in what is written: its place is named there."""


@click.command(
    cls=launching.WithCommand,
    help=_HELP,
    epilog="Example:  envsnap export lockfiles/yolo-train.yaml --format k8s --gpus 8 -o job.yaml -- python train.py",
)
@click.argument("image", metavar="LOCK|IMAGE", shell_complete=completion.files)
@click.option("--format", "form", type=click.Choice(list(FORMATS)), required=True)
@launching.launch_options
@click.option("--gpus", metavar="all|none|N|device=0,2", help="As docker's.  [default: all, or one where a number is wanted]")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="[default: standard output]")
@click.option("--offline", is_flag=True, help="pylock: ask no index for addresses; what it answered earlier must suffice.")
@click.option("--pip-conf", type=parameters.FILE, metavar="F", help="pylock: pip configuration; no secret of it is written.")
@registry_options
@main.shared_options
def command(
    console: Console,
    image: str,
    form: str,
    output: Path | None,
    offline: bool,
    pip_conf: Path | None,
    registries: Registries,
    **options: Any,
) -> None:
    """See `_HELP`."""
    from envsnap.report import launch as report
    from envsnap.workflows import export, runnable

    row = FORMATS[form]
    _require_meaning(click.get_current_context(), form, row.takes)
    if isinstance(row, LockFormat):
        _of_lock(console, image, form, row, output, offline=offline, pip_conf=pip_conf, registries=registries)
        return
    wishes, caller = launching.wishes(**options), launching.caller()
    with moving.places(registries) as places:
        found = runnable.find(image, places)
    asked = export.Asked(image=found, wishes=wishes, caller=caller, place=output, progress=console)
    text = row.text(asked)
    _hand_over(console, output, text, report.exported(form, found.pinned, output, text, console.warnings))


def _of_lock(
    console: Console,
    name: str,
    form: str,
    row: LockFormat,
    output: Path | None,
    *,
    offline: bool,
    pip_conf: Path | None,
    registries: Registries,
) -> None:
    """Raises UsageError: it is no lock's file."""
    from envsnap.model.plan import LOCK_IN_IMAGE
    from envsnap.report import launch as report
    from envsnap.workflows import exchange, places

    if not name.endswith((".yaml", ".yml")):
        raise UsageError(
            f"--format {form} is made of a lock, and {name} is none",
            hint=f"envsnap export lockfiles/NAME.yaml --format {form}; an image's own lock is its file {LOCK_IN_IMAGE}",
        )
    lock = places.read_lock(Path(name))
    asked = exchange.Asked(
        lock=lock,
        file=Path(name),
        place=output,
        cache=cache_directory(),
        env=registries.environment(),
        progress=console,
        pip_conf=pip_conf,
        ca_bundle=registries.ca_bundle,
        offline=offline,
    )
    written = row.text(asked)
    wheels = exchange.put_wheels(asked, written)
    document = report.exported_lock(form, name, lock.digest, output, written.text, wheels, console.warnings)
    _hand_over(console, output, written.text, document)


def _hand_over(console: Console, output: Path | None, text: str, document: Mapping[str, Any]) -> None:
    from envsnap.report import launch as report

    if output is None:
        console.hand_over(text, document)
    else:
        _put(output, text.encode(), console)
        console.answer(report.written(output, len(document.get("wheels", ()))), document)


def _require_meaning(context: click.Context, form: str, takes: frozenset[str]) -> None:
    """Raises UsageError: something was typed that means nothing in that format. What a settings file says of all exports is passed over."""
    typed = click.core.ParameterSource.COMMANDLINE
    idle = [
        parameter
        for parameter in context.command.params
        if parameter.name not in takes | _COMMON
        and context.get_parameter_source(parameter.name) is typed
        and (not isinstance(parameter, click.Argument) or context.params[parameter.name])
    ]
    if idle:
        names = [max(one.opts, key=len) if isinstance(one, click.Option) else "a command to run" for one in idle]
        others = [name for name, row in FORMATS.items() if all(one.name in row.takes for one in idle)]
        ways = ["leave it out", *([f"--format {'|'.join(others)}"] if others else [])]
        raise UsageError(f"{', '.join(names)}: nothing that --format {form} could say", hint=", or ".join(ways))


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
