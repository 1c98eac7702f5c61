"""Images that were put together here, by name: `cache/images/<sha256 of the name>.json`, one file for each.

A file holds manifest and config, the base's too, and names the layers; those lie among the cache's blobs, or in the registries that the
names lead to. Files are replaced as a whole and share nothing, so that neither a second process nor a kill leaves anything between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError
from envsnap.oci.documents import Config, Manifest, read_config, read_manifest
from envsnap.oci.image import BaseImage, Image, Layer
from envsnap.oci.reference import is_id, names_registry, parse_reference
from envsnap.storage import write_file

if TYPE_CHECKING:  # it brings an HTTP client, and who holds the cache to a size needs none
    from envsnap.registry.client import Registry

FOLDER = "images"
Whereabouts = Literal["here", "engine", "registry"]
"""Where an image is to be had under its name: in this store alone, in an engine too, or in the name's registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Attributes: name: as it was given. place: where the image is to be had under it, as far as is known here."""

    name: str
    image: Image
    place: Whereabouts


class _Layer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    digest: str
    diff_id: str
    size_bytes: int
    made_by: str


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Manifests and configs are texts: their digests are those of exactly these bytes."""

    name: str
    config: str
    manifest: str | None
    base_config: str
    base_manifest: str | None
    base_reference: str
    layers: tuple[_Layer, ...]
    place: Whereabouts = "registry"


def blobs(cache: Path) -> BlobStore:
    """Where the layers lie."""
    return BlobStore(cache / "blobs")


def remember(image: Image, names: Sequence[str], cache: Path, *, place: Whereabouts) -> None:
    """Have an image found under each of `names`, whatever was under them before. Its layers count as used just now.

    Args:
        place: where it is to be had under them now. A name whose registry has this very image keeps "registry": to have it somewhere
            else, too, takes nothing from there.

    Raises:
        UsageError: a name is none.
        TargetError: the cache cannot be written.
    """
    _use(image, cache)
    for name in names:
        path = _place(name, cache)
        before = _read(path)
        in_registry = before is not None and before.place == "registry" and before.image.config.digest == image.config.digest
        document = _Document(
            name=name,
            config=image.config.raw.decode(),
            manifest=image.manifest.raw.decode() if image.manifest is not None else None,
            base_config=image.base.config.raw.decode(),
            base_manifest=image.base.manifest.raw.decode() if image.base.manifest is not None else None,
            base_reference=image.base.reference,
            layers=tuple(
                _Layer(digest=one.digest, diff_id=one.diff_id, size_bytes=one.size_bytes, made_by=one.made_by) for one in image.layers
            ),
            place="registry" if in_registry else place,
        )
        write_file(path, msgspec.json.encode(document))


def find(name: str, cache: Path) -> Image | None:
    """The image of that name, or of that config or manifest digest ("sha256:…"); None when none is known.

    Its layers count as used just now.

    Raises:
        UsageError: it is no name.
    """
    found = named(name, cache)
    return found.image if found is not None else None


def named(name: str, cache: Path) -> Named | None:
    """As `find`, with what is known of the name; of a digest's names, the first one's."""
    found = _find(name, cache)
    if found is not None:
        _use(found.image, cache)
    return found


def here(name: str, registry: Registry, cache: Path) -> Image | None:
    """What this store has under a name, or a digest, without its layers; None where a registry has the word, or is to be asked.

    A registry comes first, for a tag may have moved there. Under a name that says no registry, what is in this store alone is what was
    meant: the default one is not asked, where another image may be called the same by chance.

    Raises:
        EngineError: nothing has that digest here, or the registry that has the image cannot be reached. UsageError: it is no name.
    """
    found = named(name, cache)
    if is_id(name):
        if found is None:
            raise EngineError(f"there is no image {name} here", hint="name it as its registry does: HOST/REPOSITORY@sha256:…")
        return found.image
    if found is None or found.image.manifest is None:
        return None
    meant = found.place == "here" and not names_registry(name)
    return found.image if meant or not _has(registry, name, found.place) else None


def _has(registry: Registry, name: str, place: Whereabouts) -> bool:
    """Whether a registry has anything under a name. One that does not answer has no word about an image that it was never sent."""
    try:
        return registry.head(name) is not None
    except EngineError:
        if place == "registry":
            raise
        return False  # as a public registry denies access to what it does not have


def latest(prefix: str, cache: Path) -> Image | None:
    """Of the images whose names begin so, the one that was remembered last; None where there is none."""
    paths = sorted((cache / FOLDER).glob("*.json"), key=_when, reverse=True)
    found = next((one.image for one in map(_read, paths) if one is not None and one.name.startswith(prefix)), None)
    if found is not None:
        _use(found, cache)
    return found


def _when(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _find(name: str, cache: Path) -> Named | None:
    if not is_id(name):
        return _read(_place(name, cache))
    digest = f"sha256:{name.removeprefix('sha256:')}"
    images = ((one, one.image) for one in everything(cache))
    return next((one for one, image in images if digest in (image.config.digest, image.manifest.digest if image.manifest else "")), None)


def only_here(cache: Path) -> set[Path]:
    """Where the layers lie of images that are nowhere else: under no name were they ever sent to a registry or an engine."""
    images: dict[str, Image] = {}
    elsewhere = set[str]()
    for one in everything(cache):
        images[one.image.config.digest] = one.image
        if one.place != "here":
            elsewhere.add(one.image.config.digest)
    return {blobs(cache).path(layer) for config, image in images.items() if config not in elsewhere for layer in _layers(image)}


def _use(image: Image, cache: Path) -> None:
    for digest in _layers(image):
        blobs(cache).touch(digest)


def _layers(image: Image) -> Iterator[str]:
    """Digests of all, the base's first."""
    yield from (layer.digest for layer in (image.base.manifest.layers if image.base.manifest is not None else ()))
    yield from (layer.digest for layer in image.layers)


def forget(name: str, cache: Path) -> None:
    """Find no image under that name any more. Its layers stay."""
    _place(name, cache).unlink(missing_ok=True)


def everything(cache: Path) -> Iterator[Named]:
    """All images that have a name, in the order of their files."""
    folder = cache / FOLDER
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        if (found := _read(path)) is not None:
            yield found


def _place(name: str, cache: Path) -> Path:
    reference = parse_reference(name)
    whole = f"{reference.registry}/{reference.repository}:{reference.tag}@{reference.digest}"
    return cache / FOLDER / f"{hashlib.sha256(whole.encode()).hexdigest()}.json"


def _read(path: Path) -> Named | None:
    """None for what is not there, or no such file: it can be made again."""
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
        config, manifest = _parsed(document.config, document.manifest)
        base_config, base_manifest = _parsed(document.base_config, document.base_manifest)
    except (OSError, ValueError, EngineError):
        return None
    layers = tuple(Layer(digest=one.digest, diff_id=one.diff_id, size_bytes=one.size_bytes, made_by=one.made_by) for one in document.layers)
    base = BaseImage(config=base_config, manifest=base_manifest, reference=document.base_reference)
    image = Image(config=config, manifest=manifest, base=base, layers=layers)
    return Named(name=document.name, image=image, place=document.place)


def _parsed(config: str, manifest: str | None) -> tuple[Config, Manifest | None]:
    what = "cannot read a remembered image"
    read = read_config(config.encode(), what=what)
    if manifest is None:
        return read, None
    found = read_manifest(manifest.encode(), "", what=what)
    if not isinstance(found, Manifest) or found.config.digest != read.digest:
        raise EngineError(what, why="manifest and config are not one image's")
    return read, found
