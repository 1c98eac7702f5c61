"""capture: facts of the target into a lock; the target is never changed."""

from __future__ import annotations

import datetime
import platform as host_platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envsnap import __version__, lockfile
from envsnap.errors import TargetError
from envsnap.model.facts import CollectedFacts, Distribution, Problem
from envsnap.model.lock import Capture, EnvLock, LockedSource, Measurements, Reference, Smoke
from envsnap.model.parity import SmokeRun
from envsnap.probes import gpu, index, interpreter, pack, source
from envsnap.probes.local import LocalPython
from envsnap.progress import Progress
from envsnap.smoke import kit as smoke_kit
from envsnap.smoke.run import run_smoke
from envsnap.storage import BlobStore
from envsnap.workflows import places


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """Attributes:
    python: interpreter, or directory of a venv or conda environment; None for the active one.
    project: directory of the project; its git repository becomes the lock's source.
    output: file to write; None for lockfiles/NAME.yaml.
    smoke: run the smoke-train twice and keep what it did as the reference.
    offline: ask no index.
    """

    python: str | None = None
    project: Path = Path()
    name: str | None = None
    output: Path | None = None
    smoke: bool = False
    seed: int = 0
    offline: bool = False


def capture(request: CaptureRequest, *, env: Mapping[str, str], cache: Path, progress: Progress) -> tuple[EnvLock, Path]:
    """Capture the target and write its lock, the blobs first; returns the lock and its path."""
    python = interpreter.find_python(request.python, env)
    name = request.name or places.lock_name(request.project.resolve())
    path = places.lock_path(name, request.output)
    blobs = places.blobs_of(path)
    target = LocalPython(python)
    facts = interpreter.collect(target, torch=True, imports=True, integrity=True, progress=progress)
    devices = gpu.read(salt=name)
    project = source.read_source(request.project.resolve(), _editables(facts), blobs, name, progress)
    reference, smoke_problems = _reference(request, target, facts, bool(devices.facts.devices), blobs, cache, progress)
    packed, pack_problems = _packed(facts, project.root, blobs)
    lock = lockfile.assemble(
        name=name,
        facts=facts,
        gpu=devices,
        wheels=_wheels(facts, offline=request.offline, cache=cache, progress=progress),
        source=project.source,
        source_root=str(project.root) if project.root is not None else None,
        packed=packed,
        reference=reference,
        capture=Capture(
            at=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            tool=f"envsnap {__version__}",
            host=host_platform.node(),
            target=target.description,
            withheld={secret: "environment variable at run time" for secret in facts.withheld} | dict(project.withheld),
            problems=(*facts.problems, *devices.problems, *project.problems, *pack_problems, *smoke_problems),
            readings=devices.readings,
        ),
    )
    places.write_lock(lock, path)
    _drop_unused(blobs, lock)
    return lock, path


def _editables(facts: CollectedFacts) -> Sequence[Path]:
    return [Path(path) for distribution in facts.distributions for path in distribution.editable_paths]
