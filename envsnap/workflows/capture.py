"""capture: facts of the target into a lock; the target is never changed."""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envsnap import __version__, catalog, lockfile
from envsnap.blobs import BlobStore
from envsnap.errors import UsageError
from envsnap.model.facts import CollectedFacts, Distribution, GpuFacts, GpuProbe, Problem
from envsnap.model.lock import Capture, EnvLock, LockedTree
from envsnap.model.plan import CARRIED, ENVIRONMENT
from envsnap.probes import gpu, index, interpreter, pack, source
from envsnap.progress import Progress
from envsnap.target import Target
from envsnap.workflows import home, places, reference, targets, wandb_run


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """Attributes:
    place: where the environment is.
    project: directory of this host; its git repository becomes the lock's source. None for the current one where the environment
        is of this host too, else for no source.
    output: file to write; None for lockfiles/NAME.yaml.
    smoke: run the smoke-train twice and keep what it did as the reference.
    offline: ask no index.
    rescue: names of packages, or "all", to keep a wheel of although an index may have them; "conda" for what conda installed, "python" for
        the interpreter itself.
    """

    place: targets.Place = targets.HERE
    project: Path | None = None
    name: str | None = None
    output: Path | None = None
    smoke: bool = False
    seed: int = 0
    offline: bool = False
    rescue: frozenset[str] = frozenset()


def capture(request: CaptureRequest, *, env: Mapping[str, str], cache: Path, progress: Progress) -> tuple[EnvLock, Path]:
    """Capture the target and write its lock, the blobs first; returns the lock and its path."""
    targets.require_one(request.place)
    if request.place.wandb is not None:
        return _of_run(request, request.place.wandb, cache=cache, progress=progress)
    ground = targets.open_target(request.place, request.project, env)
    name = request.name or ground.default_name
    path = places.lock_path(name, request.output)
    if ground.python is not None and ground.python.parent == Path(sys.executable).parent:
        progress.warning("this is the environment that envsnap itself lives in; --python DIR names the one that trains")
    with tempfile.TemporaryDirectory(prefix="envsnap-capture-") as scratch:
        blobs = BlobStore(Path(scratch))
        lock = _lock(request, name, ground, blobs, known=None, cache=cache, progress=progress)
        places.write_whole(lock, path, blobs)
    return lock, path


def live(request: CaptureRequest, known: EnvLock, *, env: Mapping[str, str], cache: Path, progress: Progress) -> EnvLock:
    """The lock of the target as it is now, kept nowhere. What is still as `known` says is neither asked for nor packed again."""
    targets.require_one(request.place)
    ground = targets.open_target(request.place, request.project, env)
    with tempfile.TemporaryDirectory(prefix="envsnap-live-") as scratch:
        return _lock(request, known.name, ground, BlobStore(Path(scratch)), known=known, cache=cache, progress=progress)


def _of_run(request: CaptureRequest, directory: Path, *, cache: Path, progress: Progress) -> tuple[EnvLock, Path]:
    name = request.name or places.lock_name(request.project.resolve() if request.project is not None else Path.cwd())
    path = places.lock_path(name, request.output)
    with tempfile.TemporaryDirectory(prefix="envsnap-capture-") as scratch:
        blobs = BlobStore(Path(scratch))
        lock = wandb_run.lock_of_run(directory, name, request.project, blobs, offline=request.offline, cache=cache, progress=progress)
        places.write_whole(lock, path, blobs)
    return lock, path


def _lock(
    request: CaptureRequest,
    name: str,
    ground: targets.Ground,
    blobs: BlobStore,
    *,
    known: EnvLock | None,
    cache: Path,
    progress: Progress,
) -> EnvLock:
    target = ground.target
    known_images = catalog.load()
    facts = interpreter.collect(target, framework=True, imports=True, integrity=True, device_code=True, progress=progress)
    _require_there(request.rescue, facts)
    # A virtual environment, or conda's, lives in a directory of its own, whatever image that is in.
    owned = facts.interpreter.kind not in ("venv", "conda")
    house = home.find(ground.image, engine=ground.engine, catalog=known_images, cache=cache, progress=progress) if owned else None
    base = {one.name: one for one in house.packages} if house is not None else {}
    recognised = lockfile.recognised(facts.distributions, known)
    settled = {one.name for one in facts.distributions if one.name in recognised or lockfile.of_base(one, base)}
    unknown = [distribution for distribution in facts.distributions if distribution.name not in settled]
    wheels = origins(unknown, facts, offline=request.offline, cache=cache, progress=progress)
    devices = gpu.read(target, salt=name) if ground.has_gpus else _no_gpu(target)
    project = source.SourceProbe()
    if ground.project is not None:
        project = source.read_source(ground.project, _editables(facts), blobs, places.lock_name(ground.project), progress)
    to_pack = lockfile.to_pack(unknown, wheels, request.rescue)
    packed, pack_problems = _packed(target, facts.distributions, to_pack, project.root if ground.is_here else None, blobs, progress)
    tree, tree_problems = _conda_tree(target, facts, request.rescue, known, blobs, progress)
    kept, interpreter_problems = _interpreter(target, facts, request.rescue, known, blobs, progress)
    smoke = reference.Finding(reference=None)
    if request.smoke:
        smoke = reference.make(
            target, ground.python, facts, seed=request.seed, offline=request.offline, blobs=blobs, cache=cache, progress=progress
        )
    return lockfile.assemble(
        name=name,
        facts=facts,
        gpu=devices,
        wheels=wheels,
        known=recognised,
        source=project.source,
        source_root=str(project.root) if project.root is not None else None,
        packed=packed,
        tree=tree,
        interpreter=kept,
        reference=smoke.reference,
        base=house.packages if house is not None else (),
        home=house.reference if house is not None else "",
        releases=known_images.images_for({found.name: found.version for found in facts.distributions}),
        rivals=known_images.rivals,
        capture=Capture(
            at=dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            tool=f"envsnap {__version__}",
            host=ground.host,
            target=target.description,
            withheld=dict.fromkeys(facts.withheld, "an environment variable, at run time") | dict(project.withheld),
            problems=(
                *facts.problems,
                *(Problem(where="path", what=sentence) for sentence in facts.path_oddities),
                *devices.problems,
                *project.problems,
                *pack_problems,
                *tree_problems,
                *interpreter_problems,
                *([smoke.problem] if smoke.problem else []),
            ),
            readings=devices.readings,
        ),
    )


def _require_there(rescue: frozenset[str], facts: CollectedFacts) -> None:
    """Raises UsageError: what is to be kept is not installed; a name that was mistyped would be lost without a word."""
    if strangers := sorted(rescue - {"all", "conda", "python"} - {distribution.name for distribution in facts.distributions}):
        raise UsageError(f"--rescue: the environment has no {', '.join(strangers)}", hint="--rescue all keeps what is installed")


def _no_gpu(target: Target) -> GpuProbe:
    return GpuProbe(facts=GpuFacts(unavailable=f"not asked: {target.description}"), readings={})


def _editables(facts: CollectedFacts) -> Sequence[Path]:
    return [Path(path) for distribution in facts.distributions for path in distribution.editable_paths]


def origins(
    distributions: Sequence[Distribution], facts: CollectedFacts, *, offline: bool, cache: Path, progress: Progress
) -> dict[str, lockfile.WheelAnswer | lockfile.Unfound]:
    """Ask the indexes for every one of the distributions that they may have."""
    wanted = [
        index.Wanted(
            name=distribution.name,
            version=distribution.version,
            tags=distribution.tags,
            build=distribution.build,
            files=distribution.files,
        )
        for distribution in distributions
        if distribution.tags and not lockfile.from_project(distribution)
    ]
    minor = ".".join(facts.interpreter.version.split(".")[:2])
    config = index.PipConfig.from_facts(facts.pip_config)
    found = index.find_wheels(wanted, config, offline=offline, cache=cache, python=minor, progress=progress)
    return {name: _answer(answer) for name, answer in found.items()}


def _answer(answer: index.Found | index.Absent | index.Broken) -> lockfile.WheelAnswer | lockfile.Unfound:
    match answer:
        case index.Found():
            return lockfile.WheelAnswer(file=answer.file, sha256=answer.sha256, index=answer.index, yanked=answer.yanked)
        case _:
            return lockfile.Unfound(reason=answer.reason, everyone_asked=isinstance(answer, index.Absent))


def _packed(
    target: Target,
    distributions: Sequence[Distribution],
    names: Collection[str],
    root: Path | None,
    blobs: BlobStore,
    progress: Progress,
) -> tuple[dict[str, lockfile.Packed], list[Problem]]:
    """Wheels of what is installed, for what no index has."""
    wanted = [(distribution, _kind(distribution, root)) for distribution in distributions if distribution.name in names]
    packed: dict[str, lockfile.Packed] = {}
    problems: list[Problem] = []
    for name, answer in pack.pack(target, wanted, blobs, progress).items():
        if isinstance(answer, str):
            problems.append(Problem(where=f"packages.{name}", what=f"cannot be packed: {answer}"))
        else:
            packed[name] = lockfile.Packed(file=answer.file, blob=answer.blob, files=answer.files)
    return packed, problems


def _conda_tree(
    target: Target, facts: CollectedFacts, rescue: frozenset[str], known: EnvLock | None, blobs: BlobStore, progress: Progress
) -> tuple[lockfile.PackedTree | None, list[Problem]]:
    """What conda installed, where some of it cannot be had again from its channel."""
    if (kept := lockfile.kept_tree(facts.conda, known)) is not None:
        return kept, []
    if not lockfile.needs_tree(facts.conda, rescue):
        return None, []
    answer = pack.pack_conda(target, facts.conda, ENVIRONMENT, blobs, progress)
    if isinstance(answer, str):
        return None, [Problem(where="conda", what=f"cannot be packed: {answer}")]
    return lockfile.PackedTree(blob=answer.blob, files=answer.files), []


def _interpreter(
    target: Target, facts: CollectedFacts, rescue: frozenset[str], known: EnvLock | None, blobs: BlobStore, progress: Progress
) -> tuple[LockedTree | None, list[Problem]]:
    """The interpreter itself, where it is asked for."""
    if known is not None and known.python.version == facts.interpreter.version:
        return known.python.tree, []
    if "python" not in rescue:
        return None, []
    answer = pack.pack_python(target, CARRIED, blobs, progress)
    if isinstance(answer, str):
        return None, [Problem(where="python", what=f"the interpreter cannot be kept: {answer}")]
    return LockedTree(blob=answer.blob, libc=answer.libc, sonames=answer.sonames), []


def _kind(distribution: Distribution, root: Path | None) -> pack.Kind:
    if lockfile.in_place(distribution, str(root) if root is not None else None):
        return "editable"
    if distribution.system is not None:
        return "system"
    return "working_tree" if distribution.editable_paths else "installed"
