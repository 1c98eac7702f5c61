"""What `export` writes: a row for each format. Nothing heavy is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envsnap.workflows import exchange
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


def _pylock(asked: exchange.Asked) -> exchange.Written:
    from envsnap.workflows import exchange

    return exchange.pylock(asked)


def _requirements(asked: exchange.Asked) -> exchange.Written:
    from envsnap.workflows import exchange

    return exchange.requirements(asked)


def _conda(asked: exchange.Asked) -> exchange.Written:
    from envsnap.workflows import exchange

    return exchange.conda(asked)


def _cyclonedx(asked: exchange.Asked) -> exchange.Written:
    from envsnap.workflows import exchange

    return exchange.cyclonedx(asked)


_LAUNCH = frozenset({"command", "data", "project", "no_project", "env", "publish", "user", "shm_size", "gpus"})
_REGISTRIES = frozenset({"ca_bundle", "registry_mirror", "plain_http"})
_INDEXES = frozenset({"ca_bundle", "pip_conf", "offline"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFormat:
    """How an image is run. Attributes: what: for a person. text: what is written. takes: parameters of the command that mean something."""

    what: str
    text: Callable[[Asked], str]
    takes: frozenset[str] = _LAUNCH | _REGISTRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFormat:
    """What a lock's packages are; no image is asked for. Attributes: as of `ImageFormat`."""

    what: str
    text: Callable[[exchange.Asked], exchange.Written]
    takes: frozenset[str] = frozenset({"offline"})


FORMATS: Mapping[str, ImageFormat | LockFormat] = {
    "compose": ImageFormat(what="Docker Compose", text=_compose),
    "devcontainer": ImageFormat(what="a development container", text=_devcontainer),
    "k8s": ImageFormat(what="a Kubernetes Job", text=_k8s),
    "slurm": ImageFormat(what="a batch script of Slurm, with pyxis", text=_slurm),
    "pylock": LockFormat(what="pylock.toml", text=_pylock, takes=_INDEXES),
    "requirements": LockFormat(what="pip's requirements with hashes", text=_requirements),
    "conda": LockFormat(what="conda's environment.yml", text=_conda),
    "cyclonedx": LockFormat(what="a bill of materials", text=_cyclonedx),
}
