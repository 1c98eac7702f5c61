"""How much a plan puts on its base, before anything is fetched: by the sizes of files that were seen or read about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envsnap.blobs import BlobStore
from envsnap.model.base import Base
from envsnap.model.plan import (
    AnyStep,
    AptInstall,
    CarryInterpreter,
    CopySource,
    InstallPacked,
    InstallWheels,
    MakeCondaEnvironment,
)
from envsnap.workflows import system, wheel_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """Attributes:
    bytes: as `Candidate.added_bytes`. without: what is not among them, or why they are not known, a clause each.
    """

    bytes: int | None
    without: tuple[str, ...] = ()


def added(steps: Sequence[AnyStep], base: Base, *, blobs: BlobStore, directory: Path, cache: Path) -> Added:
    """What the steps of a plan bring.

    Args:
        blobs: beside the lock. directory: of the image's files, where the distribution's packages that it came down to are kept.
    """
    known: list[int | None] = []
    without: list[str] = []
    for step in steps:
        match step:
            case InstallWheels(wheels=wheels):
                sizes = [wheel_facts.size(wheel.sha256, blobs, cache) for wheel in wheels]
                if lost := sum(size is None for size in sizes):
                    without.append(f"{lost} of {len(wheels)} wheels were never seen here")
                known += sizes
            case InstallPacked(packages=packages):
                known += _of_blobs([package.blob for package in packages], blobs, without)
            case CarryInterpreter(tree=tree):
                known += _of_blobs([tree], blobs, without)
            case MakeCondaEnvironment(tree=str(tree)):
                known += _of_blobs([tree], blobs, without)
            case MakeCondaEnvironment(explicit=lines):
                known.append(None)
                without.append(f"conda's packages ({len(lines)}), whose sizes the lock does not have")
            case AptInstall() as install:
                resolved = system.resolved(install, base.inventory, directory)
                if resolved is None:
                    without.append("the distribution's packages, which were not looked up")
                else:
                    known += [file.size_bytes for file in resolved.packages]
            case CopySource():
                without.append("the project's files")
            case _:
                pass
    if any(isinstance(step, InstallWheels | MakeCondaEnvironment) and step.compile for step in steps):
        without.append("byte code")
    total = [size for size in known if size is not None]
    return Added(bytes=sum(total) if len(total) == len(known) else None, without=tuple(without))


def _of_blobs(digests: Sequence[str], blobs: BlobStore, without: list[str]) -> list[int | None]:
    sizes = [blobs.size(digest) for digest in digests]
    if lost := sum(size is None for size in sizes):
        without.append(f"what is not beside the lock ({lost} of {len(digests)} files)")
    return sizes
