"""The table of a plan: what is known of each base that could carry the environment, and what would be put on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Attributes:
    lock_file: the lock's, for the blobs beside it.
    registry: asked for the bases that nobody asked about yet, and given up soon where it does not answer; None to ask nobody.
    """

    lock: EnvLock
    lock_file: Path
    request: PlanRequest
    engine: DockerEngine | None
    registry: Registry | None
    packages: Packages
    cache: Path

    def told(self, made: BuildPlan) -> BuildPlan:
        """A plan whose candidates say what is to be pulled, what is added, and what becomes of the environment there."""
        return replace(made, candidates=self._rows(made.candidates, made.base))

    def ways(self) -> tuple[Candidate, ...]:
        """The same where there is no plan: what could carry the environment, and why the rest cannot."""
        return self._rows(alternatives.alternatives(self.lock, catalog.load(), ()))

    def _rows(self, candidates: Sequence[Candidate], chosen: Base | None = None) -> tuple[Candidate, ...]:
        known = catalog.load()
        sources = bases.Sources(
            engine=self.engine,
            registry=self.registry or Registry({}),
            offline=True,
            packages=self.packages,
            pins=places.image_directory(self.lock.name),
            cache=self.cache,
            pinned={},
            machine=self.lock.python.interpreter.machine,
        )
        found = _look_up([candidate.base for candidate in candidates if candidate.base != chosen], sources, self.registry)
        rows = []
        for candidate in candidates:
            row = _judged(candidate, found.get(candidate.base.reference), self.lock, known)
            size = self._added(row, known)
            rows.append(replace(row, added_bytes=size.bytes, added_without=size.without))
        return tuple(rows)

    def _added(self, candidate: Candidate, known: Catalog) -> Added:
        """What the plan would put on a base if it were the chosen one."""
        if not candidate.possible:
            return Added(bytes=None)
        request, directory = self.request, places.image_directory(self.lock.name)
        try:
            steps = plan.make_plan(
                self.lock,
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
        return added(steps, candidate.base, blobs=places.blobs_of(self.lock_file), directory=directory, cache=self.cache)


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
