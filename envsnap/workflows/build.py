"""build: the plan becomes an image that is checked, tagged and recorded: assembled, or by Docker where only a shell will do."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from envsnap.attest.keys import PrivateKey
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import BuildInputs, EngineImage
from envsnap.errors import EngineError, PlanError, UsageError
from envsnap.model.base import Base
from envsnap.model.image import ImageRecord
from envsnap.model.kinds import ARCHITECTURES
from envsnap.model.lock import EnvLock
from envsnap.model.plan import LOCK_LABEL
from envsnap.oci.documents import Manifest
from envsnap.oci.image import Image, Layer
from envsnap.oci.reference import require_tag, with_digest
from envsnap.plan.layers import needs_a_shell
from envsnap.progress import Progress
from envsnap.publish.content import Stored
from envsnap.registry.client import Registry
from envsnap.storage import BlobStore, write_file
from envsnap.workflows import assembled, attest, local, places, plan, system
from envsnap.workflows.assembled import Sources
from envsnap.workflows.delivery import Delivery
from envsnap.workflows.land import land
from envsnap.workflows.plan import Context, PlanRequest
from envsnap.workflows.system import Packages
from envsnap.workflows.unknown import Unknown

EngineChoice = Literal["auto", "docker", "oci"]
LOCK_DIGITS = 12  # of the lock's digest, in the tag that every build gets


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """Attributes:
    engine: "oci" assembles, "docker" lets Docker build; "auto" assembles unless a step needs a shell.
    tags: names for the image; envsnap/NAME:<first 12 digits of the lock digest> is always one of them.
    push: send the given tags to their registries afterwards.
    load: have it in the local engine, too, when it is pushed.
    ca_bundle, pip_conf: lent to the build as secrets, never part of a layer.
    offline: nobody is asked for anything: what is kept from an earlier build must suffice.
    vendor: keep the distribution's packages that it is made of beside the lock.
    sbom: attach a bill of materials to what is pushed. sign: sign that, and what is attached to it.
    """

    plan: PlanRequest
    engine: EngineChoice = "auto"
    tags: tuple[str, ...] = ()
    push: bool = False
    load: bool = False
    ca_bundle: Path | None = None
    pip_conf: Path | None = None
    offline: bool = False
    vendor: bool = False
    sbom: bool = False
    sign: PrivateKey | None = None

    @property
    def lands(self) -> bool:
        """In the local engine, where one answers."""
        return self.load or not self.push


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Attributes: directory: of its record and the rendered files. cached: nothing had to be made. place: where it is, for a person."""

    record: ImageRecord
    directory: Path
    cached: bool
    uploaded_bytes: int
    place: str = ""


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
        UsageError: a tag that no image can have, or nothing to push.
        EngineError: the engine is needed and does not answer (said before anything is asked of the base), or the build failed.
        PlanError, InputError: as `make_plan`, `write_context` and `gather`.
    """
    for tag in request.tags:
        require_tag(tag)
    if request.push and not request.tags:
        raise UsageError("there is nothing to push", hint="--push needs -t REGISTRY/NAME:TAG")
    if (request.sbom or request.sign) and not request.push:
        raise UsageError("documents and signatures lie beside an image in a registry", hint="--sbom and --sign need --push")
    if request.engine == "docker" and request.vendor:
        raise UsageError("what Docker installs is not kept: apt fetches it within the build", hint="--vendor needs --engine oci, or auto")
    lock = places.read_lock(lock_file)
    if request.engine != "docker" and (why := needs_a_shell(lock)):
        _no_assembling(why, request, progress)
        request = replace(request, engine="docker")
    by_docker = request.engine == "docker"
    if by_docker:
        engine.require(build=True)
    started = time.monotonic()
    here = engine if by_docker or engine.abilities()[0].state == "ok" else None
    made = plan.make_plan(
        lock,
        request.plan,
        packages=packages,
        engine=here,
        registry=registry,
        cache=cache,
        pull=by_docker,
        offline=request.offline,
        look_inside=not by_docker,
        progress=progress,
    )
    context = plan.write_context(lock, lock_file, made, request.plan, cache=cache, progress=progress)
    if not by_docker:
        sources = _sources(request, packages, here, registry, env, cache)
        gathered = assembled.gather(made, lock, lock_file, sources, progress)
        if not isinstance(gathered, Unknown):
            return _assemble(gathered, context, lock, lock_file, request, sources, progress, started)
        _no_assembling(gathered.because, request, progress)
        engine.require(build=True)
    if made.base.is_made_here:
        _have_base(made.base, engine, cache, progress)
    return _build_by_docker(context, lock, request, engine, registry, cache, progress, started)


def _no_assembling(why: str, request: BuildRequest, progress: Progress) -> None:
    """Docker does it then, where that was left open. Raises PlanError: it was not."""
    if request.engine == "oci":
        raise PlanError("this image cannot be assembled", why=why, hint="--engine docker builds it")
    progress.note(f"built by Docker: {why}")


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
    gathered: assembled.Gathered,
    context: Context,
    lock: EnvLock,
    lock_file: Path,
    request: BuildRequest,
    sources: Sources,
    progress: Progress,
    started: float,
) -> Built:
    tags = tuple(dict.fromkeys((*request.tags, own_tag(lock))))
    engine = sources.engine if request.lands else None
    delivery = Delivery(
        sources,
        gathered.prepared.base,
        tags=tags,
        push=request.tags if request.push else (),
        engine=engine,
        store=request.lands and engine is None,
        foretold=assembled.known(gathered, sources),
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
    if request.push and (delivered.uploaded_bytes or request.sbom or request.sign is not None):
        assert image.manifest is not None  # it was pushed
        if request.sbom and sources.fetch:
            gathered.wheels.fetch(gathered.pinned, progress)  # they name their licences
        _publish(image.manifest, "oci", context, lock, request, sources.registry, sources.store, progress)
    if request.vendor:
        number = sources.packages.vendor(context.plan, context.directory, gathered.machine)
        progress.note(f"{number} packages of the distribution are kept beside the lock")
    record = _record_of(image, tags, lock, context, seconds=time.monotonic() - started)
    earlier = read_record(context.directory)
    if earlier is None or _lasting(record) != _lasting(earlier):
        write_file(context.directory / "image.yaml", msgspec.yaml.encode(record))
    cached = not new and not delivered.moved
    return Built(record=record, directory=context.directory, cached=cached, uploaded_bytes=delivered.uploaded_bytes, place=delivered.place)


def _publish(
    image: Manifest,
    engine: Literal["docker", "oci"],
    context: Context,
    lock: EnvLock,
    request: BuildRequest,
    registry: Registry,
    wheels: BlobStore,
    progress: Progress,
) -> None:
    """Put what is said of an image beside it, in the repositories of its tags. Args: engine: that built it."""
    pins = system.kept_for(context.plan, context.directory)
    plan_request = request.plan
    documents = attest.document(
        (context.directory / "lock.yaml").read_bytes(),
        lock,
        context.plan,
        attest.subject_of(request.tags[0], image.digest),
        engine=engine,
        system=pins.plan.packages if pins.plan is not None and engine == "oci" else (),
        base_packages=pins.base.packages if pins.base is not None else (),
        options={"pyc": plan_request.pyc, "no_source": plan_request.no_source, "env": dict(plan_request.env or {})},
        sbom=request.sbom,
        wheels=wheels,
    )
    for tag in request.tags:
        attest.publish(tag, image, documents, registry, key=request.sign, progress=progress)


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
        base=_base_name(context),
        lock_digest=lock.digest,
        context_digest=context.digest,
        at=_now(),
        seconds=round(seconds, 1),
    )


def _lasting(record: ImageRecord) -> ImageRecord:
    """What of a record does not change when the same is built again."""
    return msgspec.structs.replace(record, at="", seconds=0.0)


# By Docker


def _have_base(base: Base, engine: DockerEngine, cache: Path, progress: Progress) -> None:
    """Give the engine a base that was made here: it would ask a public registry for whatever has that name there."""
    found = local.find(base.digest, cache) if base.digest is not None else None
    if found is None:
        why = base.unknown_because or "the cache does not have it"
        raise EngineError(
            f"the base {base.reference} is not here", why=why, hint="envsnap build without --offline makes it of its packages"
        )
    land(found, [base.pinned], engine, Stored(BlobStore(cache / "blobs")), progress)


def _build_by_docker(
    context: Context,
    lock: EnvLock,
    request: BuildRequest,
    engine: DockerEngine,
    registry: Registry,
    cache: Path,
    progress: Progress,
    started: float,
) -> Built:
    tags = tuple(dict.fromkeys((*request.tags, own_tag(lock))))
    earlier = _still_there(context, lock, engine)
    if earlier is not None:
        record = msgspec.structs.replace(earlier, reference=tags[0], tags=tuple(dict.fromkeys((*tags, *earlier.tags))))
        for tag in tags:
            engine.tag(own_tag(lock), tag)
    else:
        image = engine.build(context.directory, _inputs(lock, tags, request), progress)
        record = _record(image, tags, lock, context, seconds=time.monotonic() - started)
    pushed = [engine.push(tag, progress) for tag in request.tags] if request.push else []
    if pushed:
        record = msgspec.structs.replace(record, manifest_digest=pushed[0].digest)
    if pushed and (request.sbom or request.sign is not None):
        # The engine may reach a registry that cannot be reached from here: what was not asked for does not fail for that.
        image_there, _ = registry.image(with_digest(request.tags[0], pushed[0].digest), machine=lock.python.interpreter.machine)
        _publish(image_there, "docker", context, lock, request, registry, BlobStore(cache / "blobs"), progress)
    if record != earlier:
        write_file(context.directory / "image.yaml", msgspec.yaml.encode(record))
    uploaded = sum(one.uploaded_bytes for one in pushed)
    cached = earlier is not None
    return Built(record=record, directory=context.directory, cached=cached, uploaded_bytes=uploaded, place="in the local engine")


def own_tag(lock: EnvLock) -> str:
    """The tag that every build of a lock gets."""
    return f"envsnap/{lock.name}:{lock.digest.removeprefix('sha256:')[:LOCK_DIGITS]}"


def read_record(directory: Path) -> ImageRecord | None:
    """The record of the last build; None when there is none that can be read."""
    try:
        return msgspec.yaml.decode((directory / "image.yaml").read_bytes(), type=ImageRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def _inputs(lock: EnvLock, tags: tuple[str, ...], request: BuildRequest) -> BuildInputs:
    secrets = {"ca": request.ca_bundle, "pip": request.pip_conf}
    return BuildInputs(
        tags=tags,
        secrets={name: path for name, path in secrets.items() if path is not None},
        platform=f"linux/{ARCHITECTURES[lock.python.interpreter.machine]}",
        labels={LOCK_LABEL: lock.digest},
    )


def _record(image: EngineImage, tags: tuple[str, ...], lock: EnvLock, context: Context, *, seconds: float) -> ImageRecord:
    return ImageRecord(
        reference=tags[0],
        config_digest=image.config_digest,
        size_bytes=image.size_bytes,
        layers=image.layers,
        tags=tags,
        engine="docker",
        base=_base_name(context),
        lock_digest=lock.digest,
        context_digest=context.digest,
        at=_now(),
        seconds=round(seconds, 1),
    )


def _base_name(context: Context) -> str:
    base = context.plan.base
    return base.pinned if base.digest else f"{base.name}@{base.image_id}"


def _now() -> str:
    return dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _still_there(context: Context, lock: EnvLock, engine: DockerEngine) -> ImageRecord | None:
    """The record of an earlier build of the same lock and context, if the engine still has exactly that image."""
    record = read_record(context.directory)
    if record is None or record.engine != "docker" or (record.lock_digest, record.context_digest) != (lock.digest, context.digest):
        return None
    image = engine.image(own_tag(lock))
    return record if image is not None and image.config_digest == record.config_digest else None
