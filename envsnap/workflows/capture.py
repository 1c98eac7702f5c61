"""capture: facts of the target into a lock; the target is never changed."""

from __future__ import annotations

import datetime as dt
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envsnap import __version__, lockfile
from envsnap.errors import EnvsnapError
from envsnap.model.facts import CollectedFacts, Distribution, Problem
from envsnap.model.lock import Capture, EnvLock, LockedSource, LockedSubmodule
from envsnap.probes import gpu, index, interpreter, pack, source
from envsnap.probes.local import LocalPython
from envsnap.progress import Progress
from envsnap.storage import BlobStore
from envsnap.workflows import places, reference


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
    if python.parent == Path(sys.executable).parent:
        progress.warning("this is the environment that envsnap itself lives in; --python DIR names the one that trains")
    with tempfile.TemporaryDirectory(prefix="envsnap-capture-") as scratch:
        blobs = BlobStore(Path(scratch))
        lock = _lock(request, name, LocalPython(python), python, blobs, cache=cache, progress=progress)
        kept = places.blobs_of(path)
        for digest in sorted(_named(lock)):
            kept.put(blobs.read(digest))
    places.write_lock(lock, path)
    kept.keep_only(_named(lock))
    return lock, path


def _lock(
    request: CaptureRequest, name: str, target: LocalPython, python: Path, blobs: BlobStore, *, cache: Path, progress: Progress
) -> EnvLock:
    facts = interpreter.collect(target, torch=True, imports=True, integrity=True, progress=progress)
    devices = gpu.read(salt=name)
    project = source.read_source(request.project.resolve(), _editables(facts), blobs, places.lock_name(request.project.resolve()), progress)
    packed, pack_problems = _packed(facts.distributions, project.root, blobs)
    smoke = reference.Finding(reference=None)
    if request.smoke:
        smoke = reference.make(target, python, facts, seed=request.seed, blobs=blobs, cache=cache, progress=progress)
    return lockfile.assemble(
        name=name,
        facts=facts,
        gpu=devices,
        wheels=_wheels(facts, offline=request.offline, cache=cache, progress=progress),
        source=project.source,
        source_root=str(project.root) if project.root is not None else None,
        packed=packed,
        reference=smoke.reference,
        capture=Capture(
            at=dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            tool=f"envsnap {__version__}",
            host=platform.node(),
            target=target.description,
            withheld=dict.fromkeys(facts.withheld, "an environment variable, at run time") | dict(project.withheld),
            problems=(*facts.problems, *devices.problems, *project.problems, *pack_problems, *([smoke.problem] if smoke.problem else [])),
            readings=devices.readings,
        ),
    )


def _editables(facts: CollectedFacts) -> Sequence[Path]:
    return [Path(path) for distribution in facts.distributions for path in distribution.editable_paths]


def _wheels(facts: CollectedFacts, *, offline: bool, cache: Path, progress: Progress) -> dict[str, lockfile.WheelAnswer | lockfile.Unfound]:
    """Ask the indexes for every distribution that they may have."""
    wanted = [
        index.Wanted(name=distribution.name, version=distribution.version, tags=distribution.tags, build=distribution.build)
        for distribution in facts.distributions
        if distribution.tags and not _local(distribution)
    ]
    config = index.PipConfig.from_facts(facts.pip_config)
    found = index.find_wheels(wanted, config, offline=offline, cache=cache, ca_bundle=None, progress=progress)
    return {name: _answer(answer) for name, answer in found.items()}


def _answer(answer: index.Found | index.Absent | index.Broken) -> lockfile.WheelAnswer | lockfile.Unfound:
    match answer:
        case index.Found():
            return lockfile.WheelAnswer(file=answer.file, sha256=answer.sha256, index=answer.index, yanked=answer.yanked)
        case _:
            return lockfile.Unfound(answer.reason)


def _local(distribution: Distribution) -> bool:
    """Installed from a directory or a repository: no index is asked."""
    url = distribution.direct_url or {}
    return "dir_info" in url or "vcs_info" in url


def _packed(distributions: Sequence[Distribution], root: Path | None, blobs: BlobStore) -> tuple[dict[str, lockfile.Packed], list[Problem]]:
    """A wheel of what is installed, for what no index has: directories and editables of the project, and repositories."""
    packed: dict[str, lockfile.Packed] = {}
    problems: list[Problem] = []
    for distribution in distributions:
        if not _local(distribution) or (root is None and "vcs_info" not in (distribution.direct_url or {})):
            continue
        try:
            data = pack.pack_editable(distribution) if distribution.editable_paths else pack.pack_installed(distribution)
        except EnvsnapError as error:
            problems.append(Problem(where=f"packages.{distribution.name}", what=f"cannot be packed: {error.what}"))
            continue
        packed[distribution.name] = (pack.wheel_file_name(distribution), blobs.put(data))
    return packed, problems


def _named(lock: EnvLock) -> set[str]:
    """The blobs that the lock names."""
    named = {package.blob for package in lock.packages}
    if lock.source is not None:
        trees: tuple[LockedSource | LockedSubmodule, ...] = (lock.source, *lock.source.submodules)
        for tree in trees:
            named |= {tree.patch, *(file.blob for file in tree.untracked)}
    if lock.observed.reference is not None:
        named |= {lock.observed.reference.anchor, *lock.observed.reference.smoke.gradient.values()}
    return {digest for digest in named if digest is not None}
