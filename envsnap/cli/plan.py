"""`envsnap plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from envsnap.cli import completion, main, planning
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console, error_body
from envsnap.cli.registry_options import Registries
from envsnap.errors import NoBase


@click.command(epilog="Example:  envsnap plan lockfiles/yolo-train.yaml --base slim")
@planning.plan_options
@planning.source_options
@click.option("--fetch", is_flag=True, help="Fetch and pin what the image's digest hangs on, so that it is known before the build.")
@click.option("--fetch-base", is_flag=True, help="The same without wheels: what is in the base, and the system packages.")
@click.option(
    "--installed/--no-installed",
    default=True,
    show_default=True,
    help="Tell the image's digest from the files of the captured environment where nothing cheaper does.",
)
@click.option(
    "--python",
    shell_complete=completion.files,
    type=click.Path(path_type=Path, exists=True),
    metavar="P",
    help="Another environment with the same files: its directory or its interpreter, which is not run.  [default: the lock's, on its host]",
)
@main.shared_options
def command(
    console: Console,
    lock: Path,
    fetch: bool,
    fetch_base: bool,
    installed: bool,
    python: Path | None,
    registries: Registries,
    offline: bool,
    pip_conf: Path | None,
    apt_mirror: str | None,
    apt_keyring: Path | None,
    **options: Any,
) -> None:
    """What build would do, and why. Changes nothing, pulls nothing, needs no engine."""
    from functools import partial

    from envsnap.report import plan as report
    from envsnap.workflows import assembled, candidates, places
    from envsnap.workflows import installed as of_installed
    from envsnap.workflows.plan import make_plan

    locked, cache, engine = places.read_lock(lock), cache_directory(), planning.engine_if_any()
    registry = registries.client()
    request = planning.request(offline=offline, **options)
    refresh = request.refresh_base
    packages = planning.packages(
        lock,
        cache,
        apt_mirror,
        apt_keyring,
        registries.ca_bundle,
        offline=offline,
        fetch=fetch or fetch_base,
        refresh=refresh,
        progress=console,
    )
    table = candidates.Table(
        lock=locked,
        lock_file=lock,
        request=request,
        engine=engine,
        registry=None if offline else registries.hasty_client(),
        packages=packages,
        cache=cache,
    )
    try:
        made = make_plan(
            locked,
            request,
            engine=engine,
            registry=registry,
            packages=packages,
            cache=cache,
            pull=False,
            offline=offline,
            look_inside=fetch or fetch_base,
            hold_driver=True,
            progress=console,
        )
    except NoBase as error:
        ways = table.ways()
        console.answer(report.ways_screen(ways, console.width) + "\n", {**report.ways_document(ways), "error": error_body(error)})
        raise
    made = table.told(made)
    console.show(report.screen(made, console.width))
    sources = assembled.Sources(
        registry=registry,
        engine=engine,
        env=registries.environment(),
        cache=cache,
        fetch=fetch or fetch_base,
        wheels=fetch,
        offline=offline,
        pip_conf=pip_conf,
        ca_bundle=registries.ca_bundle,
        packages=packages,
    )
    prefix = of_installed.prefix_of(python) if python is not None else of_installed.captured_here(locked)
    otherwise = None
    if installed and prefix is not None:
        otherwise = partial(
            of_installed.tell,
            made=made,
            lock=locked,
            lock_file=lock,
            request=request,
            sources=sources,
            progress=console,
            prefix=prefix,
        )
    image = assembled.tell(made, locked, lock, request, sources, console, otherwise=otherwise)
    console.answer(f"{report.image_screen(image)}\n\nnext: {planning.as_build()}", report.document(made, image))
