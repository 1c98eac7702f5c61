"""What was moved from one place to another."""

from __future__ import annotations

from envsnap.model.kinds import Digest, Value


class MovedImage(Value, frozen=True, kw_only=True):
    """Attributes:
    reference: "" where it has no name.
    manifest_digest: None where it is not known.
    size_bytes: of the layers, compressed; of an engine's own image, on its disk.
    """

    reference: str
    config_digest: Digest
    manifest_digest: Digest | None = None
    size_bytes: int
    layers: int


class Sent(Value, frozen=True, kw_only=True):
    """To a registry. Attributes: digest: of the manifest there. uploaded_bytes: of what the registry did not have."""

    reference: str
    digest: Digest
    uploaded_bytes: int


class Saved(Value, frozen=True, kw_only=True):
    """In files. Attributes: place: file or directory. with_base: the base's layers are in it. bytes: of all of it."""

    place: str
    form: str
    with_base: bool
    bytes: int


class Landed(Value, frozen=True, kw_only=True):
    """Attributes: to: "engine", "cache", or a directory. names: all that it is found by."""

    to: str
    names: tuple[str, ...]
