"""export: how an image is run, in the ecosystem's own formats."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from envsnap import redaction
from envsnap.compat import needs_of
from envsnap.errors import UsageError
from envsnap.model.gpu_request import GpuRequest, parse_gpus
from envsnap.model.launch import Launch, Passed
from envsnap.progress import Progress
from envsnap.workflows import launch as launches
from envsnap.workflows.launch import Caller, Wishes
from envsnap.workflows.runnable import Runnable

_KEY = "WANDB_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Attributes: place: of the file; None for standard output, which is taken for a file in the caller's directory."""

    image: Runnable
    wishes: Wishes
    caller: Caller
    place: Path | None
    progress: Progress


def launch(asked: Asked, *, project: Literal["relative", "absolute", "none"], counted: bool = False, as_submitter: bool = False) -> Launch:
    """How the image is run on whatever host the file is for; nothing of this one is in it but the caller's number and the paths.

    Args:
        project: whether the format mounts one, and whether relative to the file. counted: it wants a number of GPUs.
        as_submitter: whoever submits it is the user inside, where nobody else is asked for.

    Raises:
        UsageError: what was typed is not understood. TargetError: a directory is not there.
    """
    image, wanted = asked.image, asked.wishes
    if found := redaction.find_secrets(" ".join(wanted.command)):
        raise UsageError(
            f"the command has what looks like a secret ({found[0].kind})",
            why="it would be in what is written, for whoever has that",
            hint="--env NAME passes it by name; sh -c '… \"$NAME\"' has a command take it from there",
        )
    if not image.has_address:
        asked.progress.warning(
            f"{image.reference} is known on this machine alone: envsnap push {image.reference} HOST/REPOSITORY:TAG first"
        )
    gpus = parse_gpus(wanted.gpus) if wanted.gpus is not None else _gpus(image, asked.progress, counted=counted)
    wanted = dataclasses.replace(wanted, with_project=wanted.with_project and project != "none")
    if as_submitter and wanted.user is None:
        wanted = dataclasses.replace(wanted, user="image")
    made = launches.launch(image, wanted, asked.caller, gpus, asked.progress)
    names = {one.name for one in made.env}
    key = () if _KEY in names or "WANDB_MODE" in names else (Passed(name=_KEY),)
    made = replace(made, image=image.pinned, env=(*made.env, *key))
    if project == "relative" and made.project is not None:
        source = os.path.relpath(made.project.source, asked.place.parent if asked.place is not None else asked.caller.directory)
        made = replace(made, project=replace(made.project, source=source if source.startswith(".") else f"./{source}"))
    return made


def _gpus(image: Runnable, progress: Progress, *, counted: bool) -> GpuRequest | None:
    """All, or one where a number is wanted; none of an image that is not for GPUs."""
    config = image.config
    if not needs_of(config.env, config.labels, config.entrypoint).gpu:
        return None
    if counted:
        progress.note("GPUs: one; --gpus N asks for more")
    return GpuRequest(count=1 if counted else -1)
