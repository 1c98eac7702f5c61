"""Where the environment is that is captured: on this host, in an image or a running container, on another host."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import EngineImage
from envsnap.errors import UsageError
from envsnap.oci.reference import is_id, parse_reference
from envsnap.probes import interpreter
from envsnap.probes.local import LocalPython
from envsnap.probes.ssh import SshPython
from envsnap.target import Target
from envsnap.workflows import places


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Attributes:
    python: interpreter, on this host also the directory of a venv or conda environment; None for the active one, or the one on the PATH
        of the image, container or host.
    wandb: folder of a run of W&B.
    image: image of the local engine. container: running container of it. host: as `ssh` takes it. At most one of them.
    """

    python: str | None = None
    image: str | None = None
    container: str | None = None
    host: str | None = None
    wandb: Path | None = None


HERE = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is captured.

    Attributes:
        python: the interpreter, where its files are this host's; else None.
        has_gpus: those that it sees are those of its environment; an image has none of its own.
        project: directory of this host whose source belongs to it; None for none.
        host: name of the machine.
        engine: that has it; image: what it is in, or was made of.
    """

    target: Target
    python: Path | None
    project: Path | None
    default_name: str
    host: str
    has_gpus: bool = True
    engine: DockerEngine | None = None
    image: EngineImage | None = None

    @property
    def is_here(self) -> bool:
        return self.python is not None


def require_one(place: Place) -> None:
    """Raises UsageError: more than one place."""
    if sum(name is not None for name in (place.image, place.container, place.host, place.wandb)) > 1:
        raise UsageError("one environment at a time", hint="give one of --image, --container, --ssh and --wandb")


def open_target(place: Place, project: Path | None, env: Mapping[str, str]) -> Ground:
    """Find the environment.

    Args:
        project: as in `CaptureRequest`.

    Raises:
        TargetError: it is not there. EngineError: the engine does not answer. UsageError: that is no name of an image.
    """
    here = project.resolve() if project is not None else None
    if place.host is not None:
        target: Target = SshPython(host=place.host, python=place.python or "python3")
        return _elsewhere(target, here, place.host.rpartition("@")[2], host=place.host.rpartition("@")[2])
    if place.image is None and place.container is None:
        python = interpreter.find_python(place.python, env)
        here = here or Path.cwd()
        return Ground(target=LocalPython(python), python=python, project=here, default_name=places.lock_name(here), host=platform.node())
    if place.image is not None and not is_id(place.image):
        parse_reference(place.image)
    engine = DockerEngine(env)
    engine.require()
    python_inside = place.python or "python"
    if place.container is not None:
        running = engine.running(place.container, python=python_inside)
        ground = _elsewhere(running, here, place.container, host=platform.node())
        return dataclasses.replace(ground, engine=engine, image=engine.image(engine.image_of(place.container)))
    assert place.image is not None
    repository = place.image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    ground = _elsewhere(engine.target(place.image, python=python_inside), here, repository, host=platform.node(), has_gpus=False)
    return dataclasses.replace(ground, engine=engine, image=engine.image(place.image))


def _elsewhere(target: Target, project: Path | None, name: str, *, host: str, has_gpus: bool = True) -> Ground:
    default = places.lock_name(project or Path(name))
    return Ground(target=target, python=None, project=project, default_name=default, host=host, has_gpus=has_gpus)
