"""What a build is asked for, and what is kept of its image: its record in `images/NAME/`, and the documents beside it in its registries."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from envsnap.attest.keys import PrivateKey
from envsnap.attest.provenance import Json
from envsnap.blobs import BlobStore
from envsnap.model.image import ImageRecord
from envsnap.model.lock import EnvLock
from envsnap.oci.documents import Manifest
from envsnap.progress import Progress
from envsnap.registry.client import Registry
from envsnap.storage import write_file
from envsnap.workflows import attest, places, system
from envsnap.workflows.plan import Context, PlanRequest

LOCK_DIGITS = 12  # of the lock's digest, in the tag that every build gets
ONCE_ONLINE = "build it once without --offline: what is fetched then is kept"

EngineChoice = Literal["auto", "docker", "oci"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What a build is asked for.

    Attributes:
        engine: "oci" assembles, "docker" lets Docker build; "auto" assembles, and has Docker do the steps that need a shell.
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

    @property
    def secrets(self) -> Mapping[str, Path]:
        """As `BuildInputs.secrets`."""
        lent = {"ca": self.ca_bundle, "pip": self.pip_conf}
        return {name: path for name, path in lent.items() if path is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build answers.

    Attributes:
        directory: of its record and the rendered files.
        cached: nothing had to be made.
        place: where it is, for a person.
    """

    record: ImageRecord
    directory: Path
    cached: bool
    uploaded_bytes: int
    place: str = ""


def own_tag(lock: EnvLock) -> str:
    """The tag that every build of a lock gets."""
    return f"envsnap/{lock.name}:{lock.digest.removeprefix('sha256:')[:LOCK_DIGITS]}"


def read_record(directory: Path) -> ImageRecord | None:
    """The record of the last build; None when there is none that can be read."""
    try:
        return places.read_kept(directory / "image.yaml", ImageRecord)
    except (OSError, ValueError):
        return None


def keep_record(record: ImageRecord, directory: Path) -> None:
    """Write the record of a build, unless the last one of the same image says the same."""
    earlier = read_record(directory)
    if earlier is None or _lasting(record) != _lasting(earlier):
        write_file(directory / "image.yaml", msgspec.yaml.encode(record))


def _lasting(record: ImageRecord) -> ImageRecord:
    """What of a record does not change when the same is built again."""
    return msgspec.structs.replace(record, at="", seconds=0.0)


def base_name(context: Context) -> str:
    """What a record says of the base."""
    base = context.plan.base
    return base.pinned if base.digest else f"{base.name}@{base.image_id}"


def now() -> str:
    return dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def publish(
    image: Manifest,
    engine: Literal["docker", "oci"],
    context: Context,
    lock: EnvLock,
    request: BuildRequest,
    registry: Registry,
    wheels: BlobStore,
    progress: Progress,
    *,
    by_docker: Sequence[str] = (),
) -> None:
    """Put what is said of an image beside it, in the repositories of its tags.

    Args:
        engine: that built it. by_docker: kinds of the steps that Docker did where it did not build the whole.
    """
    pins = system.kept_for(context.plan, context.directory)
    plan_request = request.plan
    options: dict[str, Json] = {"pyc": plan_request.pyc, "no_source": plan_request.no_source, "env": dict(plan_request.env or {})}
    if by_docker:
        options["by_docker"] = list(by_docker)
    documents = attest.document(
        (context.directory / "lock.yaml").read_bytes(),
        lock,
        context.plan,
        attest.subject_of(request.tags[0], image.digest),
        engine=engine,
        system=pins.plan.packages if pins.plan is not None and engine == "oci" else (),
        base_packages=pins.base.packages if pins.base is not None else (),
        options=options,
        sbom=request.sbom,
        wheels=wheels,
    )
    for tag in request.tags:
        attest.publish(tag, image, documents, registry, key=request.sign, progress=progress)
