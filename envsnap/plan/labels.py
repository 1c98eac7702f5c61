"""The image's labels: OCI annotations, and what envsnap's `check` reads before a pull."""

from __future__ import annotations

import re
from collections.abc import Mapping

from envsnap.model.base import Base
from envsnap.model.catalog import Catalog
from envsnap.model.lock import EnvLock

SCHEMA = "1"


def labels(lock: EnvLock, base: Base, catalog: Catalog) -> Mapping[str, str]:
    """In order; what is not known is left out. No time: the same lock and base give the same labels."""
    source, torch = lock.source, lock.observed.cuda.torch
    cuda = cuda_of(lock)
    values = {
        "org.opencontainers.image.title": lock.name,
        "org.opencontainers.image.base.name": base.reference,
        "org.opencontainers.image.base.digest": base.digest,
        "org.opencontainers.image.source": source.remote if source else None,
        "org.opencontainers.image.revision": source.commit if source else None,
        "dev.envsnap.schema": SCHEMA,
        "dev.envsnap.lock.name": lock.name,
        "dev.envsnap.lock.digest": lock.digest,
        "dev.envsnap.python": lock.python.version,
        "dev.envsnap.packages": str(len(lock.packages)),
        "dev.envsnap.torch": torch.version if torch else None,
        "dev.envsnap.cuda": cuda,
        "dev.envsnap.driver.min": catalog.driver_floor(cuda) if cuda else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def cuda_of(lock: EnvLock) -> str | None:
    """The CUDA version of the environment's torch: that of its build ("2.12.1+cu130" is 13.0), else the runtime it loaded."""
    torch = lock.observed.cuda.torch
    built = re.search(r"\+cu(\d{2})(\d)\b", torch.version) if torch else None
    if built:
        return f"{built[1]}.{built[2]}"
    runtime = lock.observed.cuda.runtime
    return ".".join(runtime.split(".")[:2]) if runtime else None
