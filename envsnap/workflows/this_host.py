"""What this host has for an image: its GPUs, where the image's layers would land, and how containers get GPUs here."""

from __future__ import annotations

import contextlib
import re
import resource
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from envsnap import catalog
from envsnap.blobs import BlobStore
from envsnap.compat import Disk, Host
from envsnap.engines.docker import DockerEngine
from envsnap.engines.host import container_toolkit
from envsnap.errors import EngineError, EnvsnapError, UsageError
from envsnap.model.facts import GpuDevice, GpuFacts
from envsnap.model.gpus import Gpus
from envsnap.model.host import Ability
from envsnap.oci.documents import Config, Manifest
from envsnap.oci.image import BaseImage, Image
from envsnap.probes import gpu
from envsnap.probes.local import LocalPython

_SHM = Path("/dev/shm")  # noqa: S108  # asked for its size
_DRIVER = re.compile(r"\d{3}(?:\.\d+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThisHost:
    """Attributes: machine: as Linux names it. env: of the process. cache: where envsnap keeps layers that it runs without an engine."""

    machine: str
    engine: DockerEngine
    env: Mapping[str, str]
    cache: Path

    @property
    def description(self) -> str:
        return ""

    def look(self, manifest: Manifest | None = None, config: Config | None = None) -> Host:
        """With what of this image is here already. What cannot be read is said to be unknown; nothing is raised for it.

        Args:
            manifest, config: None for an image that is here: no disk is looked at.
        """
        engine, disk = self.engine if _answers(self.engine) else None, None
        if manifest is not None and config is not None:
            disk = _of_engine(engine, manifest, config) if engine is not None else _of_cache(self.cache, manifest)
        return Host(
            machine=self.machine,
            gpus=_gpus(),
            disk=disk,
            gpu_containers=_gpu_containers(engine, self.env),
            shm_bytes=_usage(_SHM).total,
            memlock=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
            stack=resource.getrlimit(resource.RLIMIT_STACK)[0],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherHost:
    """Of which a person said the driver and the GPUs; of its disk and engine nothing is known, and this host is not looked at."""

    machine: str
    gpus: GpuFacts

    @property
    def description(self) -> str:
        names = [device.name or f"a GPU of {device.compute_capability}" for device in self.gpus.devices]
        return ", ".join([*([f"driver {self.gpus.driver}"] if self.gpus.driver else []), *names])

    def look(self, manifest: Manifest, config: Config) -> Host:  # noqa: ARG002  # what is here says nothing of another host
        return Host(machine=self.machine, gpus=self.gpus, here=False)


def described(machine: str, driver: str | None, gpus: Sequence[str]) -> OtherHost:
    """A host of which a person says the driver and the GPUs, each by a product's name or a compute capability ("RTX 3090", "8.6", "sm_86").

    Raises:
        UsageError: that is no driver's version, or a GPU is neither.
    """
    if driver is not None and not _DRIVER.fullmatch(driver):
        raise UsageError(f"--driver {driver}: no version of a driver", hint="as nvidia-smi says it: 535.104.05, or 535 for its oldest")
    devices: list[GpuDevice] = []
    for name in gpus:
        device = _described(name, catalog.load().gpus)
        if device is None:
            hint = "its compute capability will do: --gpu 9.0   (nvidia-smi --query-gpu=compute_cap --format=csv)"
            raise UsageError(f"--gpu {name}: the catalogue has no such GPU", hint=hint)
        devices.append(device)
    return OtherHost(machine=machine, gpus=GpuFacts(driver=driver, devices=tuple(devices)))


def _described(text: str, known: Gpus) -> GpuDevice | None:
    number = text.strip().lower().removeprefix("sm_")
    if number.isdigit() and 2 <= len(number) <= 3:
        number = f"{number[:-1]}.{number[-1]}"
    major, dot, minor = number.partition(".")
    if dot and major.isdigit() and minor.isdigit() and len(minor) == 1:
        return GpuDevice(name="", compute_capability=number, memory_mib=0)
    product = known.product(text)
    return GpuDevice(name=text.strip(), compute_capability=product.compute_capability, memory_mib=0) if product is not None else None


def _answers(engine: DockerEngine) -> bool:
    try:
        engine.require()
    except EngineError:
        return False
    return True


def _gpus() -> GpuFacts:
    try:
        return gpu.read(LocalPython(Path(sys.executable)), salt="").facts
    except EnvsnapError as error:
        return GpuFacts(unavailable=f"its GPUs could not be asked for: {error.what}")


def _of_engine(engine: DockerEngine, manifest: Manifest, config: Config) -> Disk | None:
    whole = Image(config=config, manifest=manifest, base=BaseImage(config=config, manifest=manifest), layers=())
    try:
        root, local = engine.root()
        there = engine.layers_there(whole)
    except EngineError:  # it answered a moment ago
        return None
    free = _usage(Path(root)).free if local else None
    unseen = f"the disk of Docker's machine ({root}) cannot be seen from here"
    return _disk(f"Docker, at {root}", free, unseen, [layer.size for layer in manifest.layers[there:]], manifest)


def _of_cache(cache: Path, manifest: Manifest) -> Disk:
    store = BlobStore(cache / "blobs")
    missing = [layer.size for layer in manifest.layers if not store.has(layer.digest)]
    there = next((place for place in (cache, *cache.parents) if place.is_dir()), Path("/"))
    return _disk(f"envsnap's cache, at {cache}", _usage(there).free, f"the disk of {there} cannot be asked", missing, manifest)


def _disk(place: str, free: int | None, unseen: str, missing: Sequence[int], manifest: Manifest) -> Disk:
    """Args: unseen: why `free` is not known, where it is not. missing: bytes of each layer that is not there."""
    return Disk(
        place=place,
        free_bytes=free,
        unseen=unseen if free is None else "",
        missing_bytes=sum(missing),
        missing=len(missing),
        layers=len(manifest.layers),
    )


class _Usage(NamedTuple):
    """Of a file system, bytes; None where it cannot be asked."""

    total: int | None
    free: int | None


def _usage(place: Path) -> _Usage:
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return _Usage(None, None)
    return _Usage(usage.total, usage.free)


def _gpu_containers(engine: DockerEngine | None, env: Mapping[str, str]) -> Ability:
    """By Docker where it answers, else by what containers without an engine are given GPUs with."""
    if engine is not None:
        with contextlib.suppress(EngineError):
            return engine.gpus()
    return container_toolkit(env)
