"""Realistic values for tests: one training environment as it was captured, and the same one as it is found again.

`lock()`, `facts()` and `smoke_run()` describe the same environment, so `fingerprint()` judged against `lock()` is clean. Digests of
wheels and files are made up from their names; names, versions, tags and sonames are those of a real environment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from envsnap.lockfile.digest import seal
from envsnap.model.facts import (
    CollectedFacts,
    Distribution,
    FrameworkFacts,
    GpuDevice,
    GpuFacts,
    GpuProbe,
    Interpreter,
    LoadedLibrary,
    Platform,
    SourceCheck,
    SystemLibrary,
)
from envsnap.model.lock import (
    Capture,
    EnvLock,
    LockedCuda,
    LockedFile,
    LockedFramework,
    LockedInterpreter,
    LockedPackage,
    LockedPython,
    LockedSource,
    LockedSystemPackage,
    Measurements,
    Observed,
    Reference,
    Smoke,
)
from envsnap.model.origins import EditableOrigin, IndexOrigin, VcsOrigin
from envsnap.model.parity import Fingerprint, SmokeRun, WandbRun

PREFIX = "/home/user/yolo/.venv"
SITE = f"{PREFIX}/lib/python3.11/site-packages"
PROJECT = "/home/user/yolo"
COMMIT = "3f2c1d90a4b7e6588d1f0c2b9a7e5d4c3b2a1908"
TORCH_GIT = "7269437d655783a26cba32aa88195b741ff496aa"
STEPS = 160

INDEX_PACKAGES = (
    # name, version, tags, modules, requested
    ("numpy", "2.4.6", ("cp311-cp311-manylinux_2_27_x86_64", "cp311-cp311-manylinux_2_28_x86_64"), ("numpy",), False),
    ("nvidia-cublas", "13.1.1.3", ("py3-none-manylinux_2_27_x86_64",), ("nvidia",), False),
    ("nvidia-cuda-runtime", "13.0.96", ("py3-none-manylinux2014_x86_64", "py3-none-manylinux_2_17_x86_64"), ("nvidia",), False),
    ("nvidia-cudnn-cu13", "9.20.0.48", ("py3-none-manylinux_2_27_x86_64",), ("nvidia",), False),
    ("nvidia-nccl-cu13", "2.29.7", ("py3-none-manylinux_2_18_x86_64",), ("nvidia",), False),
    ("opencv-python", "5.0.0.93", ("cp37-abi3-manylinux_2_28_x86_64",), ("cv2",), False),
    ("pip", "23.2.1", ("py3-none-any",), ("pip",), True),
    ("torch", "2.12.1", ("cp311-cp311-manylinux_2_28_x86_64",), ("torch", "torchgen", "functorch"), True),
    ("torchvision", "0.27.1", ("cp311-cp311-manylinux_2_28_x86_64",), ("torchvision",), True),
    ("typing-extensions", "4.16.0", ("py3-none-any",), ("typing_extensions",), False),
    ("ultralytics", "8.4.190", ("py3-none-any",), ("ultralytics",), True),
    ("wandb", "0.31.0", ("py3-none-manylinux_2_28_x86_64",), ("wandb",), True),
)
IMPORTS = (
    "cv2",
    "functorch",
    "numpy",
    "pip",
    "thop",
    "torch",
    "torchgen",
    "torchvision",
    "typing_extensions",
    "ultralytics",
    "wandb",
    "yolotools",
)
FLAGS = {
    "backends.cuda.matmul.allow_tf32": "False",
    "backends.cudnn.allow_tf32": "True",
    "backends.cudnn.benchmark": "False",
    "backends.cudnn.deterministic": "False",
    "backends.cudnn.enabled": "True",
    "float32_matmul_precision": "highest",
    "use_deterministic_algorithms": "False",
}
ENV: Mapping[str, str | None] = {"LANG": "C.UTF-8", "NCCL_P2P_DISABLE": "1", "OMP_NUM_THREADS": "2", "WANDB_API_KEY": None}
LIBRARIES = (
    # soname, version, path below site-packages, owner
    ("libcublas.so.13", "13.1.1", "nvidia/cu13/lib/libcublas.so.13", "nvidia-cublas"),
    ("libcublasLt.so.13", "13.1.1", "nvidia/cu13/lib/libcublasLt.so.13", "nvidia-cublas"),
    ("libcudart.so.13", "13.0.96", "nvidia/cu13/lib/libcudart.so.13", "nvidia-cuda-runtime"),
    ("libcudnn.so.9", "9.20.0", "nvidia/cudnn/lib/libcudnn.so.9", "nvidia-cudnn-cu13"),
    ("libcudnn_ops.so.9", "9.20.0", "nvidia/cudnn/lib/libcudnn_ops.so.9", "nvidia-cudnn-cu13"),
    ("libgomp-a34b3233.so.1", None, "torch/lib/libgomp-a34b3233.so.1", "torch"),
    ("libnccl.so.2", "2.29.7", "nvidia/nccl/lib/libnccl.so.2", "nvidia-nccl-cu13"),
)
SYSTEM_LIBRARIES = (
    # soname, path, package, version
    ("libGL.so.1", "/usr/lib/x86_64-linux-gnu/libGL.so.1.7.0", "libgl1", "1.6.0-1"),
    ("libxcb.so.1", "/usr/lib/x86_64-linux-gnu/libxcb.so.1.1.0", "libxcb1", "1.15-1"),
)


def hex64(text: str) -> str:
    """A made-up SHA-256, 64 hex digits, the same for the same text."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest(text: str) -> str:
    """A made-up digest, the same for the same text."""
    return f"sha256:{hex64(text)}"


def wheel_file(name: str, version: str, tags: tuple[str, ...]) -> str:
    head, platforms = tags[0].rpartition("-")[0], ".".join(tag.rpartition("-")[2] for tag in tags)
    return f"{name.replace('-', '_')}-{version}-{head}-{platforms}.whl"


def index_package(name: str, version: str, tags: tuple[str, ...] = ("py3-none-any",), *, requested: bool = False) -> LockedPackage:
    return LockedPackage(
        name=name,
        version=version,
        origin=IndexOrigin(),
        file=wheel_file(name, version, tags),
        sha256=hex64(f"wheel {name} {version}"),
        tags=tags,
        files=digest(f"files {name} {version}"),
        requested=requested,
        provenance="index",
    )


def vcs_package() -> LockedPackage:
    """ultralytics-thop, installed from git."""
    return LockedPackage(
        name="ultralytics-thop",
        version="2.2.3",
        origin=VcsOrigin(vcs="git", url="https://git.example.com/vision/thop.git", commit="9b1c4f0e77d25a83c0ffee00aa11bb22cc33dd44"),
        file="ultralytics_thop-2.2.3-py3-none-any.whl",
        tags=("py3-none-any",),
        files=digest("files ultralytics-thop 2.2.3"),
        blob=digest("packed ultralytics-thop"),
        requested=True,
        provenance="vcs",
    )


def editable_package() -> LockedPackage:
    """The project itself, installed with `pip install -e .` from a src layout."""
    return LockedPackage(
        name="yolotools",
        version="0.3.1.dev4",
        origin=EditableOrigin(path="", import_paths=("src",)),
        file="yolotools-0.3.1.dev4-py3-none-any.whl",
        tags=("py3-none-any",),
        blob=digest("packed yolotools"),
        requested=True,
        provenance="source",
    )


def packages() -> tuple[LockedPackage, ...]:
    ours = (vcs_package(), editable_package())
    from_index = (index_package(name, version, tags, requested=requested) for name, version, tags, _, requested in INDEX_PACKAGES)
    return tuple(sorted((*from_index, *ours), key=lambda package: package.name))


def source() -> LockedSource:
    return LockedSource(
        name="yolo",
        files=digest("manifest"),
        remote="git@git.example.com:vision/yolo.git",
        commit=COMMIT,
        branch="main",
        dirty=True,
        patch=digest("patch"),
        untracked=(LockedFile(path="scripts/run.sh", blob=digest("run.sh"), executable=True),),
    )


def system_packages() -> tuple[LockedSystemPackage, ...]:
    return tuple(
        LockedSystemPackage(name=package, version=version, arch="amd64", sonames=(soname,), needed_by=("opencv-python",))
        for soname, _, package, version in SYSTEM_LIBRARIES
    )


def platform(**changes: Any) -> Platform:
    values = Platform(
        machine="x86_64",
        kernel="6.8.0-87-generic",
        libc="glibc 2.36",
        distribution="debian 12",
        cpu="Intel(R) Xeon(R) Platinum 8558",
        instruction_sets=("amx_tile", "avx2", "avx512f", "fma"),
    )
    return replace(values, **changes)


def gpu_facts() -> GpuFacts:
    return GpuFacts(
        driver="580.159.04",
        cuda_driver="13.0",
        devices=tuple(
            GpuDevice(
                name="NVIDIA H200",
                compute_capability="9.0",
                memory_mib=143771,
                power_limit_w=700,
                sm_count=132,
                identity=hex64(f"gpu {n}")[:16],
            )
            for n in range(2)
        ),
        topology=("0-1 NVLink",),
    )


NO_GPU = GpuFacts(unavailable="no NVIDIA driver: libnvidia-ml.so.1 not found")


def gpu_probe() -> GpuProbe:
    return GpuProbe(facts=gpu_facts(), readings={"gpu.0.temperature_c": 41, "gpu.0.sm_clock_mhz": 1980})


def libraries() -> tuple[LoadedLibrary, ...]:
    loaded = tuple(
        LoadedLibrary(
            soname=soname, version=version, path=f"<prefix>/lib/python3.11/site-packages/{path}", sha256=hex64(soname), owner=owner
        )
        for soname, version, path, owner in LIBRARIES
    )
    driver = LoadedLibrary(
        soname="libcuda.so.1",
        version="580.159.04",
        path="/usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04",
        sha256=hex64("libcuda"),
        owner=None,
        injected=True,
    )
    return tuple(sorted((*loaded, driver), key=lambda library: library.soname))


def torch_facts(**changes: Any) -> FrameworkFacts:
    values = FrameworkFacts(
        version="2.12.1+cu130",
        git=TORCH_GIT,
        cuda="13.0",
        cudnn="9.20.0",
        nccl="2.29.7",
        cuda_available=False,
        arch_list=("sm_80", "sm_90", "sm_100"),
        flags=FLAGS,
    )
    return replace(values, **changes)


def cpu_framework(**changes: Any) -> FrameworkFacts:
    """TensorFlow or Paddle, as a wheel without CUDA brings it."""
    values = FrameworkFacts(
        version="2.21.0", git="v2.21.0-rc1-5-ga481b10260d", cuda=None, cudnn=None, nccl=None, cuda_available=False, flags={"onednn": "True"}
    )
    return replace(values, **changes)


def cuda() -> LockedCuda:
    return LockedCuda(
        runtime="13.0.96",
        cudnn="9.20.0",
        nccl="2.29.7",
        cublas="13.1.1",
        loaded=libraries(),
        torch=LockedFramework(version="2.12.1+cu130", git=TORCH_GIT, flags=FLAGS),
    )


def key(device: str = "cpu") -> Mapping[str, str]:
    """What bit-exactness may depend on (K of the parity rules)."""
    if device == "cuda":
        return {
            "device": "NVIDIA H200",
            "compute_capability": "9.0",
            "sm_count": "132",
            "torch_git": TORCH_GIT,
            "cudnn": "9.20.0",
            "cublas": "13.1.1",
        }
    return {
        "cpu": platform().cpu,
        "instruction_sets": "avx512f",
        "threads": "2",
        "torch_git": TORCH_GIT,
        "onednn": "3.11.2",
        "mkl": "2024.2",
    }


def losses(scale: float = 1.0) -> tuple[tuple[str, ...], ...]:
    """One row a step: box, cls, dfl, as float.hex()."""
    return tuple(tuple((scale * part / (1.0 + step / 40)).hex() for part in (2.75, 3.5, 1.25)) for step in range(STEPS))


def reference(device: str = "cpu", *, self_exact: bool = True) -> Reference:
    smoke = Smoke(
        seed=0,
        device="cuda" if device == "cuda" else "cpu",
        gpus=1 if device == "cuda" else 0,
        key=key(device),
        steps=STEPS,
        losses=losses(),
        state=digest("state"),
        map50=0.995,
        gradient={"amp": digest("gradient amp"), "fp32": digest("gradient fp32")},
        self_exact=self_exact,
        wandb_rows=21,
        labels=digest("labels"),
    )
    return Reference(smoke=smoke, anchor=digest("anchor"), measurements=Measurements(step_ms=95.2, seconds=15.4, peak_memory_mib=1204.0))


def capture() -> Capture:
    return Capture(
        at="2026-11-20T23:01:02Z",
        tool="envsnap 0.1.0",
        host="node17",
        target=f"python {PREFIX}/bin/python",
        withheld={"WANDB_API_KEY": "environment variable at run time"},
        readings={"gpu.0.temperature_c": 41},
    )


def lock(*, device: str = "cpu", smoke: bool = True, **changes: Any) -> EnvLock:
    """The sealed lock of the sample environment.

    Args:
        device: "cpu" for a host without GPU, "cuda" for one with two.
        smoke: with the reference of a smoke-train.
        changes: top-level fields to replace before sealing.
    """
    unsealed = EnvLock(
        envsnap=1,
        name="yolo-train",
        digest=digest("not sealed"),
        python=LockedPython(
            version="3.11.7",
            implementation="cpython",
            abi="cp311",
            kind="venv",
            interpreter=LockedInterpreter(soabi="cpython-311-x86_64-linux-gnu", machine="x86_64"),
        ),
        packages=packages(),
        system_packages=system_packages(),
        source=source(),
        env=ENV,
        observed=Observed(
            digest=digest("not sealed"),
            platform=platform(),
            gpu=gpu_facts() if device == "cuda" else NO_GPU,
            cuda=cuda(),
            imports=IMPORTS,
            reference=reference(device) if smoke else None,
        ),
        capture=capture(),
    )
    return seal(replace(unsealed, **changes))


def distribution(name: str, version: str, **changes: Any) -> Distribution:
    values = Distribution(
        name=name,
        version=version,
        location=SITE,
        metadata_dir=f"{SITE}/{name.replace('-', '_')}-{version}.dist-info",
        installer="pip",
        tags=("py3-none-any",),
        files=digest(f"files {name} {version}"),
        modified=(),
    )
    return replace(values, **changes)


def distributions() -> tuple[Distribution, ...]:
    from_index = (
        distribution(name, version, tags=tags, modules=modules, requested=requested)
        for name, version, tags, modules, requested in INDEX_PACKAGES
    )
    thop = distribution(
        "ultralytics-thop",
        "2.2.3",
        modules=("thop",),
        requested=True,
        direct_url={
            "url": "https://git.example.com/vision/thop.git",
            "vcs_info": {"vcs": "git", "commit_id": "9b1c4f0e77d25a83c0ffee00aa11bb22cc33dd44"},
        },
    )
    project = distribution(
        "yolotools",
        "0.3.1.dev4",
        modules=("yolotools",),
        requested=True,
        direct_url={"url": f"file://{PROJECT}", "dir_info": {"editable": True}},
        editable_paths=(f"{PROJECT}/src",),
    )
    return tuple(sorted((*from_index, thop, project), key=lambda dist: dist.name))


def facts(**changes: Any) -> CollectedFacts:
    """What the collector says of the sample environment, on its own host or in a faithful image."""
    values = CollectedFacts(
        schema=1,
        interpreter=Interpreter(
            version="3.11.7",
            implementation="cpython",
            abi="cp311",
            soabi="cpython-311-x86_64-linux-gnu",
            machine="x86_64",
            libc="glibc 2.36",
            kind="venv",
            executable=f"{PREFIX}/bin/python",
            prefix=PREFIX,
            base_prefix="/usr",
        ),
        platform=platform(),
        distributions=distributions(),
        env=ENV,
        withheld=("WANDB_API_KEY",),
        torch=torch_facts(),
        libraries=libraries(),
        system_libraries=tuple(
            SystemLibrary(
                soname=soname,
                path=path,
                package=package,
                package_version=version,
                package_arch="amd64",
                needed_by=("opencv-python",),
                mapped=True,
            )
            for soname, path, package, version in SYSTEM_LIBRARIES
        ),
        imports=dict.fromkeys(IMPORTS, ""),
        source_files=SourceCheck(digest=digest("manifest")),
    )
    return replace(values, **changes)


def smoke_run(device: str = "cpu", **changes: Any) -> SmokeRun:
    values = SmokeRun(
        schema=1,
        status="ok",
        device_asked=device,
        device_used=device,
        gpus=1 if device == "cuda" else 0,
        key=key(device),
        expected_steps=STEPS,
        steps=STEPS,
        losses=losses(),
        state=digest("state"),
        map50=0.995,
        batch_asked=8,
        batch_used=8,
        amp_asked="fp32",
        amp_used="fp32",
        labels=digest("labels"),
        step_ms=(95.2,) * STEPS,
        seconds=15.4,
        peak_memory_mib=1204.0,
        gradients={"amp": "gradient-amp.bin", "fp32": "gradient-fp32.bin"},
        wandb=WandbRun(rows=21, keys=("metrics/mAP50(B)", "train/box_loss"), exit_code=0, reader="wandb leet 0.31.0"),
    )
    return replace(values, **changes)


def fingerprint(device: str = "cpu", **changes: Any) -> Fingerprint:
    """The sample environment found again, bit-equal to `lock(device=device)`."""
    values = Fingerprint(
        facts=facts(torch=torch_facts(cuda_available=device == "cuda")),
        smoke=smoke_run(device),
        gradient_distance={"amp": 0.0, "fp32": 0.0},
        gradient_equal={"amp": True, "fp32": True},
    )
    return replace(values, **changes)
