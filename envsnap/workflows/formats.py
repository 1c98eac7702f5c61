"""What `export` writes: a row for each format. Nothing heavy is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envsnap.workflows.export import Asked


def _compose(asked: Asked) -> str:
    from envsnap.launch import compose
    from envsnap.workflows import export

    return compose.text(export.launch(asked, project="relative"))


def _devcontainer(asked: Asked) -> str:
    from envsnap.launch import devcontainer
    from envsnap.workflows import export

    if asked.wishes.command:
        asked.progress.warning("a development container runs no command but the image's own: the one that was given is left out")
    return devcontainer.text(export.launch(asked, project="absolute"))


def _k8s(asked: Asked) -> str:
    from envsnap.launch import kubernetes
    from envsnap.workflows import export

    return kubernetes.text(export.launch(asked, project="none", counted=True))


def _slurm(asked: Asked) -> str:
    from envsnap.launch import slurm
    from envsnap.workflows import export

    return slurm.text(export.launch(asked, project="absolute", counted=True, as_submitter=True), registry=asked.image.registry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Attributes: what: for a person. text: what is written."""

    what: str
    text: Callable[[Asked], str]


FORMATS: Mapping[str, Format] = {
    "compose": Format(what="Docker Compose", text=_compose),
    "devcontainer": Format(what="a development container", text=_devcontainer),
    "k8s": Format(what="a Kubernetes Job", text=_k8s),
    "slurm": Format(what="a batch script of Slurm, with pyxis", text=_slurm),
}
