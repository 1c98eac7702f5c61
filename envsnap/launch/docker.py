"""A `Launch` as a `docker run`."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterator

from envsnap.model.gpu_request import GpuRequest
from envsnap.model.launch import IPC, Launch, Mount, Passed, ulimit_options


def argv(launch: Launch, *, tty: bool) -> list[str]:
    """The argument list. Values of variables that are passed by name are not in it: docker takes them from its own environment."""
    return [word for line in lines(launch, tty=tty) for word in line]


def shown(launch: Launch, *, tty: bool) -> str:
    """The same for a shell, an option on each line."""
    return " \\\n    ".join(shlex.join(line) for line in lines(launch, tty=tty))


def lines(launch: Launch, *, tty: bool) -> Iterator[list[str]]:
    """What belongs together.

    `--init` has signals reach the command, which would ignore most of them as the first process, and buries what workers leave behind.
    """
    yield ["docker", "run", "--rm", "--init", "--interactive", *(["--tty"] if tty else [])]
    if launch.gpus is not None:
        yield ["--gpus", gpus(launch.gpus)]
    yield [shared_memory(launch)]
    if launch.ulimits:
        yield list(ulimit_options(launch.ulimits))
    if launch.user:
        yield ["--user", launch.user]
    yield from (["--mount", mount(one)] for one in launch.mounts)
    if launch.workdir:
        yield ["--workdir", launch.workdir]
    yield from (["--env", variable(one)] for one in launch.env)
    yield from (["--publish", str(one)] for one in launch.ports)
    yield [launch.image, *launch.command]


def gpus(request: GpuRequest) -> str:
    """Docker reads the option as a line of CSV: a comma within a value needs its quotes to arrive."""
    text = str(request)
    return f'"{text}"' if "," in text else text


def shared_memory(launch: Launch) -> str:
    return IPC if launch.shm_size is None else f"--shm-size={launch.shm_size}"


def mount(one: Mount) -> str:
    """A line of CSV. A `--mount` of what is not there fails, where a `--volume` would make it, as root."""
    line = io.StringIO()
    fields = ["type=bind", f"source={one.source}", f"target={one.target}", *(["readonly"] if one.read_only else [])]
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def variable(one: Passed) -> str:
    return one.name if one.value is None else f"{one.name}={one.value}"
