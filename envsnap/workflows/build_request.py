"""What a build is asked for, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from envsnap.attest.keys import PrivateKey
from envsnap.model.image import ImageRecord
from envsnap.workflows.plan import PlanRequest

EngineChoice = Literal["auto", "docker", "oci"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """Attributes:
    engine: "oci" assembles, "docker" lets Docker build; "auto" assembles, and has Docker do the steps that need a shell.
    tags: names for the image; envsnap/NAME:<first 12 digits of the lock digest> is always one of them.
    push: send the given tags to their registries afterwards.
    load: have it in the local engine, too, when it is pushed.
    ca_bundle, pip_conf: lent to the build as secrets, never part of a layer.
    offline: nobody is asked for anything: what is kept from an earlier build must suffice.
    vendor: keep the distribution's packages that it is made of beside the lock.
    sbom: attach a bill of materials to what is pushed. sign: sign that, and what is attached to it.
    """

    plan: PlanRequest
    engine: EngineChoice = "auto"
    tags: tuple[str, ...] = ()
    push: bool = False
    load: bool = False
    ca_bundle: Path | None = None
    pip_conf: Path | None = None
    offline: bool = False
    vendor: bool = False
    sbom: bool = False
    sign: PrivateKey | None = None

    @property
    def lands(self) -> bool:
        """In the local engine, where one answers."""
        return self.load or not self.push

    @property
    def secrets(self) -> Mapping[str, Path]:
        """As `BuildInputs.secrets`."""
        lent = {"ca": self.ca_bundle, "pip": self.pip_conf}
        return {name: path for name, path in lent.items() if path is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Attributes: directory: of its record and the rendered files. cached: nothing had to be made. place: where it is, for a person."""

    record: ImageRecord
    directory: Path
    cached: bool
    uploaded_bytes: int
    place: str = ""
