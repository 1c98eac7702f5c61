"""`envsnap render`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from envsnap.cli import main, planning
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries
from envsnap.model.image import Foretold

NOT_ASKED = Foretold(unknown_because="render writes files; envsnap plan tells the image")


@click.command(epilog="Example:  envsnap render lockfiles/yolo-train.yaml && docker build images/yolo-train")
@planning.plan_options
@main.shared_options
def command(
    console: Console,
    lock: Path,
    registries: Registries,
    offline: bool,
    apt_mirror: str | None,
    apt_keyring: Path | None,
    **options: Any,
) -> None:
    """Write the build context to images/NAME/: the same lock and base digest give the same bytes."""
    from envsnap.report import plan as report
    from envsnap.workflows import places
    from envsnap.workflows.plan import make_plan, write_context

    locked, request, cache = places.read_lock(lock), planning.request(offline=offline, **options), cache_directory()
    made = make_plan(
        locked,
        request,
        engine=planning.engine_if_any(),
        registry=registries.client(),
        packages=planning.packages(
            lock,
            cache,
            apt_mirror,
            apt_keyring,
            registries.ca_bundle,
            offline=offline,
            fetch=True,
            refresh=request.refresh_base,
            progress=console,
        ),
        cache=cache,
        pull=False,
        offline=offline,
        progress=console,
    )
    context = write_context(locked, lock, made, request, cache=cache, progress=console)
    place = str(context.directory)
    document = {"context": place, "digest": context.digest, **report.document(made, NOT_ASKED)}
    console.answer(report.rendered_screen(made, place, context.digest, planning.as_build()), document)
