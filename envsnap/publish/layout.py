"""What files an image is: the OCI image layout, and `manifest.json` for what reads docker's archives. Pure.

One set of files serves both: the layers lie at blobs/sha256/HEX, and docker's `manifest.json` names them there, as Docker itself
saves images since 25. So an archive with both is read by every engine, whatever its store.
Source of truth: the OCI image layout specification 1.1; Docker's image specification v1.2 for `manifest.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envsnap.errors import InputError
from envsnap.model.plan import BASE_DIGEST, BASE_NAME
from envsnap.oci.documents import OCI_INDEX, Descriptor, canonical
from envsnap.oci.image import BaseImage, Image
from envsnap.oci.reference import familiar, parse_reference
from envsnap.publish.content import layers_of

INDEX, MARK, DOCKER_MANIFEST_FILE = "index.json", "oci-layout", "manifest.json"
BLOBS = "blobs/sha256"
ABSENT = "absent"  # where docker's manifest.json looks for a layer of which only the name is known

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
LEFT_OUT = "dev.envsnap.layers.absent"
"""Annotation of a manifest in index.json: how many layers, from the lowest, are named and not part of these files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The files of a layout.

    Attributes:
        documents: path -> content, in the order in which an archive has them.
        layers: what lies at `blob_path` of each, after the documents.
    """

    documents: Mapping[str, bytes]
    layers: tuple[Descriptor, ...]

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.documents.values())) + sum(layer.size for layer in self.layers)


def blob_path(digest: str) -> str:
    return f"{BLOBS}/{digest.removeprefix('sha256:')}"


def contents(image: Image, names: Sequence[str] = (), *, without: int = 0, docker: bool = False) -> Contents:
    """The files of an image.

    Args:
        names: what it is called there; without any, whoever loads it finds it by digest alone.
        without: how many layers, from the lowest, are left out.
        docker: with docker's manifest.json. Without a manifest of the image there is only that.

    Raises:
        InputError: the base is known to an engine only, and its layers or the image's manifest were asked for.
    """
    layers = layers_of(image)
    included = [layer.blob for layer in layers[without:] if layer.blob is not None]
    if len(included) != len(layers) - without or (image.manifest is None and not docker):
        raise InputError(
            "the image cannot be written out whole",
            why="its base is in an engine only: what its compressed layers are cannot be said",
            hint="push the base to a registry and build upon that, or take the base along with docker save",
        )
    documents: dict[str, bytes] = {}
    if image.manifest is not None:
        documents |= {MARK: canonical({"imageLayoutVersion": "1.0.0"}), INDEX: _index(image, names, without)}
    if docker:
        entry = {
            "Config": blob_path(image.config.digest),
            "RepoTags": list(names) or None,
            "Layers": [blob_path(one.blob.digest) if one.blob else f"{ABSENT}/{one.diff_id.removeprefix('sha256:')}" for one in layers],
        }
        documents[DOCKER_MANIFEST_FILE] = canonical([entry])
    for raw in (image.config, image.manifest, *(_base_documents(image.base) if image.layers else ())):
        if raw is not None:
            documents[blob_path(raw.digest)] = raw.raw
    return Contents(documents=documents, layers=tuple({blob.digest: blob for blob in included}.values()))


def _index(image: Image, names: Sequence[str], without: int) -> bytes:
    assert image.manifest is not None
    of_image: dict[str, str] = {}
    if image.layers and image.base.manifest is not None and image.base.config.diff_ids:
        of_image[BASE_DIGEST] = image.base.manifest.digest
        if image.base.reference:
            of_image[BASE_NAME] = image.base.reference
    if without:
        of_image[LEFT_OUT] = str(without)
    entries: list[dict[str, Any]] = []
    for name in names or ("",):
        entry = image.manifest.descriptor.document()
        annotations = of_image | ({REF_NAME: name, CONTAINERD_NAME: _in_full(name)} if name else {})
        if annotations:
            entry["annotations"] = annotations
        entry["platform"] = {"architecture": image.config.architecture, "os": image.config.os}
        entries.append(entry)
    return canonical({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def _in_full(name: str) -> str:
    """With the registry that a short name implies, as containerd calls images."""
    reference = parse_reference(name)
    return f"{reference.registry}/{reference.repository}:{reference.tag}"


def _base_documents(base: BaseImage) -> tuple[Any, ...]:
    """With these two, 2 KB, whoever reads the files knows which layers are the base's."""
    return (base.config, base.manifest) if base.manifest is not None and base.config.diff_ids else ()


def read_names(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """What an index calls one of its manifests, as whoever wrote it said it: containerd writes names out in full."""
    name = annotations.get(CONTAINERD_NAME) or annotations.get(REF_NAME) or ""
    return (familiar(name),) if name else ()


def parse_json(raw: bytes, what: str, why: str) -> Any:
    """A document of untrusted files. Raises InputError: it is not JSON."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(what, why=why) from error
