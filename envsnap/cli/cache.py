"""`envsnap cache`, and where envsnap keeps what it can make again."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from envsnap.cli import main
from envsnap.cli.console import Console
from envsnap.errors import UsageError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_DAY_S = 24 * 3600
_AUTO, _NONE = "auto", "none"
_VARIABLE = "ENVSNAP_CACHE_MAX_SIZE"


def cache_directory() -> Path:
    """ENVSNAP_CACHE, else `envsnap` below XDG_CACHE_HOME or ~/.cache."""
    if os.environ.get("ENVSNAP_CACHE"):
        return Path(os.environ["ENVSNAP_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "envsnap"


@contextmanager
def bounded_cache(console: Console) -> Iterator[Path]:
    """The cache, for work that may let it grow: when that is done, it is held to the setting `cache.max-size`.

    Raises:
        click.BadParameter: the setting is no size; said before the work.
    """
    from envsnap.report.text import size
    from envsnap.workflows import cache as workflow

    limit = _setting()
    yield (place := cache_directory())
    freed = workflow.hold_to(place, limit, console, now=time.time()) if limit is not None else 0
    if freed:
        console.note(f"freed {size(freed)} of the cache, what was not used for longest: it is held to {size(limit)} (cache.max-size)")


def _setting() -> int | None:
    """The setting `cache.max-size`, in bytes; None for no bound."""
    file = (click.get_current_context().find_root().default_map or {}).get("cache", {})
    return _bytes(os.environ.get(_VARIABLE) or str(file.get("max_size", _AUTO)), hint="cache.max-size")


def _given(name: str) -> bool:
    """Whether an option stood on this command line; what a settings file says of `prune` is no word about `show`."""
    return click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _size(context: click.Context, _: click.Parameter, value: str) -> int | None:
    """Of `prune`, which frees by size only where that was typed: the setting is what builds hold the cache to."""
    limit = _bytes(value, hint="--max-size")
    if context.get_parameter_source("max_size") is not click.core.ParameterSource.COMMANDLINE:
        return None
    if limit is None:
        raise click.BadParameter("none is for builds, as a setting: how much is prune to leave?", param_hint="--max-size")
    return limit


def _bytes(text: str, *, hint: str) -> int | None:
    """A size as a person writes it: "20GB", "500 MB", "auto"; None for "none"."""
    from envsnap.workflows import cache as workflow

    word = text.strip().lower()
    if word in (_AUTO, _NONE):
        return workflow.usual_limit(cache_directory()) if word == _AUTO else None
    match = _SIZE.fullmatch(word)
    if match is None:
        raise click.BadParameter(f"{text!r} is no size: 20GB, 500MB, auto or none", param_hint=hint)
    return int(float(match[1]) * _UNITS[match[2].upper()])


@click.command(epilog="Example:  envsnap cache prune --max-size 20GB")
@click.argument("action", type=click.Choice(["show", "prune"]), default="show")
@click.option("--layers", is_flag=True, help="prune: layers, and what is remembered of them.")
@click.option("--wheels", is_flag=True, help="prune: wheels.")
@click.option("--older", type=click.IntRange(min=0), metavar="DAYS", help="prune: only what was not used for so many days.")
@click.option(
    "--max-size",
    callback=_size,
    default=_AUTO,
    metavar="N",
    help="prune: only until so much is left (20GB), longest unused first. As a setting, what builds hold the cache to by themselves:"
    " none, or auto, which is 100 GB, or half of the disk where that is less.  [default: auto]",
)
@main.shared_options
def command(console: Console, action: str, layers: bool, wheels: bool, older: int | None, max_size: int | None) -> None:
    """Show what is kept for later builds, or free it.

    `prune` alone frees what was not used for 30 days, images that are nowhere else, too.
    """
    from envsnap.report import cache as report
    from envsnap.workflows import cache as workflow

    place = cache_directory()
    if action == "show":
        if any(_given(name) for name in ("layers", "wheels", "older", "max_size")):
            raise UsageError("envsnap cache show frees nothing", hint="envsnap cache prune")
        state, limit = workflow.show(place), _setting()
        console.answer(report.screen(state, limit), report.document(state) | {"max_bytes": limit})
        return
    kinds = [kind for kind, asked in ((workflow.LAYERS, layers), (workflow.WHEELS, wheels)) if asked]
    if older is None and max_size is None and not kinds:
        older = workflow.UNUSED_DAYS
    unused_s = older * _DAY_S if older is not None else None
    pruned = workflow.prune(place, console, now=time.time(), kinds=kinds, unused_s=unused_s, max_bytes=max_size)
    console.answer(report.pruned_screen(pruned.freed, pruned.left), report.pruned_document(pruned.freed, pruned.left))
