"""diff: two locks, or a lock and the live environment."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from envsnap import lockfile, parity
from envsnap.model.lock import EnvLock, LockedPackage
from envsnap.model.parity import Difference
from envsnap.progress import Progress
from envsnap.workflows import capture, places, targets


def differences(
    left: Path,
    right: Path | None,
    *,
    python: str | None,
    project: Path,
    env: Mapping[str, str],
    cache: Path,
    progress: Progress,
) -> tuple[tuple[Difference, ...], str]:
    """The differences, and what the right side is called."""
    expected = places.read_lock(left)
    if right is not None:
        return parity.diff(expected, places.read_lock(right)), str(right)
    live = _live(expected, python, project, env, cache, progress)
    return parity.diff(expected, live), live.capture.target


def _live(expected: EnvLock, python: str | None, project: Path, env: Mapping[str, str], cache: Path, progress: Progress) -> EnvLock:
    """A capture of the live environment that is written nowhere.

    Where a package came from is not asked of any index again: one whose version and files are the lock's came from where
    the lock says, and for any other the version or the files are the difference.
    """
    with tempfile.TemporaryDirectory(prefix="envsnap-drift-") as scratch:
        request = capture.CaptureRequest(
            place=targets.Place(python=python),
            project=project,
            name=expected.name,
            output=Path(scratch, "live.yaml"),
            smoke=False,
            offline=True,
        )
        live, _ = capture.capture(request, env=env, cache=cache, progress=progress)
    known = {package.name: package for package in expected.packages}
    packages = tuple(_same_origin(package, known.get(package.name)) for package in live.packages)
    observed = msgspec.structs.replace(live.observed, reference=expected.observed.reference)  # a diff trains nothing
    return lockfile.seal(msgspec.structs.replace(live, packages=packages, observed=observed))


def _same_origin(live: LockedPackage, locked: LockedPackage | None) -> LockedPackage:
    if locked is None or live.files is None or (live.version, live.files, live.modified) != (locked.version, locked.files, locked.modified):
        return live
    return locked
