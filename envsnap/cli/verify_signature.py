"""`envsnap verify-signature`."""

from __future__ import annotations

from pathlib import Path

import click

from envsnap.cli import main
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options


@click.command(epilog="Example:  envsnap verify-signature registry.example.com/yolo-train:2026-q4 --key cosign.pub")
@click.argument("reference", metavar="REF")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", required=True, help="Public key in PEM.")
@click.option(
    "--attestation",
    "attestations",
    metavar="TYPE",
    multiple=True,
    help="A signed statement of this type must be there, too: slsaprovenance1, cyclonedx, test-result, or a URI.",
)
@registry_options
@main.shared_options
def command(console: Console, reference: str, key: Path, attestations: tuple[str, ...], registries: Registries) -> None:
    """Whether the owner of a key signed exactly the image that a reference leads to. Exit code 7 where not."""
    from envsnap.report import signature as report
    from envsnap.workflows import attest

    verdict = attest.verify_signature(reference, attest.public_key(key), registries.client(), required=attestations)
    console.answer(report.screen(verdict), report.document(verdict))
    if verdict.verdict != "pass":
        main.answer_no()
