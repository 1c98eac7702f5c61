"""push, pull, save and load: an image from where it is to where it is needed, the same there as here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from envsnap.engines.interface import Engine, EngineImage
from envsnap.errors import EngineError, EnvsnapError, InputError, UsageError
from envsnap.model.image import ImageRecord
from envsnap.model.kinds import ARCHITECTURES
from envsnap.model.lock import EnvLock
from envsnap.model.transfer import Landed, MovedImage, Saved, Sent
from envsnap.oci.documents import Descriptor
from envsnap.oci.image import BaseImage, Image
from envsnap.oci.reference import is_id, parse_reference, require_tag, with_digest
from envsnap.progress import Progress
from envsnap.publish import read, write
from envsnap.publish.content import BlobSource, FirstOf, Stored, layers_of
from envsnap.publish.read import Carried
from envsnap.publish.write import Form
from envsnap.registry.client import Registry
from envsnap.storage import new_file
from envsnap.workflows import local, places
from envsnap.workflows.land import land
from envsnap.workflows.records import own_tag, read_record

Verify = Callable[[str, str], None]
"""Called with a reference and the digest of its manifest, before anything of it is kept; raises where it is not to be trusted."""
To = Literal["engine", "cache"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where images are. Attributes: machine: that they are for ("x86_64")."""

    engine: Engine
    registry: Registry
    cache: Path
    machine: str

    @property
    def architecture(self) -> str:
        return ARCHITECTURES.get(self.machine, self.machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An image that somebody named: put together here, or an engine's. Attributes: name: under which it was found."""

    name: str
    image: Image | EngineImage

    @property
    def has_address(self) -> bool:
        """Whether its name may lead to a registry: not a digest's, nor the one that every build of a lock gets."""
        return not (is_id(self.name) or self.name.startswith("envsnap/"))


@dataclass(frozen=True, slots=True)
class _FromRegistry:
    """The blobs of the repository that a reference leads to."""

    registry: Registry
    reference: str

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        """See `BlobSource`."""
        return self.registry.open_blob(self.reference, descriptor)


def source_of(image: Image, cache: Path, registry: Registry | None, *references: str) -> BlobSource:
    """Where an image's layers come from: the cache, else the repositories of its base and of `references`, as far as they may be asked."""
    return FirstOf(Stored(local.blobs(cache)), *_registries(image, registry, *references))


def _registries(image: Image, registry: Registry | None, *references: str) -> list[BlobSource]:
    names = [name for name in dict.fromkeys((image.base.reference, *references)) if name and not is_id(name)]
    return [_FromRegistry(registry, name) for name in names] if registry is not None else []


# Finding


def find(name: str, places_: Places) -> Found:
    """The image that a reference, a digest, a lock's file, or an image's own name ("yolo-train") means.

    Of a lock's file it is an image of that very lock, as for verify: the one of its record, where there is one.

    Raises:
        InputError: no such lock. UsageError: it is no name.
        EngineError: nobody here has it (`absent`).
    """
    lock = lock_of(name)
    record = record_of(name, lock)
    for one in record.tags if record is not None else (own_tag(lock) if lock is not None else name,):
        found = local.find(one, places_.cache) or _of_engine(one, places_.engine)
        if found is not None and (record is None or _config_digest(found) == record.config_digest):
            return Found(name=one, image=found)
    raise absent(name, places_.engine, lock=lock, record=record)


def absent(name: str, engine: Engine, *, lock: EnvLock | None = None, record: ImageRecord | None = None) -> EngineError:
    """What every command says of an image that nothing here has, whether or not an engine answers.

    Args:
        name: as it was given. lock: where that is a lock's file. record: by which it was looked for, too.
    """
    lacks = []
    if record is not None:
        lacks.append(f"nothing has the name {record.reference} and the config digest {record.config_digest[:19]}…")
    elif lock is not None:
        lacks.append(f"nothing has the name {own_tag(lock)}")
    try:
        engine.require()
    except EngineError as error:
        lacks.append(f"{error.what}: {error.why}" if error.why else error.what)
    return EngineError(
        f"no image of {name} is here" if lock is not None else f"there is no image {name} here",
        why="; ".join(lacks),
        hint=f"envsnap build {name if lock is not None else 'LOCK'}   makes one,   envsnap pull REF   fetches one",
    )


def lock_of(name: str) -> EnvLock | None:
    """The lock whose file a name is; None for any other name. Raises InputError: as `places.read_lock`."""
    return places.read_lock(Path(name)) if name.endswith((".yaml", ".yml")) else None


def record_of(name: str, lock: EnvLock | None) -> ImageRecord | None:
    """What is known of the image of a lock, or that has this name of its own; None where nothing is, or was built of another lock."""
    if lock is not None:
        record = read_record(places.image_directory(lock.name))
        return record if record is not None and record.lock_digest == lock.digest else None
    return None if set(name) & set("/:@") or name in (".", "..") else read_record(places.image_directory(name))


def _of_engine(name: str, engine: Engine) -> EngineImage | None:
    """An engine that does not answer has nothing."""
    try:
        engine.require()
    except EngineError:
        return None
    return engine.image(name)


def _config_digest(found: Image | EngineImage) -> str:
    return found.config.digest if isinstance(found, Image) else found.config_digest


def _moved(found: Found) -> MovedImage:
    image = found.image
    if isinstance(image, EngineImage):
        return MovedImage(reference=found.name, config_digest=image.config_digest, size_bytes=image.size_bytes, layers=image.layers)
    return MovedImage(
        reference=found.name,
        config_digest=image.config.digest,
        manifest_digest=image.manifest.digest if image.manifest is not None else None,
        size_bytes=sum(layer.blob.size for layer in layers_of(image) if layer.blob is not None),
        layers=len(image.config.diff_ids),
    )


# push


def push(name: str, references: Sequence[str], places_: Places, progress: Progress) -> tuple[MovedImage, tuple[Sent, ...]]:
    """Send an image to registries.

    Args:
        name: as `find` wants it.
        references: where to; to where its own name leads when there is none.

    Raises:
        UsageError: a reference that no image can have, or none where one is needed.
        InputError, EngineError: as `find`; a layer is not here any more; a registry does not take it.
    """
    for reference in references:
        require_tag(reference)
    found = find(name, places_)
    if not references and not found.has_address:
        raise UsageError(f"where is {name} to go?", hint=f"envsnap push {name} HOST/REPOSITORY:TAG")
    sent = tuple(_push(found, reference, places_, progress) for reference in references or (found.name,))
    return _moved(found), sent


def _push(found: Found, reference: str, places_: Places, progress: Progress) -> Sent:
    image = found.image
    if isinstance(image, EngineImage):
        places_.engine.tag(image.image_id, reference)
        pushed = places_.engine.push(reference, progress)
        return Sent(reference=reference, digest=pushed.digest, uploaded_bytes=pushed.uploaded_bytes)
    if image.manifest is None:
        raise EngineError(
            f"cannot push {found.name}",
            why="its base is in an engine only: what its compressed layers are cannot be said",
            hint="push the base first, and build upon that",
        )
    source = source_of(image, places_.cache, places_.registry, found.name)

    def from_offset(descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        pieces = iter([image.config.raw]) if descriptor.digest == image.config.digest else source.open(descriptor)
        for piece in pieces:
            if rest := piece[offset:]:
                yield rest
            offset = max(0, offset - len(piece))

    base = image.base if image.base.reference and not _all_here(image.base, places_.cache) else None
    answer = places_.registry.push(reference, image.manifest, from_offset, base=base, progress=progress)
    local.remember(image, [reference], places_.cache, place="registry")
    return Sent(reference=reference, digest=answer.digest, uploaded_bytes=answer.uploaded_bytes)


def _all_here(base: BaseImage, cache: Path) -> bool:
    store = local.blobs(cache)
    return base.manifest is not None and all(store.has(layer.digest) for layer in base.manifest.layers)


# pull


def pull(
    reference: str,
    places_: Places,
    progress: Progress,
    *,
    to: To | None = None,
    directory: Path | None = None,
    verify: Verify | None = None,
) -> tuple[MovedImage, str]:
    """Bring an image of a registry here: into the engine, where none answers into the cache, or into an image layout.

    Args:
        directory: the layout; None for `to`.
        verify: what says whether to trust the image.

    Returns:
        The image, and where it went: "engine", "cache" or the directory.

    Raises:
        EngineError: the registry has no such image for this machine; the engine does not answer, or has another image afterwards.
        UsageError: something else is at `directory`. TargetError: it cannot be written. What `verify` raises.
    """
    if directory is None and to == "engine":
        places_.engine.require()
    manifest, config = places_.registry.image(reference, machine=places_.machine)
    if verify is not None:
        verify(reference, manifest.digest)
    image = Image(config=config, manifest=manifest, base=BaseImage(config=config, manifest=manifest, reference=reference), layers=())
    source = source_of(image, places_.cache, places_.registry)
    if directory is not None:
        write.save(image, directory, "oci-dir", [reference] if parse_reference(reference).tag else [], source, progress)
    elif (to := to or _where(places_.engine, progress)) == "engine":
        _into_engine(image, reference, places_.engine, source, progress)
    else:
        _into_cache(image, [reference], source, places_.cache, progress, place="registry")
    return _moved(Found(name=reference, image=image)), str(directory or to)


def _into_engine(image: Image, reference: str, engine: Engine, source: BlobSource, progress: Progress) -> None:
    assert image.manifest is not None
    if engine.find(image) is None:
        try:
            engine.pull(with_digest(reference, image.manifest.digest), progress)
        except EngineError as error:  # it may not know the registry's address, certificate or mirror: the layers go through here then
            progress.detail(f"the engine does not pull it itself ({error.why or error.what})")
    named = parse_reference(reference)
    tags = [reference.partition("@")[0]] if named.tag else []
    land(image, tags, engine, source, progress)


# save


def save(
    name: str, place: Path, places_: Places, progress: Progress, *, form: Form | None = None, with_base: bool = True
) -> tuple[MovedImage, Saved]:
    """Write an image into a file or a directory.

    Args:
        name: as `find` wants it.
        form: docker's archive, which is an OCI archive too, where nothing is said.
        with_base: the base's layers, too; else it can be loaded only where they are, or can be fetched.

    Raises:
        UsageError: a form that is not to be had. InputError, EngineError: as `find`; a layer cannot be had.
        TargetError: it cannot be written.
    """
    found = find(name, places_)
    form = form or "docker-archive"
    names = [] if is_id(found.name) else [found.name]
    if isinstance(found.image, Image):
        source = source_of(found.image, places_.cache, places_.registry, *names)
        size = write.save(found.image, place, form, names, source, progress, with_base=with_base)
    else:
        if form != "docker-archive" or not with_base:
            raise UsageError(f"{name} is in the engine, which saves whole images as docker-archive alone")
        size = _save_of_engine(found.name, found.image, place, places_, progress)
    return _moved(found), Saved(place=str(place), form=form, with_base=with_base, bytes=size)


def _save_of_engine(name: str, image: EngineImage, place: Path, places_: Places, progress: Progress) -> int:
    with new_file(place) as fresh:
        with progress.task(f"write {place}", unit="bytes") as task, fresh.open("wb") as file:
            for piece in places_.engine.save(name):
                file.write(piece)
                task.advance(len(piece))
        with read.opened(fresh, called=str(place), architecture=image.config.architecture) as written:
            written.verify(progress)
            if written.image.config.digest != image.config_digest:
                raise EngineError(f"cannot save {name}", why="the engine wrote another image than it has")
    return place.stat().st_size


# load


def load(place: Path, tags: Sequence[str], places_: Places, progress: Progress, *, to: To | None = None) -> tuple[MovedImage, Landed]:
    """Take an image from files: into the engine, or where none answers among the images that were put together here.

    Args:
        place: an archive, docker's or OCI's, or a layout directory.
        tags: what to call it; what the files call it when there is none.

    Raises:
        InputError: it is no image, a damaged one, or not all of one.
        EngineError: the engine does not answer, or does not have it afterwards.
    """
    for tag in tags:
        require_tag(tag)
    with read.opened(place, architecture=places_.architecture) as carried:
        carried.verify(progress)
        to = to or _where(places_.engine, progress)
        names = tuple(tags) or tuple(_names(carried, progress))
        image = carried.image
        if to == "engine":
            land(image, names, places_.engine, FirstOf(carried, *_sources_of_the_absent(carried, places_)), progress)
        else:
            _keep(carried, names, places_.cache, progress)
        return _moved(Found(name=names[0] if names else "", image=image)), Landed(to=to, names=names)


def _where(engine: Engine, progress: Progress) -> To:
    try:
        engine.require()
    except EngineError as error:
        progress.note(f"{error.what}: the image goes into envsnap's own store")
        return "cache"
    return "engine"


def _names(carried: Carried, progress: Progress) -> Iterator[str]:
    """What the files call the image, as far as that can be the name of one."""
    for name in carried.names:
        try:
            require_tag(name)
        except EnvsnapError as error:
            progress.warning(f"{carried.place} calls it {name!r}: {error.what}")
        else:
            yield name


def _sources_of_the_absent(carried: Carried, places_: Places) -> list[BlobSource]:
    """Where layers are that the files leave out: asked only when the engine does not have them."""
    return [Stored(local.blobs(places_.cache)), *_registries(carried.image, places_.registry)] if carried.absent else []


def _keep(carried: Carried, names: Sequence[str], cache: Path, progress: Progress) -> None:
    if carried.image.manifest is None:
        raise InputError(
            f"{carried.place} cannot be kept in the cache",
            why="it has no manifest: what its compressed layers are is not said",
            hint="load it into an engine: --to engine",
        )
    if not names:
        raise UsageError(f"{carried.place} does not say what the image is called", hint="-t HOST/REPOSITORY:TAG")
    _into_cache(carried.image, names, carried, cache, progress, place="here", absent=carried.absent)


def _into_cache(
    image: Image,
    names: Sequence[str],
    source: BlobSource,
    cache: Path,
    progress: Progress,
    *,
    place: local.Whereabouts,
    absent: int = 0,
) -> None:
    """Have an image in the cache. Args: place: as of `local.remember`. absent: how many layers, from the lowest, stay away."""
    store = local.blobs(cache)
    blobs = [layer.blob for layer in layers_of(image)[absent:] if layer.blob is not None]
    with progress.task("keep the layers", total=sum(blob.size for blob in blobs), unit="bytes") as task:
        for blob in blobs:
            if store.has(blob.digest):
                task.advance(blob.size)
                continue
            with store.writer(durable=False) as writer:
                for piece in source.open(blob):
                    writer.write(piece)
                    task.advance(len(piece))
    local.remember(image, names, cache, place=place)
