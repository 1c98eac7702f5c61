"""Whether the host that a lock was captured on could run what a base makes of it, by its driver: asked before anything is pulled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import msgspec

from envsnap.compat import ImageNeeds, judge_driver, needs_of
from envsnap.errors import PlanError
from envsnap.model.base import Base
from envsnap.model.catalog import Catalog
from envsnap.model.lock import EnvLock
from envsnap.model.plan import Candidate
from envsnap.plan.bases import fitting_releases
from envsnap.plan.labels import cuda_of

_WITHOUT_CUDA = ("slim", "debian")
_PACKAGES = "of the environment's packages"
_OTHER_PACKAGES = "a newer driver; packages for an older CUDA: envsnap relock; or, if it does run there, capture --smoke, which shows it"


def require_driver(base: Base, lock: EnvLock, catalog: Catalog) -> None:
    """Refuse a base that the captured driver cannot run, or with which it cannot run the environment. What is not known is no refusal.

    Args:
        base: with its row of the catalogue, its config, or neither: as far as it is known.

    Raises:
        PlanError: with the way out.
    """
    gpus = lock.observed.gpu
    if gpus.driver is None:
        return
    for needs in _needs(base, lock):
        reason = judge_driver(needs, gpus, catalog)
        if reason.status == "fail":
            what = "the environment" if needs.says_cuda == _PACKAGES else base.name
            raise PlanError(
                f"{what} would not run on the host of the capture",
                why=f"it needs driver {reason.needed}; that host has {reason.found}",
                hint=_way_out(needs, base, lock, catalog),
            )


def held(candidate: Candidate, lock: EnvLock, catalog: Catalog) -> Candidate:
    """A candidate, which is no longer possible where its base is refused."""
    if not candidate.possible:
        return candidate
    try:
        require_driver(candidate.base, lock, catalog)
    except PlanError as error:
        return msgspec.structs.replace(
            candidate, possible=False, reason=error.why, breaks=(error.why,), exact=(), differs=(), way=error.hint
        )
    return candidate


def _needs(base: Base, lock: EnvLock) -> Iterator[ImageNeeds]:
    """What the base needs for itself, and what the environment needs on it."""
    own = _of_base(base)
    if own is None:
        return
    if own.cuda is not None:
        yield own
    if (environment := _on(own, lock)) is not None:
        yield environment


def _on(base: ImageNeeds, lock: EnvLock) -> ImageNeeds | None:
    """What the environment's packages need on a base; None where they bring no CUDA, or ran on that host."""
    cuda = cuda_of(lock)
    if cuda is None or _it_ran(lock):
        return None
    return dataclasses.replace(base, cuda=cuda, says_cuda=_PACKAGES, gpu=True, release=None)


def _it_ran(lock: EnvLock) -> bool:
    """The smoke-train of the capture computed on that host's GPUs: what tables say of it is no matter."""
    reference = lock.observed.reference
    return reference is not None and reference.smoke.device == "cuda"


def _of_base(base: Base) -> ImageNeeds | None:
    """By its config, else by its row of the catalogue; None where neither is known."""
    if base.config is not None:
        return needs_of(base.config.env, base.config.labels, base.config.entrypoint)
    row = base.release
    if row is not None and row.cuda is not None:
        said = f"the catalogue's {row.release}"
        return ImageNeeds(cuda=row.cuda, says_cuda=said, gpu=True, compat="entrypoint", compat_cuda=row.cuda, release=row.release)
    return ImageNeeds() if base.family in _WITHOUT_CUDA else None


def _way_out(needs: ImageNeeds, base: Base, lock: EnvLock, catalog: Catalog) -> str:
    if needs.says_cuda == _PACKAGES:
        helps = "" if needs.compat != "none" else "; on data-center GPUs --base ngc, whose compatibility libraries may do"
        return f"{_OTHER_PACKAGES}{helps}"
    on_slim = _on(ImageNeeds(), lock)
    if on_slim is not None and judge_driver(on_slim, lock.observed.gpu, catalog).status == "fail":
        return _OTHER_PACKAGES  # no other base would do
    fitting = [release.reference for release in fitting_releases(lock, catalog)]
    others = [f"--base {fitting[0]}"] if fitting and fitting[0] != base.name else []
    return f"{', '.join([*others, '--base slim'])}, or a newer driver"
