"""How an image is run: one value, of which `docker run`, a compose file, a Kubernetes job or a batch script are readings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import field

from envsnap.model.gpu_request import GpuRequest
from envsnap.model.kinds import AbsolutePath, Line, Value, Variable

ULIMITS: Mapping[str, int] = {"memlock": -1, "stack": 64 << 20}
"""Limits of a container that trains, as docker names them: bytes, -1 for none. Pinned memory and RDMA want the first, deep native stacks
the second. NVIDIA, start message of the NGC framework images (seen in 26.03): `--ipc=host --ulimit memlock=-1 --ulimit stack=67108864`."""
IPC = "--ipc=host"
"""Workers of a data loader and NCCL share memory in /dev/shm, of which a container that is told nothing has 64 MB. Same source."""


def ulimit_options(ulimits: Mapping[str, int]) -> tuple[str, ...]:
    """As docker's command line has them."""
    return tuple(word for name, value in ulimits.items() for word in ("--ulimit", f"{name}={value}"))


class Mount(Value, frozen=True, kw_only=True):
    """Attributes: source: on the host; target: in the container."""

    source: Line
    target: AbsolutePath
    read_only: bool = False


class Port(Value, frozen=True, kw_only=True):
    """Attributes: host: None for any that is free there. address: of the host, "" for all of its own."""

    container: int
    host: int | None = None
    address: str = ""
    protocol: Literal["tcp", "udp"] = "tcp"

    def __str__(self) -> str:
        """As docker's `--publish` has it."""
        address = f"[{self.address}]:" if ":" in self.address else f"{self.address}:" if self.address else ""
        host = "" if self.host is None and not address else f"{self.host if self.host is not None else ''}:"
        return f"{address}{host}{self.container}{'' if self.protocol == 'tcp' else f'/{self.protocol}'}"


class Passed(Value, frozen=True, kw_only=True):
    """A variable of the container. Attributes: value: None where it is what it is outside when that starts, as of each secret."""

    name: Variable
    value: str | None = None


class Launch(Value, frozen=True, kw_only=True):
    """Attributes:
    name: for jobs and services: lower case, digits and hyphens, at most 63.
    image: reference or ID; with a digest where one is known.
    entrypoint: the image's own. No reading replaces it: what it sets up, as NGC's does forward compatibility, holds for the command.
    command: () for the image's own.
    shm_size: bytes of a /dev/shm of its own; None for the host's, with all of its IPC.
    ulimits: as `ULIMITS`.
    project: the directory that is worked in; data: what is read there.
    user: as docker's `--user`; "" for the image's own.
    workdir: "" for the image's own.
    """

    name: str
    image: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    gpus: GpuRequest | None = None
    shm_size: int | None = None
    ulimits: Mapping[str, int] = field(default_factory=lambda: dict(ULIMITS))
    project: Mount | None = None
    data: tuple[Mount, ...] = ()
    user: str = ""
    workdir: str = ""
    env: tuple[Passed, ...] = ()
    ports: tuple[Port, ...] = ()

    @property
    def mounts(self) -> tuple[Mount, ...]:
        return (*((self.project,) if self.project is not None else ()), *self.data)
