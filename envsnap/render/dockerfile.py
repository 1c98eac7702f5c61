"""The Dockerfile: the plan's steps sorted into the stages that its template lays out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

from envsnap.model.lock import EnvLock
from envsnap.model.plan import (
    CONDA_TREE,
    ENVIRONMENT,
    HOME_IN_IMAGE,
    LOCK_IN_IMAGE,
    MANIFEST_IN_IMAGE,
    PYTHON_TREE,
    WORKSPACE,
    AptInstall,
    BuildPlan,
    CarryInterpreter,
    CopySource,
    ExtendBase,
    InstallPacked,
    InstallWheels,
    MakeCondaEnvironment,
    MakeEnvironment,
    PackedInstall,
    PinnedWheel,
    RemovePackages,
    SetEnv,
    Step,
)
from envsnap.render.files import Editable
from envsnap.render.quoting import image, user
from envsnap.render.templates import template

S = TypeVar("S", bound=Step)


class EnvBlock(NamedTuple):
    """Variables that are set for one reason."""

    reason: str
    variables: tuple[SetEnv, ...]


def dockerfile(plan: BuildPlan, lock: EnvLock, editables: Sequence[Editable]) -> str:
    """The Dockerfile's text."""
    make, conda, extend = _only(plan, MakeEnvironment), _only(plan, MakeCondaEnvironment), _only(plan, ExtendBase)
    before = _before_environment(plan)
    major_minor = ".".join(lock.python.version.split(".")[:2])
    text: str = template("Dockerfile.j2" if extend is None else "Dockerfile.delta.j2").render(
        plan=plan,
        extend=extend,
        removed=_only(plan, RemovePackages),
        pip_comes=any(one.name == "pip" for step in plan.steps for one in _files(step)),
        base=image(plan.base.pinned),
        quiet=_blocks(plan, 0, before),
        own=_blocks(plan, before, len(plan.steps)),
        make=make,
        conda=conda,
        carried=_only(plan, CarryInterpreter),
        python_tree=PYTHON_TREE,
        conda_tree=CONDA_TREE,
        python=make.python if make is not None else "python3",
        wheels=_only(plan, InstallWheels),
        packed=_only(plan, InstallPacked),
        system=_only(plan, AptInstall),
        source=_only(plan, CopySource),
        editables=editables,
        user=user(plan.base.config.user) if plan.base.config is not None and plan.base.config.user else "",
        environment=ENVIRONMENT,
        major_minor=major_minor,
        site_packages=f"{ENVIRONMENT}/lib/python{major_minor}/site-packages",
        lock_path=LOCK_IN_IMAGE,
        manifest_path=MANIFEST_IN_IMAGE,
        writable=(HOME_IN_IMAGE, WORKSPACE),
    )
    return text


def shell_dockerfile(plan: BuildPlan, *, turns: int, conda: bool) -> str:
    """The Dockerfile of those steps alone that need a shell.

    Args:
        turns: in how many dpkg takes the system's packages, which lie in `debs/1`, `debs/2`, …; 0 for none.
        conda: a client of the base fetches conda's packages.
    """
    text: str = template("Dockerfile.shell.j2").render(
        base=image(plan.base.pinned),
        quiet=_blocks(plan, 0, _before_environment(plan)),
        turns=turns,
        system=_only(plan, AptInstall),
        conda=_only(plan, MakeCondaEnvironment) if conda else None,
    )
    return text


def _before_environment(plan: BuildPlan) -> int:
    """How many steps come before the environment is made."""
    first = _only(plan, MakeEnvironment) or _only(plan, MakeCondaEnvironment) or _only(plan, ExtendBase)
    return plan.steps.index(first) if first is not None else 0


def _files(step: Step) -> tuple[PinnedWheel | PackedInstall, ...]:
    return step.wheels if isinstance(step, InstallWheels) else step.packages if isinstance(step, InstallPacked) else ()


def _only(plan: BuildPlan, kind: type[S]) -> S | None:
    return next((step for step in plan.steps if isinstance(step, kind)), None)


def _blocks(plan: BuildPlan, start: int, stop: int) -> list[EnvBlock]:
    steps = [step for step in plan.steps[start:stop] if isinstance(step, SetEnv)]
    return [EnvBlock(reason, tuple(group)) for reason, group in groupby(steps, key=lambda step: step.reason)]
