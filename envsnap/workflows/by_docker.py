"""The whole image by Docker: it builds the Dockerfile, and what comes out is looked at, tagged, recorded and pushed."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from envsnap.blobs import BlobStore
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import BuildInputs, EngineImage
from envsnap.errors import EngineError
from envsnap.model.base import Base
from envsnap.model.image import ImageRecord
from envsnap.model.kinds import ARCHITECTURES
from envsnap.model.lock import EnvLock
from envsnap.model.plan import LOCK_LABEL
from envsnap.oci.reference import with_digest
from envsnap.progress import Progress
from envsnap.publish.content import Stored
from envsnap.registry.client import Registry
from envsnap.storage import write_file
from envsnap.workflows import local
from envsnap.workflows.land import land
from envsnap.workflows.plan import Context
from envsnap.workflows.records import ONCE_ONLINE, BuildRequest, Built, base_name, now, own_tag, publish, read_record
from envsnap.workflows.unknown import Unknown


def build(
    context: Context,
    lock: EnvLock,
    request: BuildRequest,
    engine: DockerEngine,
    registry: Registry,
    cache: Path,
    progress: Progress,
    started: float,
    *,
    unassembled: Unknown | None = None,
) -> Built:
    """Build a rendered context, or find it built.

    Args:
        started: `time.monotonic()` when the work began.
        unassembled: why it is not assembled; None where nobody asked for that.

    Raises:
        EngineError: the base is one that was made here and is gone, or the build or a push failed; or nobody may be asked, and it is not
            built yet.
    """
    tags = tuple(dict.fromkeys((*request.tags, own_tag(lock))))
    earlier = _still_there(context, lock, engine)
    if earlier is not None:
        record = msgspec.structs.replace(earlier, reference=tags[0], tags=tuple(dict.fromkeys((*tags, *earlier.tags))))
        for tag in tags:
            engine.tag(own_tag(lock), tag)
    elif request.offline:
        raise _not_offline(unassembled)
    else:
        if context.plan.base.is_made_here:
            have_base(context.plan.base, engine, cache, progress)
        image = engine.build(context.directory, _inputs(lock, tags, request), progress)
        record = _record(image, tags, lock, context, seconds=time.monotonic() - started)
    pushed = [engine.push(tag, progress) for tag in request.tags] if request.push else []
    if pushed:
        record = msgspec.structs.replace(record, manifest_digest=pushed[0].digest)
    if pushed and (request.sbom or request.sign is not None):
        # The engine may reach a registry that cannot be reached from here: what was not asked for does not fail for that.
        image_there, _ = registry.image(with_digest(request.tags[0], pushed[0].digest), machine=lock.python.interpreter.machine)
        publish(image_there, "docker", context, lock, request, registry, BlobStore(cache / "blobs"), progress)
    if record != earlier:
        write_file(context.directory / "image.yaml", msgspec.yaml.encode(record))
    uploaded = sum(one.uploaded_bytes for one in pushed)
    cached = earlier is not None
    return Built(record=record, directory=context.directory, cached=cached, uploaded_bytes=uploaded, place="in the local engine")


def _not_offline(unassembled: Unknown | None) -> EngineError:
    why = "its pip and apt ask the network, whatever is kept here"
    if unassembled is None:
        what, hint = "Docker cannot build the whole image offline", "without --engine docker, what is kept is assembled"
        return EngineError(what, why=why, hint=hint)
    why = f"{unassembled.because}; and Docker cannot build it: {why}"
    return EngineError("the image cannot be assembled offline", why=why, hint=ONCE_ONLINE)


def have_base(base: Base, engine: DockerEngine, cache: Path, progress: Progress) -> None:
    """Give the engine a base that was made here: it would ask a public registry for whatever has that name there.

    Raises:
        EngineError: the cache does not have it, or the engine does not take it.
    """
    found = local.find(base.digest, cache) if base.digest is not None else None
    if found is None:
        why = base.unknown_because or "the cache does not have it"
        raise EngineError(
            f"the base {base.reference} is not here", why=why, hint="envsnap build without --offline makes it of its packages"
        )
    land(found, [base.pinned], engine, Stored(BlobStore(cache / "blobs")), progress)


def platform(lock: EnvLock) -> str:
    """Of the lock's images, as Docker calls it ("linux/amd64")."""
    return f"linux/{ARCHITECTURES[lock.python.interpreter.machine]}"


def _inputs(lock: EnvLock, tags: tuple[str, ...], request: BuildRequest) -> BuildInputs:
    return BuildInputs(tags=tags, secrets=request.secrets, platform=platform(lock), labels={LOCK_LABEL: lock.digest})


def _record(image: EngineImage, tags: tuple[str, ...], lock: EnvLock, context: Context, *, seconds: float) -> ImageRecord:
    return ImageRecord(
        reference=tags[0],
        config_digest=image.config_digest,
        size_bytes=image.size_bytes,
        layers=image.layers,
        tags=tags,
        engine="docker",
        base=base_name(context),
        lock_digest=lock.digest,
        context_digest=context.digest,
        at=now(),
        seconds=round(seconds, 1),
    )


def _still_there(context: Context, lock: EnvLock, engine: DockerEngine) -> ImageRecord | None:
    """The record of an earlier build of the same lock and context, if the engine still has exactly that image."""
    record = read_record(context.directory)
    if record is None or record.engine != "docker" or (record.lock_digest, record.context_digest) != (lock.digest, context.digest):
        return None
    image = engine.image(own_tag(lock))
    return record if image is not None and image.config_digest == record.config_digest else None
