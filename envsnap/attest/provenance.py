"""SLSA provenance, version 1: what an image was made from, by what, with which options. No time, no host: the same build says the same.

The type URIs are names; nothing needs to answer there. What each parameter means: docs/supply-chain.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from envsnap import __version__
from envsnap.attest import purl
from envsnap.attest.locations import git_address
from envsnap.attest.purl import PackageFile
from envsnap.attest.statements import PROVENANCE, Subject, sha256, statement
from envsnap.model.base import Base
from envsnap.model.lock import EnvLock, LockedFile, LockedPackage, LockedSource, LockedSubmodule
from envsnap.model.plan import BuildPlan, CarryInterpreter, CopySource, InstallPacked, InstallWheels, MakeCondaEnvironment

BUILD_TYPE = "https://envsnap.dev/build/{engine}/v1"
BUILDER = "https://envsnap.dev/builder/local"
"""envsnap, run by whoever ran it: what a signature says about who that was is all there is to know."""

Json = str | int | float | bool | None | list[Any] | dict[str, Any]


def provenance(
    lock: EnvLock,
    plan: BuildPlan,
    subject: Subject,
    *,
    engine: Literal["docker", "oci"],
    system: Sequence[PackageFile] = (),
    base_packages: Sequence[PackageFile] = (),
    options: Mapping[str, Json] | None = None,
    builder: str = BUILDER,
) -> bytes:
    """The statement about an image.

    Args:
        system: the distribution's packages that were put on the base; empty where the docker engine installed them.
        base_packages: of a base that is made of them alone.
        options: of the build, those that change its bytes.
        builder: URI of who is answerable for the build.
    """
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE.format(engine=engine),
            "externalParameters": {
                "lock": {"name": lock.name, "digest": lock.digest},
                "base": plan.base.reference,
                "options": dict(options or {}),
            },
            "resolvedDependencies": [*_base(plan.base, base_packages), *_materials(lock, plan), *_files(system, plan.base)],
        },
        "runDetails": {"builder": {"id": builder, "version": {"envsnap": __version__}}},
    }
    return statement(subject, PROVENANCE, predicate)


def _materials(lock: EnvLock, plan: BuildPlan) -> Iterator[dict[str, Any]]:
    """Resource descriptors of all that the plan's steps put in, in their order."""
    packages = {package.name: package for package in lock.packages}
    for step in plan.steps:
        match step:
            case InstallWheels(wheels=wheels):
                for wheel in wheels:
                    uri = purl.pypi(wheel.name, wheel.version, {"file_name": wheel.file})
                    yield {"name": wheel.file, "uri": uri, "digest": {"sha256": wheel.sha256}}
            case InstallPacked(packages=packed):
                for one in packed:
                    yield {"name": one.file, "digest": sha256(one.blob), "annotations": _origin(packages[one.name])}
            case CarryInterpreter(tree=tree):
                yield {"name": "python.tar", "digest": sha256(tree)}
            case MakeCondaEnvironment(tree=tree):
                if tree is not None:
                    yield {"name": "conda.tar", "digest": sha256(tree)}
                else:
                    yield from _conda(lock)
            case CopySource():
                assert lock.source is not None  # or there would be no such step
                yield from _source(lock.source)
            case _:
                pass


def _base(base: Base, files: Sequence[PackageFile]) -> Iterator[dict[str, Any]]:
    """The image that was built upon, or what was put together in its place."""
    if files:
        yield from _files(files, base)
        return
    digest = base.digest or base.image_id
    found: dict[str, Any] = {"name": base.name, "uri": purl.oci(base.reference, base.digest)}
    if digest is not None:
        found["digest"] = sha256(digest)
    if base.digest is None and digest is not None:
        found["annotations"] = {"digest_of": "config"}
    yield found


def _origin(package: LockedPackage) -> dict[str, Any]:
    return {"provenance": package.provenance, **({"modified": list(package.modified)} if package.modified else {})}


def _conda(lock: EnvLock) -> Iterator[dict[str, Any]]:
    for package in lock.python.conda.packages if lock.python.conda is not None else ():
        digests = {"sha256": package.sha256, "md5": package.md5}
        found: dict[str, Any] = {"name": package.name, "uri": purl.conda(package.name, package.version, package.build, package.url)}
        if package.url is not None:
            found["downloadLocation"] = package.url
        yield found | {"digest": {name: value for name, value in digests.items() if value is not None}}


def _files(files: Sequence[PackageFile], base: Base) -> Iterator[dict[str, Any]]:
    """Packages of the base's distribution."""
    distribution = base.inventory.distribution if base.inventory is not None else ""
    for file in files:
        uri = {"uri": purl.deb(file.name, file.version, file.arch, distribution)} if distribution else {}
        yield {"name": file.path.rpartition("/")[2], **uri, "digest": {"sha256": file.sha256}}


def _source(source: LockedSource) -> Iterator[dict[str, Any]]:
    yield _commit(source.name, source.remote, source.commit) | {"annotations": {"files": source.files, "dirty": source.dirty}}
    yield from _changes(source.name, source)
    for file in source.lfs:
        yield {"name": f"{source.name}/{file.path}", "digest": {"sha256": file.sha256}}
    for module in source.submodules:
        place = f"{source.name}/{module.path}"
        yield _commit(place, module.remote, module.commit)
        yield from _changes(place, module)


def _commit(name: str, remote: str | None, commit: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name}
    uri = git_address(remote, commit) if remote is not None else None
    if uri is not None:
        found["uri"] = uri
    return found | ({"digest": {"gitCommit": commit}} if commit is not None else {})


def _changes(place: str, source: LockedSource | LockedSubmodule) -> Iterator[dict[str, Any]]:
    """What was changed since the commit."""
    if source.patch is not None:
        yield {"name": f"{place}.patch", "digest": sha256(source.patch)}
    untracked: tuple[LockedFile, ...] = source.untracked
    for file in untracked:
        yield {"name": f"{place}/{file.path}", "digest": sha256(file.blob)}
