"""A `Launch` as a file of Docker Compose."""

from __future__ import annotations

from envsnap.launch import docker, pitfalls
from envsnap.launch.commented import Commented, Node, comment, dump
from envsnap.model.gpu_request import GpuRequest
from envsnap.model.launch import Launch, Mount, Passed


def text(launch: Launch) -> str:
    """One service. The project's source is relative to where the file lies."""
    service: dict[str, Node] = {"image": literal(launch.image)}
    if launch.command:
        note = pitfalls.entrypoint(launch, "This is what {it}, runs. `entrypoint:` would take its place.")
        service["command"] = Commented(note, tuple(map(literal, launch.command)))
    service["init"] = True
    if launch.gpus is not None:
        service["deploy"] = {"resources": {"reservations": {"devices": (_devices(launch.gpus),)}}}
    service |= {"ipc": "host"} if launch.shm_size is None else {"shm_size": launch.shm_size}
    if launch.ulimits:
        service["ulimits"] = dict(launch.ulimits)
    if launch.user:
        service["user"] = Commented(pitfalls.said("What is written in mounts belongs to this user."), literal(launch.user))
    if launch.mounts:
        service["volumes"] = tuple(map(_volume, launch.mounts))
    if launch.workdir:
        service["working_dir"] = literal(launch.workdir)
    if launch.env:
        passed = pitfalls.said("A name alone takes its value from the shell or from .env when it starts: no secret is in this file.")
        by_name = any(one.value is None for one in launch.env)
        service["environment"] = Commented(passed if by_name else (), tuple(map(_variable, launch.env)))
    if launch.ports:
        service["ports"] = tuple(map(str, launch.ports))
    ports = " --service-ports" if launch.ports else ""
    head = pitfalls.said(f"docker compose run --rm{ports} {launch.name} [COMMAND…]") + pitfalls.outside(launch, "docker compose exec")
    return "".join(f"{line}\n" for line in comment(head)) + dump({"services": {launch.name: service}})


def literal(value: str) -> str:
    """Compose reads "$" in any value as a variable's, and "$$" as a dollar."""
    return value.replace("$", "$$")


def _devices(request: GpuRequest) -> Node:
    which: dict[str, Node] = (
        {"device_ids": request.devices} if request.devices else {"count": "all" if request.count < 0 else request.count}
    )
    return {"driver": "nvidia", **which, "capabilities": ("gpu",)}


def _volume(one: Mount) -> Node:
    volume: dict[str, Node] = {"type": "bind", "source": literal(one.source), "target": literal(one.target)}
    return volume | ({"read_only": True} if one.read_only else {}) | {"bind": {"create_host_path": False}}


def _variable(one: Passed) -> str:
    return literal(docker.variable(one))
