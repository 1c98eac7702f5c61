"""The two digests of a lock, and the order that makes its bytes the environment's and nobody else's.

A digest covers a document, not an object: the canonical JSON (sorted keys, no white space, ASCII) of what stands in the file.
`docs/lockfile-format.md` has a worked example, which a test executes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from msgspec.structs import replace

from envsnap.model.kinds import plain
from envsnap.model.lock import EnvLock, LockedPackage, LockedSystemPackage, Observed

IMAGE_PARTS = ("python", "packages", "system_packages", "source", "env")
"""What an image is made from: the keys that `digest` covers."""


def lock_digest(lock: EnvLock) -> str:
    """What `lock.digest` must be: over `IMAGE_PARTS` and nothing else."""
    document = plain(lock)
    return _digest({part: document[part] for part in IMAGE_PARTS if part in document})


def observed_digest(observed: Observed) -> str:
    """What `observed.digest` must be: over the part without itself and without the reference's measurements."""
    document = plain(observed)
    del document["digest"]
    document.get("reference", {}).pop("measurements", None)
    return _digest(document)


def seal(lock: EnvLock) -> EnvLock:
    """The lock in canonical order with both digests set. Sealing twice changes nothing."""
    ordered = replace(
        lock,
        packages=tuple(sorted(lock.packages, key=package_order)),
        system_packages=tuple(sorted(lock.system_packages, key=system_package_order)),
        observed=replace(lock.observed, digest=observed_digest(lock.observed)),
    )
    return replace(ordered, digest=lock_digest(ordered))


def package_order(package: LockedPackage) -> str:
    """A lock holds each name once."""
    return package.name


def system_package_order(package: LockedSystemPackage) -> tuple[str, tuple[str, ...]]:
    """Libraries that no package owns come first, by soname."""
    return package.name or "", package.sonames


def _digest(document: Any) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return "sha256:" + hashlib.sha256(canonical.encode("ascii")).hexdigest()
