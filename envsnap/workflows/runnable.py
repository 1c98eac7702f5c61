"""An image that is to be run, here or elsewhere: what it is called, and what its config says."""

from __future__ import annotations

from dataclasses import dataclass

from envsnap.engines.interface import EngineImage
from envsnap.errors import EngineError
from envsnap.launch import wishes
from envsnap.model.base import ImageConfig
from envsnap.model.image import ImageRecord
from envsnap.oci.documents import Config, Manifest
from envsnap.oci.image import Image
from envsnap.oci.reference import is_id, parse_reference, same_repository
from envsnap.registry.client import image_config
from envsnap.workflows import transfer
from envsnap.workflows.records import own_tag
from envsnap.workflows.transfer import Found, Places

_LOCK_NAME = "dev.envsnap.lock.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class InRegistry:
    """What a registry says of an image that is not here."""

    manifest: Manifest
    config: Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Runnable:
    """Attributes:
    reference: as an engine takes it. digest: of its manifest where that leads; "" where none is known.
    name: for jobs and services.
    found: where it is.
    """

    reference: str
    digest: str
    name: str
    config: ImageConfig
    found: Found | InRegistry

    @property
    def pinned(self) -> str:
        """By digest, where one is known."""
        return f"{self.reference}@{self.digest}" if self.digest and "@" not in self.reference else self.reference

    @property
    def has_address(self) -> bool:
        """Whether another machine may find it by its name."""
        return _has_address(self.reference)

    @property
    def registry(self) -> str:
        """That its name begins with; "" where it names none."""
        host = parse_reference(self.reference).registry if self.has_address else ""
        return host if self.reference.startswith(f"{host}/") else ""


def find(name: str, places_: Places) -> Runnable:
    """The image that a reference, a digest, an image's own name, or a lock's file means: here, else in the registry that has it.

    Of a lock's file it is an image of that very lock, as for verify: what was built before the lock changed is none.

    Raises:
        InputError: no such lock. EngineError: nobody has it. UsageError: it is no name.
    """
    lock = transfer.lock_of(name)
    record = transfer.record_of(name, lock)
    try:
        found = transfer.find(name if lock is None else own_tag(lock), places_)
    except EngineError as error:
        asked = next(filter(_has_address, record.tags if record is not None else () if lock is not None else (name,)), None)
        if asked is not None:
            return _of_registry(asked, record, places_)
        if lock is None:
            raise
        raise transfer.absent(name, places_.engine, lock=lock) from error
    if record is not None and record.config_digest != _config_digest(found.image):
        record = None  # another build of the same lock
    reference = next(filter(_has_address, record.tags), found.name) if record is not None else found.name
    digest = _digest(found, reference, record)
    return _runnable(reference, digest, _config(found.image), found)


def _of_registry(reference: str, record: ImageRecord | None, places_: Places) -> Runnable:
    """What was built and pushed is asked for by its digest: the tag may have moved on."""
    known = record.manifest_digest if record is not None else None
    manifest, config = places_.registry.image(f"{reference}@{known}" if known else reference, machine=places_.machine)
    name, _, digest = reference.partition("@")
    return _runnable(name, known or digest or manifest.digest, image_config(config, None), InRegistry(manifest=manifest, config=config))


def _runnable(reference: str, digest: str, config: ImageConfig, found: Found | InRegistry) -> Runnable:
    last = "" if is_id(reference) else parse_reference(reference).repository.rpartition("/")[2]
    return Runnable(reference=reference, digest=digest, name=wishes.name(config.labels.get(_LOCK_NAME) or last), config=config, found=found)


def _has_address(reference: str) -> bool:
    return not is_id(reference) and not reference.startswith("envsnap/")


def _config_digest(image: Image | EngineImage) -> str:
    return image.config_digest if isinstance(image, EngineImage) else image.config.digest


def _config(image: Image | EngineImage) -> ImageConfig:
    return image.config if isinstance(image, EngineImage) else image_config(image.config, None)


def _digest(found: Found, reference: str, record: ImageRecord | None) -> str:
    """Of the manifest that a registry has under that name, as far as it is known here."""
    if not _has_address(reference):
        return ""
    if record is not None and record.manifest_digest:
        return record.manifest_digest
    if isinstance(found.image, Image):
        return found.image.manifest.digest if found.image.manifest is not None else ""
    return next((one.partition("@")[2] for one in found.image.repo_digests if same_repository(one, reference)), "")
