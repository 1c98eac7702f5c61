"""`envsnap verify`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from envsnap.cli import completion, keys, main, moving, parameters
from envsnap.cli.cache import bounded_cache
from envsnap.cli.console import Console, error_body
from envsnap.cli.registry_options import Registries, registry_options
from envsnap.errors import EnvsnapError
from envsnap.model.gpu_request import parse_gpus

LAYERS = ("L0", "L1", "L2", "L3", "L4", "L5")


@click.command(epilog="Example:  envsnap verify yolo-train:2026-q4 --gpus all")
@click.argument("image_or_lock", metavar="IMAGE|LOCK", shell_complete=completion.files)
@click.option("--gpus", metavar="all|none|N|device=0,2", help="As docker's.  [default: all that the reference used]")
@click.option(
    "--require",
    metavar="L0,…",
    help="Layers that suffice for a pass, of L0, L2 and L3: any other is not judged yet, and leaves the verdict incomplete. "
    "Without a smoke-train in the lock L0 alone can pass.  [default: L0,L2,L3]",
)
@click.option("--against", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The lock.  [default: the image's own]")
@click.option(
    "--python",
    metavar="P",
    shell_complete=completion.files,
    help="Judge this interpreter of the host against LOCK instead of an image; needs no engine.",
)
@click.option("--user", metavar="UID[:GID]", help="Run in the image as this user, as docker's --user.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html", help="Write the verdict as a page.")
@click.option(
    "--negative-control",
    type=click.Choice(["tf32", "labels", "wandb"]),
    help="Spoil the run on purpose: verify must then fail, for tf32 at L2, else at L3.",
)
@click.option("--attach", is_flag=True, help="Attach the verdict to the image in its registry.")
@click.option("--sign", type=parameters.FILE, metavar="KEY", help="Sign the verdict that is attached, as cosign does.")
@registry_options
@main.shared_options
def command(
    console: Console, image_or_lock: str, python: str | None, attach: bool, sign: Path | None, registries: Registries, **options: Any
) -> None:
    """Does the image compute what the environment computed? Exit code 7 unless the verdict is a pass.

    Where the page cannot be written, or the verdict not be attached, it is told all the same, and the other is done; after a pass the exit
    code is that of the first error.
    """
    from envsnap.report import verify as report
    from envsnap.storage import write_file
    from envsnap.workflows import attest
    from envsnap.workflows import verify as workflow

    require = _layers(options["require"])
    if options["gpus"] is not None:
        parse_gpus(options["gpus"])  # what is no request is told before who could give it is looked for
    if python is not None and (options["against"] or options["user"] or attach):
        raise click.UsageError("--python judges an interpreter of this host: --against, --user and --attach are of images")
    if sign is not None and not attach:
        raise click.UsageError("what is signed lies beside an image in a registry: --sign needs --attach")
    if attach and options["negative_control"]:
        raise click.UsageError("a run that was spoilt on purpose says nothing of the image: --attach goes without --negative-control")
    key = attest.private_key(sign, keys.password) if sign is not None else None
    with ExitStack() as stack:
        cache, there = stack.enter_context(bounded_cache(console)), None
        if python is not None:
            subject = workflow.of_python(python, Path(image_or_lock), gpus=options["gpus"], env=os.environ)
        else:
            places = stack.enter_context(moving.places(registries))
            subject = workflow.of_image(
                places,
                image_or_lock,
                against=options["against"],
                gpus=options["gpus"],
                user=options["user"],
                env=os.environ,
                progress=console,
            )
            if attach:  # asked before the work, which may take minutes
                there = workflow.in_registry(image_or_lock, subject, places)
        verdict, device = workflow.verify(
            subject,
            require=require,
            negative_control=options["negative_control"] or "",
            cache=cache,
            progress=console,
        )
        place: Path | None = options["report"]
        shown = attached = None
        failed: list[EnvsnapError] = []
        with _kept(failed):
            if place is not None:
                write_file(place, workflow.page(verdict, subject).encode())
                shown = str(place)
        with _kept(failed):
            if there is not None:
                done = attest.publish_verdict(
                    there.reference,
                    there.manifest,
                    verdict,
                    subject.against,
                    there.registry,
                    device=device,
                    require=require,
                    key=key,
                )
                attached = {
                    "reference": there.reference,
                    "image_digest": there.manifest.digest,
                    "digest": done.attached[0],
                    "signed": done.signing is not None,
                }
                console.note(f"attached the verdict{', signed,' if key is not None else ''} to {there.reference}")
    console.answer(
        report.screen(verdict, "the image" if subject.image_digest else "this interpreter", shown, console.width),
        report.document(verdict, image_digest=subject.image_digest, lock_digest=subject.against.digest, device=device, report=shown)
        | {"attached": attached}
        | ({"error": error_body(failed[0])} if failed else {}),
    )
    passed = verdict.verdict == "pass"
    for error in failed[1:] if passed else failed:
        console.error(error)
    if not passed:  # what was asked was answered, whatever failed after it
        main.answer_no()
    if failed:
        raise failed[0]


@contextmanager
def _kept(failed: list[EnvsnapError]) -> Iterator[None]:
    """What fails after a verdict waits: that took minutes and is told first, and nothing else is left out for it."""
    try:
        yield
    except EnvsnapError as error:
        failed.append(error)


def _layers(text: str | None) -> frozenset[Any] | None:
    if text is None:
        return None
    layers = [word.strip().upper() for word in text.split(",")]
    unknown = [layer for layer in layers if layer not in LAYERS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(LAYERS)}", param_hint="--require")
    return frozenset(layers)
