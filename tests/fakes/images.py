"""Small images and artifacts as values, with their blobs."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from envsnap.oci.documents import (
    EMPTY,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    canonical,
    digest_of,
    read_manifest,
)


@dataclass(frozen=True)
class Bundle:
    """A manifest, and its blobs by digest."""

    manifest: Manifest
    blobs: Mapping[str, bytes]

    def read(self, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        data = self.blobs[descriptor.digest]
        for start in range(offset, len(data), 100_000):
            yield data[start : start + 100_000]


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def blob(data: bytes, media_type: str = OCI_LAYER) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest_of(data), size=len(data))


def image(*layers: bytes, architecture: str = "amd64", **more: object) -> Bundle:
    """An image of layers that are no archives: a registry does not look."""
    diff_ids = [digest_of(layer + b"unpacked") for layer in layers]
    config = canonical(
        {"architecture": architecture, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}, **more}
    )
    return _bundle({"config": config, "layers": layers}, blob(config, OCI_CONFIG), {})


def artifact(subject: Manifest, kind: str, data: bytes, annotations: Mapping[str, str] | None = None) -> Bundle:
    """Something attached to an image."""
    about = {"artifactType": kind, "subject": subject.descriptor.document(), "annotations": dict(annotations or {})}
    return _bundle({"config": EMPTY, "layers": (data,)}, blob(EMPTY, OCI_EMPTY), about)


def _bundle(parts: dict[str, object], config: Descriptor, about: Mapping[str, object]) -> Bundle:
    raw_config, layers = parts["config"], parts["layers"]
    assert isinstance(raw_config, bytes)
    assert isinstance(layers, tuple)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.document(),
        "layers": [blob(layer).document() for layer in layers],
        **about,
    }
    manifest = read_manifest(json.dumps(document).encode(), OCI_MANIFEST, what="")
    assert isinstance(manifest, Manifest)
    return Bundle(manifest, {digest_of(data): data for data in (raw_config, *layers)})
