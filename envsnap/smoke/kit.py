"""Lends ultralytics and W&B to an environment that has a framework but not them: for the smoke-train alone, outside of it.

What is missing is resolved by pip against the environment's own interpreter and packages, which stay as they are; the kit is
a directory in the cache, named by the digest of the exact wheels in it. pip is driven through its documented options only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from envsnap import redaction
from envsnap.errors import TargetError
from envsnap.model.facts import CollectedFacts
from envsnap.model.frameworks import DISTRIBUTIONS, Framework
from envsnap.model.lock import KitPackage, LockedPython
from envsnap.process import Completed, NotStarted, run
from envsnap.progress import Progress
from envsnap.storage import new_directory, touch

# The oldest releases that the smoke-train was tried with; W&B's reader of its own runs is young.
REQUIREMENTS = {"ultralytics": "ultralytics>=8.4", "wandb": "wandb>=0.31"}
NEEDED: Mapping[Framework, tuple[str, ...]] = {"torch": ("ultralytics", "wandb"), "tensorflow": ("wandb",), "paddle": ("wandb",)}
# The environment's own do the work; lending them would prove nothing.
OWN = frozenset({"torchvision"}).union(*DISTRIBUTIONS.values())
OPENCV = "opencv-python"
# The same module without the graphical toolkits, whose system libraries a small image lacks.
HEADLESS_OPENCV = "opencv-python-headless"
TIMEOUT_S = 1800.0
_IMPLEMENTATIONS = {"cpython": "cp", "pypy": "pp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """Attributes: directory: for `run_smoke`; None, with no packages, when the environment needs none."""

    directory: Path | None
    packages: tuple[KitPackage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoKit:
    """Attributes: reason: one sentence why the smoke-train has to be left out."""

    reason: str


def resolve(
    python: Path | None, framework: Framework, facts: CollectedFacts, cache: Path, progress: Progress, *, offline: bool = False
) -> Kit | NoKit:
    """Find and unpack what the environment of `python` lacks for the smoke-train of its framework.

    Args:
        python: None for one that is not on this host, which can be lent nothing.
        facts: of that environment; every installed version is a constraint.
        cache: its `kits/` keeps what was unpacked.
        offline: no index is to be asked.

    Raises:
        TargetError: no pip can be had, or what it resolved cannot be fetched.
    """
    installed = {distribution.name: distribution.version for distribution in facts.distributions}
    missing = [name for name in NEEDED[framework] if name not in installed]
    if not missing:
        return Kit(directory=None, packages=())
    if python is None:
        return NoKit(reason=f"{' and '.join(missing)} not installed, and what is not on this host can be lent nothing")
    if offline:
        return NoKit(reason=f"{' and '.join(missing)} not installed, and to lend them an index would have to be asked")
    pip = _pip_for(python)
    with progress.task(f"kit for the smoke-train: {' and '.join(missing)}", unit="packages") as task:
        task.status("resolving")
        outcome = _resolve(pip, missing, installed)
        if isinstance(outcome, NoKit):
            return outcome
        task.total(len(outcome))
        task.status("fetching")
        directory = _unpack(pip, (), outcome, cache)
        task.advance(len(outcome))
    return Kit(directory=directory, packages=outcome)


def restore(packages: Sequence[KitPackage], python: LockedPython, cache: Path, progress: Progress) -> Path:
    """The same kit again, on a machine that may not have the captured interpreter: exactly those wheels, by hash.

    Raises:
        TargetError: this tool's own environment has no pip, or a wheel is not to be had any more.
    """
    directory = _directory(packages, cache)
    touch(directory)
    if directory.is_dir():
        return directory
    with progress.task("kit for the smoke-train", total=len(packages), unit="packages") as task:
        directory = _unpack(_own_pip(), foreign_interpreter(packages, python), packages, cache)
        task.advance(len(packages))
    return directory


def foreign_interpreter(packages: Iterable[KitPackage], python: LockedPython) -> tuple[str, ...]:
    """Options of pip to choose wheels for another interpreter: its version, and the tags that the wheels themselves carry."""
    tags = {tag for package in packages for tag in parse_wheel_filename(package.file)[3]}
    words = ["--implementation", _IMPLEMENTATIONS.get(python.implementation, "py"), "--python-version", python.version]
    for abi in sorted({tag.abi for tag in tags}):
        words += ["--abi", abi]
    for platform in sorted({tag.platform for tag in tags} - {"any"}):
        words += ["--platform", platform]
    return tuple(words)


def wanted(missing: Iterable[str], installed: Mapping[str, str]) -> list[str]:
    """Requirements for pip."""
    requirements = [REQUIREMENTS[name] for name in missing]
    if "ultralytics" in missing and not any(name.startswith("opencv-") for name in installed):
        requirements.append(HEADLESS_OPENCV)
    return requirements


def constraints(installed: Mapping[str, str]) -> str:
    """A constraints file that holds every installed package where it is."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(installed.items()) if _is_version(version))


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:  # installed long ago by something else; pip could not constrain it either
        return False
    return True


class _Archive(msgspec.Struct):
    hashes: dict[str, str] = {}


class _Download(msgspec.Struct):
    url: str
    archive_info: _Archive = msgspec.field(default_factory=_Archive)


class _Metadata(msgspec.Struct):
    name: str
    version: str


class _Item(msgspec.Struct):
    metadata: _Metadata
    download_info: _Download


class _Report(msgspec.Struct):
    """The part of pip's installation report (specified, version 1) that is needed."""

    install: list[_Item]


def _resolve(pip: Sequence[str], missing: Sequence[str], installed: Mapping[str, str]) -> tuple[KitPackage, ...] | NoKit:
    with tempfile.TemporaryDirectory(prefix="envsnap-kit-") as scratch:
        constraint_file, report = Path(scratch, "constraints.txt"), Path(scratch, "report.json")
        constraint_file.write_text(constraints(installed), encoding="utf-8")
        chosen = ("--dry-run", "--report", str(report), "--constraint", str(constraint_file), *wanted(missing, installed))
        done = _run(pip, chosen)
        if not done.ok:
            return NoKit(reason=f"pip finds no {' and '.join(missing)} that fits the environment as it is: {_last_error(done)}")
        try:
            found = msgspec.json.decode(report.read_bytes(), type=_Report)
            packages = tuple(sorted((_package(item) for item in found.install), key=lambda package: package.name))
        except (OSError, ValueError) as error:
            raise TargetError("pip's report on the kit for the smoke-train cannot be read", why=str(error)) from error
    replaced = sorted({package.name for package in packages} & {*installed, *OWN})
    if replaced:
        return NoKit(reason=f"{' and '.join(missing)} would bring other versions of {', '.join(replaced)} than the environment has")
    return tuple(package for package in packages if package.name != OPENCV)


def _package(item: _Item) -> KitPackage:
    return msgspec.convert(
        {
            "name": canonicalize_name(item.metadata.name),
            "version": item.metadata.version,
            "file": unquote(urlsplit(item.download_info.url).path.rpartition("/")[2]),
            "sha256": item.download_info.archive_info.hashes.get("sha256", ""),
        },
        KitPackage,
    )


def _directory(packages: Iterable[KitPackage], cache: Path) -> Path:
    lines = sorted(f"{package.name} {package.version} {package.file} {package.sha256}\n" for package in packages)
    return cache / "kits" / hashlib.sha256("".join(lines).encode()).hexdigest()


def _unpack(pip: Sequence[str], interpreter: Sequence[str], packages: Sequence[KitPackage], cache: Path) -> Path:
    directory = _directory(packages, cache)
    touch(directory)
    if directory.is_dir():
        return directory
    with tempfile.TemporaryDirectory(prefix="envsnap-kit-") as scratch, new_directory(directory) as fresh:
        requirements = Path(scratch, "requirements.txt")
        pins = (f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n" for package in packages)
        requirements.write_text("".join(pins), encoding="utf-8")
        exact = ("--no-deps", "--require-hashes", "--no-compile", "--target", str(fresh), *interpreter, "--requirement", str(requirements))
        done = _run(pip, exact)
        if not done.ok:
            raise TargetError(
                "the kit for the smoke-train cannot be fetched",
                why=_last_error(done),
                hint="are the indexes of the capture configured for pip here?",
                log=redaction.text(done.tail()),
            )
        shutil.rmtree(fresh / "bin", ignore_errors=True)  # scripts that start whichever interpreter ran pip
    return directory


def _own_pip() -> tuple[str, ...]:
    own = (sys.executable, "-m", "pip")
    return own if _answers(own) else _no_pip()


def _pip_for(python: Path) -> tuple[str, ...]:
    """A pip that installs for `python`: our own, run by that interpreter, so that its tags decide; else the environment's."""
    for words in ((sys.executable, "-m", "pip", "--python", str(python)), (str(python), "-m", "pip")):
        if _answers(words):
            return words
    return _no_pip()


def _no_pip() -> tuple[str, ...]:
    raise TargetError(
        "the kit for the smoke-train needs pip",
        why=f"neither {sys.executable} nor the environment has a pip (22.3 or newer) that works",
        hint="install pip beside envsnap (python -m ensurepip), or capture without --smoke",
    )


def _answers(pip: Sequence[str]) -> bool:
    try:
        return run((*pip, "--version"), env=_environment(), timeout_s=60).ok
    except NotStarted:
        return False


def _run(pip: Sequence[str], words: Sequence[str]) -> Completed:
    common = ("install", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--progress-bar", "off")
    return run((*pip, *common, *words), env=_environment(), timeout_s=TIMEOUT_S)


def _environment() -> dict[str, str]:
    # The environment's own interpreter runs pip: it must leave no bytecode behind.
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def _last_error(done: Completed) -> str:
    """The last word of pip itself, in one line."""
    if done.timed_out:
        return f"stopped after {TIMEOUT_S / 60:.0f} minutes"
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return redaction.text((errors or [line for line in lines if line] or ["pip failed"])[-1])
