"""diff: two locks, or a lock and the live environment."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from envsnap import lockfile, parity
from envsnap.model.lock import EnvLock
from envsnap.model.parity import Difference
from envsnap.progress import Progress, Silent, Task, Unit
from envsnap.workflows import capture, places, targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Attributes:
    name: of the right side.
    not_compared: what was left out of a comparison with a live environment, one sentence each.
    """

    left: EnvLock
    right: EnvLock
    name: str
    differences: tuple[Difference, ...]
    not_compared: tuple[str, ...] = ()


def of_locks(left: Path, right: Path) -> Comparison:
    """Raises InputError: one of them is no lock."""
    one, other = places.read_lock(left), places.read_lock(right)
    return Comparison(left=one, right=other, name=str(right), differences=parity.diff(one, other))


def of_live(
    left: Path, place: targets.Place, *, project: Path | None, env: Mapping[str, str], cache: Path, progress: Progress
) -> Comparison:
    """The lock and the environment as it is now, captured and written nowhere; no index is asked.

    Args:
        project: as in `CaptureRequest`.

    Raises:
        InputError: no lock. TargetError, EngineError: the environment cannot be read.
    """
    expected = places.read_lock(left)
    request = capture.CaptureRequest(place=place, project=project, offline=True)
    found = capture.live(request, expected, env=env, cache=cache, progress=_Tasks(progress))
    live, not_compared = _comparable(expected, found, place, project)
    return Comparison(
        left=expected, right=live, name=live.capture.target, differences=parity.diff(expected, live), not_compared=not_compared
    )


@dataclass(frozen=True, slots=True)
class _Tasks(Silent):
    """Shows the work, and keeps to itself what is told of a lock that is about to be written: none is."""

    shown: Progress

    def task(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> AbstractContextManager[Task]:
        return self.shown.task(title, total=total, unit=unit)


def _comparable(expected: EnvLock, live: EnvLock, place: targets.Place, project: Path | None) -> tuple[EnvLock, tuple[str, ...]]:
    """The live side with the lock's own value for what was not looked at, and what that was."""
    left_out = []
    if expected.observed.reference is not None:
        left_out.append("the smoke-train: verify repeats it")
        live = replace(live, observed=replace(live.observed, reference=expected.observed.reference))
    if expected.source is None and live.source is not None and project is None:
        left_out.append(f"the project {live.source.name}: the lock has none; --project compares one")
        live = replace(live, source=None)
    elif expected.source is not None and project is None and place != targets.Place(python=place.python):
        left_out.append(f"the project {expected.source.name}: --project names where it is on this host")
        live = replace(live, source=expected.source)
    if place.image is not None:
        left_out.append("the GPUs: an image has none")
        live = replace(live, observed=replace(live.observed, gpu=expected.observed.gpu))
    return lockfile.seal(live), tuple(left_out)
