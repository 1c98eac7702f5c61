"""Descriptors, manifests, indexes and configs as values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from envsnap.errors import EngineError
from envsnap.oci.digest import DIGEST

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
LAYER_OF = {OCI_MANIFEST: OCI_LAYER, DOCKER_MANIFEST: DOCKER_LAYER}
"""Kind of manifest -> what its own kind calls a gzipped layer."""
CONFIG_OF = {OCI_MANIFEST: OCI_CONFIG, DOCKER_MANIFEST: DOCKER_CONFIG}

EMPTY = b"{}"
"""Content of the config of an artifact that has none (OCI image specification 1.1, `application/vnd.oci.empty.v1+json`)."""

_MAX_SIZE = 1 << 50  # of one blob; more is no honest size


def digest_of(data: bytes) -> str:
    """The digest "sha256:…" of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical(document: Any) -> bytes:
    """JSON with sorted keys, no white space, ASCII: the same bytes for the same value, everywhere."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Names a blob. Attributes: size: bytes. platform: (os, architecture), where an index says it."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: tuple[str, str] | None = None
    artifact_type: str = ""

    def document(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.platform is not None:
            document["platform"] = {"os": self.platform[0], "architecture": self.platform[1]}
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        return document


@dataclass(frozen=True, kw_only=True)
class Document:
    """Bytes that came from somewhere, and what they hold. The bytes count: a digest is theirs."""

    raw: bytes

    @cached_property
    def digest(self) -> str:
        return digest_of(self.raw)


@dataclass(frozen=True, kw_only=True)
class Manifest(Document):
    """One image, or an artifact. Attributes: subject: what an artifact is attached to."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    subject: Descriptor | None = None

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.raw))


@dataclass(frozen=True, kw_only=True)
class Index(Document):
    """Several images under one name."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Config(Document):
    """What an image runs, and the digests of its uncompressed layers. Attributes: document: all of it, as it was read."""

    document: Mapping[str, Any]
    architecture: str
    os: str
    diff_ids: tuple[str, ...]

    @property
    def run(self) -> Mapping[str, Any]:
        """The part that containers are started with: Env, Entrypoint, Cmd, WorkingDir, User, Labels, …"""
        found = self.document.get("config")
        return found if isinstance(found, dict) else {}

    @property
    def env(self) -> Mapping[str, str]:
        """Its variables, in the image's order."""
        entries = self.run.get("Env")
        return dict(entry.split("=", 1) for entry in map(str, entries if isinstance(entries, list) else ()) if "=" in entry)

    @property
    def on_build(self) -> tuple[str, ...]:
        """Instructions that a build upon it carries out before its own (Dockerfile's ONBUILD)."""
        found = self.run.get("OnBuild")
        return tuple(map(str, found)) if isinstance(found, list) else ()

    @property
    def labels(self) -> Mapping[str, str]:
        return _texts(self.run.get("Labels"))


def read_manifest(raw: bytes, media_type: str, *, what: str) -> Manifest | Index:
    """A manifest or index.

    Args:
        media_type: as the server says; what the document says of itself comes first.
        what: what fails when it cannot be read ("cannot look up REF").

    Raises:
        EngineError: it is neither, or one of a kind that is too old.
    """
    document = parse_object(raw, what=what)
    said = document.get("mediaType")
    kind = said if isinstance(said, str) and said else media_type.partition(";")[0].strip()
    if kind in INDEXES or (kind not in MANIFESTS and "manifests" in document):
        kind = kind if kind in INDEXES else OCI_INDEX
        return Index(
            raw=raw,
            media_type=kind,
            manifests=tuple(_descriptor(entry, what, f"manifests[{i}]") for i, entry in enumerate(_list(document, "manifests", what))),
            annotations=_texts(document.get("annotations")),
        )
    if kind not in MANIFESTS and not ("config" in document and "layers" in document):
        raise EngineError(what, why="its manifest is of a kind that is too old or no image's")
    return Manifest(
        raw=raw,
        media_type=kind if kind in MANIFESTS else OCI_MANIFEST,
        config=_descriptor(document.get("config"), what, "config"),
        layers=tuple(_descriptor(entry, what, f"layers[{i}]") for i, entry in enumerate(_list(document, "layers", what))),
        annotations=_texts(document.get("annotations")),
        artifact_type=str(document.get("artifactType") or ""),
        subject=_descriptor(document["subject"], what, "subject") if document.get("subject") else None,
    )


def read_config(raw: bytes, *, what: str) -> Config:
    """An image's config. Raises EngineError: it is none."""
    document = parse_object(raw, what=what)
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(isinstance(one, str) and DIGEST.match(one) for one in diff_ids):
        raise EngineError(what, why="its config names no layers")
    return Config(
        raw=raw,
        document=document,
        architecture=str(document.get("architecture") or ""),
        os=str(document.get("os") or "linux"),
        diff_ids=tuple(diff_ids),
    )


def parse_object(raw: bytes, *, what: str) -> dict[str, Any]:
    """A JSON object. Raises EngineError: it is none, or one so deep that reading it fails."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise EngineError(what, why="what came is not JSON") from error
    if not isinstance(document, dict):
        raise EngineError(what, why="what came is not a JSON object")
    return document


def _descriptor(value: Any, what: str, place: str) -> Descriptor:
    if not isinstance(value, dict):
        raise EngineError(what, why=f"{place} of its manifest is no descriptor")
    digest, size = value.get("digest"), value.get("size")
    if not isinstance(digest, str) or not DIGEST.match(digest):
        raise EngineError(what, why=f"{place}.digest of its manifest is no sha256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise EngineError(what, why=f"{place}.size of its manifest is no size")
    platform = value.get("platform")
    return Descriptor(
        media_type=str(value.get("mediaType") or ""),
        digest=digest,
        size=size,
        annotations=_texts(value.get("annotations")),
        platform=(str(platform.get("os")), str(platform.get("architecture"))) if isinstance(platform, dict) else None,
        artifact_type=str(value.get("artifactType") or ""),
    )


def _list(document: Mapping[str, Any], name: str, what: str) -> list[Any]:
    value = document.get(name)
    if not isinstance(value, list):
        raise EngineError(what, why=f"{name} of its manifest is no list")
    return value


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(inner) for key, inner in value.items()} if isinstance(value, dict) else {}
