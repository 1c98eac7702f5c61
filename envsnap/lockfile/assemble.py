"""Facts -> lock: what each thing that was found means. Pure; the workflow did the asking."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from envsnap import redaction
from envsnap.errors import TargetError
from envsnap.lockfile import validate
from envsnap.lockfile.conda import PackedTree, conda
from envsnap.lockfile.digest import seal
from envsnap.lockfile.doubts import doubts
from envsnap.lockfile.explain import misfit
from envsnap.lockfile.observe import observe
from envsnap.lockfile.packages import Evidence, Packed, Unfound, WheelAnswer, packages
from envsnap.model.base import InstalledDistribution
from envsnap.model.facts import CollectedFacts, GpuProbe, Interpreter, Problem, SystemLibrary
from envsnap.model.kinds import Variable
from envsnap.model.lock import (
    Capture,
    EnvLock,
    LockedConda,
    LockedInterpreter,
    LockedPackage,
    LockedPython,
    LockedSource,
    LockedSystemPackage,
    LockedTree,
    Reference,
)

_MACHINES: Mapping[str, Literal["x86_64", "aarch64"]] = {"x86_64": "x86_64", "aarch64": "aarch64"}


def assemble(
    *,
    name: str,
    facts: CollectedFacts,
    gpu: GpuProbe,
    wheels: Mapping[str, WheelAnswer | Unfound],
    source: LockedSource | None,
    source_root: str | None,
    packed: Mapping[str, Packed],
    tree: PackedTree | None = None,
    interpreter: LockedTree | None = None,
    reference: Reference | None,
    capture: Capture,
    releases: Mapping[str, str] = {},
    rivals: Collection[str] = (),
    base: Sequence[InstalledDistribution] = (),
    home: str = "",
    known: Mapping[str, LockedPackage] = {},
) -> EnvLock:
    """The sealed lock of an environment.

    Args:
        wheels: by normalised name, for each distribution that an index was asked for.
        source_root: absolute path on the target of the directory that `source` describes.
        packed: by normalised name, for those that `to_pack` names.
        tree: what conda installed, where `needs_tree` says so.
        interpreter: where it was asked to be kept.
        releases, rivals, known, home: as in `Evidence`. base: packages of that image.
        capture: complete but for the problems that are found here.

    Raises:
        TargetError: a machine that no lock can describe.
    """
    of_conda, conda_problems = conda(facts.conda, tree)
    root = source_root if source is not None else None
    evidence = Evidence(
        wheels=wheels,
        packed=packed,
        source=source,
        root=root,
        releases=releases,
        rivals=rivals,
        base={one.name: one for one in base},
        home=home,
        conda=of_conda,
        known=known,
    )
    locked, problems = packages(facts.distributions, evidence)
    system_packages, system_problems = _system_packages(facts.system_libraries)
    env, env_problems = _env(facts.env)
    observed = observe(facts, gpu, reference)
    return seal(
        EnvLock(
            envsnap=1,
            name=name,
            digest="",
            python=_python(facts.interpreter, of_conda, interpreter),
            packages=locked,
            system_packages=system_packages,
            source=source,
            env=env,
            observed=observed,
            capture=replace(
                capture,
                target=redaction.text(capture.target),
                problems=tuple(
                    map(
                        _public, (*capture.problems, *doubts(observed, locked), *conda_problems, *problems, *system_problems, *env_problems)
                    )
                ),
            ),
        )
    )


def _public(problem: Problem) -> Problem:
    """What went wrong is often said in somebody else's words."""
    return Problem(where=redaction.text(problem.where), what=redaction.text(problem.what), hint=redaction.text(problem.hint))


def _python(interpreter: Interpreter, of_conda: LockedConda | None, tree: LockedTree | None) -> LockedPython:
    if interpreter.machine not in _MACHINES:
        raise TargetError(f"the target is a {interpreter.machine} machine", why=f"a lock describes {' and '.join(_MACHINES)} only")
    return LockedPython(
        version=interpreter.version,
        implementation=interpreter.implementation,
        abi=interpreter.abi,
        kind=interpreter.kind,
        interpreter=LockedInterpreter(soabi=interpreter.soabi, machine=_MACHINES[interpreter.machine]),
        conda=of_conda,
        tree=tree,
    )


def _system_packages(libraries: Sequence[SystemLibrary]) -> tuple[tuple[LockedSystemPackage, ...], list[Problem]]:
    """The libraries grouped by owner; one that nobody owns stands alone, one that is not there was not needed."""
    groups: dict[tuple[str, str | None, str | None], list[SystemLibrary]] = {}
    for library in libraries:
        if library.path is not None:
            owner = (library.package or f"\0{library.soname}", library.package_version, library.package_arch)
            groups.setdefault(owner, []).append(library)
    kept: list[LockedSystemPackage] = []
    problems: list[Problem] = []
    for (_, version, arch), members in groups.items():
        package = LockedSystemPackage(
            name=members[0].package,
            version=version,
            arch=arch,
            sonames=tuple(sorted({member.soname for member in members})),
            needed_by=tuple(sorted({name for member in members for name in member.needed_by})),
        )
        if refused := misfit(package, LockedSystemPackage):
            problems.append(Problem(where=f"system_packages.{members[0].soname}", what=f"left out: {refused}"))
        else:
            kept.append(package)
    return tuple(kept), problems


def _env(env: Mapping[str, str | None]) -> tuple[dict[str, str | None], list[Problem]]:
    kept: dict[str, str | None] = {}
    problems: list[Problem] = []
    for name, value in sorted(env.items()):
        if refused := misfit(name, Variable):
            problems.append(Problem(where="env", what=f"a variable was left out: {refused}"))
            continue
        unfit = validate.unfit_value(name, value)
        if not unfit and value is not None and redaction.find_secrets(value):
            unfit = "it looks like a secret"
        kept[name] = None if unfit else value
        if unfit:
            problems.append(
                Problem(where=f"env.{name}", what=f"value left out: {unfit}", hint=f"give it at run time: docker run -e {name}")
            )
    return kept, problems
