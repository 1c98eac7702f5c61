"""Reading an image back from files that anybody may have written: every byte is hashed before it is believed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from envsnap.errors import EngineError, InputError, UsageError
from envsnap.model.plan import BASE_DIGEST, BASE_NAME
from envsnap.oci.documents import Config, Descriptor, Index, Manifest, read_config, read_manifest
from envsnap.oci.image import BaseImage, Image, Layer, scratch
from envsnap.oci.reference import parse_reference
from envsnap.progress import Progress, counted
from envsnap.publish import files
from envsnap.publish.content import CHUNK, Missing, held, layers_of
from envsnap.publish.files import Files
from envsnap.publish.layout import ABSENT, DOCKER_MANIFEST_FILE, INDEX, LEFT_OUT, blob_path, parse_json, read_names

_MAX_DOCUMENT_BYTES = 8 << 20
_MAX_TAR_BYTES = 256 << 30  # of one layer, inflated: an honest one is a tenth of that
_MAX_NESTING = 3  # of indexes
_SLICE = 32 << 10
_HINT = "copy the file again, or save the image again: what envsnap save and docker save write can be loaded"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(kw_only=True)
class Carried:
    """An image in files.

    Attributes:
        names: what the files call it.
        absent: how many layers, from the lowest, are named there and not part of the files.
        place: what errors call the files.
    """

    image: Image
    names: tuple[str, ...]
    absent: int
    place: str
    _files: Files
    _paths: Mapping[str, str] = field(default_factory=dict)  # digest -> path, where that is not the layout's

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        """See `publish.content.BlobSource`."""
        path = self._paths.get(descriptor.digest, blob_path(descriptor.digest))
        if self._files.size(path) is None:
            hint = "they were saved without the base: load them where its layers are" if self.absent else ""
            raise Missing(f"blob {descriptor.digest[:19]} is missing", why=f"{self.place} has no {path}", hint=hint)
        return held(self._files.open(path), descriptor, f"{path} of {self.place}")

    def verify(self, progress: Progress) -> None:
        """Hash every layer that is there, compressed and inflated.

        Raises:
            InputError: one is not what manifest and config say.
        """
        here = [layer for layer in layers_of(self.image)[self.absent :] if layer.blob is not None]
        total = sum(layer.blob.size for layer in here if layer.blob is not None)
        with progress.task(f"check {self.place}", total=total, unit="bytes") as task:
            for layer in here:
                assert layer.blob is not None
                pieces = counted(self.open(layer.blob), task)
                found = _diff_id(pieces, f"layer {layer.blob.digest[:19]} of {self.place}")
                if found and found != layer.diff_id:
                    raise InputError(
                        f"layer {layer.blob.digest[:19]} is not the image's",
                        why=f"{self.place}: its content has the digest {found[:19]}…, and the config names {layer.diff_id[:19]}…",
                    )


@contextmanager
def opened(path: Path, *, architecture: str, called: str = "") -> Iterator[Carried]:
    """The image in a layout directory, an archive of one, or an archive of docker's. Its layers are not hashed yet: `verify` does.

    Args:
        architecture: which one to take where there are several ("amd64").
        called: what errors call it, where nobody named it: it was written a moment ago.

    Raises:
        InputError: there is none, or more than one; a document is not what its digest says; a layer is missing.
    """
    given = called or str(path)
    try:
        with files.opened(path) as found:
            reader = _Reader(found, given)
            try:
                yield reader.layout(architecture) if found.size(INDEX) is not None else reader.docker_archive()
            except EngineError as error:
                if error.what != reader.what:
                    raise
                raise InputError(error.what, why=error.why) from error
    except InputError as error:
        error.hint = error.hint or ("" if called else _HINT)
        raise


class _Reader:
    def __init__(self, found: Files, called: str) -> None:
        self._files = found
        self._called = called
        self.what = f"cannot read the image in {called}"

    def layout(self, architecture: str) -> Carried:
        entry, names = self._choose(architecture)
        manifest = self._manifest(entry)
        config = read_config(self._blob(manifest.config), what=self.what)
        if len(config.diff_ids) != len(manifest.layers):
            raise self._refused(f"its manifest names {len(manifest.layers)} layers, its config {len(config.diff_ids)}")
        absent = self._absent(entry, manifest)
        base = self._base(entry, manifest, config)
        image = Image(config=config, manifest=manifest, base=base, layers=_own_layers(config, manifest, base))
        return Carried(image=image, names=names, absent=absent, place=self._called, _files=self._files)

    def _choose(self, architecture: str) -> tuple[Descriptor, tuple[str, ...]]:
        """The one image of the index, and its names."""
        index = read_manifest(self._document(INDEX), "", what=self.what)
        if not isinstance(index, Index):
            raise self._refused(f"{INDEX} is no index")
        names: dict[str, list[str]] = {}
        images: dict[str, Descriptor] = {}
        for entry in index.manifests:
            for image in self._images(entry, architecture, depth=1):
                images.setdefault(image.digest, image)
                names.setdefault(image.digest, []).extend(read_names(entry.annotations))
        if len(images) != 1:
            hint = "save one image, or copy the one that is meant into a file of its own" if images else ""
            raise InputError(self.what, why=f"there are {len(images)} images for {architecture} in it", hint=hint)
        digest, image = images.popitem()
        return image, tuple(dict.fromkeys(names[digest]))

    def _images(self, entry: Descriptor, architecture: str, *, depth: int) -> Iterator[Descriptor]:
        """Those for the architecture below an entry of an index."""
        if entry.platform is not None and entry.platform[1] != architecture:
            return  # another machine's, or ("unknown") an attestation
        if self._files.size(blob_path(entry.digest)) is None:
            return  # docker saves the index of several platforms with the one that it has
        found = read_manifest(self._blob(entry), entry.media_type, what=self.what)
        if isinstance(found, Manifest):
            if found.subject is None and not found.artifact_type:
                yield entry
            return
        if depth >= _MAX_NESTING:
            raise self._refused("its indexes lead to ever more indexes")
        for inner in found.manifests:
            yield from self._images(inner, architecture, depth=depth + 1)

    def _manifest(self, entry: Descriptor) -> Manifest:
        found = read_manifest(self._blob(entry), entry.media_type, what=self.what)
        assert isinstance(found, Manifest)
        return found

    def _absent(self, entry: Descriptor, manifest: Manifest) -> int:
        """How many layers the files say they left out. Any other that is missing is missed."""
        said = entry.annotations.get(LEFT_OUT, "0")
        if not said.isdecimal() or len(said) > 4 or int(said) > len(manifest.layers):
            raise self._refused(f"{LEFT_OUT} is {said[:20]!r}")
        for layer in manifest.layers[int(said) :]:
            if self._files.size(blob_path(layer.digest)) is None:
                raise self._refused(f"the layer {layer.digest[:19]}… is missing")
        return int(said)

    def _base(self, entry: Descriptor, manifest: Manifest, config: Config) -> BaseImage:
        """What the image says to be built upon, if that is true and its documents are here; else the whole counts as base."""
        digest = entry.annotations.get(BASE_DIGEST, "")
        path = blob_path(digest)
        size = self._files.size(path)
        if size is None:
            return BaseImage(config=config, manifest=manifest)
        below = read_manifest(self._blob(Descriptor(media_type="", digest=digest, size=size)), "", what=self.what)
        if not isinstance(below, Manifest):
            raise self._refused("what it calls its base is no image")
        its_config = read_config(self._blob(below.config), what=self.what)
        count = len(below.layers)
        same_blobs = [one.digest for one in below.layers] == [one.digest for one in manifest.layers[:count]]
        if not same_blobs or its_config.diff_ids != config.diff_ids[:count]:
            raise self._refused("what it calls its base is not below it")
        name = entry.annotations.get(BASE_NAME, "")
        try:
            if name:
                parse_reference(name)
        except UsageError as error:
            raise self._refused(f"what it calls its base: {error.what}") from error
        return BaseImage(config=its_config, manifest=below, reference=name)

    def docker_archive(self) -> Carried:
        """An archive of docker's without a layout: no manifest says how its layers are compressed, if they are."""
        if self._files.size(DOCKER_MANIFEST_FILE) is None:
            raise self._refused(f"it has neither {INDEX} nor {DOCKER_MANIFEST_FILE}")
        why = f"{DOCKER_MANIFEST_FILE} is not what docker writes"
        entries = parse_json(self._document(DOCKER_MANIFEST_FILE), self.what, why)
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise self._refused(why)
        if len(entries) != 1:
            raise InputError(self.what, why=f"there are {len(entries)} images in it", hint="save one image")
        entry: dict[str, Any] = entries[0]
        paths, names = entry.get("Layers") or [], entry.get("RepoTags") or []
        if not isinstance(paths, list) or not isinstance(names, list) or not all(isinstance(one, str) for one in (*paths, *names)):
            raise self._refused(why)
        config = read_config(self._document(str(entry.get("Config"))), what=self.what)
        if len(paths) != len(config.diff_ids):
            raise self._refused(f"it names {len(paths)} layers, its config {len(config.diff_ids)}")
        absent = sum(1 for path in paths if path.startswith(f"{ABSENT}/"))
        layers = tuple(self._layer(path, diff_id) for path, diff_id in zip(paths[absent:], config.diff_ids[absent:], strict=True))
        below = scratch(config.architecture)
        base = Config(
            raw=below.config.raw,
            document=below.config.document,
            architecture=config.architecture,
            os=config.os,
            diff_ids=config.diff_ids[:absent],
        )
        return Carried(
            image=Image(config=config, manifest=None, base=BaseImage(config=base, manifest=None), layers=layers),
            names=tuple(names),
            absent=absent,
            place=self._called,
            _files=self._files,
            _paths={layer.digest: path for layer, path in zip(layers, paths[absent:], strict=True)},
        )

    def _layer(self, path: str, diff_id: str) -> Layer:
        size = self._files.size(path)
        if size is None:
            raise self._refused(f"{path} is missing")
        pieces = self._files.open(path)
        first = next(pieces, b"")
        digest = diff_id  # of a plain tar, which `verify` holds it against
        if first.startswith((_GZIP, _ZSTD)):
            sha256 = hashlib.sha256()
            for piece in chain([first], pieces):
                sha256.update(piece)
            digest = f"sha256:{sha256.hexdigest()}"
        return Layer(digest=digest, diff_id=diff_id, size_bytes=size, made_by="")

    def _document(self, name: str) -> bytes:
        size = self._files.size(name)
        if size is None:
            raise self._refused(f"{name} is missing")
        if size > _MAX_DOCUMENT_BYTES:
            raise self._refused(f"{name} has {size} bytes")
        return b"".join(self._files.open(name))

    def _blob(self, descriptor: Descriptor) -> bytes:
        path = blob_path(descriptor.digest)
        size = self._files.size(path)
        if size is None or size != descriptor.size or size > _MAX_DOCUMENT_BYTES:
            found = "is missing" if size is None else f"has {size} bytes, and should have {descriptor.size}"
            raise self._refused(f"{path} {found}")
        return b"".join(held(self._files.open(path), descriptor, f"{path} of {self._called}"))

    def _refused(self, why: str) -> InputError:
        return InputError(self.what, why=why)


def _own_layers(config: Config, manifest: Manifest, base: BaseImage) -> tuple[Layer, ...]:
    count = len(base.config.diff_ids)
    history = config.document.get("history")
    made = [str(one.get("created_by", "")) for one in history or () if isinstance(one, dict) and not one.get("empty_layer")]
    made = made if len(made) == len(config.diff_ids) else [""] * len(config.diff_ids)
    return tuple(
        Layer(digest=blob.digest, diff_id=diff_id, size_bytes=blob.size, made_by=made_by)
        for blob, diff_id, made_by in list(zip(manifest.layers, config.diff_ids, made, strict=True))[count:]
    )


def _diff_id(pieces: Iterator[bytes], what: str) -> str:
    """Digest of a layer's tar; "" for a compression that is not read here, where the blob's own digest has to do."""
    first = next(pieces, b"")
    whole = chain([first], pieces)
    sha256 = hashlib.sha256()
    if first.startswith(_ZSTD):
        for _ in whole:
            pass
        return ""
    size = 0
    for piece in _inflated(whole, what) if first.startswith(_GZIP) else whole:
        sha256.update(piece)
        size += len(piece)
        if size > _MAX_TAR_BYTES:
            raise InputError(f"{what} is refused", why=f"it inflates to more than {_MAX_TAR_BYTES >> 30} GiB")
    return f"sha256:{sha256.hexdigest()}"


def _inflated(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    """The content of gzip members, however many, in pieces of bounded size."""
    inflater, inside = zlib.decompressobj(wbits=31), False
    try:
        for given in _slices(pieces):
            data = given
            while True:
                inside = inside or bool(data)
                yield (inflated := inflater.decompress(data, CHUNK))
                if inflater.eof:
                    data, inside = inflater.unused_data, False
                    inflater = zlib.decompressobj(wbits=31)
                    if not data:
                        break
                else:
                    data = inflater.unconsumed_tail
                    if not data and len(inflated) < CHUNK:
                        break
    except zlib.error as error:
        raise InputError(f"{what} is damaged", why=str(error)) from error
    if inside:
        raise InputError(f"{what} is damaged", why="it ends in the middle of its compressed data")


def _slices(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small ones: zlib copies what follows a member, and a layer of ours has thousands of members."""
    for piece in pieces:
        for start in range(0, len(piece), _SLICE):
            yield piece[start : start + _SLICE]
