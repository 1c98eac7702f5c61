"""`envsnap doctor`."""

from __future__ import annotations

import os

import click

from envsnap.cli import main
from envsnap.cli.console import Console


@click.command(epilog="Example:  envsnap doctor")
@main.shared_options
def command(console: Console) -> None:
    """What this host can do, and how to mend what it cannot."""
    from envsnap.report import doctor as report
    from envsnap.workflows import doctor as workflow

    abilities = workflow.abilities(os.environ)
    console.answer(report.screen(abilities), report.document(abilities))
