"""How an image is run: what a person asked for, and beside that what nobody wants to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envsnap.errors import TargetError
from envsnap.launch import wishes
from envsnap.model.base import ImageConfig
from envsnap.model.gpu_request import GpuRequest
from envsnap.model.launch import Launch, Mount, Passed
from envsnap.model.plan import NO_SOURCE, SOURCE_LABEL, WORKSPACE
from envsnap.progress import Progress
from envsnap.workflows import places
from envsnap.workflows.runnable import Runnable

_HOME = "/tmp"  # noqa: S108  # of an image that has none which anybody may write to


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a person typed.

    Attributes:
        gpus: as docker's `--gpus`; None for what is fit. user: as docker's `--user`, or "image"; None for whoever calls.
        project: the directory that is worked in; None for the one where the command was called, if that is a project.
        with_project: whether it is mounted at all.
    """

    command: tuple[str, ...] = ()
    gpus: str | None = None
    data: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    user: str | None = None
    project: Path | None = None
    with_project: bool = True
    shm_size: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, and from where."""

    uid: int
    gid: int
    directory: Path
    env: Mapping[str, str]

    @property
    def home(self) -> str:
        return self.env.get("HOME", "")


def launch(image: Runnable, asked: Wishes, caller: Caller, gpus: GpuRequest | None, progress: Progress) -> Launch:
    """The value that all readings are of.

    Raises:
        UsageError: what was typed is not understood. TargetError: a directory is not there.
    """
    for what, values in (("the command", asked.command), ("--data", asked.data), ("--env", asked.env)):
        for value in values:
            wishes.require_text(what, value)
    project, workdir = _project(image.config, asked.project, caller, progress) if asked.with_project else (None, "")
    user = wishes.user(asked.user) if asked.user is not None else f"{caller.uid}:{caller.gid}"
    env = {one.name: one for one in (*_of_nobody(user, image.config), *map(wishes.variable, asked.env))}
    made = Launch(
        name=image.name,
        image=image.reference,
        entrypoint=image.config.entrypoint,
        command=asked.command,
        gpus=gpus,
        shm_size=wishes.size(asked.shm_size) if asked.shm_size is not None else None,
        project=project,
        data=tuple(_there(wishes.mount(text, here=str(caller.directory), home=caller.home)) for text in asked.data),
        user=user,
        workdir=workdir,
        env=tuple(env.values()),
        ports=tuple(map(wishes.port, asked.ports)),
    )
    wishes.require_apart(made.mounts)
    return made


def _there(mount: Mount) -> Mount:
    if not Path(mount.source).exists():
        near = next(place for place in Path(mount.source).parents if place.exists())
        raise TargetError(f"there is no {mount.source}", why=f"of its path, {near} is there", hint="--data DIR[:TARGET][:rw]")
    return mount


def _of_nobody(user: str, config: ImageConfig) -> tuple[Passed, ...]:
    """A user ID that an image does not know has "/" for its home there, which it may not write to, and no name, which getpass wants."""
    number = user.partition(":")[0]
    if not number.isdecimal() or int(number) == 0:
        return ()
    return tuple(Passed(name=name, value=value) for name, value in (("HOME", _HOME), ("USER", "user")) if name not in config.env)


def _project(config: ImageConfig, asked: Path | None, caller: Caller, progress: Progress) -> tuple[Mount | None, str]:
    """The project around a directory, and where that directory is inside.

    It lies where an image of its lock has its own copy, so that what is installed in place is what is worked on.
    """
    here = (caller.directory / (asked or "")).resolve()
    if not here.is_dir():
        raise TargetError(f"there is no directory {here}", hint="--project DIR, or --no-project")
    if not str(here).isprintable():
        raise TargetError(f"{str(here)!r} cannot be mounted", why="its name has control characters", hint="--no-project, or another name")
    root = next((place for place in (here, *here.parents) if (place / ".git").exists()), here)
    if asked is None and root in (Path(caller.home or "/").resolve(), Path("/")):
        progress.note(f"{root} is no project and is not mounted: --project DIR mounts one")
        return None, ""
    target = f"{WORKSPACE}/{places.lock_name(root)}"
    has_copy = config.labels.get(SOURCE_LABEL, NO_SOURCE) != NO_SOURCE and config.workdir.isprintable()
    own = config.workdir if has_copy else ""
    said = f"{root} is {target} inside"
    if own == target:
        said += ", in place of the image's own copy (--no-project runs that)"
    elif own:
        said += f"; the image's own copy of its project stays at {own} (--no-project starts there)"
    progress.note(said)
    return Mount(source=str(root), target=target), str(target / here.relative_to(root))
