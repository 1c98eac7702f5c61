"""The record of a built image, kept as `images/NAME/image.yaml`."""

from __future__ import annotations

from typing import Literal

from envsnap.model.kinds import Digest, Value
from envsnap.model.layers import ShellStep


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
        told_from: "layers" that were made, or the "installed files" of the captured environment; "" while nothing is known.
        added_bytes: of the new layers, compressed; None while unknown.
        by_docker: steps that an engine does, below all that is assembled.
        unknown_because: one sentence; "" where both digests are known. hint: how it could be.
    """

    config_digest: Digest | None = None
    manifest_digest: Digest | None = None
    told_from: Literal["", "layers", "installed files"] = ""
    added_bytes: int | None = None
    by_docker: tuple[ShellStep, ...] = ()
    unknown_because: str = ""
    hint: str = ""


Status = Literal["pass", "fail", "unknown"]


class CheckReason(Value, frozen=True, kw_only=True):
    """One thing that was looked at.

    Attributes:
        id: "platform", "driver", "architecture" (of torch; "architecture.NAME" of another package that fails), "requirement"
            (NVIDIA_REQUIRE_CUDA), "disk", "runtime" (a way to hand GPUs to containers), "shm", "ulimits"; with a lock "lock.digest",
            "lock.base", "lock.shell" (what Docker did of the lock's steps), "lock.layers", "lock.config".
        status: "unknown" where it could not be told; `hint` says how it could. Of a "pass" it says what to mind.
    """

    id: str
    status: Status
    needed: str
    found: str
    hint: str = ""


class ImageCheck(Value, frozen=True, kw_only=True):
    """What `check` found.

    Attributes:
        size_bytes: of all layers, compressed.
        host: what a person said of another host; "" where it is this one.
    """

    reference: str
    manifest_digest: Digest
    config_digest: Digest
    size_bytes: int
    host: str = ""
    reasons: tuple[CheckReason, ...]

    @property
    def verdict(self) -> Literal["pass", "fail", "incomplete"]:
        """A thing that could not be told is never a pass."""
        states = {reason.status for reason in self.reasons}
        return "fail" if "fail" in states else "incomplete" if "unknown" in states else "pass"
