"""What an image needs of a host, as its variables and labels say it: no layer is looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from envsnap.model import torch_version
from envsnap.model.plan import ARCHITECTURES_LABEL, CUDA_LABEL, PARTIAL_LABEL, SCHEMA_LABEL, TORCH_LABEL

_ENTRYPOINT = "nvidia_entrypoint.sh"
_RELEASE = re.compile(r"NVIDIA_[A-Z]+_VERSION")
_MONTH = re.compile(r"\d\d\.\d\d")
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_ARCHITECTURE = re.compile(r"(?:sm|compute)_[0-9]{2,3}[af]?")
_LISTED = re.compile(r"([0-9]{1,2})\.([0-9])([af]?)(\+PTX)?")
_MOST_CHARACTERS = 64_000  # of a label, which may be anybody's

Compat = Literal["none", "entrypoint", "bypassed", "toolkit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNeeds:
    """Attributes:
    cuda: toolkit that its packages were built with, "13.0" or "13.3.1.008"; None where nothing says it.
    says_cuda: what says so, "the label dev.envsnap.cuda".
    gpu: it is for GPUs at all, as far as it says.
    torch: whether it has a torch, as far as it says.
    code: per package the architectures that it has GPU code for, "sm_90" and "compute_90"; None where nothing says it.
    says_code: what says so, or why nothing does.
    partial: per package those of `code` that only a few of its kernels have.
    compat: who puts the compatibility libraries of forward compatibility into effect: its entrypoint, the container toolkit, nobody
        because the entrypoint was replaced, or "none" where it has no such libraries.
    compat_cuda: the CUDA version of these libraries.
    release: of NVIDIA's images, "26.07", where its packages are those of that release.
    requires: NVIDIA_REQUIRE_CUDA, which the container toolkit holds the host to; "" for nothing.
    """

    cuda: str | None = None
    says_cuda: str = ""
    gpu: bool = False
    torch: bool = False
    code: Mapping[str, tuple[str, ...]] | None = None
    says_code: str = ""
    partial: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    compat: Compat = "none"
    compat_cuda: str | None = None
    release: str | None = None
    requires: str = ""


def needs_of(env: Mapping[str, str], labels: Mapping[str, str], entrypoint: Sequence[str]) -> ImageNeeds:
    """Read an image's config. Labels of ours speak of the environment in it; a base's variables only where the environment is the base's.

    What is malformed counts as not said: it may be anybody's image.
    """
    ours = SCHEMA_LABEL in labels
    of_base = not ours or _same_torch(labels, env)
    compat = _compat(env, entrypoint)
    requires = "" if env.get("NVIDIA_DISABLE_REQUIRE", "").lower() in ("1", "true") else env.get("NVIDIA_REQUIRE_CUDA", "").strip()
    code, says_code = _code(labels, env, of_base=of_base, ours=ours)
    cuda, says_cuda = _cuda(labels, env, of_base=of_base)
    return ImageNeeds(
        cuda=cuda,
        says_cuda=says_cuda,
        gpu=cuda is not None or bool(code) or (not ours and bool(requires)),
        torch=TORCH_LABEL in labels if ours else "PYTORCH_VERSION" in env,
        code=code,
        says_code=says_code,
        partial=_by_package(labels.get(PARTIAL_LABEL, "")) or {},
        compat=compat,
        compat_cuda=_version(env.get("CUDA_VERSION")) if compat != "none" else None,
        release=_release(env) if of_base else None,
        requires=requires,
    )


def _same_torch(labels: Mapping[str, str], env: Mapping[str, str]) -> bool:
    """Whether the torch of an image of ours is its base's own."""
    if TORCH_LABEL not in labels or "PYTORCH_VERSION" not in env:
        return False
    ours, base = torch_version.read(labels[TORCH_LABEL]), torch_version.read(env["PYTORCH_VERSION"])
    return base.commit is not None and torch_version.same_build(ours, base)


def _cuda(labels: Mapping[str, str], env: Mapping[str, str], *, of_base: bool) -> tuple[str | None, str]:
    if (said := _version(labels.get(CUDA_LABEL))) is not None:
        return said, f"the label {CUDA_LABEL}"
    if of_base and (said := _version(env.get("CUDA_VERSION"))) is not None:
        return said, "CUDA_VERSION"
    return None, ""


def _code(
    labels: Mapping[str, str], env: Mapping[str, str], *, of_base: bool, ours: bool
) -> tuple[Mapping[str, tuple[str, ...]] | None, str]:
    if ARCHITECTURES_LABEL in labels:
        found = _by_package(labels[ARCHITECTURES_LABEL])
        return (
            (found, f"the label {ARCHITECTURES_LABEL}") if found is not None else (None, f"the label {ARCHITECTURES_LABEL} cannot be read")
        )
    if of_base and (listed := env.get("TORCH_CUDA_ARCH_LIST")):
        names = _listed(listed)
        return ({"torch": names}, "TORCH_CUDA_ARCH_LIST") if names else (None, "TORCH_CUDA_ARCH_LIST cannot be read")
    if ours and not of_base:
        return None, "no label says it, and the variables of its base do not speak for the environment"
    return None, "neither a label nor TORCH_CUDA_ARCH_LIST says it"


def _by_package(text: str) -> Mapping[str, tuple[str, ...]] | None:
    """Of {"torch":"sm_80 sm_90 compute_90"}; None where it is no such thing."""
    try:
        document = json.loads(text) if len(text) <= _MOST_CHARACTERS else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not document:
        return None
    found = {name: tuple(said.split()) for name, said in document.items() if isinstance(said, str)}
    names = [one for said in found.values() for one in said]
    whole = len(found) == len(document) and all(found.values()) and all(_ARCHITECTURE.fullmatch(one) for one in names)
    return found if whole else None


def _listed(text: str) -> tuple[str, ...]:
    """Of "7.5 8.0 9.0+PTX", as torch's build is told; () where it says anything else."""
    found: list[str] = []
    for word in text.replace(";", " ").split():
        match = _LISTED.fullmatch(word)
        if match is None:
            return ()
        number = f"{match[1]}{match[2]}{match[3]}"
        found += [f"sm_{number}", *([f"compute_{number}"] if match[4] else [])]
    return tuple(found)


def _compat(env: Mapping[str, str], entrypoint: Sequence[str]) -> Compat:
    if env.get("_CUDA_COMPAT_PATH") or (env.get("CUDA_DRIVER_VERSION") and _release(env)):
        return "entrypoint" if any(word.rpartition("/")[2] == _ENTRYPOINT for word in entrypoint) else "bypassed"
    return "toolkit" if env.get("NV_CUDA_COMPAT_PACKAGE") else "none"


def _release(env: Mapping[str, str]) -> str | None:
    return next((value for name, value in env.items() if _RELEASE.fullmatch(name) and _MONTH.fullmatch(value)), None)


def _version(text: str | None) -> str | None:
    return text if text is not None and _VERSION.fullmatch(text) else None
