"""The image's labels: OCI annotations, and what envsnap's `check` reads before a pull."""

from __future__ import annotations

import re
from collections.abc import Mapping

from envsnap.model.base import Base
from envsnap.model.catalog import Catalog
from envsnap.model.frameworks import DISTRIBUTIONS
from envsnap.model.lock import EnvLock
from envsnap.model.plan import BASE_DIGEST, BASE_NAME, LOCK_LABEL, NO_SOURCE, SOURCE_LABEL

SCHEMA = "1"


def labels(lock: EnvLock, base: Base, catalog: Catalog, *, source: bool) -> Mapping[str, str]:
    """In order; what is not known is left out. No time, nothing observed: the same lock digest and base give the same labels.

    Args:
        source: the project's files travel.
    """
    project, cuda = lock.source, cuda_of(lock)
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
        **{f"dev.envsnap.{framework}": _version(lock, *names) for framework, names in DISTRIBUTIONS.items()},
        "dev.envsnap.cuda": cuda,
        "dev.envsnap.driver.min": catalog.driver_floor(cuda) if cuda else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def cuda_of(lock: EnvLock) -> str | None:
    """The CUDA version that the packages bring.

    That of the framework's build where its version says (torch's "2.12.1+cu130" is 13.0, Paddle's "2.6.2.post117" 11.7), else that of
    NVIDIA's runtime package, which TensorFlow's extra and Paddle's newer wheels bring. None for a torch that is built without CUDA
    ("+cpu"), and where there is neither: a TensorFlow without its extra takes what CUDA the machine has.
    """
    _, _, build = (_version(lock, "torch") or "").partition("+")
    if build:
        found = re.match(r"cu(\d{2})(\d)(?!\d)", build)
        return f"{found[1]}.{found[2]}" if found else None
    if found := re.search(r"\.post(1\d)(\d)\Z", _version(lock, "paddlepaddle-gpu") or ""):
        return f"{found[1]}.{found[2]}"
    # "nvidia-cuda-runtime" from CUDA 13 on; before that each major version had a package of its own.
    runtimes = (package.version for package in lock.packages if re.fullmatch(r"nvidia-cuda-runtime(?:-cu\d+)?", package.name))
    runtime = next(runtimes, None)
    return ".".join(runtime.split(".")[:2]) if runtime else None


def _version(lock: EnvLock, *names: str) -> str | None:
    return next((package.version for package in lock.packages if package.name in names), None)
