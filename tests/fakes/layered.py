"""Small images with real layers, a base below and ours on it, made in a moment."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from envsnap.blobs import BlobStore
from envsnap.layers.writer import LayerWriter
from envsnap.oci.documents import LAYER_OF, OCI_MANIFEST, Descriptor, Manifest, canonical, digest_of, read_config, read_manifest
from envsnap.oci.image import BaseImage, Image, Layer, RunConfig, put_together
from envsnap.publish.content import Missing

REFERENCE = "registry.example.com/vision/yolo:1"
BASE_REFERENCE = "registry.example.com/debian:bookworm"


def tar_of(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        archive.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


class Blobs:
    """A source of blobs; remembers which were asked for."""

    def __init__(self, *blobs: bytes) -> None:
        self.by_digest = {digest_of(blob): blob for blob in blobs}
        self.asked: list[str] = []

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        self.asked.append(descriptor.digest)
        if descriptor.digest not in self.by_digest:
            raise Missing(f"no {descriptor.digest}")
        blob = self.by_digest[descriptor.digest]
        for start in range(0, len(blob), 1000):
            yield blob[start : start + 1000]


def make_base(kind: str = OCI_MANIFEST) -> tuple[BaseImage, Blobs]:
    """A base of two layers, compressed by somebody's gzip."""
    tars = [tar_of("etc/os-release", b"ID=debian\n"), tar_of("usr/bin/python3", b"\x7fELF" * 3000)]
    blobs = [gzip.compress(tar, mtime=0) for tar in tars]
    config = canonical(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
            "history": [{"created_by": "debian"}, {"created_by": "python"}],
        }
    )
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": {"mediaType": "application/json", "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": LAYER_OF[kind], "digest": digest_of(blob), "size": len(blob)} for blob in blobs],
        }
    )
    read = read_manifest(manifest, kind, what="base")
    assert isinstance(read, Manifest)
    return BaseImage(config=read_config(config, what="base"), manifest=read, reference=BASE_REFERENCE), Blobs(*blobs)


def make_layer(store: BlobStore, path: str, data: bytes) -> Layer:
    with store.writer(durable=False) as blob:
        writer = LayerWriter(blob.write)
        writer.directory("opt")
        writer.file(path, data)
        diff_id, _ = writer.finish()
    return Layer(digest=blob.digest, diff_id=diff_id, size_bytes=store.path(blob.digest).stat().st_size, made_by=f"envsnap: {path}")


def make_image(root: Path, *, kind: str = OCI_MANIFEST, manifest: bool = True, last: bytes = b"b") -> tuple[Image, BlobStore, Blobs]:
    """An image of two layers on a base of two; the store that has its own layers, and what has the base's.

    Args:
        manifest: without one, as where only an engine has the base.
        last: content of a file in the last layer.
    """
    base, below = make_base(kind)
    if not manifest:
        base = BaseImage(config=base.config, manifest=None)
    store = BlobStore(root)
    layers = [make_layer(store, "opt/a", b"a" * 5000), make_layer(store, "opt/b", last * 200)]
    return put_together(base, layers, RunConfig(env={"A": "1"}, labels={"l": "1"}, workdir="/workspace")), store, below
