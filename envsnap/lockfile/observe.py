"""Facts -> the observed part of a lock: where it worked, what was loaded, what imported."""

from __future__ import annotations

from collections.abc import Sequence

from envsnap import redaction
from envsnap.model.facts import CollectedFacts, FrameworkFacts, GpuProbe, LoadedLibrary
from envsnap.model.lock import LockedCuda, LockedFramework, Observed, Reference


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
    framework = facts.framework
    return LockedCuda(
        runtime=_version(loaded, "libcudart.so", framework.cuda if framework else None),
        cudnn=_version(loaded, "libcudnn.so", framework.cudnn if framework else None),
        nccl=_version(loaded, "libnccl.so", framework.nccl if framework else None),
        cublas=_version(loaded, "libcublas.so"),
        loaded=loaded,
        torch=_framework(facts.torch),
        tensorflow=_framework(facts.tensorflow),
        paddle=_framework(facts.paddle),
    )


def _framework(found: FrameworkFacts | None) -> LockedFramework | None:
    return LockedFramework(version=found.version, git=found.git, flags=found.flags) if found else None


def _version(loaded: Sequence[LoadedLibrary], stem: str, own: str | None = None) -> str | None:
    """Of several that are mapped, the one that the framework says it uses (of the runtime it knows major and minor alone)."""
    versions = [library.version for library in loaded if library.soname.startswith(stem) and library.version]
    same = [version for version in versions if own and (version == own or version.startswith(f"{own}."))]
    return next(iter(same or versions), None)
