"""The table of a plan: what is known of each base that could carry the environment, and what would be put on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec.structs import replace

from envsnap import catalog, plan
from envsnap.engines.docker import DockerEngine
from envsnap.errors import EngineError, PlanError
from envsnap.model.base import Base
from envsnap.model.catalog import Catalog
from envsnap.model.lock import EnvLock
from envsnap.model.plan import BuildPlan, Candidate
from envsnap.plan import alternatives
from envsnap.plan.bases import pull_bytes
from envsnap.progress import SILENT
from envsnap.registry.client import Registry, RegistryImage
from envsnap.workflows import bases, capture_host, inventories, places
from envsnap.workflows.added import Added, added
from envsnap.workflows.plan import PlanRequest
from envsnap.workflows.system import Packages

_AT_ONCE = 6


def told(
    made: BuildPlan,
    lock: EnvLock,
    lock_file: Path,
    request: PlanRequest,
    *,
    engine: DockerEngine | None,
    registry: Registry | None,
    packages: Packages,
    cache: Path,
) -> BuildPlan:
    """A plan whose candidates say what is to be pulled, what is added, and what becomes of the environment there.

    Args:
        registry: asked for the bases that nobody asked about yet, and given up soon where it does not answer; None to ask nobody.
    """
    known = catalog.load()
    sources = bases.Sources(
        engine=engine,
        registry=registry or Registry({}),
        offline=True,
        packages=packages,
        pins=places.image_directory(lock.name),
        cache=cache,
        pinned={},
        machine=lock.python.interpreter.machine,
    )
    found = _look_up([candidate.base for candidate in made.candidates if candidate.base != made.base], sources, registry)
    rows = []
    for candidate in made.candidates:
        row = _judged(candidate, found.get(candidate.base.reference), lock, known)
        size = _added(row, lock, lock_file, request, known, cache)
        rows.append(replace(row, added_bytes=size.bytes, added_without=size.without))
    return replace(made, candidates=tuple(rows))


def _look_up(asked: Sequence[Base], sources: bases.Sources, registry: Registry | None) -> Mapping[str, Base]:
    """What an engine or the cache, else a registry, says of bases that nobody looked up; by their reference."""
    unknown = {base.reference: base for base in asked if base.config is None and not base.is_made_here}
    kept = {name: bases.know(name, base.family, base.release, sources, SILENT) for name, base in unknown.items()}
    far = [name for name, base in kept.items() if base.config is None]
    if registry is None or not far:
        return kept
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = dict(zip(far, pool.map(lambda name: _ask(name, registry, sources.machine), far), strict=True))
    return {name: _with(base, answers.get(name), sources) for name, base in kept.items()}


def _ask(reference: str, registry: Registry, machine: str) -> RegistryImage | str:
    """What a registry says, or why it does not."""
    try:
        return registry.resolve(reference, machine=machine)
    except EngineError as error:
        return f"{error.what}: {error.why}" if error.why else error.what


def _with(base: Base, answer: RegistryImage | str | None, sources: bases.Sources) -> Base:
    if answer is None:
        return base
    if isinstance(answer, str):
        return replace(base, unknown_because=answer)
    inventory = inventories.recall(answer.config_digest, sources.cache)
    return replace(base, digest=answer.digest, config=answer.config, inventory=inventory, unknown_because="")


def _judged(candidate: Candidate, base: Base | None, lock: EnvLock, known: Catalog) -> Candidate:
    """A candidate by all that is known of its base now."""
    if base is None:
        return candidate
    again = alternatives.unasked(base, lock, known)
    if again.strategy != candidate.strategy or plan.base_of(lock) is not None:  # what it is not, it is not for what it holds
        return replace(candidate, base=base, pull_bytes=pull_bytes(base))
    return capture_host.held(again, lock, known)


def _added(candidate: Candidate, lock: EnvLock, lock_file: Path, request: PlanRequest, known: Catalog, cache: Path) -> Added:
    """What the plan would put on a base if it were the chosen one."""
    if not candidate.possible:
        return Added(bytes=None)
    try:
        steps = plan.make_plan(
            lock,
            known,
            [candidate.base],
            env=request.env or {},
            no_source=request.no_source,
            allow_unproven=request.allow_unproven,
            allow_replace=request.allow_replace,
            pyc=request.pyc,
        ).steps
    except PlanError as error:
        return Added(bytes=None, without=(error.what,))
    return added(steps, candidate.base, blobs=places.blobs_of(lock_file), directory=places.image_directory(lock.name), cache=cache)
