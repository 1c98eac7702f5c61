"""Facts: what is there, as read, before anyone decides what it means.

`CollectedFacts` is the document that `guest/collect.py` writes (standard library only, so it cannot import this module; the
tests decode its output with these types). `HostFacts` is what only the host side can see: the GPU through NVML and git.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from envsnap.model.kinds import Architectures, Value


class Problem(Value, frozen=True, kw_only=True):
    """One fault met while reading, named and survived.

    Attributes:
        where: file, distribution or probe, for example "six-1.16.0.dist-info/METADATA" or "nvml".
        what: one sentence.
        hint: what to do about it, "" where there is nothing honest to suggest.
    """

    where: str
    what: str
    hint: str = ""


class Interpreter(Value, frozen=True, kw_only=True):
    """The interpreter that ran the collector.

    Attributes:
        version: "3.11.7".
        implementation: "cpython".
        abi: "cp311".
        soabi: sysconfig's SOABI, "cpython-311-x86_64-linux-gnu"; "" where there is none.
        machine: "x86_64" or "aarch64".
        libc: "glibc 2.36", "musl", or "".
        kind: venv (also uv and virtualenv), conda, system, or container (the image's own interpreter).
        executable, prefix, base_prefix: absolute paths on the target.
        build: compiler and build of the interpreter, `platform.python_build()` and `python_compiler()`.
    """

    version: str
    implementation: str
    abi: str
    soabi: str
    machine: str
    libc: str
    kind: Literal["venv", "conda", "system", "container"]
    executable: str
    prefix: str
    base_prefix: str
    build: str = ""


class DeviceCode(Value, frozen=True, kw_only=True):
    """The GPU architectures that compiled extensions hold code for, as their fat binaries say. Each list ascends and names none twice.

    A cubin of sm_86 runs on GPUs of compute capability 8.6 to 8.9, one of sm_90a on 9.0 alone, one of sm_100f on 10.x from 10.0. PTX of
    compute_90 is compiled by the driver for whatever is not older.

    Attributes:
        cubins: machine code, "sm_90". ptx: "compute_90".
        partial: those of both that no file has in most of its fat binaries: a few kernels for one kind of GPU, or a library that
            chooses among its kernels itself.
    """

    cubins: Architectures = ()
    ptx: Architectures = ()
    partial: Architectures = ()

    @property
    def whole(self) -> tuple[str, ...]:
        """Those that the package was built for as a whole: of torch what `torch.cuda.get_arch_list()` says."""
        return tuple(name for name in (*self.cubins, *self.ptx) if name not in self.partial)


class SystemOwner(Value, frozen=True, kw_only=True):
    """The package of the operating system that a distribution was installed by, and still is of.

    Attributes:
        manager: "dpkg" or "rpm".
        files: "sha256:…" of what the package brought to the distribution's site directory, as it is now: in the form of the canonical
            RECORD; None when not checked, and where the package manager keeps no digests of it.
        modified: like `Distribution.modified`, held against the package manager's digests; None as `files` is.
    """

    manager: str
    package: str
    version: str
    arch: str
    files: str | None = None
    modified: tuple[str, ...] | None = None


class Distribution(Value, frozen=True, kw_only=True):
    """One installed distribution, with what its own metadata says and nothing concluded from it.

    Attributes:
        name: normalised (PEP 503).
        version: as METADATA says it.
        location: the directory on sys.path that holds its metadata.
        metadata_dir: absolute path of the .dist-info or .egg-info.
        installer: content of INSTALLER, "" where there is none.
        requested: REQUESTED exists.
        tags: the Tag lines of WHEEL, in order; empty without a WHEEL file.
        build: the Build line of WHEEL, "".
        direct_url: the parsed direct_url.json, credentials in its URL already removed; None where there is none.
        files: "sha256:…" of the canonical RECORD (docs/lockfile-format.md), None without a usable RECORD.
        size_bytes: sum of the sizes that RECORD states.
        editable_paths: for an editable: the absolute directories that it puts on sys.path (from its .pth or finder).
        modules: importable top-level names.
        modified: files whose bytes are not what RECORD says ("x"), that are missing ("missing: x"), or that lie in the
            distribution's own folders and are in no RECORD ("added: x"), sorted; None when not checked.
        actual_files: like `files`, of the files as they are now: edits and additions in it, what is missing left out; equal to
            `files` where `modified` is empty; None when not checked, and for editables.
        requires: Requires-Dist lines.
        requires_python: Requires-Python, "".
        conda: name of the conda package whose it is; None for what pip and its like installed.
        system: None for what the operating system's package manager did not install.
        device_code: None where it has none, and when not looked for.
    """

    name: str
    version: str
    location: str
    metadata_dir: str
    installer: str = ""
    requested: bool = False
    tags: tuple[str, ...] = ()
    build: str = ""
    direct_url: Mapping[str, Any] | None = None
    files: str | None = None
    size_bytes: int = 0
    editable_paths: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    modified: tuple[str, ...] | None = None
    actual_files: str | None = None
    requires: tuple[str, ...] = ()
    requires_python: str = ""
    conda: str | None = None
    system: SystemOwner | None = None
    device_code: DeviceCode | None = None

    @property
    def changed(self) -> tuple[str, ...] | None:
        """`modified`; none where all is as the operating system's package manager brought it: a RECORD in its package may be of the wheel
        before the distribution's own changes.
        """
        return () if self.system is not None and self.system.modified == () else self.modified

    @property
    def edited(self) -> tuple[str, ...]:
        """What is not as it was installed: as the operating system's package manager says where that did it, else by RECORD."""
        if self.system is not None and self.system.modified is not None:
            return self.system.modified
        return self.modified or ()


class CondaPackage(Value, frozen=True, kw_only=True):
    """A package that conda, mamba, micromamba or pixi installed, as its record in conda-meta says.

    Attributes:
        url: of the package in its channel, http or https, without credentials; None for other places.
        sha256, md5: of the package file, hex digits.
        files: digest of its canonical list of files, as packaged: the same in every prefix (docs/lockfile-format.md).
        requested: asked for by name.
        modified: like `Distribution.modified`, relative to the prefix; files that were added are not looked for.
    """

    name: str
    version: str
    build: str
    url: str | None = None
    sha256: str | None = None
    md5: str | None = None
    files: str | None = None
    requested: bool = False
    modified: tuple[str, ...] | None = None


class LoadedLibrary(Value, frozen=True, kw_only=True):
    """A CUDA-side or math library that was mapped after a convolution and a matrix product ran.

    Attributes:
        soname: "libcudnn.so.9".
        version: as the library itself says (cudnnGetVersion and its like), else from the owning package, else None.
        path: absolute on the target; replaced by "<prefix>/…" where it lies inside the environment.
        sha256: of the file, 64 hex digits; None where it could not be read.
        owner: the distribution ("nvidia-cudnn-cu13"), the system package ("dpkg:libcudnn9"), or None.
        injected: the container runtime or the driver provides it (libcuda, NVML): never compared.
    """

    soname: str
    version: str | None
    path: str
    sha256: str | None
    owner: str | None
    injected: bool = False


class SystemLibrary(Value, frozen=True, kw_only=True):
    """A library outside the prefix that the environment needs.

    Attributes:
        soname: "libGL.so.1".
        path: absolute, real path; None when no such file is there.
        package: owning package of the operating system, with its version and architecture; None when nobody owns it.
        needed_by: names of the distributions whose extensions need it, sorted; empty when it was only mapped.
        mapped: it was mapped after imports and the probe of the framework.
    """

    soname: str
    path: str | None
    package: str | None
    package_version: str | None = None
    package_arch: str | None = None
    needed_by: tuple[str, ...] = ()
    mapped: bool = False


class Platform(Value, frozen=True, kw_only=True):
    """Machine and operating system.

    Attributes:
        distribution: "debian 12" from os-release (ID and VERSION_ID), "" where there is none.
        cpu: model name; instruction_sets: those that math libraries dispatch on (avx2, avx512f, amx_tile …), sorted.
    """

    machine: str
    kernel: str
    libc: str
    distribution: str
    cpu: str
    instruction_sets: tuple[str, ...] = ()


class FrameworkFacts(Value, frozen=True, kw_only=True):
    """torch, TensorFlow or PaddlePaddle as imported, not as advertised by its metadata.

    Attributes:
        version: `torch.__version__`, "2.12.1+cu130", and its like.
        git: the commit or description that it was built from: `torch.version.git_version`, `tensorflow.version.GIT_VERSION`,
            `paddle.version.commit`.
        cuda, cudnn, nccl: what it was built for or loaded; None where it has none, or does not say.
        cuda_available: a GPU can be used.
        arch_list: GPU architectures that it was built for, as it names them; empty where it does not say.
        flags: allow_tf32 and its like, by dotted name, as text.
    """

    version: str
    git: str
    cuda: str | None
    cudnn: str | None
    nccl: str | None
    cuda_available: bool
    arch_list: tuple[str, ...] = ()
    flags: Mapping[str, str] = {}


class CollectedFacts(Value, frozen=True, kw_only=True):
    """The document of `guest/collect.py`.

    Attributes:
        schema: 1.
        path_oddities: each a sentence: PYTHONPATH, user site, sitecustomize, a .pth that runs code …
        env: allow-listed variables with their values; a value that looks like a secret is None.
        withheld: names of variables that hold secrets, allow-listed or not (WANDB_API_KEY); never their values.
        pip_config: index_url, extra_index_urls, find_links, no_index, cert as the target's pip resolves them, and `certificates`, the
            PEM that lies at `cert`; None when pip cannot be asked. Credentials are still inside: this document never leaves the
            machine's memory and pipes.
        torch, tensorflow, paddle: the environment's framework, by the name that imports it: the first of these that is installed.
            None for the others, and for all when the probe was not asked for.
        libraries: as mapped after the probe; empty without it.
        imports: module -> "" when it imports, else "ErrorType: message"; None when not asked for.
        unowned: what could be imported from site directories and is no distribution's, absolute paths.
        conda: what conda installed, Python or not; empty elsewhere.
        source_files: digest of the manifest given with --source and the paths that differ; None when not asked for.
    """

    schema: int
    interpreter: Interpreter
    platform: Platform
    distributions: tuple[Distribution, ...]
    env: Mapping[str, str | None]
    withheld: tuple[str, ...] = ()
    path_oddities: tuple[str, ...] = ()
    pip_config: Mapping[str, Any] | None = None
    torch: FrameworkFacts | None = None
    tensorflow: FrameworkFacts | None = None
    paddle: FrameworkFacts | None = None
    libraries: tuple[LoadedLibrary, ...] = ()
    system_libraries: tuple[SystemLibrary, ...] = ()
    imports: Mapping[str, str] | None = None
    unowned: tuple[str, ...] = ()
    conda: tuple[CondaPackage, ...] = ()
    source_files: SourceCheck | None = None
    problems: tuple[Problem, ...] = ()
    seconds: Mapping[str, float] = {}

    @property
    def framework(self) -> FrameworkFacts | None:
        return self.torch or self.tensorflow or self.paddle


class SourceCheck(Value, frozen=True, kw_only=True):
    """The project's files in an image, held against the manifest that was built into it.

    Attributes:
        digest: "sha256:…" of the manifest as found; it must be the lock's `source.files`.
        differing: paths that are missing or whose bytes differ.
    """

    digest: str
    differing: tuple[str, ...] = ()


class GpuDevice(Value, frozen=True, kw_only=True):
    """One device as NVML describes it. No serials; the UUID only as a salted hash.

    Attributes:
        compute_capability: "9.0".
        memory_mib: total, MiB.
        mig: "" where MIG is off, else the profile names, comma-separated.
        power_limit_w: enforced limit, watts.
        sm_count: streaming multiprocessors, None where NVML does not say.
        identity: first 16 hex digits of a salted SHA-256 of the UUID: tells two cards apart, names neither.
    """

    name: str
    compute_capability: str
    memory_mib: int
    mig: str = ""
    power_limit_w: int | None = None
    sm_count: int | None = None
    identity: str = ""


class GpuFacts(Value, frozen=True, kw_only=True):
    """The GPUs of a host, or one sentence why there are none.

    Attributes:
        unavailable: "" when the rest holds; else the reason ("no NVIDIA driver: libnvidia-ml.so.1 not found").
        driver: "580.159.04".
        cuda_driver: highest CUDA version that the driver supports, "13.0".
        topology: each pair's link, sorted: "0-1 18x NVLink" (its active links; without the number where they do not say), "0-2 PCIe PHB",
            "0-3 PCIe SYS, no peer access", "0-4 unknown". The numbers are NVML's indices.
    """

    unavailable: str = ""
    driver: str | None = None
    cuda_driver: str | None = None
    devices: tuple[GpuDevice, ...] = ()
    topology: tuple[str, ...] = ()


class GpuProbe(Struct, frozen=True, kw_only=True):
    """What the NVML probe returns.

    Attributes:
        facts: the part that stays.
        readings: what moves from minute to minute (clocks, temperatures, ECC counts), by dotted name.
        problems: fields that NVML refused, each named; NotSupported is normal and not listed.
    """

    facts: GpuFacts
    readings: Mapping[str, float | int | str]
    problems: tuple[Problem, ...] = ()
