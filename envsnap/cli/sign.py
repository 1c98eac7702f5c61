"""`envsnap sign`."""

from __future__ import annotations

from pathlib import Path

import click

from envsnap.cli import keys, main
from envsnap.cli.console import Console
from envsnap.cli.registry_options import Registries, registry_options


@click.command(epilog="Example:  envsnap sign registry.example.com/yolo-train:2026-q4 --key cosign.key")
@click.argument("reference", metavar="REF")
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE", required=True, help="Private key: of cosign, or PEM (ECDSA on P-256)."
)
@registry_options
@main.shared_options
def command(console: Console, reference: str, key: Path, registries: Registries) -> None:
    """Sign an image of a registry, so that cosign and verify-signature can tell that it is yours. Signing again adds nothing."""
    from envsnap.workflows import attest

    done = attest.sign(reference, None, attest.private_key(key, keys.password), registries.client(), progress=console)
    said = "signed" if done.added else "was signed already:"
    console.answer(
        f"{said} {done.repository}@{done.digest}\nnext: envsnap verify-signature {reference} --key PUBLIC_KEY",
        {"reference": reference, "image_digest": done.digest, "key": done.key, "added": done.added},
    )
