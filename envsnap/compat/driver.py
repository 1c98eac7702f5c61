"""Whether a host's driver runs an image's CUDA: as it is, by minor-version compatibility, or by the image's compatibility libraries.

The rules are those of NVIDIA's "CUDA Compatibility"; the tables are the catalogue's.
"""

from __future__ import annotations

from dataclasses import dataclass

from envsnap.compat.image import ImageNeeds
from envsnap.model.base import Release
from envsnap.model.catalog import Catalog, branch_of, minor_of, numbers
from envsnap.model.facts import GpuFacts
from envsnap.model.image import CheckReason, Status

ID = "driver"
_NEWER = "a newer driver"
_ELSEWHERE = "ask on the host itself, or for it: --driver VERSION --gpu NAME"
_OTHER = f"{_NEWER}, or an image for an older CUDA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The answer. Attributes: cuda: of the driver in effect in a container, and so the newest PTX that it compiles; None unknown."""

    reason: CheckReason
    cuda: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forward:
    """Whether forward compatibility helps. Attributes: why: a clause, of a "no" or an "unknown"; of a "yes", who says it."""

    answer: Status
    why: str


def judge(needs: ImageNeeds, gpus: GpuFacts, catalog: Catalog) -> Driver:
    if not needs.gpu:
        return Driver(reason=CheckReason(id=ID, status="pass", needed="none", found="nothing that the image says of itself needs a GPU"))
    if needs.cuda is None:
        hint = "the image's owner knows; envsnap verify tries it"
        return Driver(reason=_reason("unknown", "that of its CUDA, which nothing says", _found(gpus), hint))
    if gpus.driver is None:
        return Driver(reason=_reason("unknown", _needed(needs, catalog), _found(gpus), _ELSEWHERE))
    if (dropped := _dropped(gpus, catalog)) is not None:
        return Driver(reason=dropped)
    own = gpus.cuda_driver or catalog.drivers.cuda_of(gpus.driver)
    driver, shipped, floor = numbers(gpus.driver), catalog.drivers.shipped_with(needs.cuda), catalog.driver_floor(needs.cuda)
    if shipped is not None and driver >= numbers(shipped):
        return Driver(reason=_reason("pass", _needed(needs, catalog), gpus.driver), cuda=own)
    forward = _forward(needs, gpus, gpus.driver, catalog)
    if forward.answer == "pass":
        found = f"{gpus.driver}, with the image's compatibility libraries ({forward.why})"
        hint = "keep the image's entrypoint: it puts them into effect"
        return Driver(reason=_reason("pass", _needed(needs, catalog), found, hint), cuda=minor_of(needs.compat_cuda or needs.cuda))
    if floor is None and shipped is None:
        needed = f"that of CUDA {needs.cuda}, which no table of the catalogue has"
        return Driver(reason=_reason("unknown", needed, gpus.driver, "envsnap verify tries it"), cuda=own)
    if floor is not None and driver >= numbers(floor):
        return _by_minor_version(needs, gpus.driver, own, catalog, shipped)
    found = f"{gpus.driver}: {forward.why}"
    if forward.answer == "unknown":
        return Driver(reason=_reason("unknown", _needed(needs, catalog), found, f"{_NEWER}, or try it: envsnap verify"))
    return Driver(reason=_reason("fail", _needed(needs, catalog), found, _OTHER), cuda=own)


def _by_minor_version(needs: ImageNeeds, driver: str, own: str | None, catalog: Catalog, shipped: str | None) -> Driver:
    """At or above the floor of the major version, below what the toolkit came with."""
    notes = _notes(needs, catalog)
    if notes is not None and numbers(driver) < numbers(notes.driver_branch_min or ""):
        found = f"{driver}: CUDA's minor-version compatibility would do, the notes of release {notes.release} ask for more"
        hint = "a newer driver; the image's own start script would go on with a warning"
        return Driver(
            reason=_reason("unknown", f"{notes.driver_branch_min} or newer, by the notes of release {notes.release}", found, hint), cuda=own
        )
    found = f"{driver}, by minor-version compatibility"
    if own is not None and numbers(own) >= numbers(minor_of(needs.cuda or "")):
        return Driver(reason=_reason("pass", _needed(needs, catalog), found), cuda=own)
    hint = f"all of its features need {shipped} or newer; PTX of CUDA {minor_of(needs.cuda or '')} is not compiled by this driver"
    return Driver(reason=_reason("pass", _needed(needs, catalog), found, hint), cuda=own)


def _forward(needs: ImageNeeds, gpus: GpuFacts, driver: str, catalog: Catalog) -> _Forward:
    """Whether the image's compatibility libraries may stand in for the host's."""
    if needs.compat == "none":
        return _Forward(answer="fail", why="older, and the image has no compatibility libraries")
    if needs.compat == "bypassed":
        return _Forward(answer="fail", why="older, and the entrypoint that would put the compatibility libraries into effect was replaced")
    if needs.compat_cuda is None:
        return _Forward(answer="unknown", why="older, and which CUDA the image's compatibility libraries are of is not said")
    if needs.cuda is not None and numbers(needs.compat_cuda)[0] < numbers(needs.cuda)[0]:
        return _Forward(answer="fail", why=f"older, and the image's compatibility libraries are of CUDA {needs.compat_cuda}")
    if (refused := _refused(gpus, needs.compat_cuda, catalog)) is not None:
        return refused
    branch, package = branch_of(driver), minor_of(needs.compat_cuda)
    notes = _notes(needs, catalog)
    if notes is not None and _excepted(driver, notes):
        return _lasting(needs, f"as the notes of release {notes.release} say for data-center GPUs")
    supported = catalog.drivers.supports(package, branch)
    if supported is None and notes is not None and notes.driver_branches_datacenter:
        allowed = ", ".join(notes.driver_branches_datacenter)
        return _Forward(answer="fail", why=f"older, and the notes of release {notes.release} allow {allowed} and later ones of each")
    if supported is None:
        return _Forward(answer="unknown", why=f"older, and no table says whether libraries of CUDA {package} are for a driver of {branch}")
    if not supported:
        return _Forward(answer="fail", why=f"older, and NVIDIA supports compatibility libraries of CUDA {package} on no driver of {branch}")
    return _lasting(needs, f"CUDA {package} on a driver of {branch}, as NVIDIA's table has it")


def _lasting(needs: ImageNeeds, why: str) -> _Forward:
    """Whoever puts them into effect."""
    if needs.compat == "toolkit":
        return _Forward(answer="unknown", why="older, and whether its compatibility libraries take effect hangs on the container toolkit")
    return _Forward(answer="pass", why=why)


def _refused(gpus: GpuFacts, cuda: str, catalog: Catalog) -> _Forward | None:
    """A GPU that forward compatibility with libraries of a CUDA version is not for, or may not be for; None where it is for all."""
    for device in gpus.devices:
        row = catalog.gpus.architecture(device.compute_capability)
        if row is not None and row.last_cuda is not None and numbers(cuda)[0] > numbers(row.last_cuda)[0]:
            return _Forward(answer="fail", why=f"older, and compatibility libraries of CUDA {minor_of(cuda)} have no {row.name} in them")
    kinds = {device.name: catalog.gpus.kind(device.name) for device in gpus.devices}
    not_for = [name for name, kind in kinds.items() if kind in catalog.gpus.forward.refused]
    if not_for:
        return _Forward(answer="fail", why=f"older, and forward compatibility is not for {_cards(catalog, not_for[0])} ({not_for[0]})")
    unsaid = [name or "a GPU without a name" for name, kind in kinds.items() if kind not in catalog.gpus.forward.allowed]
    if unsaid or not kinds:
        which = unsaid[0] if unsaid else "GPUs that nobody named"
        return _Forward(answer="unknown", why=f"older, and whether forward compatibility is for {which} is not known")
    return None


def _cards(catalog: Catalog, name: str) -> str:
    return "GeForce cards" if catalog.gpus.kind(name) == "geforce" else "TITAN cards"


def _notes(needs: ImageNeeds, catalog: Catalog) -> Release | None:
    """A row with what the notes of the release ask of the driver: the images of a month's frameworks have one base."""
    rows = [row for row in catalog.releases if row.release == needs.release and row.driver_branch_min is not None]
    return max(rows, key=lambda row: len(row.driver_branches_datacenter), default=None)


def _excepted(driver: str, notes: Release) -> bool:
    """Whether release notes allow it on data-center GPUs: "470.57 (or later R470)"."""
    return any(branch_of(driver) == branch_of(known) and numbers(driver) >= numbers(known) for known in notes.driver_branches_datacenter)


def _dropped(gpus: GpuFacts, catalog: Catalog) -> CheckReason | None:
    """A driver that is too new for one of the GPUs."""
    assert gpus.driver is not None
    for device in gpus.devices:
        row = catalog.gpus.architecture(device.compute_capability)
        if row is not None and row.last_branch is not None and numbers(branch_of(gpus.driver)) > numbers(row.last_branch):
            needed = f"{row.last_branch} or older, the last branch with {row.name} in it"
            return _reason("fail", needed, f"{gpus.driver} and {device.name or row.name}", f"a driver of branch {row.last_branch}")
    return None


def _needed(needs: ImageNeeds, catalog: Catalog) -> str:
    assert needs.cuda is not None
    floor = catalog.driver_floor(needs.cuda)
    return f"{f'{floor} or newer' if floor is not None else 'not known'}, for CUDA {needs.cuda} ({needs.says_cuda})"


def _found(gpus: GpuFacts) -> str:
    return gpus.driver or gpus.unavailable or "no driver that is known"


def _reason(status: Status, needed: str, found: str, hint: str = "") -> CheckReason:
    return CheckReason(id=ID, status=status, needed=needed, found=found, hint=hint)
