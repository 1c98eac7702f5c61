"""Variables: the base's must not steer the environment, the captured ones go with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from envsnap.model.catalog import Catalog, ForOlder, VariableRule
from envsnap.model.lock import EnvLock
from envsnap.model.plan import ENVIRONMENT, HOME_IN_IMAGE, SetEnv

DOCKER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of an image whose config sets none."""
_PLACED = frozenset({"PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "HOME", "USER"})


class Variables(NamedTuple):
    steps: tuple[SetEnv, ...]
    notes: tuple[str, ...]


def quieted(base: Mapping[str, str], lock: EnvLock, catalog: Catalog) -> Variables:
    """The base's variables that would steer the environment, in the base's order, each with a value that does not."""
    steps, notes = [], []
    for name, value in base.items():
        rule = catalog.variable(name)
        if rule is None:
            continue
        if rule.treatment == "unsettled" and name not in lock.env:
            notes.append(f"the base sets {name}, and {rule.reason}; nobody knows a value that means its absence, so it stays")
        neutral = _neutral(rule, value, lock)
        if neutral is not None and neutral != value:
            steps.append(SetEnv(name=name, value=neutral, reason=rule.reason))
    return Variables(tuple(steps), tuple(notes))


def carried(base: Mapping[str, str], lock: EnvLock, asked: Mapping[str, str], catalog: Catalog, *, isolated: bool = True) -> Variables:
    """The environment's own variables: captured ones, those that put it first on PATH, and those asked for, which win.

    Args:
        isolated: it is not the base's own environment, which is on PATH, and whose variables are these unless others were captured.
    """
    chosen: dict[str, SetEnv] = {}
    notes = []
    for name, value in sorted(lock.env.items()):
        rule = catalog.variable(name)
        if name in _PLACED or name in asked or (not isolated and value == base.get(name)):
            continue
        if value is None:
            notes.append(f"{name} is a secret: give it when the container runs (-e {name})")
        elif rule is not None and rule.treatment == "run-time":
            notes.append(f"{name} is left to who runs the container: {rule.reason}")
        else:
            if value.startswith("/"):
                notes.append(f"{name} was captured as a path of its machine and is set as it was")
            chosen[name] = SetEnv(name=name, value=_with_driver(rule, value, base.get(name, "")), reason="as captured")
    path = asked.get("PATH") or base.get("PATH") or DOCKER_PATH
    activated = (
        SetEnv(name="PATH", value=f"{ENVIRONMENT}/bin:{path}", reason="python, python3 and the console scripts are the environment's"),
        SetEnv(
            name="VIRTUAL_ENV" if lock.python.conda is None else "CONDA_PREFIX",
            value=ENVIRONMENT,
            reason="tools that look for the active environment find it",
        ),
    )
    for step in (
        *(activated if isolated else ()),
        SetEnv(name="HOME", value=HOME_IN_IMAGE, reason="caches and settings have a place that any user can write to"),
        SetEnv(name="USER", value="envsnap", reason="a user ID that has no name, as with docker run -u 1000, needs one for getpass"),
    ):
        chosen[step.name] = step
    for name, value in sorted(asked.items()):
        if name != "PATH" or not isolated:
            chosen[name] = SetEnv(name=name, value=value, reason="asked for with --env")
    return Variables(tuple(chosen.values()), tuple(notes))


def _neutral(rule: VariableRule, value: str, lock: EnvLock) -> str | None:
    if rule.treatment == "driver-paths":
        return ":".join(_driver_paths(rule, value))
    if rule.treatment == "neutral":
        return rule.for_older.value if rule.for_older and _is_older(rule.for_older, lock) else rule.value
    return None


def _with_driver(rule: VariableRule | None, captured: str, base: str) -> str:
    """The captured search path with the driver's directories of the base behind it."""
    if rule is None or rule.treatment != "driver-paths":
        return captured
    own = [part for part in captured.split(":") if part]
    return ":".join([*own, *(part for part in _driver_paths(rule, base) if part not in own)])


def _driver_paths(rule: VariableRule, value: str) -> list[str]:
    return [part for part in value.split(":") if part.startswith(rule.paths)]


def _is_older(than: ForOlder, lock: EnvLock) -> bool:
    version = next((package.version for package in lock.packages if package.name == than.package), None)
    try:
        return version is not None and Version(version) < Version(than.than)
    except InvalidVersion:
        return False
