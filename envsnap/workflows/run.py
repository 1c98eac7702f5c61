"""run: an image on this host's Docker, as the `docker` command of whoever calls."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import NoReturn

from msgspec.structs import replace

from envsnap import catalog, process
from envsnap.compat import Host, judge, needs_of
from envsnap.engines.docker import DockerEngine
from envsnap.engines.host import wandb_key
from envsnap.engines.interface import EngineImage
from envsnap.errors import EngineError, Refused, UsageError
from envsnap.launch import docker
from envsnap.model.gpu_request import GpuRequest, parse_gpus
from envsnap.model.image import CheckReason
from envsnap.model.launch import Launch, Passed
from envsnap.progress import Progress
from envsnap.workflows import launch as launches
from envsnap.workflows.launch import Caller, Wishes
from envsnap.workflows.runnable import InRegistry, Runnable
from envsnap.workflows.this_host import ThisHost

_WANDB, _KEY = "WANDB_", "WANDB_API_KEY"
_OF_THIS_HOST = ("_DIR", "_SERVICE")  # endings of W&B's variables that name a place here
_ANYWAY = "envsnap run --print … shows the docker command, which asks nobody"


def prepare(image: Runnable, asked: Wishes, caller: Caller, host: ThisHost, progress: Progress, *, printed: bool) -> Launch:
    """How this host runs it.

    Args:
        printed: it is shown, not run: Docker need not answer, and what stands against it is said and no more.

    Raises:
        EngineError: Docker does not answer, or cannot have the image. Refused: this host cannot run it.
        UsageError: what was typed is not understood. TargetError: a directory is not there.
    """
    engine = _engine(host.engine, printed=printed)
    found, here = _look(image, host), engine is None or engine.root()[1]
    if not here:
        progress.note("Docker is on another machine: directories are mounted of that, and whether it can run the image, it will say")
    gpus = parse_gpus(asked.gpus) if asked.gpus is not None else _gpus(found, here, progress)
    rootless = engine is not None and engine.is_rootless()
    me = Caller(uid=0, gid=0, directory=caller.directory, env=caller.env) if rootless else caller
    made = launches.launch(image, asked, me, gpus, progress)
    for reason in _against(image, made, found) if here else ():
        if not printed:
            raise Refused(
                f"this host cannot run {image.reference}: {reason.id}",
                why=f"it needs {reason.needed}; found: {reason.found}",
                hint=f"{reason.hint or 'envsnap check tells more'}   or: {_ANYWAY}",
            )
        progress.warning(f"{reason.id}: it needs {reason.needed}; found: {reason.found}")
    made = replace(made, image=_for_engine(image, engine), env=(*_require_set(made, caller), *_wandb(made, caller, progress)))
    if rootless:
        progress.note("Docker is rootless here: root inside is you outside")
    if engine is not None and (rootless or not process.may_raise_limits()):
        made = replace(made, ulimits=_taken(image, made, engine, progress, printed=printed))
    return made


def start(made: Launch, caller: Caller, *, tty: bool) -> NoReturn:
    """Be `docker run`. Raises EngineError: there is no such command."""
    if shutil.which("docker", path=caller.env.get("PATH")) is None:
        raise EngineError(
            "there is no docker command here",
            why="run is docker's own command",
            hint="install Docker's command line (docker-ce-cli, docker.io)",
        )
    try:
        process.become(docker.argv(made, tty=tty), caller.env)
    except process.NotStarted as error:
        raise EngineError("docker cannot be started", why=str(error)) from error


def _engine(engine: DockerEngine, *, printed: bool) -> DockerEngine | None:
    try:
        engine.require()
    except EngineError as error:
        if printed:
            return None
        hint = f"{error.hint}   or, without Docker: envsnap verify runs an image's checks"
        raise EngineError(error.what, why=error.why, hint=hint.strip()) from error
    return engine


def _look(image: Runnable, host: ThisHost) -> Host:
    there = image.found
    return host.look(there.manifest, there.config) if isinstance(there, InRegistry) else host.look()


def _gpus(host: Host, here: bool, progress: Progress) -> GpuRequest | None:
    """All that there are. Args: here: Docker is on this machine."""
    if not here:
        given = host.gpu_containers is not None and host.gpu_containers.state == "ok"
        progress.note(f"GPUs: {'all' if given else 'none'}, as that Docker can give them; --gpus asks for others, or none")
        return GpuRequest(count=-1) if given else None
    if not host.gpus.devices:
        progress.note(f"GPUs: none ({host.gpus.unavailable or 'the driver lists none'}); --gpus asks for some")
        return None
    names = ", ".join(dict.fromkeys(device.name for device in host.gpus.devices))
    progress.note(f"GPUs: all {len(host.gpus.devices)} ({names}); --gpus asks for others, or none")
    return GpuRequest(count=-1)


def _against(image: Runnable, made: Launch, host: Host) -> Iterator[CheckReason]:
    """What `check` says is a no. Without GPUs, what it says of them counts for nothing."""
    config = image.config
    needs = needs_of(config.env, config.labels, config.entrypoint)
    for reason in judge(needs, config.os, config.architecture, host, catalog.load()):
        if reason.status == "fail" and (made.gpus is not None or reason.id in ("platform", "disk")):
            yield reason


def _for_engine(image: Runnable, engine: DockerEngine | None) -> str:
    """What Docker is to be told: a name that it knows, or may fetch."""
    if isinstance(image.found, InRegistry):
        return image.pinned
    there = image.found.image
    if isinstance(there, EngineImage) or engine is None:
        return image.found.name
    loaded = engine.find(there)
    if loaded is None:
        raise EngineError(
            f"Docker does not have {image.found.name}",
            why="it is in envsnap's own store alone",
            hint=f"envsnap save {image.found.name} image.tar && envsnap load image.tar",
        )
    return loaded.image_id


def _taken(image: Runnable, made: Launch, engine: DockerEngine, progress: Progress, *, printed: bool) -> Mapping[str, int]:
    """The limits that an engine may set which perhaps may not raise any: a container of the image tries each."""
    if isinstance(image.found, InRegistry) and engine.image(made.image) is None:
        if printed:  # nothing is pulled to show a command
            return made.ulimits
        engine.pull(made.image, progress)
    taken = {name: value for name, value in made.ulimits.items() if engine.takes(made.image, {name: value})}
    for name in made.ulimits.keys() - taken:
        progress.note(f"the limit {name} stays as Docker has it, which may not raise it here")
    return taken


def _require_set(made: Launch, caller: Caller) -> tuple[Passed, ...]:
    """Raises UsageError: a variable that is passed by name is not set."""
    for one in made.env:
        if one.value is None and one.name not in caller.env:
            raise UsageError(f"--env {one.name}: it is not set here", hint=f"export {one.name}=…   or   --env {one.name}=VALUE")
    return made.env


def _wandb(made: Launch, caller: Caller, progress: Progress) -> Iterator[Passed]:
    """W&B's own variables, by name: docker takes the values from its environment, and they are in no list of arguments."""
    asked = {one.name for one in made.env}
    if _KEY not in caller.env and "WANDB_MODE" not in {*caller.env, *asked} and wandb_key(caller.env).state == "ok":
        progress.note(f"W&B: what `wandb login` kept stays on this host; export {_KEY} for runs that go to a server")
    for name in sorted(caller.env):
        if name.startswith(_WANDB) and not name.endswith(_OF_THIS_HOST) and name not in asked:
            yield Passed(name=name)


def argv(made: Launch, *, tty: bool) -> list[str]:
    """What `start` becomes."""
    return docker.argv(made, tty=tty)


def shown(made: Launch, *, tty: bool) -> str:
    """The same for a shell."""
    return docker.shown(made, tty=tty)
