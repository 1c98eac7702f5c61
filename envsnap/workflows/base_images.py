"""A base's manifest and config, remembered from one time to the next: 2 KB, by which an image can be told without its registry."""

from __future__ import annotations

from pathlib import Path

import msgspec

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError
from envsnap.model.base import Base
from envsnap.model.kinds import Digest
from envsnap.notes import read_note, write_note
from envsnap.oci.documents import Config, Manifest, read_config, read_manifest
from envsnap.oci.image import BaseImage
from envsnap.oci.reference import with_digest
from envsnap.registry.client import Registry
from envsnap.workflows.unknown import Unknown


class _Pointer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a base's digest, perhaps an index's, names for one machine."""

    manifest: Digest
    media_type: str
    config: Digest


def find(base: Base, machine: str, registry: Registry | None, store: BlobStore, cache: Path) -> BaseImage | Unknown:
    """The base's manifest and config: as remembered from an earlier time, else from its registry.

    Args:
        registry: None to ask nobody.

    Raises:
        EngineError: the registry was asked and does not have it, or cannot be reached.
    """
    if base.digest is None and base.is_made_here:
        return Unknown(because=base.unknown_because or "the base was never made here", hint="--fetch asks the distribution")
    if base.digest is None and not base.in_engine and base.unknown_because:
        return Unknown(because=base.unknown_because, hint="run it again when its registry answers")
    if base.digest is None:
        return Unknown(
            because="only an engine has the base: what its layers are in a registry is not known",
            hint="push the base, or --engine docker",
            for_good=True,
        )
    found = _recall(base.digest, machine, store, cache)
    if found is None:
        if base.is_made_here:
            return Unknown(because="the base was never made from its packages here", hint="--fetch makes it")
        if registry is None:
            return Unknown(because="the base was never looked up", hint="without --offline its registry is asked")
        found = registry.image(with_digest(base.reference, base.digest), machine=machine)
        _remember(*found, base.digest, machine, store, cache)
    manifest, config = found
    reference = "" if base.is_made_here else base.reference  # its layers are in the store then
    return BaseImage(config=config, manifest=manifest, reference=reference)


def _recall(digest: str, machine: str, store: BlobStore, cache: Path) -> tuple[Manifest, Config] | None:
    """As remembered; None where they were not, or are damaged."""
    remembered = read_note(_pointer(digest, machine, cache), _Pointer)
    if remembered is None:
        return None
    what = "cannot read a remembered base"
    try:
        manifest = read_manifest(store.read(remembered.manifest), remembered.media_type, what=what)
        config = read_config(store.read(remembered.config), what=what)
    except (InputError, EngineError):
        return None
    return (manifest, config) if isinstance(manifest, Manifest) else None


def remember(manifest: Manifest, config: Config, machine: str, store: BlobStore, cache: Path) -> None:
    """Have `find` know a base that was made here."""
    _remember(manifest, config, manifest.digest, machine, store, cache)


def _remember(manifest: Manifest, config: Config, digest: str, machine: str, store: BlobStore, cache: Path) -> None:
    store.put(manifest.raw)
    store.put(config.raw)
    pointer = _Pointer(manifest=manifest.digest, media_type=manifest.media_type, config=config.digest)
    write_note(_pointer(digest, machine, cache), pointer)


def _pointer(digest: str, machine: str, cache: Path) -> Path:
    return cache / "bases" / f"{digest.removeprefix('sha256:')}-{machine}.json"
