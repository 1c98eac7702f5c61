"""The screen after a capture: what is true, what is wrong, what to type next."""

from __future__ import annotations

from collections import Counter
from typing import Any

from envsnap.model.lock import EnvLock
from envsnap.report import text
from envsnap.report.gpus import gpu_line
from envsnap.report.troubles import lines as trouble_lines
from envsnap.report.troubles import troubles

_PROVENANCE = {
    "index": "proven against the index",
    "vcs": "from version control",
    "source": "from the project's source",
    "rebuilt": "rebuilt here",
    "conda": "from conda",
    "system": "from the distribution",
    "base": "of the base image",
    "unproven": "unproven",
}


def screen(lock: EnvLock, path: str, *, width: int = text.WIDTH, full: bool = False) -> str:
    """Args:
    full: list what is folded otherwise.
    """
    lines = [f"{lock.name}  ·  {lock.capture.target}  ·  Python {lock.python.version}"]
    rows = [("GPU", gpu_line(lock.observed.gpu)), ("CUDA", _cuda(lock))]
    if built_for := _built_for(lock):
        rows.append(("built for", built_for))
    rows += [("packages", _packages(lock)), ("source", _source(lock))]
    if lock.observed.reference is not None:
        rows.append(("smoke", _smoke(lock)))
    elif lock.observed.cuda.framework is None:
        rows.append(("smoke", "no torch, TensorFlow or PaddlePaddle here: only what is installed can be compared later"))
    if lock.capture.withheld:
        rows.append(("withheld", f"{text.listed(sorted(lock.capture.withheld))}    give them at run time"))
    lines += text.labelled(rows, width)
    found = troubles(lock, full=full)
    if found:
        lines += ["", *trouble_lines(found, width, full=full)]
    return "\n".join([*lines, "", *_last(f"wrote {path}   {text.short(lock.digest)}", f"next: envsnap plan {path}", width)])


def _last(done: str, ask_next: str, width: int) -> list[str]:
    gap = " " * 14
    return [done + gap + ask_next] if len(done + gap + ask_next) <= width else [done, f"  {ask_next}"]


def document(lock: EnvLock, path: str) -> dict[str, Any]:
    return {
        "lock": path,
        "name": lock.name,
        "digest": lock.digest,
        "observed_digest": lock.observed.digest,
        "packages": len(lock.packages),
        "provenance": {kind: _counts(lock)[kind] for kind in _PROVENANCE},
        "smoke": lock.observed.reference is not None,
        "withheld": sorted(lock.capture.withheld),
        "warnings": warnings(lock),
    }


def warnings(lock: EnvLock) -> list[str]:
    """All of them, gravest first."""
    return [f"{trouble.what}; {trouble.do}" if trouble.do else trouble.what for trouble in troubles(lock)]


def _counts(lock: EnvLock) -> Counter[str]:
    return Counter(package.provenance for package in lock.packages)


def _cuda(lock: EnvLock) -> str:
    cuda = lock.observed.cuda
    named = (("runtime", cuda.runtime), ("cuDNN", cuda.cudnn), ("NCCL", cuda.nccl), ("cuBLAS", cuda.cublas))
    loaded = " · ".join(f"{name} {version}" for name, version in named if version)
    by = f"      as loaded by {cuda.framework[0]} {cuda.framework[1].version}" if cuda.framework is not None else ""
    return (loaded or "none loaded") + by


def _built_for(lock: EnvLock) -> str:
    """Those of torch stand for all: what other packages have is in the lock."""
    codes = {package.name: package.device_code for package in lock.packages if package.device_code is not None}
    if "torch" not in codes:
        return ""
    others = len(codes) - 1
    also = f"; {text.plural(others, 'other package')} {'has' if others == 1 else 'have'} GPU code too" if others else ""
    return f"{' '.join(codes['torch'].whole)}      as torch is{also}"


def _packages(lock: EnvLock) -> str:
    counts = _counts(lock)
    parts = " · ".join(f"{counts[kind]} {words}" for kind, words in _PROVENANCE.items() if counts[kind])
    return f"{len(lock.packages)}   {parts}"


def _source(lock: EnvLock) -> str:
    source = lock.source
    if source is None:
        return "none: this is not a git repository, and nothing editable is installed from it"
    if source.commit is None:
        return f"{text.plural(len(source.untracked), 'file')} of {source.name}, not in git (kept beside the lock)"
    where = f"{source.remote or source.name}@{source.commit[:7]}"
    if not source.dirty:
        doubted = any(problem.where == "source" for problem in lock.capture.problems)
        return where if doubted else f"{where}, clean"
    if source.patch is None and not source.untracked:
        return f"{where}, without its uncommitted changes"
    return f"{where}, dirty: changes kept as a patch, {text.plural(len(source.untracked), 'new file')}"


def _smoke(lock: EnvLock) -> str:
    reference = lock.observed.reference
    assert reference is not None
    smoke, measured = reference.smoke, reference.measurements
    took = f" in {measured.seconds:.1f} s" if measured is not None else ""
    equal = "bit-equal when repeated" if smoke.self_exact else "not bit-equal when repeated"
    lent = f" · lent for it: {text.listed([p.name for p in reference.kit], 3)}" if reference.kit else ""
    return f"{smoke.steps} steps{took} on {smoke.device}, mAP50 {smoke.map50:.3f}, {equal}{lent}"
