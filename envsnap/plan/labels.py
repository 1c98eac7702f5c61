"""The image's labels: OCI annotations, and what envsnap's `check` reads before a pull."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from envsnap.model import torch_version
from envsnap.model.base import Base
from envsnap.model.catalog import Catalog
from envsnap.model.frameworks import DISTRIBUTIONS
from envsnap.model.lock import EnvLock
from envsnap.model.plan import (
    ARCHITECTURES_LABEL,
    BASE_DIGEST,
    BASE_NAME,
    CUDA_LABEL,
    LOCK_LABEL,
    NO_SOURCE,
    PARTIAL_LABEL,
    SCHEMA_LABEL,
    SOURCE_LABEL,
)
from envsnap.plan import delta

SCHEMA = "1"
_MOST_CHARACTERS = 16_000
"""Of one label. An environment of 30 packages with GPU code has 2,000; BuildKit reads no line of a Dockerfile beyond 64 KiB."""


def labels(lock: EnvLock, base: Base, catalog: Catalog, *, source: bool) -> Mapping[str, str]:
    """In order; what is not known is left out. No time, nothing observed: the same lock digest and base give the same labels.

    Args:
        source: the project's files travel.
    """
    project, cuda = lock.source, cuda_of(lock) or _cuda_of_base(lock, base)
    codes = {package.name: package.device_code for package in lock.packages if package.device_code is not None}
    architectures = _by_package({name: (*code.cubins, *code.ptx) for name, code in codes.items()})
    values = {
        "org.opencontainers.image.title": lock.name,
        BASE_NAME: base.name,
        BASE_DIGEST: base.digest,
        "org.opencontainers.image.source": project.remote if project else None,
        "org.opencontainers.image.revision": project.commit if project else None,
        SCHEMA_LABEL: SCHEMA,
        "dev.envsnap.lock.name": lock.name,
        LOCK_LABEL: lock.digest,
        SOURCE_LABEL: project.files if project and source else NO_SOURCE,
        "dev.envsnap.python": lock.python.version,
        "dev.envsnap.packages": str(len(lock.packages)),
        **{f"dev.envsnap.{framework}": _version(lock, *names) for framework, names in DISTRIBUTIONS.items()},
        CUDA_LABEL: cuda,
        "dev.envsnap.driver.min": catalog.driver_floor(cuda) if cuda else None,
        ARCHITECTURES_LABEL: architectures,
        PARTIAL_LABEL: _by_package({name: code.partial for name, code in codes.items()}) if architectures else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _by_package(architectures: Mapping[str, tuple[str, ...]]) -> str | None:
    """Canonical JSON: {"torch":"sm_80 sm_90 compute_90"}. None where there is nothing to say, or more than a label is for."""
    said = {name: " ".join(found) for name, found in architectures.items() if found}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return text if said and len(text) <= _MOST_CHARACTERS else None


def cuda_of(lock: EnvLock) -> str | None:
    """The CUDA version that the packages bring.

    That of the framework's build where its version says (torch's "2.12.1+cu130" is 13.0, Paddle's "2.6.2.post117" 11.7), else that of
    NVIDIA's runtime package, which TensorFlow's extra and Paddle's newer wheels bring. None for a torch that is built without CUDA
    ("+cpu"), and where there is neither: a TensorFlow without its extra takes what CUDA the machine has.
    """
    torch = torch_version.read(_version(lock, "torch") or "")
    if torch.local:
        return torch.cuda
    if found := re.search(r"\.post(1\d)(\d)\Z", _version(lock, "paddlepaddle-gpu") or ""):
        return f"{found[1]}.{found[2]}"
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


def _version(lock: EnvLock, *names: str) -> str | None:
    return next((package.version for package in lock.packages if package.name in names), None)
