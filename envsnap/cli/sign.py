"""`envsnap sign`."""

from __future__ import annotations

from pathlib import Path

import click

from envsnap.cli import keys, main, planning
from envsnap.cli.console import Console


@click.command(epilog="Example:  envsnap sign registry.example.com/yolo-train:2026-q4 --key cosign.key")
@click.argument("reference", metavar="REF")
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE", required=True, help="Private key: of cosign, or PEM (ECDSA on P-256)."
)
@click.option("--ca-bundle", type=planning.FILE, metavar="F", help="CA certificates for the registry.")
@main.shared_options
def command(console: Console, reference: str, key: Path, ca_bundle: Path | None) -> None:
    """Sign an image of a registry, so that cosign and verify-signature can tell that it is yours. Signing again adds nothing."""
    from envsnap.registry.client import Registry
    from envsnap.workflows import attest

    done = attest.sign(
        reference, None, attest.private_key(key, keys.password), Registry(planning.network_environment(ca_bundle)), progress=console
    )
    said = "signed" if done.added else "was signed already:"
    console.answer(
        f"{said} {done.repository}@{done.digest}\nnext: envsnap verify-signature {reference} --key PUBLIC_KEY",
        {"reference": reference, "image_digest": done.digest, "key": done.key, "added": done.added},
    )
