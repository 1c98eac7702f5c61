"""Which base an image says that it was built on, and which one an image of the lock is to have. The first is no proof of the second:
whoever made the image wrote that, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from envsnap import catalog, plan
from envsnap.errors import EngineError, UsageError
from envsnap.model.kinds import Digest
from envsnap.model.lock import EnvLock
from envsnap.model.plan import BASE_DIGEST, BASE_NAME
from envsnap.oci.documents import Config
from envsnap.oci.reference import is_id, parse_reference
from envsnap.progress import Progress
from envsnap.workflows import bases, places
from envsnap.workflows.assembled import Sources
from envsnap.workflows.unknown import Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedBase:
    """Attributes:
    name: repository and tag. digest: of what a build takes for it, which is an index's where the tag names one.
    said_by: a clause, for people.
    """

    name: str
    digest: Digest
    said_by: str

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}"


def named_by_image(config: Config) -> NamedBase | Unknown:
    """The base that an image says it was built on."""
    name, digest = config.labels.get(BASE_NAME), config.labels.get(BASE_DIGEST)
    if name is None or digest is None:
        return Unknown(because="the image does not say which base it was built on, by digest")
    try:
        parse_reference(f"{name}@{digest}")
    except UsageError:
        return Unknown(because="what the image calls its base is not the name of one")
    return NamedBase(name=name, digest=digest, said_by="as the image names it")


def expected_base(lock: EnvLock, asked: str | None, sources: Sources, progress: Progress) -> NamedBase | Unknown:
    """The base that an image of the lock is to have: what was asked for, else that of the last plan here, else the image that the
    environment was made in. A tag that was pinned stays what it was.

    Args:
        asked: as plan's `--base`.

    Raises:
        EngineError: what was asked for cannot be looked up. InputError: the last plan cannot be read. PlanError: nothing fits `asked`.
        UsageError: it is no name.
    """
    directory = places.image_directory(lock.name)
    pinned = bases.pins(directory)
    wanted = asked or next(iter(pinned), None) or _made_in(lock)
    if wanted is None:
        hint = f"--base REF says it; so does {directory}/plan.yaml, where check is run beside it"
        return Unknown(because="nothing here says which base it is to have", hint=hint)
    said_by = "as --base says" if asked else f"as {directory}/plan.yaml has it" if pinned else "as the lock has it"
    (base, *_) = plan.candidate_references(lock, catalog.load(), wanted)
    digest, because = pinned.get(base.reference) or parse_reference(base.reference).digest, ""
    if not digest:
        place = bases.Sources(
            engine=None,
            registry=sources.registry,
            cache=sources.cache,
            pinned=pinned,
            machine=lock.python.interpreter.machine,
            offline=sources.offline,
            packages=sources.packages,
            pins=directory,
        )
        try:
            found = bases.know(base.reference, base.family, base.release, place, progress)
            digest, because = found.digest or "", found.unknown_because
        except EngineError as error:
            if asked:
                raise
            because = f"{error.what}: {error.why}" if error.why else error.what
    if not digest:
        hint = "--fetch makes it of its packages" if base.is_made_here else "run it again when its registry answers"
        return Unknown(because=f"{base.name} could not be looked up: {because}", hint=hint)
    return NamedBase(name=base.name, digest=digest, said_by=said_by)


def _made_in(lock: EnvLock) -> str | None:
    """The image that packages of the lock are part of, where others can know it: an ID is one engine's own."""
    home = plan.base_of(lock)
    try:
        parse_reference(home or "")
    except UsageError:
        return None
    return home if home is not None and not is_id(home) else None
