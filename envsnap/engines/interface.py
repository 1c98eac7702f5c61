"""What an engine is to the rest: it knows images, builds contexts, and runs guest scripts in what it built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from envsnap.model.base import BaseInventory, ImageConfig
from envsnap.model.host import Ability
from envsnap.oci.image import Image
from envsnap.progress import Progress
from envsnap.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineImage:
    """An image that an engine has.

    Attributes:
        image_id: "sha256:…", as the engine calls it.
        config_digest: what "same image" means.
        repo_digests: "repository@sha256:…" under which registries know it.
        diff_ids: of its layers, from below.
    """

    image_id: str
    config_digest: str
    repo_digests: tuple[str, ...]
    tags: tuple[str, ...]
    size_bytes: int
    layers: int
    config: ImageConfig
    diff_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs:
    """What a build needs beside its context.

    Attributes:
        tags: all names that the image gets when, and only when, the build succeeded.
        secrets: BuildKit secret id -> local file ("ca", "pip"); mounted, never copied.
        platform: "linux/amd64"; an image for another one gets no name.
        labels: those that the image must have; one that has not gets no name.
        network: of its steps, which have none without it.
    """

    tags: Sequence[str]
    secrets: Mapping[str, Path]
    platform: str
    labels: Mapping[str, str] = field(default_factory=dict)
    network: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push did.

    Attributes:
        digest: of the manifest, as the registry answered it.
        uploaded_bytes: of the layers that the registry did not have, as the engine counts them: before compression where it
            compresses while it sends.
    """

    digest: str
    uploaded_bytes: int


class Engine(Protocol):
    """A container engine."""

    @property
    def name(self) -> Literal["docker", "oci"]: ...

    def abilities(self) -> tuple[Ability, ...]:
        """What this engine can do here; the first entry is whether it answers at all. Never raises."""

    def is_there(self) -> bool:
        """Whether it answers, and no more than that: `abilities` starts programs to tell. Never raises."""

    def require(self, *, build: bool = False) -> None:
        """Raises EngineError, with the way out, unless the engine answers and, where that is asked for, can build."""

    def image(self, reference: str) -> EngineImage | None:
        """An image that is in the engine's store; None when it is not."""

    def pull(self, reference: str, progress: Progress) -> EngineImage:
        """Bring an image into the engine's store. Raises EngineError (base not found, access denied, network)."""

    def inventory(self, reference: str) -> BaseInventory:
        """Look inside an image of the store by running a shell in it: quick, and not complete. Raises EngineError."""

    def files(self, reference: str) -> AbstractContextManager[Iterator[bytes]]:
        """All files of an image of the store as one tar stream, without running it; as slow as reading them.

        Raises:
            TargetError: the engine does not have it. EngineError: also while it is read.
        """

    def build(self, context: Path, inputs: BuildInputs, progress: Progress) -> EngineImage:
        """Build a rendered context, look at the result, and tag it.

        An interrupt leaves no container and no tag behind. Raises EngineError, with the build's own words, or because the
        image is not for that platform or lacks a label; then no tag is set.
        """

    def find(self, image: Image) -> EngineImage | None:
        """An image that was put together elsewhere, if the store has exactly that and all of its layers. Raises EngineError."""

    def layers_there(self, image: Image) -> int:
        """How many of its layers, from the lowest, the store has already. Raises EngineError."""

    def load(self, image: Image, archive: Iterator[bytes]) -> EngineImage:
        """Take an image as an archive, which may lack layers that are there, and look whether it is there; gives it no name.

        Raises:
            NotTaken: it is not there afterwards.
            EngineError: the engine does not answer, or its disk is full. What `archive` raises passes through.
        """

    def save(self, reference: str) -> Iterator[bytes]:
        """An image of the store as docker's archive, piece by piece. Raises EngineError: while it is read, too."""

    def tag(self, image_id: str, reference: str) -> None: ...

    def untag(self, reference: str) -> None:
        """Take a name away; with its last one an image goes, but for layers that others share. Nothing where there is no such name."""

    def push(self, reference: str, progress: Progress) -> Pushed:
        """Push a tag. Raises EngineError (access denied, network)."""

    def read_file(self, reference: str, path: str) -> bytes | None:
        """A regular file of an image, without running it; None when there is no such file. Raises EngineError."""

    def target(self, reference: str, *, gpus: str = "none", user: str | None = None) -> Target:
        """A place to run guest scripts in that image, without network.

        Args:
            gpus: as docker's `--gpus`: "all", "none", a count, or "device=0,2".
            user: as docker's `--user`; None for the image's own.

        Raises:
            TargetError: the engine or host cannot give those GPUs.
        """
