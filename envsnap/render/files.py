"""The files beside the Dockerfile: requirements, what the check expects, editables, the plan, the source's manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from envsnap.model.base import Base
from envsnap.model.kinds import plain
from envsnap.model.lock import EnvLock
from envsnap.model.origins import EditableOrigin
from envsnap.model.plan import WORKSPACE, BuildPlan, Expected, ExpectedConda, ExpectedPackage, PackedInstall, PinnedWheel
from envsnap.render.quoting import comment, one_line

ManifestLine = tuple[str, str, str]


class Editable(NamedTuple):
    """What makes a package importable from the project's files; names are relative to site-packages.

    Attributes:
        pth: a file with the directories that it puts on Python's path.
        metadata: its .dist-info, which the packed wheel brings under the name that its file name begins with, and which names the
            .pth in its RECORD.
        direct_url: where it lies in the image (PEP 610).
    """

    name: str
    pth: str
    metadata: str
    pth_content: bytes
    direct_url: bytes


def requirements(wheels: Sequence[PinnedWheel]) -> str:
    """For pip's hash mode: one line a wheel, its file and index as a comment."""
    lines = []
    for wheel in sorted(wheels, key=lambda wheel: wheel.name):
        lines += [
            comment(f"{wheel.file}, of {wheel.index}" if wheel.index else wheel.file),
            pinned(wheel.name, wheel.version, wheel.sha256),
        ]
    return "".join(f"{line}\n" for line in lines)


def explicit(lines: Sequence[str]) -> str:
    """Conda's explicit specification: these files, and no solver."""
    return "".join(f"{one_line(line)}\n" for line in ("@EXPLICIT", *lines))


def packed(packages: Iterable[PackedInstall]) -> str:
    """The same for the wheels in `packed/`."""
    ordered = sorted(packages, key=lambda package: package.name)
    return "".join(f"{pinned(package.name, package.version, package.blob.removeprefix('sha256:'))}\n" for package in ordered)


def expected(lock: EnvLock, *, source: bool) -> bytes:
    """What the collector must find in the image (model.plan.Expected)."""
    packages = tuple(
        ExpectedPackage(name=package.name, version=package.version, files=package.files)
        for package in lock.packages
        if package.is_to_be_had
    )
    document = Expected(
        packages=tuple(sorted(packages, key=lambda package: package.name)),
        conda=tuple(
            ExpectedConda(name=package.name, version=package.version, build=package.build, files=package.files)
            for package in (lock.python.conda.packages if lock.python.conda is not None else ())
        ),
        imports=lock.observed.imports,
        source=lock.source.files if source and lock.source is not None else None,
    )
    return json.dumps(plain(document), indent=2, sort_keys=True).encode("ascii") + b"\n"


def plan_document(plan: BuildPlan) -> bytes:
    """The plan without what depends on who looked: the base by reference and digest, no inventories, no other candidates."""
    base = Base(reference=plan.base.reference, family=plan.base.family, digest=plan.base.digest, image_id=plan.base.image_id)
    return msgspec.yaml.encode(plain(replace(plan, base=base, candidates=())))


def manifest_document(manifest: Sequence[ManifestLine], root: str) -> bytes:
    """Every file of the project as (path, mode, sha256), and where they lie in the image; `source.files` of the lock is over the rows."""
    return json.dumps({"files": [list(line) for line in manifest], "root": root}, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def editables(packages: Iterable[PackedInstall], lock: EnvLock) -> tuple[Editable, ...]:
    """Those of the packed packages that are installed in place."""
    origins = {package.name: package.origin for package in lock.packages if package.provenance == "source"}
    return tuple(
        _editable(package, origin, lock.source.name)
        for package in packages
        if isinstance(origin := origins.get(package.name), EditableOrigin) and lock.source is not None
    )


def beside(packages: Iterable[PackedInstall], lock: EnvLock) -> dict[str, dict[str, str]]:
    """Package -> what is put beside its wheel, by site-relative path, for those that are installed in place."""
    return {
        editable.name: {
            editable.pth: editable.pth_content.decode(),
            f"{editable.metadata}/direct_url.json": editable.direct_url.decode(),
        }
        for editable in editables(packages, lock)
    }


def _editable(package: PackedInstall, origin: EditableOrigin, project: str) -> Editable:
    directory = f"{WORKSPACE}/{project}/{origin.path or ''}".rstrip("/")
    direct_url = {"dir_info": {"editable": True}, "url": f"file://{quote(directory)}"}
    return Editable(
        name=package.name,
        # Named as setuptools names its own.
        pth=f"__editable__.{package.name.replace('-', '_')}-{package.version}.pth",
        metadata="-".join(package.file.split("-")[:2]) + ".dist-info",
        pth_content="".join(f"{one_line(path)}\n" for path in package.import_paths).encode(),
        direct_url=json.dumps(direct_url, sort_keys=True).encode(),
    )


def pinned(name: str, version: str, sha256: str) -> str:
    """A line of requirements: this version, and of that the file with this hash."""
    return f"{name}=={version} --hash=sha256:{sha256}"
