"""The image's labels: OCI annotations, and what envsnap's `check` reads before a pull."""

from __future__ import annotations

import re
from collections.abc import Mapping

from envsnap.model import torch_version
from envsnap.model.base import Base
from envsnap.model.catalog import Catalog
from envsnap.model.lock import EnvLock
from envsnap.model.plan import BASE_DIGEST, BASE_NAME, LOCK_LABEL, NO_SOURCE, SOURCE_LABEL
from envsnap.plan import delta

SCHEMA = "1"


def labels(lock: EnvLock, base: Base, catalog: Catalog, *, source: bool) -> Mapping[str, str]:
    """In order; what is not known is left out. No time, nothing observed: the same lock digest and base give the same labels.

    Args:
        source: the project's files travel.
    """
    project, cuda = lock.source, cuda_of(lock) or _cuda_of_base(lock, base)
    values = {
        "org.opencontainers.image.title": lock.name,
        BASE_NAME: base.name,
        BASE_DIGEST: base.digest,
        "org.opencontainers.image.source": project.remote if project else None,
        "org.opencontainers.image.revision": project.commit if project else None,
        "dev.envsnap.schema": SCHEMA,
        "dev.envsnap.lock.name": lock.name,
        LOCK_LABEL: lock.digest,
        SOURCE_LABEL: project.files if project and source else NO_SOURCE,
        "dev.envsnap.python": lock.python.version,
        "dev.envsnap.packages": str(len(lock.packages)),
        "dev.envsnap.torch": _version(lock, "torch"),
        "dev.envsnap.cuda": cuda,
        "dev.envsnap.driver.min": catalog.driver_floor(cuda) if cuda else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def cuda_of(lock: EnvLock) -> str | None:
    """The CUDA version that the packages bring.

    That of torch's build where its version says ("2.12.1+cu130" is 13.0), else that of NVIDIA's runtime package. None for a torch
    that is built without CUDA ("+cpu"), and where there is neither.
    """
    torch = torch_version.read(_version(lock, "torch") or "")
    if torch.local:
        return torch.cuda
    # "nvidia-cuda-runtime" from CUDA 13 on; before that each major version had a package of its own.
    runtimes = (package.version for package in lock.packages if re.fullmatch(r"nvidia-cuda-runtime(?:-cu\d+)?", package.name))
    runtime = next(runtimes, None)
    return ".".join(runtime.split(".")[:2]) if runtime else None


def _cuda_of_base(lock: EnvLock, base: Base) -> str | None:
    """What the base's own torch was built with, where the environment's is that."""
    if delta.base_of(lock) is None or base.config is None:
        return None
    found = re.match(r"\d+\.\d+", base.config.env.get("CUDA_VERSION", ""))
    return found[0] if found else None


def _version(lock: EnvLock, name: str) -> str | None:
    return next((package.version for package in lock.packages if package.name == name), None)
