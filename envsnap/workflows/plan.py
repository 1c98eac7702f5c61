"""plan and render: how the lock becomes an image, and the files of that build."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from envsnap import catalog, plan, render
from envsnap.blobs import BlobStore
from envsnap.catalog import images
from envsnap.engines.docker import DockerEngine
from envsnap.errors import EngineError, InputError
from envsnap.model.base import Base
from envsnap.model.catalog import Catalog
from envsnap.model.lock import EnvLock
from envsnap.model.plan import (
    CONDA_TREE,
    PYTHON_TREE,
    BuildPlan,
    Candidate,
    CarryInterpreter,
    InstallPacked,
    MakeCondaEnvironment,
    PackedInstall,
)
from envsnap.probes import source
from envsnap.progress import Progress
from envsnap.registry.client import Registry
from envsnap.storage import new_directory
from envsnap.target import guest_files
from envsnap.workflows import base_images, bases, capture_host, inventories, places
from envsnap.workflows.system import Packages
from envsnap.workflows.unknown import Unknown

NOT_FOR_THE_CHECK = (
    "carried.py",
    "compile.py",
    "conda_tree.py",
    "egg_info.py",
    "fatbin.py",
    "gpu.py",
    "pack.py",
    "python_tree.py",
    "smoke.py",
    "smoke_detector.py",
    "smoke_errors.py",
    "smoke_host.py",
    "smoke_paddle.py",
    "smoke_rounding.py",
    "smoke_shapes.py",
    "smoke_tensorflow.py",
    "smoke_tensors.py",
    "smoke_torch.py",
    "smoke_wandb.py",
    "wheel.py",
)  # scripts that the image's own check does not run
KEPT = ("image.yaml", "packages.yaml", "verify.html")  # what lies in images/NAME/ and is not part of the build context


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """Attributes:
    base: None or "ngc" for the catalogue's NGC releases, "slim", or any image reference.
    refresh_base: resolve the base's tag anew instead of keeping the digest of the last plan.
    env: variables to set in the image, over everything else.
    no_source: leave the project's files out.
    allow_unproven: packages that may go in although nothing vouches for them.
    allow_replace: NVIDIA's own builds in the base that others may take the place of.
    pyc: compile modules at install time.
    project: where a repository with the lock's commit may lie.
    """

    base: str | None = None
    refresh_base: bool = False
    env: Mapping[str, str] | None = None
    no_source: bool = False
    allow_unproven: frozenset[str] = frozenset()
    allow_replace: frozenset[str] = frozenset()
    pyc: bool = True
    project: Path = Path()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A rendered build context. Attributes: digest: over its files, so that a record can tell whether they changed."""

    directory: Path
    digest: str
    plan: BuildPlan


def make_plan(
    lock: EnvLock,
    request: PlanRequest,
    *,
    engine: DockerEngine | None,
    registry: Registry,
    cache: Path,
    pull: bool,
    progress: Progress,
    packages: Packages,
    offline: bool = False,
    look_inside: bool = False,
    hold_driver: bool = False,
) -> BuildPlan:
    """Look the candidate bases up and plan on the best of them.

    Args:
        packages: of distributions, for a base that is made of them.
        offline: no registry is asked: what is kept of the bases must suffice.
        look_inside: read what is in the base, from its registry, where nobody knows it.
        hold_driver: refuse a base that the captured driver cannot run, before it is pulled. Not for what is rendered or checked, which
            hangs on nothing that was observed.

    Raises:
        PlanError: no base can carry the lock, or the lock holds what must not be built.
    """
    known = catalog.load()
    pinned = {} if request.refresh_base else bases.pins(places.image_directory(lock.name))
    sources = bases.Sources(
        engine=engine,
        registry=registry,
        offline=offline,
        fetch=look_inside,
        packages=packages,
        pins=places.image_directory(lock.name),
        cache=cache,
        pinned=pinned,
        machine=lock.python.interpreter.machine,
        pull=pull,
        refresh=request.refresh_base,
    )
    # The base of the last plan stays until another is asked for: not even the default may move by itself.
    asked = request.base or (None if request.refresh_base else next(iter(pinned), None))
    wanted = plan.candidate_references(lock, known, asked)
    if hold_driver:
        for candidate in wanted:
            _before_a_pull(candidate, lock, known, sources, progress)
    candidates = [_recognised(bases.know(one.reference, one.family, one.release, sources, progress)) for one in wanted]
    if hold_driver:
        capture_host.require_driver(candidates[0], lock, known)
    if look_inside:
        candidates[0] = _looked_inside(candidates[0], sources, progress)
    if plan.base_of(lock) is not None and engine is not None:
        candidates = [_with_packages(base, engine, cache, progress) for base in candidates]
    made = plan.make_plan(
        lock,
        known,
        candidates,
        env=request.env or {},
        no_source=request.no_source,
        allow_unproven=request.allow_unproven,
        allow_replace=request.allow_replace,
        pyc=request.pyc,
    )
    if asked is not None and request.base is None:
        made = msgspec.structs.replace(made, candidates=tuple(_kept(candidate, made) for candidate in made.candidates))
    if not hold_driver:
        return made
    held = tuple(capture_host.held(candidate, lock, known) for candidate in made.candidates)
    return msgspec.structs.replace(made, candidates=held)


def _kept(candidate: Candidate, made: BuildPlan) -> Candidate:
    """The last plan's base says that it is that: nobody asked for it this time. What is rendered is the same either way."""
    if (candidate.base, candidate.strategy) != (made.base, made.strategy):
        return candidate
    reason = candidate.reason.removeprefix("asked for").lstrip(":; ")
    return msgspec.structs.replace(candidate, reason=f"the last plan's base, until --base names another: {reason}")


def _recognised(base: Base) -> Base:
    """An image that says that it is one of NVIDIA's, or was built on one, whatever registry it lies in."""
    said = images.called(base.config) if base.family == "other" and base.config is not None else None
    return msgspec.structs.replace(base, family=f"ngc-{said[0]}") if said is not None else base


def _before_a_pull(base: Base, lock: EnvLock, known: Catalog, sources: bases.Sources, progress: Progress) -> None:
    """Hold the captured driver against a base's row of the catalogue, and against its config where it would be pulled. Raises PlanError."""
    capture_host.require_driver(base, lock, known)
    if sources.pull and lock.observed.gpu.driver is not None:
        with contextlib.suppress(EngineError):  # the engine may reach what is not reached from here
            asked = bases.know(base.reference, base.family, base.release, dataclasses.replace(sources, pull=False), progress)
            capture_host.require_driver(asked, lock, known)


def _looked_inside(base: Base, sources: bases.Sources, progress: Progress) -> Base:
    """A base with all that is in it, as far as that can be had."""
    image = base_images.find(
        base, sources.machine, None if sources.offline else sources.registry, BlobStore(sources.cache / "blobs"), sources.cache
    )
    if isinstance(image, Unknown):
        return base
    found = inventories.complete(base, image, sources, progress)
    return base if isinstance(found, Unknown) else msgspec.structs.replace(base, inventory=found)


def _with_packages(base: Base, engine: DockerEngine, cache: Path, progress: Progress) -> Base:
    """A base that the engine has, with its Python packages."""
    image = engine.image(base.image_id or base.pinned) if base.in_engine else None
    if image is None or (base.inventory is not None and base.inventory.packages):
        return base
    return msgspec.structs.replace(base, inventory=inventories.with_packages(image, engine=engine, cache=cache, progress=progress))


def write_context(
    lock: EnvLock,
    lock_file: Path,
    made: BuildPlan,
    request: PlanRequest,
    *,
    cache: Path,
    progress: Progress,
    directory: Path | None = None,
    offline: bool = False,
) -> Context:
    """Write a build context: all or nothing; the record of an earlier build stays.

    Args:
        directory: None for `images/NAME/`.
        offline: the project's remote is not asked for its commit.

    Raises:
        EngineError: the base could not be resolved, so nothing can be pinned.
        InputError: a blob or the project's commit is not at hand, or the commit holds what looks like a secret.
    """
    if made.base.digest is None and made.base.image_id is None:
        raise EngineError(
            f"base {made.base.reference} could not be resolved to a digest", why=made.base.unknown_because, hint="--base REF names another"
        )
    blobs = places.blobs_of(lock_file)
    directory = directory or places.image_directory(lock.name)
    with new_directory(directory) as fresh:
        manifest = None
        if lock.source is not None and not request.no_source:
            manifest = _write_source(lock, blobs, request, fresh / "source", cache, progress, offline=offline)
        guest = {name: path.read_bytes() for name, path in guest_files().items() if name not in NOT_FOR_THE_CHECK}
        files = render.render(made, lock, places.copy_for_image(lock, lock_file), guest, manifest)
        _write(fresh, files)
        for package in _packed(made):
            blobs.copy_to(package.blob, fresh / "packed" / package.file)
        for step in made.steps:
            if isinstance(step, MakeCondaEnvironment) and step.tree is not None:
                blobs.copy_to(step.tree, fresh / CONDA_TREE)
            if isinstance(step, CarryInterpreter):
                blobs.copy_to(step.tree, fresh / PYTHON_TREE)
        digest = _digest(fresh, lock)
        for name in KEPT:
            if (directory / name).exists():
                shutil.copy2(directory / name, fresh / name)
    return Context(directory=directory, digest=digest, plan=made)


def _write_source(
    lock: EnvLock, blobs: BlobStore, request: PlanRequest, destination: Path, cache: Path, progress: Progress, *, offline: bool
) -> Sequence[tuple[str, str, str]]:
    assert lock.source is not None
    repository = None
    if lock.source.commit is not None:
        repository = source.find_repository(lock.source, [request.project.resolve()], cache, progress, offline=offline)
    source.materialise(lock.source, blobs, repository, destination)  # refuses files other than those that were captured
    for path, secret in source.secrets_below(destination):
        raise InputError(
            f"the image would have what looks like a secret, in {path}",
            why=f"{secret}, as it is committed",
            hint="take it out, or say `pragma: allowlist secret` on its line, commit and capture again; --no-source leaves the files out",
        )
    manifest = source.manifest(destination)
    progress.note(f"source: {len(manifest)} {'file' if len(manifest) == 1 else 'files'} of {lock.source.name}")
    return manifest


def _packed(made: BuildPlan) -> list[PackedInstall]:
    return [package for step in made.steps if isinstance(step, InstallPacked) for package in step.packages]


def _write(root: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _digest(root: Path, lock: EnvLock) -> str:
    """Over path, mode and content of every file; of the lock its digest alone: an image does not change with what was observed."""
    files = [(path, mode, lock.digest if path == "lock.yaml" else digest) for path, mode, digest in source.manifest(root)]
    return source.manifest_digest(files)
