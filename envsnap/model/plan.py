"""The build plan: how to get from a base to the locked environment, each choice with its sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from envsnap.model.base import Base
from envsnap.model.kinds import AbsolutePath, Digest, LockName, PackageName, SystemName, Value, Variable, Version, WheelFile

ENVIRONMENT = "/opt/envsnap/env"
LOCK_IN_IMAGE = "/opt/envsnap/lock.yaml"
BASE_NAME, BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
LOCK_LABEL = "dev.envsnap.lock.digest"
SCHEMA_LABEL, TORCH_LABEL, CUDA_LABEL = "dev.envsnap.schema", "dev.envsnap.torch", "dev.envsnap.cuda"
ARCHITECTURES_LABEL, PARTIAL_LABEL = "dev.envsnap.cuda.architectures", "dev.envsnap.cuda.architectures.partial"
SOURCE_LABEL = "dev.envsnap.source"
"""Label with the digest of the project's files in the image, or `NO_SOURCE`."""
NO_SOURCE = "none"
MANIFEST_IN_IMAGE = "/opt/envsnap/source.json"
HOME_IN_IMAGE = "/opt/envsnap/home"
WORKSPACE = "/workspace"
CARRIED = "/opt/envsnap/python"
"""Where an interpreter lies that the base lacks."""
PYTHON_TREE = "packed/python.tar"
"""Place in a build context of the blob of `CarryInterpreter.tree`."""
CONDA_TREE = "packed/conda.tar"
"""Place in a build context of the blob of `MakeCondaEnvironment.tree`."""


class Step(Value, frozen=True, kw_only=True, tag_field="kind"):
    """One step; the subclasses are the kinds. `reason`: one sentence for a person."""

    reason: str


class SetEnv(Step, frozen=True, kw_only=True, tag="set-env"):
    """`value` "" blanks a variable of the base: a Dockerfile cannot unset."""

    name: Variable
    value: str


class AptInstall(Step, frozen=True, kw_only=True, tag="apt-install"):
    """Attributes:
    packages: by the names of the base's distribution; the build fails without one.
    captured: by the names of the captured distribution, for libraries that the catalogue does not know; installed where
        the base's distribution has a package of that name.
    """

    packages: tuple[SystemName, ...] = ()
    captured: tuple[SystemName, ...] = ()


class CarryInterpreter(Step, frozen=True, kw_only=True, tag="carry-interpreter"):
    """Unpack an interpreter that the base lacks. Attributes: tree: `LockedTree.blob`. program: of the interpreter, absolute."""

    tree: Digest
    program: str
    path: str = CARRIED


class MakeEnvironment(Step, frozen=True, kw_only=True, tag="make-environment"):
    """An empty virtual environment, without pip, from the interpreter at `python`."""

    python: str
    path: str = ENVIRONMENT


class MakeCondaEnvironment(Step, frozen=True, kw_only=True, tag="make-conda-environment"):
    """conda's packages, the interpreter among them: unpacked, or fetched by a conda client of the base.

    Attributes:
        tree: blob of `LockedConda.tree`; None to fetch them.
        explicit: lines of an explicit specification (URL#hash).
        compile: byte code for what was unpacked.
    """

    tree: Digest | None = None
    explicit: tuple[str, ...] = ()
    compile: bool = True
    path: str = ENVIRONMENT


class ExtendBase(Step, frozen=True, kw_only=True, tag="extend-base"):
    """The base's own environment is the image's: what is installed goes beside its packages, by its own interpreter.

    Attributes:
        python: of that interpreter, as it is called on PATH.
        site: its site directory for what is installed, absolute; prefix: whose that is.
        kept: how many packages of the base stay as they are.
        hides: those of the distribution, in another directory, that what is installed comes before.
    """

    python: str
    site: AbsolutePath
    prefix: AbsolutePath
    kept: int
    hides: tuple[PackageName, ...] = ()


class BasePackage(Value, frozen=True, kw_only=True):
    name: PackageName
    version: Version


class RemovePackages(Step, frozen=True, kw_only=True, tag="remove-packages"):
    """Packages of the base that the environment has in another version, or no more."""

    packages: tuple[BasePackage, ...]


class PinnedWheel(Value, frozen=True, kw_only=True):
    """Attributes: index: as in the lock's IndexOrigin."""

    name: PackageName
    version: str
    file: WheelFile
    sha256: str
    index: str | None = None


class InstallWheels(Step, frozen=True, kw_only=True, tag="install-wheels"):
    """Exactly these files, by hash, without dependency resolution."""

    wheels: tuple[PinnedWheel, ...]
    compile: bool = True


class PackedInstall(Value, frozen=True, kw_only=True):
    """A package whose installed files were packed as a wheel at capture (LockedPackage.blob): no build backend runs.

    Attributes:
        file: name of that wheel.
        import_paths: for an editable, the absolute directories in the image that its .pth names; else empty.
    """

    name: PackageName
    version: str
    file: WheelFile
    blob: Digest
    import_paths: tuple[str, ...] = ()


class InstallPacked(Step, frozen=True, kw_only=True, tag="install-packed"):
    packages: tuple[PackedInstall, ...]


class CopySource(Step, frozen=True, kw_only=True, tag="copy-source"):
    path: str


class Check(Step, frozen=True, kw_only=True, tag="check"):
    """The collector runs in the image and must find what the lock says."""


AnyStep = (
    SetEnv
    | AptInstall
    | CarryInterpreter
    | MakeEnvironment
    | MakeCondaEnvironment
    | ExtendBase
    | RemovePackages
    | InstallWheels
    | InstallPacked
    | CopySource
    | Check
)

Strategy = Literal["ngc-delta", "ngc-venv", "slim", "venv"]
"""How a base carries an environment: NVIDIA's image with the difference on top; an environment of its own on NVIDIA's image, on a small
base, or on another one.
"""


class Candidate(Value, frozen=True, kw_only=True):
    """A base that was considered; never rendered, so it may speak of what was observed.

    Attributes:
        strategy: how it would carry the environment.
        possible: False with the sentence in `reason`.
        python: the version of the base's `python3`, "3.12.3" or "3.12", as far as it is known. carried: the captured one goes in.
        driver: the oldest that the base runs with; None for a base without CUDA of its own, and where it is not known.
        pull_bytes: compressed, 0 when the engine has the image; None unknown.
        added_bytes: of the files that would go on it, as they are fetched or kept: wheels and the distribution's packages compressed, an
            interpreter and conda's packages as plain archives. None where one of them is not known, and for a base that is not possible.
        added_without: what is not in `added_bytes`, a clause each.
        exact: what is the captured one, to the byte.
        differs: what is another than the captured one although the base can carry the environment.
        breaks: what would not be the captured environment any more, or not work; empty for a possible one.
        way: what would make it possible; "" where nothing does, and where it is.
    """

    base: Base
    strategy: Strategy
    possible: bool
    reason: str
    python: str | None = None
    carried: bool = False
    driver: str | None = None
    pull_bytes: int | None = None
    added_bytes: int | None = None
    added_without: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    way: str = ""


class BuildPlan(Value, frozen=True, kw_only=True):
    """Attributes:
    lock_name, lock_digest: what is to be had.
    strategy: how the base carries the environment.
    base: the chosen one; base_reason: why, from what the lock's digest covers alone: it is rendered.
    candidates: all that were considered, best first, the chosen one included.
    labels: of the image, in order.
    workdir: of the image.
    """

    lock_name: LockName
    lock_digest: Digest
    base: Base
    base_reason: str
    candidates: tuple[Candidate, ...]
    steps: tuple[AnyStep, ...]
    labels: Mapping[str, str]
    strategy: Strategy = "venv"
    workdir: str = WORKSPACE
    notes: tuple[str, ...] = ()


class ExpectedPackage(Value, frozen=True, kw_only=True):
    name: PackageName
    version: str
    files: Digest | None = None


class ExpectedConda(Value, frozen=True, kw_only=True):
    name: str
    version: str
    build: str
    files: Digest | None = None


class Expected(Value, frozen=True, kw_only=True):
    """`expected.json` of a build context: what `guest/collect.py --expect` must find in the image.

    Attributes:
        packages: all of them, sorted by name, and no other may be there.
        conda: all packages of conda, sorted by name, and no other may be there.
        imports: modules that imported where the environment was captured.
        source: digest of the manifest of the project's files; None when the source is left out.
    """

    packages: tuple[ExpectedPackage, ...]
    conda: tuple[ExpectedConda, ...] = ()
    imports: tuple[str, ...] = ()
    source: Digest | None = None
