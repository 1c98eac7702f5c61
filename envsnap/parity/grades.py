"""The one table that grades a difference of two locks by its field."""

from __future__ import annotations

import re

from envsnap.model.parity import Grade
from envsnap.parity.causes import cause
from envsnap.parity.steering import steers

_NUMERIC_PACKAGES = (
    r"(?:torch|torchvision|torchaudio|triton|pytorch-triton|numpy|scipy|opencv-python(?:-headless)?|pillow|ultralytics|albumentations|tensorflow(?:-cpu|-gpu)?|keras|tf-keras"
    r"|paddlepaddle(?:-gpu)?|jax|jaxlib|flash-attn|xformers|transformer-engine|apex|mkl|intel-openmp|onednn\w*|nvidia-[a-z0-9-]+)"
)
_REMOVED_OR_ADDED = r"packages\.[^.]+"
_CONDA = r"python\.conda\.packages\."
_CONDA_PART = r"\.(?:version|build|url|sha256|md5|files|requested|modified)"

_TABLE: tuple[tuple[str, Grade, str], ...] = (
    # Of what may change numbers `cause` says how, where it knows more than stands here.
    # What runs at all, and which code it is.
    (r"python\.version", "breaking", "extensions are compiled for one minor version"),
    (r"python\.(?:abi|implementation|interpreter\..*)", "breaking", "compiled extensions do not load"),
    (r"python\.kind", "cosmetic", ""),
    (rf"{_CONDA}{_NUMERIC_PACKAGES}\.version", "numeric", "its kernels or their defaults may differ"),
    (rf"{_CONDA}.+\.(?:version|build)", "breaking", "other code runs"),
    (rf"{_CONDA}.+\.(?:files|modified)", "breaking", "the same version, but other code"),
    (rf"{_CONDA}.+{_CONDA_PART}", "cosmetic", ""),
    (rf"{_CONDA}.+", "breaking", "only one side has it"),
    (r"python\.conda\.tree", "cosmetic", "how the files are kept, not which"),
    (r"python\.tree.*", "cosmetic", "how the interpreter is kept, not which"),
    (r"python\.conda", "breaking", "conda made one side only"),
    (_REMOVED_OR_ADDED, "breaking", "only one side has it"),
    (rf"packages\.{_NUMERIC_PACKAGES}\.version", "numeric", "its kernels or their defaults may differ"),
    (r"packages\.[^.]+\.version", "breaking", "other code runs"),
    (r"packages\.[^.]+\.(?:files|modified|blob|origin\.files)", "breaking", "the same version, but other code"),
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
    (r"observed\.platform\.(?:cpu|instruction_sets)", "numeric", ""),
    (r"observed\.platform\.libc", "numeric", "exp, log and their like come from it"),
    (r"observed\.platform\..*", "cosmetic", ""),
    (
        r"observed\.gpu\.(?:driver|cuda_driver)",
        "numeric",
        "the driver compiles PTX, and libraries ask for its version before they choose kernels",
    ),
    (r"observed\.gpu\.(?:devices(?:\[\d+\])?|unavailable)", "numeric", "other devices compute"),
    (
        r"observed\.gpu\.devices\[\d+\]\.(?:name|compute_capability|mig|sm_count)",
        "numeric",
        "kernels are chosen by device and number of SMs",
    ),
    (r"observed\.gpu\.topology", "numeric", "NCCL adds in another order over other links"),
    (r"observed\.gpu\..*", "cosmetic", ""),
    (r"observed\.cuda\.(?:cudnn|cublas|nccl|runtime)", "numeric", ""),
    (r"observed\.cuda\.toolkit", "cosmetic", "nothing was loaded from it"),
    (r"observed\.cuda\.(?:torch|tensorflow|paddle).*", "numeric", ""),
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
    """Grade of a difference, and what it can do: of one that may change numbers, how. The values matter for Python's patch level alone."""
    if field == "python.version" and left is not None and right is not None and _minor(left) == _minor(right):
        return "cosmetic", "only the patch level"
    found, why = _variable(field.removeprefix("env.")) if field.startswith("env.") else _ruled(field)
    return found, (cause(field) or why) if found == "numeric" else why


def _ruled(field: str) -> tuple[Grade, str]:
    return next(
        ((found, why) for pattern, found, why in _RULES if pattern.fullmatch(field)), ("breaking", "nothing is known of this field")
    )


def _variable(name: str) -> tuple[Grade, str]:
    if name in ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH"):
        return "breaking", "other libraries or modules may be found first"
    return ("numeric", "it steers what is computed, or in which order") if steers(name) else ("cosmetic", "")


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
