"""Which steps of a plan only a shell can do: a container engine does these, and all others are layers.

Of the kinds of steps there are two. Wheels, packed packages, a carried interpreter, conda's packages as they were kept, source, variables:
none of them runs anything. Nothing is ever built from an sdist: what no index has as a wheel was packed as one at the capture.
"""

from __future__ import annotations

import hashlib
import json

from envsnap.model.debian import SystemPlan
from envsnap.model.kinds import plain
from envsnap.model.layers import ShellStep, ShellSteps
from envsnap.model.lock import EnvLock
from envsnap.model.plan import AnyStep, AptInstall, BuildPlan, MakeCondaEnvironment, MakeEnvironment, SetEnv

_FORMAT = 1
"""Of how these steps are done: another number for each change after which the same steps give another image."""
_FEW = 3
_CONDA = "conda's packages are fetched by a conda client of the base; capture --rescue conda keeps them instead"


def of_lock(lock: EnvLock) -> str:
    """Why every plan of a lock has such a step, whatever its base; "" where that hangs on the base."""
    return _CONDA if lock.python.conda is not None and lock.python.conda.tree is None else ""


def why(step: AnyStep, system: SystemPlan | None) -> str:
    """Why a step needs a shell; "" where it does not. Args: system: what `AptInstall` comes down to; None while that is not known."""
    match step:
        case AptInstall() if system is not None and system.needs_shell:
            said = "; ".join(f"{one.package}: {one.because}" for one in system.needs_shell[:_FEW])
            more = f"; and {len(system.needs_shell) - _FEW} more" if len(system.needs_shell) > _FEW else ""
            return f"{said}{more}"
        case MakeCondaEnvironment(tree=None):
            return _CONDA
        case _:
            return ""


def reasons(plan: BuildPlan, system: SystemPlan | None) -> tuple[ShellStep, ...]:
    """The steps of a plan that need a shell, and why. Args: system: as `why`."""
    return tuple(
        ShellStep(kind=str(type(step).__struct_config__.tag), because=because) for step in plan.steps if (because := why(step, system))
    )


def shell_steps(plan: BuildPlan, system: SystemPlan | None, onto: str) -> ShellSteps | None:
    """The same with all that decides what they come to; None where no step needs a shell. Args: onto: config digest of the base."""
    steps = [step for step in plan.steps if why(step, system)]
    if not steps:
        return None
    return ShellSteps(
        steps=reasons(plan, system),
        onto=onto,
        env={step.name: step.value for step in quiet(plan)},
        system=system if any(isinstance(step, AptInstall) for step in steps) else None,
        explicit=tuple(line for step in steps if isinstance(step, MakeCondaEnvironment) for line in step.explicit),
    )


def said(steps: tuple[ShellStep, ...]) -> str:
    """Steps and why they need a shell, in one clause."""
    return "; ".join(f"{step.kind} ({step.because})" for step in steps)


def quiet(plan: BuildPlan) -> tuple[SetEnv, ...]:
    """What keeps the base from steering the steps: the variables that are set before the environment is made."""
    first = next((number for number, step in enumerate(plan.steps) if isinstance(step, MakeEnvironment | MakeCondaEnvironment)), 0)
    return tuple(step for step in plan.steps[:first] if isinstance(step, SetEnv))


def recipe(steps: ShellSteps) -> str:
    """What names the result of steps before they are done: hex digest of all that is decided. Their bytes are not: scripts run, files get
    the time.
    """
    packages = [file.sha256 for file in steps.system.packages] if steps.system is not None else []
    document = ["shell", _FORMAT, steps.onto, plain(steps.env), packages, list(steps.explicit)]
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def title(steps: ShellSteps) -> str:
    """What Docker made, for an image's history."""
    packages = [file.name for file in steps.system.packages] if steps.system is not None else []
    conda = ["conda's packages"] if steps.explicit else []
    return f"envsnap, by Docker: {', '.join((*packages, *conda))}"
