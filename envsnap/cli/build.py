"""`envsnap build`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from envsnap.cli import keys, main, parameters, planning
from envsnap.cli.cache import bounded_cache
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries


@click.command(epilog="Example:  envsnap build lockfiles/yolo-train.yaml -t registry.example.com/vision/yolo-train:2026-q4 --push")
@planning.plan_options
@planning.source_options
@click.option("-t", "--tag", multiple=True, metavar="REF", help="Name of the image; may be given more than once.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "docker", "oci"]),
    default="auto",
    show_default=True,
    help="oci assembles the image without any engine; docker lets Docker build it; auto assembles, but for steps that need a shell.",
)
@click.option("--push", is_flag=True, help="Send the tags to their registries afterwards.")
@click.option("--load", is_flag=True, help="Have it in the local engine: also when it is pushed; an error where none answers.")
@click.option("--vendor", is_flag=True, help="Keep the distribution's packages that it is made of beside the lock: mirrors drop old ones.")
@click.option("--sbom", is_flag=True, help="Attach a bill of materials (CycloneDX) to what is pushed.")
@click.option("--sign", type=parameters.FILE, metavar="KEY", help="Sign what is pushed, and what is attached to it, as cosign does.")
@main.shared_options
def command(
    console: Console,
    lock: Path,
    tag: tuple[str, ...],
    registries: Registries,
    engine: Any,
    push: bool,
    load: bool,
    offline: bool,
    pip_conf: Path | None,
    apt_mirror: str | None,
    apt_keyring: Path | None,
    vendor: bool,
    sbom: bool,
    sign: Path | None,
    **options: Any,
) -> None:
    """Build the lock's image, check it, tag it and record it. What was built before is not built again."""
    from envsnap.engines.docker import DockerEngine
    from envsnap.report import plan as report
    from envsnap.workflows import attest
    from envsnap.workflows import build as workflow
    from envsnap.workflows.records import BuildRequest

    request = BuildRequest(
        plan=planning.request(offline=offline, **options),
        engine=engine,
        tags=tag,
        push=push,
        load=load,
        offline=offline,
        ca_bundle=registries.ca_bundle,
        pip_conf=pip_conf,
        vendor=vendor,
        sbom=sbom,
        sign=attest.private_key(sign, keys.password) if sign is not None else None,
    )
    with bounded_cache(console) as cache:
        built = workflow.build(
            lock,
            request,
            DockerEngine(os.environ),
            registries.client(),
            packages=planning.packages(
                lock,
                cache,
                apt_mirror,
                apt_keyring,
                registries.ca_bundle,
                offline=offline,
                fetch=True,
                refresh=request.plan.refresh_base,
                progress=console,
            ),
            env=registries.environment(),
            cache=cache,
            progress=console,
        )
    record = str(built.directory / "image.yaml")
    console.answer(
        report.built_screen(
            built.record, cached=built.cached, where=built.place, place=record, uploaded_bytes=built.uploaded_bytes if push else None
        ),
        report.built_document(built.record, cached=built.cached, uploaded_bytes=built.uploaded_bytes),
    )
