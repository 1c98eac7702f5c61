"""`envsnap check`."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import click

from envsnap.cli import main, parameters, planning
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options
from envsnap.errors import UsageError


@click.command(epilog="Example:  envsnap check registry.example.com/vision/yolo-train:2026-q4 --lock lockfiles/yolo-train.yaml")
@click.argument("image")
@click.option("--lock", type=click.Path(path_type=Path), metavar="LOCK", help="Is it this lock's image? No layer is downloaded for it.")
@click.option(
    "--base",
    metavar="REF|ngc|slim",
    help="Which base the lock's image is to have, as for plan.  [default: the last plan's, else the one that the lock names]",
)
@click.option("--fetch", is_flag=True, help="Fetch what the lock's image hangs on, where that was never made here.")
@click.option(
    "--project",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Where the lock's repository lies.  [default: this directory]",
)
@click.option("--driver", metavar="VERSION", help="Judge for another host, with this driver; of this one only its architecture counts.")
@click.option(
    "--gpu",
    "gpus",
    multiple=True,
    metavar="NAME_OR_CC[,…]",
    help="… and with this GPU, by its name or compute capability: A100, 'RTX 3090', 8.6. May be given more than once.",
)
@click.option("--pip-conf", type=parameters.FILE, metavar="F", help="pip configuration (indexes, credentials).")
@planning.apt_options
@registry_options
@main.shared_options
def command(
    console: Console,
    image: str,
    lock: Path | None,
    base: str | None,
    fetch: bool,
    project: Path,
    driver: str | None,
    gpus: tuple[str, ...],
    pip_conf: Path | None,
    apt_mirror: str | None,
    apt_keyring: Path | None,
    registries: Registries,
) -> None:
    """Will an image run on this host, and is it its lock's? Asked of its registry, before anything is pulled; exit code 7 is a no."""
    if image.endswith((".yaml", ".yml")):
        raise UsageError(f"check asks of an image, and {image} is a lock's file", hint=f"envsnap check IMAGE --lock {image}")
    for option, words in (("base", "--base REF"), ("fetch", "--fetch")):
        typed = click.get_current_context().get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE
        if lock is None and typed:
            raise UsageError(f"--{option} is for --lock", hint=f"envsnap check {image} --lock LOCK {words}")
    from envsnap.engines.docker import DockerEngine
    from envsnap.report import check as report
    from envsnap.workflows import check as workflow
    from envsnap.workflows import this_host
    from envsnap.workflows.assembled import Sources

    cache, machine = cache_directory(), platform.machine()
    host: workflow.HostLike
    if driver is not None or gpus:
        host = this_host.described(machine, driver, [name for named in gpus for name in named.split(",") if name.strip()])
    else:
        host = this_host.ThisHost(machine=machine, engine=DockerEngine(os.environ), env=os.environ, cache=cache)
    sources = Sources(
        registry=registries.client(),
        engine=None,
        env=registries.environment(),
        cache=cache,
        packages=planning.packages(
            lock, cache, apt_mirror, apt_keyring, registries.ca_bundle, offline=False, fetch=fetch, refresh=False, progress=console
        ),
        fetch=fetch,
        pip_conf=pip_conf,
        ca_bundle=registries.ca_bundle,
    )
    found = workflow.check(image, lock, host, project, sources, console, base=base)
    console.answer(report.screen(found, console.width), report.document(found))
    if found.verdict != "pass":
        main.answer_no()
