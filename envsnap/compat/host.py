"""What a host has beside its driver and GPUs: machine, disk, a way to hand GPUs to containers, and the limits of a container there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from envsnap.compat.image import ImageNeeds
from envsnap.model.facts import GpuFacts
from envsnap.model.host import Ability
from envsnap.model.image import CheckReason, Status
from envsnap.model.kinds import ARCHITECTURES
from envsnap.model.launch import IPC, ULIMITS, ulimit_options

UNPACKED = 2
"""Times its compressed size that a layer takes once it is unpacked, for a registry says the compressed one alone. Torch with CUDA was
measured at 1.8; packages of Debian alone, which are small, at 2.6."""
_GIB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Where an image's layers would land.

    Attributes:
        place: whose it is, and the directory: "Docker, at /var/lib/docker".
        free_bytes: None where it cannot be seen; `unseen` says why.
        missing_bytes: of the layers that are not there yet, compressed. missing, layers: how many of how many.
    """

    place: str
    free_bytes: int | None
    unseen: str = ""
    missing_bytes: int
    missing: int
    layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Attributes:
    machine: as Linux names it.
    gpus: `devices` need only name and compute capability where they were named by a person.
    here: it is this host, whose disk, engine and limits were looked at; else all of these are None.
    gpu_containers: how containers get GPUs here.
    shm_bytes: of its /dev/shm. memlock, stack: this process's limits in bytes, -1 for none.
    """

    machine: str
    gpus: GpuFacts
    here: bool = True
    disk: Disk | None = None
    gpu_containers: Ability | None = None
    shm_bytes: int | None = None
    memlock: int | None = None
    stack: int | None = None


def platform(os: str, architecture: str, host: Host) -> CheckReason:
    found, needed = f"{os}/{architecture}", f"linux/{ARCHITECTURES.get(host.machine, host.machine)}"
    hint = "" if found == needed else "another image, or a machine of that kind"
    return _reason("platform", "pass" if found == needed else "fail", needed, found, hint)


def judge(needs: ImageNeeds, host: Host) -> Iterator[CheckReason]:
    if host.disk is not None:
        yield _disk(host.disk)
    if needs.gpu and host.gpu_containers is not None and host.gpus.devices:
        yield _runtime(host.gpu_containers)
    if needs.gpu and host.here:
        yield from _limits(host)


def _disk(disk: Disk) -> CheckReason:
    """Sure to be too small below the compressed size; sure to suffice above what arrives and what it unpacks to together."""
    if not disk.missing:
        return _reason("disk", "pass", "nothing: all layers are there", f"{_layers(disk.layers)} in {disk.place}")
    least, enough = disk.missing_bytes, disk.missing_bytes * (1 + UNPACKED)
    needed = (
        f"{_gb(enough)} for {disk.missing} of {_layers(disk.layers)}: {_gb(least)} as they arrive, and about {UNPACKED} times that unpacked"
    )
    if disk.free_bytes is None:
        return _reason("disk", "unknown", needed, disk.unseen, "look there: df -h")
    found = f"{_gb(disk.free_bytes)} free for {disk.place}"
    if disk.free_bytes >= enough:
        return _reason("disk", "pass", needed, found)
    return _reason("disk", "fail" if disk.free_bytes < least else "unknown", needed, found, "docker system prune, envsnap cache prune")


def _runtime(ability: Ability) -> CheckReason:
    ok = ability.state == "ok"
    return _reason("runtime", "pass" if ok else "fail", "a way to hand GPUs to a container", ability.found, "" if ok else ability.hint)


def _limits(host: Host) -> Iterator[CheckReason]:
    """Told, and never a no: whoever starts the container sets them."""
    shm = f"; this host has {_gb(host.shm_bytes)} of it" if host.shm_bytes is not None else ""
    yield _reason(
        "shm",
        "pass",
        "more than 64 MB for workers and NCCL",
        f"64 MB in a container that is told nothing{shm}",
        f"docker run {IPC}, as envsnap run does",
    )
    yield _reason(
        "ulimits",
        "pass",
        "memlock without limit and 64 MB of stack, as NVIDIA asks for",
        f"memlock {_limit(host.memlock)}, stack {_limit(host.stack)} here",
        f"docker run {' '.join(ulimit_options(ULIMITS))}, as envsnap run does",
    )


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _limit(value: int | None) -> str:
    if value is None:
        return "not known"
    return "without limit" if value < 0 else f"{value / (1 << 20):,.0f} MiB"


def _gb(size: int) -> str:
    return f"{size / _GIB:,.1f} GB"


def _reason(which: str, status: Status, needed: str, found: str, hint: str = "") -> CheckReason:
    return CheckReason(id=which, status=status, needed=needed, found=found, hint=hint)
