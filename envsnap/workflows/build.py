"""build: the plan becomes an image that is tagged and recorded: assembled, upon what Docker makes of the steps that need a shell."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from envsnap.engines.docker import DockerEngine
from envsnap.errors import EngineError, PlanError, UsageError
from envsnap.model.image import ImageRecord
from envsnap.model.layers import ShellSteps
from envsnap.model.lock import EnvLock
from envsnap.model.plan import BuildPlan
from envsnap.oci.image import Image, Layer
from envsnap.oci.reference import require_tag
from envsnap.plan import shell as needs_shell
from envsnap.progress import Progress
from envsnap.registry.client import Registry
from envsnap.workflows import assembled, by_docker, places, plan, shell
from envsnap.workflows.assembled import Gathered, Ground, Sources
from envsnap.workflows.delivery import Delivery
from envsnap.workflows.plan import Context
from envsnap.workflows.records import ONCE_ONLINE, BuildRequest, Built, base_name, keep_record, now, own_tag, publish, read_record
from envsnap.workflows.system import Packages
from envsnap.workflows.unknown import Unknown


def build(
    lock_file: Path,
    request: BuildRequest,
    engine: DockerEngine,
    registry: Registry,
    *,
    packages: Packages,
    env: Mapping[str, str],
    cache: Path,
    progress: Progress,
) -> Built:
    """Build the lock's image, or find it built.

    Raises:
        UsageError: a tag that no image can have, nothing to push, or options that exclude each other.
        EngineError: the engine is needed, or `load` asks for it, and it does not answer (said before a base is read or a wheel fetched), or
            the build failed.
        PlanError, InputError: as `make_plan`, `write_context` and `gather`.
    """
    _require_sense(request)
    lock = places.read_lock(lock_file)
    whole = request.engine == "docker"
    always = needs_shell.of_lock(lock)
    if always and request.engine == "oci":
        raise _not_by_layers_alone(always)
    if whole or request.load:  # asked for by name: nothing else will do, as envsnap's own store does where no engine answers
        engine.require(build=whole)
    started = time.monotonic()
    here = engine if whole or engine.is_there() else None
    # Where none can build, and one is needed unless it did its steps before, nothing long is begun: that would end for want of it.
    in_vain = bool(always) and not _can_build(engine)
    made = plan.make_plan(
        lock,
        request.plan,
        packages=packages,
        engine=here,
        registry=registry,
        cache=cache,
        pull=whole and not request.offline,
        offline=request.offline,
        look_inside=not whole and not in_vain,
        hold_driver=True,
        progress=progress,
    )
    write_context = partial(
        plan.write_context, lock, lock_file, made, request.plan, cache=cache, progress=progress, offline=request.offline
    )
    if whole:
        return by_docker.build(write_context(), lock, request, engine, registry, cache, progress, started)
    sources = _sources(request, packages, here, registry, env, cache)
    ground = assembled.find_ground(made, lock, dataclasses.replace(sources, fetch=sources.fetch and not in_vain), progress)
    if in_vain and (isinstance(ground, Unknown) or ground.pending):
        _require(engine, always)
    if isinstance(ground, Ground) and ground.shell is not None and request.engine == "oci":
        raise _not_by_layers_alone(needs_shell.said(ground.shell.steps))
    context = write_context()
    if isinstance(ground, Unknown):
        _no_assembling(ground, request, progress)
        if not request.offline:
            engine.require(build=True)
        return by_docker.build(context, lock, request, engine, registry, cache, progress, started, unassembled=ground)
    fresh = ground.pending
    with shell.named(lock, engine) if fresh else contextlib.nullcontext("") as tag:
        if fresh:
            ground = _with_shell(ground, made, lock, request, engine, sources, progress, tag=tag)
        gathered = assembled.gather(ground, made, lock, lock_file, sources, progress)
        if isinstance(gathered, Unknown):
            hint = gathered.hint if gathered.for_good else ONCE_ONLINE
            raise EngineError("the image cannot be assembled", why=gathered.because, hint=hint)
        return _assemble(gathered, context, lock, lock_file, request, sources, progress, started, fresh=fresh)


def _require_sense(request: BuildRequest) -> None:
    """Raises UsageError, as `build`."""
    for tag in request.tags:
        require_tag(tag)
    if request.push and not request.tags:
        raise UsageError("there is nothing to push", hint="--push needs -t REGISTRY/NAME:TAG")
    if request.push and request.offline:
        raise UsageError("--push sends to registries, and --offline asks nobody", hint="leave one of the two out")
    if (request.sbom or request.sign) and not request.push:
        raise UsageError("documents and signatures lie beside an image in a registry", hint="--sbom and --sign need --push")
    if request.engine == "docker" and request.vendor:
        raise UsageError("what Docker installs is not kept: apt fetches it within the build", hint="--vendor needs --engine oci, or auto")


def _no_assembling(ground: Unknown, request: BuildRequest, progress: Progress) -> None:
    """The whole is Docker's then, where that was left open: to build; or, where nobody may be asked, to have from an earlier time.

    Raises:
        PlanError: it was not. EngineError: it was not, and all that is missing is what nobody may be asked for.
    """
    if request.engine == "oci" and request.offline and not ground.for_good:
        raise EngineError("the image cannot be assembled offline", why=ground.because, hint=ONCE_ONLINE)
    if request.engine == "oci":
        raise PlanError("this image cannot be assembled", why=ground.because, hint="--engine docker builds it")
    if not request.offline:
        progress.note(f"built by Docker: {ground.because}")
    if request.vendor:
        progress.warning("--vendor keeps nothing: Docker builds the whole image, and apt fetches its packages within that build")


def _not_by_layers_alone(why: str) -> PlanError:
    return PlanError(
        "this image cannot be assembled",
        why=f"a step needs a shell: {why}",
        hint="--engine auto has Docker do that step alone, and assembles the rest; --engine docker builds all of it",
    )


def _can_build(engine: DockerEngine) -> bool:
    with contextlib.suppress(EngineError):
        engine.require(build=True)
        return True
    return False


def _require(engine: DockerEngine, why: str) -> None:
    """Raises EngineError: it does not answer, or cannot build; and what it is needed for."""
    try:
        engine.require(build=True)
    except EngineError as error:
        raise EngineError(error.what, why=f"{error.why}; Docker is needed for {why}", hint=error.hint) from error


def _require_at_hand(steps: ShellSteps, made: BuildPlan, engine: DockerEngine) -> None:
    """Offline, what Docker does is done with what is here; packages that are not are named when they are laid out.

    Raises:
        EngineError: it would pull the base, or have a client of conda fetch packages.
    """
    if steps.explicit:
        hint = f"{ONCE_ONLINE}; or capture --rescue conda keeps the packages with the lock"
        raise EngineError("conda's packages are not here", why="offline, and a conda client of the base would fetch them", hint=hint)
    base = made.base.pinned
    if not made.base.is_made_here and engine.image(base) is None:
        raise EngineError(f"the base {base} is not in the engine", why="offline, and Docker would pull it", hint=f"docker pull {base}")


def _with_shell(
    ground: Ground,
    made: BuildPlan,
    lock: EnvLock,
    request: BuildRequest,
    engine: DockerEngine,
    sources: Sources,
    progress: Progress,
    *,
    tag: str,
) -> Ground:
    """The same ground, once Docker did the steps that need a shell. Args: ground: they are pending.

    Raises:
        EngineError: no Docker answers, a step fails, or what came of it is not all there.
    """
    steps = ground.shell
    assert steps is not None
    why = needs_shell.said(steps.steps)
    _require(engine, why)
    if request.offline:
        _require_at_hand(steps, made, engine)
    progress.note(f"Docker does what needs a shell, and all else is assembled upon it: {why}")
    done = shell.do(steps, made, lock, ground.base, request.secrets, engine, sources.packages, sources.cache, progress, tag=tag)
    return dataclasses.replace(ground, done=done)


def _sources(
    request: BuildRequest, packages: Packages, engine: DockerEngine | None, registry: Registry, env: Mapping[str, str], cache: Path
) -> Sources:
    return Sources(
        registry=registry,
        engine=engine,
        env=env,
        cache=cache,
        fetch=not request.offline,
        offline=request.offline,
        pip_conf=request.pip_conf,
        ca_bundle=request.ca_bundle,
        packages=packages,
    )


# Assembled


def _assemble(
    gathered: Gathered,
    context: Context,
    lock: EnvLock,
    lock_file: Path,
    request: BuildRequest,
    sources: Sources,
    progress: Progress,
    started: float,
    *,
    fresh: bool = False,
) -> Built:
    """Args: fresh: Docker just did steps of it."""
    tags = tuple(dict.fromkeys((*request.tags, own_tag(lock))))
    engine = sources.engine if request.lands else None
    delivery = Delivery(
        sources,
        gathered.prepared.base,
        tags=tags,
        push=request.tags if request.push else (),
        engine=engine,
        store=request.lands and engine is None,
        foretold=assembled.predicted(gathered, sources),
    )
    new: list[Layer] = []

    def on_layer(layer: Layer, *, made: bool) -> None:
        if made:
            new.append(layer)
        delivery.offer(layer)

    with delivery.open():
        image = assembled.assemble(
            gathered, context.directory, lock_file, sources, wanted=delivery.wants, on_layer=on_layer, progress=progress
        )
    delivered = delivery.finish(image, progress)
    if request.push:
        assert image.manifest is not None  # it was pushed
        asked = request.sbom or request.sign is not None
        # Where nothing was sent, who sent it may have been broken off before anything was said of it: a record says that it was not.
        before = read_record(context.directory)
        whole = before is not None and (before.reference, before.manifest_digest) == (tags[0], image.manifest.digest)
        if delivered.uploaded_bytes or asked or not (whole or sources.registry.referrers(tags[0], image.manifest.digest)):
            if request.sbom and sources.fetch:
                gathered.wheels.fetch(gathered.pinned, progress)  # they name their licences
            steps = gathered.ground.shell
            kinds = [step.kind for step in steps.steps] if steps is not None else []
            publish(image.manifest, "oci", context, lock, request, sources.registry, sources.store, progress, by_docker=kinds)
    if request.vendor:
        number = sources.packages.vendor(context.plan, context.directory, gathered.ground.machine)
        progress.note(f"{number} packages of the distribution are kept beside the lock")
    record = _record_of(image, tags, lock, context, seconds=time.monotonic() - started)
    keep_record(record, context.directory)
    cached = not new and not delivered.moved and not fresh
    return Built(record=record, directory=context.directory, cached=cached, uploaded_bytes=delivered.uploaded_bytes, place=delivered.place)


def _record_of(image: Image, tags: tuple[str, ...], lock: EnvLock, context: Context, *, seconds: float) -> ImageRecord:
    layers = image.manifest.layers if image.manifest is not None else ()
    return ImageRecord(
        reference=tags[0],
        config_digest=image.config.digest,
        manifest_digest=image.manifest.digest if image.manifest is not None else None,
        size_bytes=sum(layer.size for layer in layers) or sum(layer.size_bytes for layer in image.layers),
        layers=len(image.config.diff_ids),
        tags=tags,
        engine="oci",
        base=base_name(context),
        lock_digest=lock.digest,
        context_digest=context.digest,
        at=now(),
        seconds=round(seconds, 1),
    )
