"""Facts -> the observed part of a lock: where it worked, what was loaded, what imported."""

from __future__ import annotations

from collections.abc import Sequence

from envsnap import redaction
from envsnap.model.facts import CollectedFacts, GpuProbe, LoadedLibrary
from envsnap.model.lock import LockedCuda, LockedTorch, Observed, Reference


def observe(facts: CollectedFacts, gpu: GpuProbe, reference: Reference | None) -> Observed:
    """The observed part, not yet sealed (`digest` is empty)."""
    imports = facts.imports or {}
    return Observed(
        digest="",
        platform=facts.platform,
        gpu=gpu.facts,
        cuda=_cuda(facts),
        imports=tuple(sorted(module for module, error in imports.items() if not error)),
        imports_failed={module: redaction.text(error) for module, error in imports.items() if error},
        reference=reference,
    )


def _cuda(facts: CollectedFacts) -> LockedCuda:
    loaded = tuple(sorted(facts.libraries, key=lambda library: (library.soname, library.path)))
    torch = facts.torch
    return LockedCuda(
        runtime=_version(loaded, "libcudart.so", torch.cuda if torch else None),
        cudnn=_version(loaded, "libcudnn.so", torch.cudnn if torch else None),
        nccl=_version(loaded, "libnccl.so", torch.nccl if torch else None),
        cublas=_version(loaded, "libcublas.so"),
        loaded=loaded,
        torch=LockedTorch(version=torch.version, git=torch.git, flags=torch.flags) if torch else None,
    )


def _version(loaded: Sequence[LoadedLibrary], stem: str, of_torch: str | None = None) -> str | None:
    """Of several that are mapped, the one that torch says it uses (of the runtime it knows major and minor alone)."""
    versions = [library.version for library in loaded if library.soname.startswith(stem) and library.version]
    same = [version for version in versions if of_torch and (version == of_torch or version.startswith(f"{of_torch}."))]
    return next(iter(same or versions), None)
