"""The one table that grades a difference of two locks by its field."""

from __future__ import annotations

import re

from envsnap.model.parity import Grade
from envsnap.parity.steering import steers

_NUMERIC_PACKAGES = (
    r"(?:torch|torchvision|torchaudio|triton|pytorch-triton|numpy|scipy|opencv-python(?:-headless)?|pillow|ultralytics|albumentations|tensorflow"
    r"|paddlepaddle(?:-gpu)?|jax|jaxlib|flash-attn|xformers|transformer-engine|apex|mkl|intel-openmp|onednn\w*|nvidia-[a-z0-9-]+)"
)
_REMOVED_OR_ADDED = r"packages\.[^.]+"

_TABLE: tuple[tuple[str, Grade, str], ...] = (
    # What runs at all, and which code it is.
    (r"python\.version", "breaking", "extensions are compiled for one minor version"),
    (r"python\.(?:abi|implementation|interpreter\..*)", "breaking", "compiled extensions do not load"),
    (r"python\.kind", "cosmetic", ""),
    (_REMOVED_OR_ADDED, "breaking", "only one side has it"),
    (rf"packages\.{_NUMERIC_PACKAGES}\.version", "numeric", "its kernels or their defaults may differ: numbers change"),
    (r"packages\.[^.]+\.version", "breaking", "other code runs"),
    (r"packages\.[^.]+\.(?:files|modified|blob)", "breaking", "the same version, but other code"),
    (r"packages\.[^.]+\.provenance", "cosmetic", "says how well it is proven, not what it is"),
    (r"packages\.[^.]+\..*", "cosmetic", ""),
    (r"system_packages\.[^.]+", "breaking", "only one side needs it"),
    (r"system_packages\..+\.sonames", "breaking", "other libraries of the system are needed"),
    (r"system_packages\..*", "cosmetic", ""),
    (r"source", "breaking", "only one side has a project"),
    (r"source\.(?:files|name|patch|untracked.*|submodules.*|lfs.*)", "breaking", "the project's files differ"),
    (r"source\.commit", "cosmetic", "history; whether the files differ is said by source.files"),
    (r"source\..*", "cosmetic", ""),
    # Where it worked.
    (r"observed\.platform\.machine", "breaking", "another instruction set architecture"),
    (r"observed\.platform\.(?:cpu|instruction_sets)", "numeric", "math libraries pick their kernels by instruction set"),
    (r"observed\.platform\.libc", "numeric", "exp, log and their like come from it"),
    (r"observed\.platform\..*", "cosmetic", ""),
    (r"observed\.gpu\.(?:driver|cuda_driver)", "numeric", "the driver compiles PTX and may choose other code: numbers can change"),
    (r"observed\.gpu\.(?:devices(?:\[\d+\])?|unavailable)", "numeric", "other devices compute"),
    (
        r"observed\.gpu\.devices\[\d+\]\.(?:name|compute_capability|mig|sm_count)",
        "numeric",
        "kernels are chosen by device and number of SMs",
    ),
    (r"observed\.gpu\.topology", "numeric", "NCCL adds in another order over other links"),
    (r"observed\.gpu\..*", "cosmetic", ""),
    (r"observed\.cuda\.cudnn", "numeric", "cuDNN picks other kernels for convolutions: numbers change"),
    (r"observed\.cuda\.cublas", "numeric", "cuBLAS picks other kernels for matrix products: numbers change"),
    (r"observed\.cuda\.nccl", "numeric", "NCCL may reduce in another order"),
    (r"observed\.cuda\.runtime", "numeric", "another CUDA runtime"),
    (r"observed\.cuda\.toolkit", "cosmetic", "nothing was loaded from it"),
    (r"observed\.cuda\.torch\.flags\..*", "numeric", "a flag of torch decides precision or kernels"),
    (r"observed\.cuda\.torch.*", "numeric", "another build of torch"),
    (r"observed\.cuda\.loaded\..+\.(?:version|sha256|owner)", "numeric", "another library is loaded"),
    (r"observed\.cuda\.loaded\..+\.path", "cosmetic", ""),
    (r"observed\.cuda\.loaded\..*", "numeric", "only one side loads it"),
    (r"observed\.imports(?:_failed)?\..*", "breaking", "it imports on one side only, or fails in another way"),
    (r"observed\.reference\.(?:kit|smoke\.wandb_rows).*", "cosmetic", ""),
    (r"observed\.reference.*", "numeric", "the smoke-train computed something else, or only one side has one"),
    (r"name", "cosmetic", ""),
)
_RULES = tuple((re.compile(pattern), grade, why) for pattern, grade, why in _TABLE)


def grade(field: str, left: str | None, right: str | None) -> tuple[Grade, str]:
    """Grade of a difference, and what it can do. The values matter for the patch level of Python alone."""
    if field == "python.version" and left is not None and right is not None and _minor(left) == _minor(right):
        return "cosmetic", "only the patch level"
    if field.startswith("env."):
        return _variable(field.removeprefix("env."))
    return next(
        ((found, why) for pattern, found, why in _RULES if pattern.fullmatch(field)), ("breaking", "nothing is known of this field")
    )


def _variable(name: str) -> tuple[Grade, str]:
    if name in ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH"):
        return "breaking", "other libraries or modules may be found first"
    return ("numeric", "it steers what is computed, or in which order") if steers(name) else ("cosmetic", "")


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
