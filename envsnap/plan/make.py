"""From a lock and a base to a plan.

An environment of packages that indexes have is isolated: in a directory of its own, first on PATH, nothing of the base's in it. One that
was made inside NVIDIA's image is that image with the difference on top (`plan.delta`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envsnap.errors import NoBase, PlanError
from envsnap.model.base import Base
from envsnap.model.catalog import Catalog
from envsnap.model.lock import EnvLock
from envsnap.model.plan import (
    CARRIED,
    WORKSPACE,
    AnyStep,
    BasePackage,
    BuildPlan,
    Candidate,
    CarryInterpreter,
    Check,
    CopySource,
    ExtendBase,
    MakeCondaEnvironment,
    MakeEnvironment,
    RemovePackages,
)
from envsnap.plan import bases, delta
from envsnap.plan.alternatives import alternatives
from envsnap.plan.labels import labels
from envsnap.plan.limits import refuse
from envsnap.plan.packages import conda_install, installs, system_install
from envsnap.plan.variables import Variables, carried, quieted


def make_plan(
    lock: EnvLock,
    catalog: Catalog,
    known: Sequence[Base],
    *,
    env: Mapping[str, str] | None = None,
    no_source: bool = False,
    allow_unproven: frozenset[str] = frozenset(),
    allow_replace: frozenset[str] = frozenset(),
    pyc: bool = True,
) -> BuildPlan:
    """How to get from a base to the locked environment.

    What is rendered of it depends on what the lock's digest covers, the catalogue, the base's digest and config, and the options;
    never on what was observed at the capture, nor on whether somebody happened to have looked inside the base.

    Args:
        known: `candidate_references` with what registries and engines said of them, best first; the first possible one is taken.
        env: variables to set over everything else.
        no_source: leave the project's files out.
        allow_unproven: packages that may go in although nothing vouches for them.
        allow_replace: NVIDIA's own builds in the base that the environment's packages may take the place of.
        pyc: compile modules at install time.

    Raises:
        PlanError: no base can carry the lock, or the lock holds what must not be built.
    """
    if delta.base_of(lock) is None:
        refuse(lock, allow_unproven)
    judged = [bases.judge(base, lock, catalog) for base in known]
    chosen = _choose(judged, lock, catalog)
    base, config = chosen.base, chosen.base.config
    base_env = config.env if config is not None else {}
    source = lock.source is not None and not no_source
    workdir = f"{WORKSPACE}/{lock.source.name}" if lock.source is not None and source else WORKSPACE

    difference = _difference(lock, chosen, catalog, allow_unproven, allow_replace)
    kept = {one.name for one in difference.kept} if difference is not None else set[str]()
    said = delta.notes(difference) if difference is not None else ()
    filled = installs(lock, source=source, pyc=pyc, kept=kept)
    system = system_install(
        lock, base, catalog, there=base.inventory.sonames if difference is not None and base.inventory is not None else None
    )
    # What the base sets steered an environment that was made in it.
    quiet = quieted(base_env, lock, catalog) if difference is None else Variables((), ())
    own = carried(base_env, lock, env or {}, catalog, isolated=difference is None)
    steps: list[AnyStep | None] = [
        *quiet.steps,
        *(_environment(lock, base, catalog, pyc=pyc) if difference is None else _extension(difference, lock, base)),
        filled.wheels,
        filled.packed,
        system.step,
        CopySource(path=workdir, reason="the project's files, as captured; any user may write there") if source else None,
        *own.steps,
        Check(reason="the image is refused unless its packages, imports and source are those of the lock"),
    ]
    unresolved = ["what variables the base sets is not known, so none is treated yet"] if config is None and not base.is_made_here else []
    return BuildPlan(
        lock_name=lock.name,
        lock_digest=lock.digest,
        strategy=chosen.strategy,
        base=base,
        base_reason=bases.why(base, lock, catalog),
        candidates=(*judged, *alternatives(lock, catalog, judged)),
        steps=tuple(step for step in steps if step is not None),
        labels=labels(lock, base, catalog, source=source),
        workdir=workdir,
        notes=(*unresolved, *said, *filled.notes, *system.notes, *quiet.notes, *own.notes),
    )


def _difference(
    lock: EnvLock, chosen: Candidate, catalog: Catalog, allow_unproven: frozenset[str], allow_replace: frozenset[str]
) -> delta.Delta | None:
    """What goes on top of the image that the environment was made in; None for an isolated environment.

    Raises:
        PlanError: the lock holds what must not be built, or NVIDIA's own builds would be touched.
    """
    if chosen.strategy != "ngc-delta":
        return None
    assert chosen.base.inventory is not None  # else it was refused
    found = delta.delta(lock, chosen.base.inventory.packages)
    # Before what nothing vouches for: whoever rescues a torch of an index would only be stopped by this next.
    replaced = tuple(delta.taken(found, chosen.base.inventory.unowned, catalog))
    delta.require_allowed(replaced, allow_replace, chosen.base.name, catalog)
    refuse(lock, allow_unproven, {one.name for one in found.kept})
    return found


def _extension(found: delta.Delta, lock: EnvLock, base: Base) -> list[ExtendBase | RemovePackages]:
    assert base.inventory is not None
    site, prefix = delta.site_of(base.inventory.packages, bases.minor(lock.python.version), base.reference)
    reason = f"{len(found.kept)} packages of the base stay as they are"
    steps: list[ExtendBase | RemovePackages] = [
        ExtendBase(
            python="python3",
            site=f"/{site}",
            prefix=f"/{prefix}",
            kept=len(found.kept),
            hides=tuple(sorted(one.was.name for one in found.replaced if one.was.site != site)),
            reason=reason,
        )
    ]
    # One of the distribution's own, in another directory, is hidden by what was installed over it, as it was where it was captured.
    others = (*found.removed, *(one.was for one in found.replaced))
    gone = sorted((one for one in others if one.site == site), key=lambda one: one.name)
    if unrecorded := [f"{one.name} {one.version}" for one in gone if one.files is None]:
        raise PlanError(
            f"{', '.join(unrecorded)} of {base.name} cannot be taken away",
            why="without a RECORD nobody knows which files are its own",
            hint="keep it as the image has it, and capture again",
        )
    if gone:
        packages = tuple(BasePackage(name=one.name, version=one.version) for one in gone)
        steps.append(RemovePackages(packages=packages, reason="the environment has these in another version, or no more"))
    return steps


def _environment(
    lock: EnvLock, base: Base, catalog: Catalog, *, pyc: bool
) -> list[CarryInterpreter | MakeEnvironment | MakeCondaEnvironment]:
    python = bases.minor(lock.python.version)
    if lock.python.conda is not None:
        return [conda_install(lock.python.conda, pyc=pyc)]
    if lock.python.tree is not None and bases.carries(base, lock, catalog):
        program = f"{CARRIED}/bin/python{python}"
        reason = f"the captured interpreter itself, Python {lock.python.version}: the base has no {python}"
        return [
            CarryInterpreter(tree=lock.python.tree.blob, program=program, reason=reason),
            MakeEnvironment(python=program, reason="the carried interpreter, and no package of the base"),
        ]
    # `python3` and not a path: what it is called inside must not depend on somebody having looked.
    return [MakeEnvironment(python="python3", reason=f"the base's Python {python}, and no package of the base")]


def _choose(judged: Sequence[Candidate], lock: EnvLock, catalog: Catalog) -> Candidate:
    possible = next((candidate for candidate in judged if candidate.possible), None)
    if possible is not None:
        return possible
    first = judged[0]
    python = bases.minor(lock.python.version)
    if first.strategy == "ngc-delta" and (first.base.inventory is None or not first.base.inventory.packages):
        raise bases.unknown(first.base, "what is in it,")
    if delta.base_of(lock) is not None:
        raise NoBase(
            f"{first.base.reference} cannot carry this environment", why=first.reason, hint=f"--base {delta.base_of(lock)}, or none at all"
        )
    if lock.python.conda is None and bases.python_of(first.base, catalog) is None and first.base.inventory is None:
        raise bases.unknown(first.base, "the Python")
    raise NoBase(
        f"{first.base.reference} cannot carry this environment",
        why=first.reason,
        hint=f"{bases.other_bases(python, catalog)}; capture --rescue python keeps the interpreter",
    )
