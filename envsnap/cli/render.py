"""`envsnap render`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from envsnap.cli import main, planning
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console


@click.command(epilog="Example:  envsnap render lockfiles/yolo-train.yaml && docker build images/yolo-train")
@planning.plan_options
@main.shared_options
def command(console: Console, lock: Path, ca_bundle: Path | None, **options: Any) -> None:
    """Write the build context to images/NAME/: the same lock and base digest give the same bytes."""
    from envsnap.report import plan as report
    from envsnap.workflows import places
    from envsnap.workflows.plan import make_plan, write_context

    locked, request, cache = places.read_lock(lock), planning.request(**options), cache_directory()
    made = make_plan(
        locked,
        request,
        engine=planning.engine_if_any(),
        env=planning.network_environment(ca_bundle),
        cache=cache,
        pull=False,
        progress=console,
    )
    context = write_context(locked, lock, made, request, cache=cache, progress=console)
    place = str(context.directory)
    console.answer(
        report.rendered_screen(made, place, context.digest), {"context": place, "digest": context.digest, **report.document(made)}
    )
