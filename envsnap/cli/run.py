"""`envsnap run`."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import closing
from typing import Any

import click

from envsnap.cli import completion, launching, main, moving
from envsnap.cli.cache import cache_directory
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options
from envsnap.errors import UsageError


@click.command(
    cls=launching.WithCommand, epilog="Example:  envsnap run yolo-train:2026-q4 --data /mnt/coco -- python train.py --epochs 100"
)
@click.argument("image", metavar="IMAGE|LOCK", shell_complete=completion.files)
@launching.launch_options
@click.option("--gpus", metavar="all|none|N|device=0,2", help="As docker's.  [default: all that this host has]")
@click.option("--print", "printed", is_flag=True, help="Show the docker command instead, for a shell.")
@registry_options
@main.shared_options
def command(console: Console, image: str, printed: bool, registries: Registries, **options: Any) -> None:
    """Run an image with all that training needs: GPUs, shared memory, limits, your project and data, your user, W&B's variables.

    It is `docker run`, whose exit code is the command's. A host that cannot run the image is told before, with exit code 7.
    """
    from envsnap.engines.docker import DockerEngine
    from envsnap.report import launch as report
    from envsnap.workflows import run, runnable
    from envsnap.workflows.this_host import ThisHost

    if console.json and not printed:
        raise UsageError("what the container prints is no document", hint="--print --json tells the command as one")
    wishes, caller = launching.wishes(**options), launching.caller()
    with moving.places(registries) as places, closing(DockerEngine(os.environ)) as engine:
        found = runnable.find(image, places)
        host = ThisHost(machine=platform.machine(), engine=engine, env=os.environ, cache=cache_directory())
        launch = run.prepare(found, wishes, caller, host, console, printed=printed)
    tty = sys.stdin.isatty() and (printed or sys.stdout.isatty())
    if not printed:
        run.start(launch, caller, tty=tty)
    console.hand_over(run.shown(launch, tty=tty) + "\n", report.document(launch, run.argv(launch, tty=tty)))
