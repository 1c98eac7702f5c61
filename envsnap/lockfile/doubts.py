"""What a person should know of the CUDA side, although nothing was wrong with reading it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envsnap.model.facts import LoadedLibrary, Problem
from envsnap.model.lock import LockedPackage, Observed


def doubts(observed: Observed, packages: Sequence[LockedPackage]) -> tuple[Problem, ...]:
    """Each a sentence under "cuda"; in the order in which they matter."""
    found = (
        *((sentence, "update the driver, or train with an older CUDA") for sentence in _driver(observed)),
        *((sentence, "keep one: the others come with packages that bring their own") for sentence in _runtimes(observed)),
        *((sentence, "unset LD_LIBRARY_PATH, and capture again") for sentence in _shadowed(observed, packages)),
    )
    return tuple(Problem(where="cuda", what=sentence, hint=hint) for sentence, hint in found)


def _driver(observed: Observed) -> Iterator[str]:
    """CUDA's own rule: within a major version any driver of it will do ("minor version compatibility"), a newer major needs a newer
    driver or, on data-centre cards, the forward-compatibility package.
    """
    driver = observed.gpu.cuda_driver
    versions = {observed.cuda.runtime, *(library.version for library in observed.cuda.loaded if library.soname.startswith("libcudart"))}
    runtime = max((version for version in versions if version is not None), key=_major, default=None)
    if driver is not None and runtime is not None and _major(runtime) > _major(driver):
        yield (
            f"driver {observed.gpu.driver} supports CUDA up to {driver}, and the runtime that is loaded is {runtime}: "
            "nothing computes on the GPU without a newer driver or the forward-compatibility package"
        )


def _major(version: str) -> int:
    text = version.partition(".")[0]
    return int(text) if text.isdecimal() else 0


def _runtimes(observed: Observed) -> Iterator[str]:
    found = [library for library in observed.cuda.loaded if library.soname.startswith("libcudart")]
    if len(found) > 1:
        named = ", ".join(map(_named, found))
        yield f"{len(found)} CUDA runtimes are loaded at once: {named}; streams and contexts of one are not the other's"


def _shadowed(observed: Observed, packages: Sequence[LockedPackage]) -> Iterator[str]:
    own = [package for package in packages if package.name.startswith("nvidia-cudnn-")]
    for library in observed.cuda.loaded:
        if own and library.soname.startswith("libcudnn.so") and library.owner not in {package.name for package in own}:
            installed = ", ".join(f"{package.name} {package.version}" for package in own)
            yield f"{_named(library)} is loaded, and {installed} is installed: LD_LIBRARY_PATH usually decides that"


def _named(library: LoadedLibrary) -> str:
    return f"{library.soname} {library.version or 'of unknown version'} of {library.owner or library.path}"
