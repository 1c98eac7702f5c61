"""Base images: what the catalogue says of them and what is known of one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Literal

from envsnap.model.kinds import AbsolutePath, Digest, Line, PackageName, RelativePath, Soname, SystemName, Value, Version

Family = Literal["pytorch", "tensorflow", "paddlepaddle"]
"""Which of NVIDIA's series of framework images."""

FieldValue = str | int | tuple[str, ...]
"""Of a field that says something of the image."""

_ABOUT = frozenset({"family", "as_of", "sources", "evidence", "cross_checked", "notes"})


class Release(Value, frozen=True, kw_only=True):
    """One row of the catalogue: an image of NVIDIA's. None: not seen in any source, never guessed.

    Attributes:
        reference: the key, "nvcr.io/nvidia/pytorch:26.07-py3".
        release: "26.07".
        as_of: the day on which the sources were read, "2026-11-20"; what was learnt later has its day in its evidence.
        ubuntu: "24.04".
        python: "3.12" or "3.12.3".
        cuda: of the toolkit, "13.3.1" or "13.3".
        torch: as the image's own variable has it, "2.13.0a0+9186a08".
        tensorflow, paddlepaddle: "2.13" or "2.17.0".
        driver_branch_min: R-branch that the documentation asks for, "580".
        driver_branches_datacenter: older branches that it names for GPUs of data centres, "535.86".
        driver_bundled: the compat driver in the image.
        compute_capability_min: of the GPUs that the documentation names, "6.0".
        torch_cuda_arch_list: what extensions are compiled for in the image for x86_64, "8.0 9.0 12.0+PTX".
        arches: "x86_64", "aarch64": those that were seen.
        size_on_disk_gb: as written by the source ("approx 20").
        pull_bytes: compressed layers of the image for x86_64.
        sources: where the values were read.
        evidence: how each value is known: fields with "," between them, or "all" or "rest" for those not named.
        cross_checked: which values more than one source has.
        notes: what to beware of.
    """

    family: Family
    reference: str
    release: str
    as_of: str
    ubuntu: str | None = None
    python: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    nccl: str | None = None
    torch: str | None = None
    tensorflow: str | None = None
    paddlepaddle: str | None = None
    driver_branch_min: str | None = None
    driver_branches_datacenter: tuple[str, ...] = ()
    driver_bundled: str | None = None
    compute_capability_min: str | None = None
    torch_cuda_arch_list: str | None = None
    arches: tuple[str, ...] = ()
    size_on_disk_gb: str | None = None
    pull_bytes: int | None = None
    sources: tuple[str, ...] = ()
    evidence: Mapping[str, str] = {}
    cross_checked: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def framework(self) -> str | None:
        """The version of what the family is named after."""
        return {"pytorch": self.torch, "tensorflow": self.tensorflow, "paddlepaddle": self.paddlepaddle}[self.family]

    @property
    def values(self) -> Mapping[str, FieldValue]:
        """The fields that are known of the image, without those about the row itself."""
        known = ((name, getattr(self, name)) for name in self.__struct_fields__ if name not in _ABOUT)
        return {name: value for name, value in known if value not in (None, ())}

    def evidence_for(self, field: str) -> str | None:
        """How a value is known; None for the reference and the release, which are the row's name, where nothing says it."""
        named = (text for names, text in self.evidence.items() if field in names.split(","))
        general = (self.evidence[name] for name in ("rest", "all") if name in self.evidence)
        return next(chain(named, general), None)


class ImageConfig(Value, frozen=True, kw_only=True):
    """The part of an image's config that a plan needs, from a registry or an engine.

    Attributes:
        env: in the image's order.
        size_bytes: compressed where it came from a registry, on disk where it came from an engine; None unknown.
    """

    architecture: str
    os: str = "linux"
    env: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    size_bytes: int | None = None


Standing = Literal["as catalogued", "fills", "contradicts"]


class Statement(Value, frozen=True, kw_only=True):
    """What an image says of itself about one field of its row in the catalogue.

    Attributes:
        field: of `Release`. value: in the field's own form.
        by: the variable or label that says it; "manifest" for what the registry's documents say.
        catalogued: what the row has; None where it has nothing, and where there is no row.
        standing: "fills" where the row has nothing, or says the same less exactly.
    """

    field: str
    value: FieldValue
    by: str
    catalogued: FieldValue | None = None
    standing: Standing = "fills"


class Directory(Value, frozen=True, kw_only=True):
    """How a directory is kept. Attributes: mode: permission bits with set-ID and sticky ones, as a number (0o755 is 493)."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0


class InstalledSystemPackage(Value, frozen=True, kw_only=True):
    name: SystemName
    version: str
    arch: str


class InstalledDistribution(Value, frozen=True, kw_only=True):
    """A Python package of the base.

    Attributes:
        site: its site directory, without the leading "/" and without links.
        files: as LockedPackage.files; None for an editable, and without a usable RECORD.
        record: blob of its RECORD as it is: paths from `site`, its metadata directory among them. None: what is its own cannot be told.
    """

    name: PackageName
    version: str
    site: RelativePath
    files: Digest | None = None
    record: Digest | None = None


class BaseInventory(Value, frozen=True, kw_only=True):
    """What was read inside a base image. Paths are without the leading "/".

    Attributes:
        distribution: "debian 12", "ubuntu 24.04" (os-release ID and VERSION_ID).
        python: exact version of its `python3`, None when it has none.
        python_path: absolute path of that interpreter, as `sys.executable` says it.
        libc: "glibc 2.36".
        sonames: libraries that its loader finds.
        complete: its files were read; else only what an engine could tell by running something in it, and of the fields below none is
            known but `packages`, where those were asked for.
        directories: those that are not 0755 of root. links: symbolic links that stand for directories ("lib": "usr/lib").
        system_packages: of dpkg; dpkg_status: blob of /var/lib/dpkg/status.
        loader_cache: blob of /etc/ld.so.cache.
        packages: Python's, in the directories where its `python3` looks.
        unowned: what could be imported from these directories and is no package's ("usr/local/lib/python3.10/dist-packages/cv2").
        interpreter: blob of a tar archive with its Python, standard library and what these load: enough to run it elsewhere.
        torch_libraries: blob of `model.abi.TorchLibraries`, as gzipped JSON; None where its Python has no torch, and where nobody looked.
    """

    distribution: Line
    python: Version | None = None
    python_path: AbsolutePath | None = None
    libc: Line = ""
    sonames: frozenset[Soname] = frozenset()
    complete: bool = False
    directories: Mapping[RelativePath, Directory] = {}
    links: Mapping[RelativePath, RelativePath] = {}
    system_packages: tuple[InstalledSystemPackage, ...] = ()
    dpkg_status: Digest | None = None
    loader_cache: Digest | None = None
    packages: tuple[InstalledDistribution, ...] = ()
    unowned: tuple[RelativePath, ...] = ()
    interpreter: Digest | None = None
    torch_libraries: Digest | None = None


class Remembered(Value, frozen=True, kw_only=True):
    """An inventory, and what it is one of.

    Attributes:
        format: of this document; one of another format is not read.
        config: digest of the image's config.
        reference: what the image was called when it was read; for people.
        digest: of the inventory's document, so that a file that was changed is not believed.
        read_here: this machine read the image's own files for it. Never so of what was imported, whatever the file says; nor of notes
            that were kept before this field was, of which nobody knows it.
    """

    format: Literal[1] = 1
    config: Digest
    reference: str
    inventory: BaseInventory
    digest: Digest
    read_here: bool = False


class Inspected(Value, frozen=True, kw_only=True):
    """What is known of one image.

    Attributes:
        digest: of what the name stands for in its registry; None where only an engine has the image.
        config_digest: what "same image" means.
        release: the catalogue's row, where there is one: that of its name, or of what it says it is.
        statements: what it says of itself, held against the row.
        inventory: None while nobody looked inside.
    """

    reference: str
    digest: Digest | None
    config_digest: Digest
    config: ImageConfig
    release: Release | None
    statements: tuple[Statement, ...] = ()
    inventory: BaseInventory | None


class Base(Value, frozen=True, kw_only=True):
    """A base image as far as it is known. Absent knowledge is None and named in `unknown_because`.

    Attributes:
        reference: as it was asked for ("localhost:5000/ngc:26.07"); whoever names a digest has it here too.
        digest: manifest digest that `reference` was resolved to; None for an image that only a local engine has.
        image_id: the engine's ID where only the engine knows it.
        family: "ngc-pytorch" and its like, "slim", "debian" for one that is made of packages alone, or "other" for one that was asked
            for by name.
        release: the catalogue's row, where there is one.
        in_engine: an engine has it: nothing is pulled.
        config: None while neither registry nor engine was asked.
        inventory: None while nobody looked inside.
    """

    reference: str
    family: str
    digest: Digest | None = None
    image_id: Digest | None = None
    release: Release | None = None
    in_engine: bool = False
    config: ImageConfig | None = None
    inventory: BaseInventory | None = None
    unknown_because: str = ""

    @property
    def name(self) -> str:
        """Repository and tag."""
        return self.reference.partition("@")[0]

    @property
    def is_made_here(self) -> bool:
        """No registry has it: it is made of a distribution's packages, the same bytes wherever that is done."""
        return self.family == "debian"

    @property
    def pinned(self) -> str:
        """With a digest, once, where one is known; for one that is made here, the name that it gets in an engine."""
        if self.is_made_here and self.digest is not None:
            return f"localhost/envsnap/{self.reference}-{self.digest.removeprefix('sha256:')[:12]}"
        return self.reference if self.digest is None or "@" in self.reference else f"{self.reference}@{self.digest}"
