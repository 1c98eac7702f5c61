"""The record of a built image, kept as `images/NAME/image.yaml`."""

from __future__ import annotations

from typing import Literal

from envsnap.model.kinds import Digest, Value


class ImageRecord(Value, frozen=True, kw_only=True):
    """Attributes:
    reference: the tag named first.
    manifest_digest: None while no registry or containerd store has given one.
    config_digest: "same image" means the same one of these.
    size_bytes: on disk, all layers.
    layers: how many.
    base: reference with digest or image ID.
    lock_digest: also in the image's label dev.envsnap.lock.digest.
    context_digest: of the rendered files: another rendering is another build.
    at: UTC.
    """

    reference: str
    config_digest: Digest
    manifest_digest: Digest | None = None
    size_bytes: int
    layers: int
    tags: tuple[str, ...]
    engine: Literal["docker", "oci"]
    base: str
    lock_digest: Digest
    context_digest: Digest
    at: str
    seconds: float


class Foretold(Value, frozen=True, kw_only=True):
    """What is known of an image before it is built.

    Attributes:
        config_digest, manifest_digest: None while unknown.
        added_bytes: of the new layers, compressed; None while unknown.
        unknown_because: one sentence; "" where both digests are known. hint: how it could be.
    """

    config_digest: Digest | None = None
    manifest_digest: Digest | None = None
    added_bytes: int | None = None
    unknown_because: str = ""
    hint: str = ""
