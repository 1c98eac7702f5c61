"""A base's manifest and config, kept from one time to the next: 2 KB, by which an image can be told without its registry."""

from __future__ import annotations

from pathlib import Path

import msgspec

from envsnap.model.base import Base
from envsnap.model.kinds import Digest
from envsnap.oci.documents import Config, Manifest, read_config, read_manifest
from envsnap.oci.image import BaseImage
from envsnap.oci.reference import with_digest
from envsnap.registry.client import Registry
from envsnap.storage import BlobStore, write_file
from envsnap.workflows.unknown import Unknown


class _Pointer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a base's digest, perhaps an index's, names for one machine."""

    manifest: Digest
    media_type: str
    config: Digest


def find(base: Base, machine: str, registry: Registry | None, store: BlobStore, cache: Path) -> BaseImage | Unknown:
    """The base's manifest and config: as kept from an earlier time, else from its registry.

    Args:
        registry: None to ask nobody.

    Raises:
        EngineError: the registry was asked and does not have it, or cannot be reached.
    """
    if base.digest is None and base.is_made_here:
        return Unknown(because=base.unknown_because or "the base was never made here", hint="--fetch asks the distribution")
    if base.digest is None:
        return Unknown(
            because="only an engine has the base: what its layers are in a registry is not known", hint="push the base, or --engine docker"
        )
    what = f"cannot look up {base.reference}"
    try:
        kept = msgspec.json.decode(_pointer(base.digest, machine, cache).read_bytes(), type=_Pointer)
    except (OSError, msgspec.MsgspecError):
        kept = None
    if kept is None or not (store.has(kept.manifest) and store.has(kept.config)):
        if base.is_made_here:
            return Unknown(because="the base was never made from its packages here", hint="--fetch makes it")
        if registry is None:
            return Unknown(because="the base was never looked up", hint="without --offline its registry is asked")
        manifest, config = registry.image(with_digest(base.reference, base.digest), machine=machine)
        kept = _keep(manifest, config, base.digest, machine, store, cache)
    manifest_again = read_manifest(store.read(kept.manifest), kept.media_type, what=what)
    assert isinstance(manifest_again, Manifest)
    reference = "" if base.is_made_here else base.reference  # its layers are in the store then
    return BaseImage(config=read_config(store.read(kept.config), what=what), manifest=manifest_again, reference=reference)


def keep(manifest: Manifest, config: Config, machine: str, store: BlobStore, cache: Path) -> None:
    """Have `find` know a base that was made here."""
    _keep(manifest, config, manifest.digest, machine, store, cache)


def _keep(manifest: Manifest, config: Config, digest: str, machine: str, store: BlobStore, cache: Path) -> _Pointer:
    store.put(manifest.raw)
    store.put(config.raw)
    kept = _Pointer(manifest=manifest.digest, media_type=manifest.media_type, config=config.digest)
    write_file(_pointer(digest, machine, cache), msgspec.json.encode(kept))
    return kept


def _pointer(digest: str, machine: str, cache: Path) -> Path:
    return cache / "bases" / f"{digest.removeprefix('sha256:')}-{machine}.json"
