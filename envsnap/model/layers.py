"""The layer plan: the second reading of a build plan, for assembling an image without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from envsnap.model.base import Directory
from envsnap.model.debian import DebFile, SystemPlan
from envsnap.model.kinds import Digest, Hex64, PackageName, RelativePath, SystemName, Value, WheelFile
from envsnap.model.plan import ENVIRONMENT, BasePackage


class Layout(Value, frozen=True, kw_only=True):
    """What besides a wheel's hash decides the bytes of its layer.

    Attributes:
        prefix: of the environment, without the leading "/" as every path in a layer.
        python: "3.11": names lib/python3.11/site-packages.
        packages: what the site directory is called; "dist-packages" in the system's own environment of Debian and Ubuntu.
        interpreter: absolute path that scripts name; "" for the environment's own.
        lib64: what the prefix's lib64 is: a link to its lib, as in every virtual environment, or a directory like any other.
        directories: how the base keeps directories that are written into or pass by, where that is not 0755 of root.
    """

    prefix: str = ENVIRONMENT.lstrip("/")
    python: str
    packages: Literal["site-packages", "dist-packages"] = "site-packages"
    interpreter: str = ""
    lib64: Literal["link", "directory"] = "link"
    directories: Mapping[RelativePath, Directory] = {}

    @property
    def site(self) -> str:
        return f"{self.prefix}/lib/python{self.python}/{self.packages}"

    @property
    def program(self) -> str:
        """Absolute path of the interpreter that scripts name."""
        return self.interpreter or f"/{self.prefix}/bin/python"


class PlannedWheel(Value, frozen=True, kw_only=True):
    """Attributes:
    sha256, size_bytes: of the wheel file.
    source_bytes: of the Python sources in it; 0: it has no byte code.
    files: what the lock says it installs (LockedPackage.files); None for an editable.
    extra: site-relative path -> content, of what is put beside it (an editable's .pth and direct_url.json).
    rebuilt: packed from installed files at the capture.
    """

    name: PackageName
    version: str
    file: WheelFile
    sha256: Hex64
    size_bytes: int
    source_bytes: int
    files: Digest | None = None
    extra: Mapping[str, str] = {}
    rebuilt: bool = False


class PlannedLayer(Value, frozen=True, kw_only=True, tag_field="kind"):
    """One layer; the subclasses are the kinds. What they hold, with the layout, decides their bytes."""


class EnvironmentLayer(PlannedLayer, frozen=True, kw_only=True, tag="environment"):
    """The empty environment and the directories that any user may write to.

    Attributes:
        interpreter: absolute path of the `python3` that it is made with; version: its exact version. Both None where conda's tree has it.
        writable: absolute paths, in order.
    """

    interpreter: str | None = None
    version: str | None = None
    writable: tuple[str, ...] = ()


class RemovalLayer(PlannedLayer, frozen=True, kw_only=True, tag="removal"):
    """Packages of the base that are taken away: whiteouts. Attributes: paths: files, and directories with all that is in them; sorted."""

    packages: tuple[BasePackage, ...]
    paths: tuple[RelativePath, ...]


class SystemLayer(PlannedLayer, frozen=True, kw_only=True, tag="system"):
    """Packages of the distribution, unpacked, and dpkg's database with them. Attributes: onto: the base, by its config's digest."""

    packages: tuple[DebFile, ...]
    onto: Digest


class TreeLayer(PlannedLayer, frozen=True, kw_only=True, tag="tree"):
    """A tar archive that was kept at the capture (conda's packages, an interpreter).

    Attributes:
        tree: blob. path: where it goes.
        conda: NAME-VERSION-BUILD of conda's packages in it -> what the lock says of their files.
    """

    tree: Digest
    path: str
    conda: Mapping[str, Digest | None] = {}


class WheelsLayer(PlannedLayer, frozen=True, kw_only=True, tag="wheels"):
    wheels: tuple[PlannedWheel, ...]


class BytecodeLayer(PlannedLayer, frozen=True, kw_only=True, tag="bytecode"):
    """Byte code of wheels, or of conda's packages.

    Attributes:
        tree: blob of `TreeLayer.tree`, and then there are no wheels.
        version: of exactly the interpreter that must make it, "3.11.2".
        own: names the image's own interpreter, hex; "" where it is not at hand. It decides no byte of what is made: what it made itself is
            believed for images that have it, and for no other.
    """

    wheels: tuple[PlannedWheel, ...] = ()
    tree: Digest | None = None
    version: str
    own: str = ""


class SourceLayer(PlannedLayer, frozen=True, kw_only=True, tag="source"):
    """The project's files. Attributes: files: digest of their manifest (LockedSource.files); path: absolute."""

    files: Digest
    path: str


class LockLayer(PlannedLayer, frozen=True, kw_only=True, tag="lock"):
    """The lock's copy, and the manifest of the project's files.

    Attributes:
        lock: digest of the lock's bytes.
        files: as in `SourceLayer`; None where the source is left out. path: absolute, of the source.
    """

    lock: Digest
    files: Digest | None = None
    path: str = ""


AnyLayer = EnvironmentLayer | RemovalLayer | SystemLayer | TreeLayer | WheelsLayer | BytecodeLayer | SourceLayer | LockLayer


class LayerPlan(Value, frozen=True, kw_only=True):
    """Attributes: layers: from below."""

    layout: Layout
    layers: tuple[AnyLayer, ...]


class ShellStep(Value, frozen=True, kw_only=True):
    """A step that an engine does. Attributes: kind: of the step in the plan ("apt-install"). because: why it needs a shell."""

    kind: str
    because: str


class ShellSteps(Value, frozen=True, kw_only=True):
    """The steps of a plan that only a shell can do. An engine does them on the base; what is assembled lies on what comes out.

    Attributes:
        onto: the base, by its config's digest.
        env: variables that are set meanwhile.
        system: packages that are installed, exactly these files; None where they are none, or a layer.
        explicit: conda's packages, as in `MakeCondaEnvironment`.
    """

    steps: tuple[ShellStep, ...]
    onto: Digest
    env: Mapping[str, str] = {}
    system: SystemPlan | None = None
    explicit: tuple[str, ...] = ()


class SystemPins(Value, frozen=True, kw_only=True):
    """What the distribution's packages came down to, kept as `images/NAME/packages.yaml`: an archive moves, an image does not.

    Attributes:
        wanted, captured: as in `AptInstall`. onto: digest of the base's own database (`BaseInventory.dpkg_status`).
        plan: what these come down to there.
        base: those that a base is made of, where it is made of packages alone.
    """

    wanted: tuple[SystemName, ...] = ()
    captured: tuple[SystemName, ...] = ()
    onto: Digest | None = None
    plan: SystemPlan | None = None
    base: SystemPlan | None = None
