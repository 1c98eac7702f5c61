"""The lock, schema version 1: what the image is made from, what was observed where it worked, when and where.

The document's keys are the attribute names, in this order; `docs/lockfile-format.md` describes them for people. Reading,
writing and digests live in `envsnap.lockfile`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from envsnap.model.facts import DeviceCode, GpuFacts, LoadedLibrary, Platform, Problem
from envsnap.model.frameworks import Framework
from envsnap.model.kinds import (
    Commit,
    CondaBuild,
    CondaName,
    CondaUrl,
    Digest,
    Glibc,
    Hex32,
    Hex64,
    LockName,
    PackageName,
    RelativePath,
    Soname,
    SystemName,
    Value,
    Variable,
    Version,
    WheelFile,
    WheelTag,
)
from envsnap.model.origins import AnyOrigin, BaseOrigin, CondaOrigin, UnknownOrigin, WheelOrigin

Provenance = Literal["index", "vcs", "source", "conda", "system", "base", "rebuilt", "unproven"]


class LockedInterpreter(Value, frozen=True, kw_only=True):
    """Attributes:
    soabi: decides which compiled extensions load, "cpython-311-x86_64-linux-gnu".
    machine: "x86_64" or "aarch64": a hard constraint for any base.
    """

    soabi: str
    machine: Literal["x86_64", "aarch64"]


class LockedCondaPackage(Value, frozen=True, kw_only=True):
    """Attributes:
    url: where its channel has it; None for what is in no channel that others can reach.
    sha256, md5: of that file; the environment is not made of a package that has neither.
    files: digest of the canonical list of its files as they are packaged, edits included: the same in every prefix.
    modified: files edited in place or missing, relative to the prefix.
    """

    name: CondaName
    version: Version
    build: CondaBuild
    url: CondaUrl | None = None
    sha256: Hex64 | None = None
    md5: Hex32 | None = None
    files: Digest | None = None
    requested: bool = False
    modified: tuple[str, ...] = ()

    @property
    def is_to_be_had(self) -> bool:
        """Its channel has exactly this."""
        return self.url is not None and (self.sha256 or self.md5) is not None and not self.modified


class LockedConda(Value, frozen=True, kw_only=True):
    """What conda installed, the interpreter included; the distributions among it are in `packages` too.

    Attributes:
        tree: blob with all of it as a tar archive for the image's prefix, where some of it is in no channel or was edited.
    """

    packages: tuple[LockedCondaPackage, ...]
    tree: Digest | None = None


class LockedTree(Value, frozen=True, kw_only=True):
    """The interpreter itself, for bases that have another version or none.

    Attributes:
        blob: a tar archive of it, made to lie at `envsnap.model.plan.CARRIED`.
        libc: the oldest glibc that has what it asks for, "2.28".
        sonames: libraries that it and its standard library load from outside; glibc's are among them.
    """

    blob: Digest
    libc: Glibc
    sonames: tuple[Soname, ...] = ()


class LockedPython(Value, frozen=True, kw_only=True):
    """Attributes:
    tree: where it was asked to be kept (capture --rescue python).
    """

    version: Version
    implementation: str
    abi: str
    kind: Literal["venv", "conda", "system", "container"]
    interpreter: LockedInterpreter
    conda: LockedConda | None = None
    tree: LockedTree | None = None


class LockedPackage(Value, frozen=True, kw_only=True):
    """Attributes:
    file: the exact wheel file name, of the index or of `blob`; None where there is no wheel.
    sha256: of the index's file, as the index publishes it.
    tags: the WHEEL tags of what is installed, expanded, in WHEEL's order.
    files: digest of the canonical RECORD; None for editables (their files are the source tree's) and without RECORD.
    blob: a wheel kept beside the lock, packed from what is installed: all files of a directory or VCS install, the metadata
        and entry points alone of an editable.
    requested: asked for by name, not pulled in by another.
    modified: files edited in place or missing.
    required_by: of a package in the place of one of its base image's own: why it is not that one, as far as other packages require it
        ("timm 1.0.1 > torchvision 0.22.0: torch==2.7.0").
    device_code: of its compiled extensions; None for a package that has none, and where nobody looked (`relock`, a W&B run).
    """

    name: PackageName
    version: Version
    origin: AnyOrigin
    file: WheelFile | None = None
    sha256: Hex64 | None = None
    tags: tuple[WheelTag, ...] = ()
    files: Digest | None = None
    blob: Digest | None = None
    requested: bool = False
    modified: tuple[str, ...] = ()
    required_by: tuple[str, ...] = ()
    device_code: DeviceCode | None = None
    provenance: Provenance

    @property
    def is_to_be_had(self) -> bool:
        """There is something to have it from: a blob, a file of an index by its hash, conda's packages as a whole, or its base image."""
        installable = self.blob is not None or (self.file is not None and self.sha256 is not None)
        return installable or isinstance(self.origin, CondaOrigin | BaseOrigin)

    @property
    def doubt(self) -> str:
        """Why nothing vouches for an unproven one, as far as that is to be seen of it alone."""
        if isinstance(self.origin, UnknownOrigin):
            return self.origin.reason
        if self.modified:
            return f"edited in place ({', '.join(self.modified[:3])}{', …' if len(self.modified) > 3 else ''})"
        if isinstance(self.origin, WheelOrigin):
            return f"installed from {self.origin.url}, which no index vouches for"
        if self.file is not None and self.sha256 is not None:
            return "an index has a file that fits, and nobody knows whether it is the one that was installed"
        return "nothing vouches for its files"


class LockedSystemPackage(Value, frozen=True, kw_only=True):
    """Attributes:
    name: package of the captured distribution; None where no package owns the library.
    sonames: what of it the environment needs, sorted. These, not the name, carry over to another distribution.
    needed_by: distributions whose extensions need it, sorted.
    """

    name: SystemName | None = None
    version: str | None = None
    arch: str | None = None
    sonames: tuple[Soname, ...]
    needed_by: tuple[PackageName, ...] = ()


class LockedSubmodule(Value, frozen=True, kw_only=True):
    path: RelativePath
    remote: str | None = None
    commit: Commit
    patch: Digest | None = None
    untracked: tuple[LockedFile, ...] = ()


class LockedFile(Value, frozen=True, kw_only=True):
    """One file kept as a blob. Attributes: executable: any x bit; link: a symbolic link, the blob holds its target."""

    path: RelativePath
    blob: Digest
    executable: bool = False
    link: bool = False


class LfsFile(Value, frozen=True, kw_only=True):
    """A git-lfs pointer in the commit: the digest and size of the content that it stands for."""

    path: RelativePath
    sha256: Hex64
    size_bytes: int


class LockedSource(Value, frozen=True, kw_only=True):
    """The project.

    Attributes:
        name: directory under /workspace where it lives in the image.
        files: digest of the manifest of all files that travel (docs/lockfile-format.md).
        remote: URL without credentials; None without a remote.
        commit: None for a project that is not in git.
        patch: `git diff HEAD --binary`, as a blob.
        untracked: files that git does not track and does not ignore.
    """

    name: LockName
    files: Digest
    remote: str | None = None
    commit: Commit | None = None
    branch: str | None = None
    dirty: bool = False
    patch: Digest | None = None
    untracked: tuple[LockedFile, ...] = ()
    submodules: tuple[LockedSubmodule, ...] = ()
    lfs: tuple[LfsFile, ...] = ()


class LockedFramework(Value, frozen=True, kw_only=True):
    version: str
    git: str
    flags: Mapping[str, str] = {}


class LockedCuda(Value, frozen=True, kw_only=True):
    """What was loaded, not what is advertised. Versions as the libraries themselves say.

    Attributes:
        toolkit: of the nvcc on the target, None without one.
        torch, tensorflow, paddle: the framework that loaded it, by the name that imports it; None for the others.
    """

    runtime: str | None = None
    cudnn: str | None = None
    nccl: str | None = None
    cublas: str | None = None
    toolkit: str | None = None
    loaded: tuple[LoadedLibrary, ...] = ()
    torch: LockedFramework | None = None
    tensorflow: LockedFramework | None = None
    paddle: LockedFramework | None = None

    @property
    def framework(self) -> tuple[Framework, LockedFramework] | None:
        """The one that was asked, with its name."""
        named: tuple[tuple[Framework, LockedFramework | None], ...] = (
            ("torch", self.torch),
            ("tensorflow", self.tensorflow),
            ("paddle", self.paddle),
        )
        return next(((name, one) for name, one in named if one is not None), None)


class KitPackage(Value, frozen=True, kw_only=True):
    """A package lent to the smoke-train alone."""

    name: PackageName
    version: Version
    file: WheelFile
    sha256: Hex64


class Measurements(Value, frozen=True, kw_only=True):
    """What differs from run to run: in no digest. Attributes: step_ms: median; seconds: of the whole training."""

    step_ms: float
    seconds: float
    peak_memory_mib: float


class Smoke(Value, frozen=True, kw_only=True):
    """What the smoke-train did.

    Attributes:
        framework: what trained: ultralytics' YOLO with torch, a small detector with the others.
        key: what bit-exactness may depend on (parity.md §2, K), by name: "device", "cpu", "threads", "torch_git", …
        device: "cuda" or "cpu".
        gpus: how many it used, 0 on a CPU.
        steps: optimiser steps; losses: one row a step, each value as float.hex() so that nothing is rounded.
        state: "sha256:…" over the trained weights and running statistics.
        map50: of the final evaluation.
        gradient: precision ("fp32", "amp") -> digest of the blob with the whole gradient at the anchor.
        self_exact: a second run in the same environment was bit-equal.
        wandb_rows: history rows read back from the W&B run.
        labels: "sha256:…" over the generated data set, as in parity.SmokeRun.
    """

    framework: Framework = "torch"
    seed: int
    device: Literal["cuda", "cpu"]
    gpus: int = 0
    key: Mapping[str, str]
    steps: int
    losses: tuple[tuple[str, ...], ...]
    state: Digest
    map50: float
    gradient: Mapping[str, Digest]
    self_exact: bool
    wandb_rows: int
    labels: Digest | None = None


class Reference(Value, frozen=True, kw_only=True):
    """The smoke-train of the capture. Attributes: anchor: blob of the trained weights; kit: empty when nothing was lent."""

    smoke: Smoke
    anchor: Digest
    kit: tuple[KitPackage, ...] = ()
    measurements: Measurements | None = None


class Observed(Value, frozen=True, kw_only=True):
    """What was observed where it worked; compared by verify and drift, never part of the lock's `digest`.

    Attributes:
        digest: over this part without itself and without measurements.
        imports: modules that imported, sorted.
        imports_failed: module -> error, for those that did not.
    """

    digest: Digest
    platform: Platform
    gpu: GpuFacts
    cuda: LockedCuda
    imports: tuple[str, ...] = ()
    imports_failed: Mapping[str, str] = {}
    reference: Reference | None = None


RUN = "W&B run "
"""What the target of a capture of a run begins with."""


class Capture(Value, frozen=True, kw_only=True):
    """When and where: in no digest.

    Attributes:
        at: UTC, "2026-11-20T23:01:02Z".
        tool: "envsnap 0.1.0".
        target: how it was reached, "python /home/user/yolo/.venv/bin/python".
        withheld: names of secrets that were seen and left out, each with where it is to be given at run time.
        problems: faults that were met and survived.
    """

    at: str
    tool: str
    host: str = ""
    target: str = ""
    withheld: Mapping[str, str] = {}
    problems: tuple[Problem, ...] = ()
    readings: Mapping[str, float | int | str] = {}

    @property
    def is_of_a_run(self) -> bool:
        """Of what a W&B run wrote down: nothing is installed anywhere that could be kept, looked at or run."""
        return self.target.startswith(RUN)


class EnvLock(Value, frozen=True, kw_only=True):
    """One environment. `envsnap` is the schema version."""

    envsnap: Literal[1]
    name: LockName
    digest: Digest
    python: LockedPython
    packages: tuple[LockedPackage, ...]
    system_packages: tuple[LockedSystemPackage, ...] = ()
    source: LockedSource | None = None
    env: Mapping[Variable, str | None] = {}
    observed: Observed
    capture: Capture
