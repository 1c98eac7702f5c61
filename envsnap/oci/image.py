"""A whole image as a value, and making one from a base and new layers. Pure: same input, same bytes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envsnap.oci.documents import CONFIG_OF, LAYER_OF, OCI_MANIFEST, Config, Descriptor, Manifest, canonical, digest_of

EPOCH = 315532800
"""Modification time, in seconds since 1970, of every file that envsnap puts into an image, and `created` of the image: 1980-01-01, the
oldest that both tar and zip can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer that was made. Attributes: digest, size_bytes: of the gzipped blob; diff_id: of the tar in it; made_by: for `history`."""

    digest: str
    diff_id: str
    size_bytes: int
    made_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """What is built upon.

    Attributes:
        manifest: None where only an engine has the base: then nothing can say what its compressed layers are.
        reference: where its layers lie ("localhost:5000/debian:bookworm"); "" for one that was made here.
    """

    config: Config
    manifest: Manifest | None
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that was put together.

    Attributes:
        manifest: None where the base's is not known.
        base: its layers come first.
        layers: those on top.
    """

    config: Config
    manifest: Manifest | None
    base: BaseImage
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What an image changes in its base's config.

    Attributes:
        env: over the base's, in order.
        labels: over the base's.
        workdir: of the image. user: None for the base's.
    """

    env: Mapping[str, str]
    labels: Mapping[str, str]
    workdir: str
    user: str | None = None


def put_together(base: BaseImage, layers: Sequence[Layer], change: RunConfig) -> Image:
    """The image of a base, new layers on it, and a changed config."""
    config = config_of(base, [(layer.diff_id, layer.made_by) for layer in layers], change)
    manifest = _manifest(base.manifest, config, layers) if base.manifest is not None else None
    return Image(config=config, manifest=manifest, base=base, layers=tuple(layers))


def scratch(architecture: str) -> BaseImage:
    """A base of no layers. Attributes: architecture: as images name it ("amd64")."""
    document: dict[str, Any] = {
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }
    raw = canonical(document)
    config = Config(raw=raw, document=document, architecture=architecture, os="linux", diff_ids=())
    return BaseImage(config=config, manifest=_manifest(None, config, ()))


def timestamp(seconds: int) -> str:
    """Seconds since 1970 as the specifications write time."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def config_of(onto: BaseImage, layers: Sequence[tuple[str, str]], change: RunConfig) -> Config:
    """The config of an image, which no layer's compressed bytes decide. Args: layers: diff_id and `Layer.made_by` of the new ones."""
    base, created = onto.config, timestamp(EPOCH)
    # ONBUILD is for the first build upon an image, and ends there.
    run = {name: value for name, value in base.run.items() if value is not None and name != "OnBuild"}
    run["Env"] = [f"{name}={value}" for name, value in {**base.env, **change.env}.items()]
    run["Labels"] = {**base.labels, **change.labels}
    run["WorkingDir"] = change.workdir
    if change.user is not None:
        run["User"] = change.user
    # What names the machine or the container that made the base says nothing of this image.
    document = {key: base.document[key] for key in ("architecture", "os", "os.version", "os.features", "variant") if key in base.document}
    history = base.document.get("history")
    new = [{"created": created, "created_by": made_by, "comment": "envsnap"} for _, made_by in layers]
    diff_ids = (*base.diff_ids, *(diff_id for diff_id, _ in layers))
    document |= {
        "created": created,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [*(history if isinstance(history, list) else [{"created_by": "base"}] * len(base.diff_ids)), *new],
    }
    raw = canonical(document)
    return Config(raw=raw, document=document, architecture=base.architecture, os=base.os, diff_ids=diff_ids)


def _manifest(base: Manifest | None, config: Config, layers: Sequence[Layer]) -> Manifest:
    """Of the kind of its base, so that what could carry the base can carry this."""
    kind = base.media_type if base is not None else OCI_MANIFEST
    config_descriptor = Descriptor(media_type=CONFIG_OF[kind], digest=digest_of(config.raw), size=len(config.raw))
    own = (Descriptor(media_type=LAYER_OF[kind], digest=layer.digest, size=layer.size_bytes) for layer in layers)
    all_layers = (*(base.layers if base is not None else ()), *own)
    raw = canonical(
        {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": config_descriptor.document(),
            "layers": [layer.document() for layer in all_layers],
        }
    )
    return Manifest(raw=raw, media_type=kind, config=config_descriptor, layers=all_layers)
