"""build: the context becomes an image, which is checked inside, looked at, tagged and recorded."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from envsnap.engines.interface import BuildInputs, Engine, EngineImage
from envsnap.model.image import ImageRecord
from envsnap.model.lock import EnvLock
from envsnap.progress import Progress
from envsnap.storage import write_file
from envsnap.workflows import places, plan
from envsnap.workflows.plan import Context, PlanRequest

_PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
LOCK_DIGITS = 12  # of the lock's digest, in the tag that every build gets


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """Attributes:
    tags: names for the image; envsnap/NAME:<first 12 digits of the lock digest> is always one of them.
    push: send every tag to its registry afterwards.
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
        EngineError: the engine does not answer (said before anything is asked of the base), or the build failed.
        PlanError, InputError: as `make_plan` and `write_context`.
    """
    engine.require()
    started = time.monotonic()
    lock = places.read_lock(lock_file)
    made = plan.make_plan(lock, request.plan, engine=engine, env=env, cache=cache, pull=True, progress=progress)
    context = plan.write_context(lock, lock_file, made, request.plan, cache=cache, progress=progress)
    tags = tuple(dict.fromkeys((*request.tags, own_tag(lock))))
    earlier = _still_there(context, lock, engine)
    if earlier is not None:
        image = earlier
        for tag in tags:
            engine.tag(image.image_id, tag)
    else:
        secrets = {"ca": request.ca_bundle, "pip": request.pip_conf}
        inputs = BuildInputs(
            tags=tags,
            secrets={name: path for name, path in secrets.items() if path is not None},
            platform=_PLATFORMS[lock.python.interpreter.machine],
        )
        image = engine.build(context.directory, inputs, progress)
    pushed = _push(tags, engine, progress) if request.push else {}
    record = ImageRecord(
        reference=tags[0],
        config_digest=image.config_digest,
        manifest_digest=pushed.get(tags[0]),
        size_bytes=image.size_bytes,
        layers=image.layers,
        tags=tags,
        engine=engine.name,
        base=f"{made.base.reference}@{made.base.digest or made.base.image_id}",
        lock_digest=lock.digest,
        context_digest=context.digest,
        at=dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        seconds=round(time.monotonic() - started, 1),
    )
    write_file(context.directory / "image.yaml", msgspec.yaml.encode(record))
    return Built(record=record, cached=earlier is not None, uploaded_bytes=image.size_bytes if pushed else 0)


def own_tag(lock: EnvLock) -> str:
    return f"envsnap/{lock.name}:{lock.digest.removeprefix('sha256:')[:LOCK_DIGITS]}"


def read_record(directory: Path) -> ImageRecord | None:
    """The record of the last build; None when there is none that can be read."""
    try:
        return msgspec.yaml.decode((directory / "image.yaml").read_bytes(), type=ImageRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def _still_there(context: Context, lock: EnvLock, engine: Engine) -> EngineImage | None:
    """An earlier build of the same lock and the same context, if the engine still has exactly that image."""
    record = read_record(context.directory)
    if record is None or (record.lock_digest, record.context_digest) != (lock.digest, context.digest):
        return None
    image = engine.image(own_tag(lock))
    return image if image is not None and image.config_digest == record.config_digest else None


def _push(tags: tuple[str, ...], engine: Engine, progress: Progress) -> Mapping[str, str]:
    """Push the tags that name a registry or an account; the engine-local envsnap/… tag stays local."""
    return {tag: engine.push(tag, progress) for tag in tags if not tag.startswith("envsnap/")}
