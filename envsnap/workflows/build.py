"""build: the context becomes an image, which is checked inside, looked at, tagged and recorded."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from envsnap.engines.interface import BuildInputs, Engine, EngineImage, Pushed
from envsnap.errors import UsageError
from envsnap.model.image import ImageRecord
from envsnap.model.kinds import ARCHITECTURES
from envsnap.model.lock import EnvLock
from envsnap.model.plan import LOCK_LABEL
from envsnap.oci.reference import require_tag
from envsnap.progress import Progress
from envsnap.storage import write_file
from envsnap.workflows import places, plan
from envsnap.workflows.plan import Context, PlanRequest

LOCK_DIGITS = 12  # of the lock's digest, in the tag that every build gets


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """Attributes:
    tags: names for the image; envsnap/NAME:<first 12 digits of the lock digest> is always one of them.
    push: send the given tags to their registries afterwards.
    ca_bundle, pip_conf: lent to the build as secrets, never part of a layer.
    """

    plan: PlanRequest
    tags: tuple[str, ...] = ()
    push: bool = False
    ca_bundle: Path | None = None
    pip_conf: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Attributes: cached: the image of an earlier build of the same lock and context was still there."""

    record: ImageRecord
    cached: bool
    uploaded_bytes: int


def build(lock_file: Path, request: BuildRequest, engine: Engine, *, env: Mapping[str, str], cache: Path, progress: Progress) -> Built:
    """Build the lock's image, or find it built.

    Raises:
        UsageError: a tag that no image can have, or nothing to push.
        EngineError: the engine does not answer (said before anything is asked of the base), or the build failed.
        PlanError, InputError: as `make_plan` and `write_context`.
    """
    for tag in request.tags:
        require_tag(tag)
    if request.push and not request.tags:
        raise UsageError("there is nothing to push", hint="--push needs -t REGISTRY/NAME:TAG")
    engine.require(build=True)
    started = time.monotonic()
    lock = places.read_lock(lock_file)
    made = plan.make_plan(lock, request.plan, engine=engine, env=env, cache=cache, pull=True, progress=progress)
    context = plan.write_context(lock, lock_file, made, request.plan, cache=cache, progress=progress)
    tags = tuple(dict.fromkeys((*request.tags, own_tag(lock))))
    earlier = _still_there(context, lock, engine)
    if earlier is not None:
        record = msgspec.structs.replace(earlier, reference=tags[0], tags=tuple(dict.fromkeys((*tags, *earlier.tags))))
        for tag in tags:
            engine.tag(own_tag(lock), tag)
    else:
        image = engine.build(context.directory, _inputs(lock, tags, request), progress)
        record = _record(image, tags, lock, context, engine, seconds=time.monotonic() - started)
    pushed = [engine.push(tag, progress) for tag in request.tags] if request.push else []
    record = _with_push(record, pushed)
    if record != earlier:
        write_file(context.directory / "image.yaml", msgspec.yaml.encode(record))
    return Built(record=record, cached=earlier is not None, uploaded_bytes=sum(one.uploaded_bytes for one in pushed))


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


def _record(image: EngineImage, tags: tuple[str, ...], lock: EnvLock, context: Context, engine: Engine, *, seconds: float) -> ImageRecord:
    base = context.plan.base
    return ImageRecord(
        reference=tags[0],
        config_digest=image.config_digest,
        size_bytes=image.size_bytes,
        layers=image.layers,
        tags=tags,
        engine=engine.name,
        base=base.pinned if base.digest else f"{base.name}@{base.image_id}",
        lock_digest=lock.digest,
        context_digest=context.digest,
        at=dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        seconds=round(seconds, 1),
    )


def _with_push(record: ImageRecord, pushed: list[Pushed]) -> ImageRecord:
    return msgspec.structs.replace(record, manifest_digest=pushed[0].digest) if pushed else record


def _still_there(context: Context, lock: EnvLock, engine: Engine) -> ImageRecord | None:
    """The record of an earlier build of the same lock and context, if the engine still has exactly that image."""
    record = read_record(context.directory)
    if record is None or (record.lock_digest, record.context_digest) != (lock.digest, context.digest):
        return None
    image = engine.image(own_tag(lock))
    return record if image is not None and image.config_digest == record.config_digest else None
