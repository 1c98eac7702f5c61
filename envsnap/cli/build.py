"""`envsnap build`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from envsnap.cli import main, planning
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console


@click.command(epilog="Example:  envsnap build lockfiles/yolo-train.yaml -t registry.example.com/vision/yolo-train:2026-q4 --push")
@planning.plan_options
@click.option("-t", "--tag", multiple=True, metavar="REF", help="Name of the image; may be given more than once.")
@click.option("--engine", type=click.Choice(["auto", "docker"]), default="auto", show_default=True, help="What builds.")
@click.option("--push", is_flag=True, help="Send the tags to their registries afterwards.")
@click.option(
    "--pip-conf", type=planning.FILE, metavar="F", help="pip configuration for the build (indexes, credentials); never in a layer."
)
@main.shared_options
def command(
    console: Console,
    lock: Path,
    tag: tuple[str, ...],
    engine: str,
    push: bool,
    pip_conf: Path | None,
    ca_bundle: Path | None,
    **options: Any,
) -> None:
    """Build the lock's image, check it inside, tag it and record it. What was built before is not built again."""
    from envsnap.engines.docker import DockerEngine
    from envsnap.report import plan as report
    from envsnap.workflows import build as workflow
    from envsnap.workflows import places

    del engine  # one engine so far; the option is the contract's
    request = workflow.BuildRequest(plan=planning.request(**options), tags=tag, push=push, ca_bundle=ca_bundle, pip_conf=pip_conf)
    built = workflow.build(
        lock,
        request,
        DockerEngine(os.environ),
        env=planning.network_environment(ca_bundle),
        cache=cache_directory(),
        progress=console,
    )
    name = places.read_lock(lock).name
    console.answer(
        report.built_screen(built.record, cached=built.cached, place=str(places.image_directory(name) / "image.yaml")),
        report.built_document(built.record, cached=built.cached, uploaded_bytes=built.uploaded_bytes),
    )
