"""`envsnap plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from envsnap.cli import main, planning
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console


@click.command(epilog="Example:  envsnap plan lockfiles/yolo-train.yaml --base slim")
@planning.plan_options
@main.shared_options
def command(console: Console, lock: Path, ca_bundle: Path | None, **options: Any) -> None:
    """What build would do, and why. Changes nothing, pulls nothing, needs no engine."""
    from envsnap.report import plan as report
    from envsnap.workflows import places
    from envsnap.workflows.plan import make_plan

    made = make_plan(
        places.read_lock(lock),
        planning.request(**options),
        engine=planning.engine_if_any(),
        env=planning.network_environment(ca_bundle),
        cache=cache_directory(),
        pull=False,
        progress=console,
    )
    console.answer(report.screen(made), report.document(made))
