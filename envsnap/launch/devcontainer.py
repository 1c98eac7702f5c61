"""A `Launch` as a devcontainer.json, of which comments are a part (JSON with Comments)."""

from __future__ import annotations

import json
from typing import Any

from envsnap.errors import UsageError
from envsnap.launch import docker, pitfalls
from envsnap.model.launch import Launch, Mount, Port, ulimit_options

_OPENED = "${localWorkspaceFolder}"


def text(launch: Launch) -> str:
    """The folder that is opened takes the project's place.

    Raises:
        UsageError: a value has "${", which this format reads as a variable and cannot quote; the folder's name has what ends it.
    """
    run = ["--init", "--tty", docker.shared_memory(launch), *ulimit_options(launch.ulimits)]
    every = launch.gpus is not None and launch.gpus.count < 0  # the tool itself adds --gpus all for what it is told of the host
    if launch.gpus is not None and not every:
        run += ["--gpus", docker.gpus(launch.gpus)]
    run += [word for one in launch.env for word in ("--env", docker.variable(one))]
    document: dict[str, Any] = {"name": launch.name, "image": launch.image}
    if launch.project is not None:
        if set(launch.project.source) & {",", '"'}:
            why = "the tool puts it among other words, with commas between them and no quotes"
            raise UsageError(f"a development container cannot open {launch.project.source!r}", why=why, hint="open it by a link")
        document["workspaceMount"] = docker.mount(Mount(source=_OPENED, target=launch.project.target, read_only=launch.project.read_only))
        document["workspaceFolder"] = launch.workdir or launch.project.target
    document["runArgs"] = run
    if launch.data:
        document["mounts"] = [docker.mount(one) for one in launch.data]
    if launch.user:
        document["containerUser"] = document["remoteUser"] = launch.user
    if every:
        document["hostRequirements"] = {"gpu": True}
    if launch.ports:
        document["forwardPorts"] = [one.container for one in launch.ports]
    document["overrideCommand"] = False
    for value in (launch.image, launch.user, launch.workdir, *run, *(word for one in launch.mounts for word in (one.source, one.target))):
        if "${" in value:
            raise UsageError(
                f"devcontainer.json cannot hold {value!r}", why='it reads "${" as the start of a variable, and has no way to quote it'
            )
    by_name = any(one.value is None for one in launch.env)
    elsewhere = any(one != Port(container=one.container) and one.host != one.container for one in launch.ports)
    head = (
        *pitfalls.said(
            "overrideCommand: with true, the default for an image, a shell that waits takes the place of the image's entrypoint and"
            " command. With false they run as they are meant to, and have to stay: --tty keeps a shell open."
        ),
        *(pitfalls.said("forwardPorts: the tool gives each the same number here, or says which one it takes.") if elsewhere else ()),
        *pitfalls.outside(launch, "docker exec"),
        *(pitfalls.said("Terminals and extensions start that way, too.") if launch.entrypoint else ()),
        *(pitfalls.said("A name alone takes its value from the tool's environment: no secret is in this file.") if by_name else ()),
    )
    return "".join(f"// {line}\n" for line in head) + json.dumps(document, indent=2) + "\n"
