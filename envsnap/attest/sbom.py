"""The bill of materials of an image, or of a lock alone: CycloneDX 1.6, the base's part told from the environment's.

Made from the lock and the plan, so it can be had before the image is, and it is the same bytes each time: no time in it, and the serial
number is made of its content. Nothing is guessed: what is not known of a component is left out.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from envsnap import __version__
from envsnap.attest import purl
from envsnap.attest.locations import address, git_address
from envsnap.attest.purl import PackageFile
from envsnap.model.base import Base, BaseInventory
from envsnap.model.lock import EnvLock, LockedCondaPackage, LockedPackage, LockedSource
from envsnap.model.origins import CondaOrigin, DirectoryOrigin, EditableOrigin, IndexOrigin, SystemOrigin, VcsOrigin, WheelOrigin
from envsnap.model.plan import AptInstall, BuildPlan, CopySource, InstallPacked, InstallWheels
from envsnap.oci.documents import canonical

MEDIA_TYPE = "application/vnd.cyclonedx+json"
SPECIFICATION = "1.6"
PART = "dev.envsnap:part"
"""Property of each component: "base" or "environment"."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "dev.envsnap.bill-of-materials")
_IMAGE = "image"
_LOCK = "lock"
_BASE = "base"
_DPKG = frozenset({"debian", "ubuntu"})

Component = dict[str, Any]


def bill_of_materials(
    lock: EnvLock,
    plan: BuildPlan,
    *,
    system: Sequence[PackageFile] = (),
    base_packages: Sequence[PackageFile] = (),
    licences: Mapping[str, str] | None = None,
) -> bytes:
    """The document.

    Args:
        system: the distribution's packages that are put on the base; empty where the docker engine installs them: then names are known.
        base_packages: of a base that is made of them alone.
        licences: name of a distribution -> SPDX licence expression, as its own metadata says.
    """
    whole = _component("container", lock.name, _IMAGE, properties=[("dev.envsnap:lock", lock.digest)])
    components = [_base(plan.base, base_packages), *_environment(lock, plan, system, licences or {})]
    return _document("build", whole, components, assemblies=[_IMAGE, _BASE])


def bill_of_lock(lock: EnvLock) -> bytes:
    """The document of what was captured: what every image of the lock has, and no base; the operating system's packages are those
    that the environment needs, as they were there.
    """
    whole = _component("application", lock.name, _LOCK, properties=[("dev.envsnap:lock", lock.digest)])
    components = [
        *_distributions(lock, lock.packages, _captured_interpreter(lock), {}),
        *_needed(lock),
        *([_project(lock.source)] if lock.source is not None else []),
    ]
    return _document("pre-build", whole, components, assemblies=[_LOCK])


def _document(phase: str, whole: Component, components: Sequence[Component], *, assemblies: Sequence[str]) -> bytes:
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": phase}],
            "tools": {"components": [{"type": "application", "name": "envsnap", "version": __version__}]},
            "component": whole,
        },
        "components": components,
        "dependencies": [{"ref": whole["bom-ref"], "dependsOn": sorted(component["bom-ref"] for component in components)}],
        # A wheel carries libraries, and a base files, of which no package manager knows.
        "compositions": [{"aggregate": "incomplete", "assemblies": assemblies, "dependencies": [whole["bom-ref"]]}],
    }
    serial = uuid.uuid5(_NAMESPACE, canonical(document).decode("ascii"))
    return canonical({**document, "serialNumber": serial.urn})


def _base(base: Base, files: Sequence[PackageFile]) -> Component:
    inside = [*_inside(base.inventory, files)] if base.inventory is not None else [*_files(files, "", _BASE)]
    name = purl.oci(base.reference, base.digest) if not files else ""  # it only borrows the name of a registry's image
    component = _component("container", base.name, _BASE, part=_BASE, purl=name, properties=[("dev.envsnap:family", base.family)])
    if base.digest is not None:
        component["version"] = base.digest
    if inside:
        component["components"] = inside
    return component


def _inside(inventory: BaseInventory, files: Sequence[PackageFile]) -> Iterator[Component]:
    """What the base's package managers know of."""
    vendor, _, release = inventory.distribution.partition(" ")
    yield _component("operating-system", vendor, "base/os", part=_BASE, version=release)
    yield from _files(files, inventory.distribution, _BASE)
    for system in inventory.system_packages if not files else ():
        name = purl.deb(system.name, system.version, system.arch, inventory.distribution)
        yield _component("library", system.name, f"base/deb/{system.name}:{system.arch}", part=_BASE, version=system.version, purl=name)
    for package in inventory.packages:
        name = purl.pypi(package.name, package.version)
        reference = f"base/pypi/{package.site}/{package.name}@{package.version}"
        yield _component("library", package.name, reference, part=_BASE, version=package.version, purl=name)


def _files(files: Iterable[PackageFile], distribution: str, part: str) -> Iterator[Component]:
    """Packages of a distribution whose very files are known."""
    for file in files:
        name = purl.deb(file.name, file.version, file.arch, distribution) if distribution else ""
        component = _component("library", file.name, f"{part}/deb/{file.name}:{file.arch}", part=part, version=file.version, purl=name)
        yield component | {"hashes": [{"alg": "SHA-256", "content": file.sha256}]}


def _environment(lock: EnvLock, plan: BuildPlan, system: Sequence[PackageFile], licences: Mapping[str, str]) -> Iterator[Component]:
    yield from _distributions(lock, _installed(lock, plan), _interpreter(lock, plan.base), licences)
    yield from _system(plan, system)
    if lock.source is not None and any(isinstance(step, CopySource) for step in plan.steps):
        yield _project(lock.source)


def _distributions(
    lock: EnvLock, installed: Sequence[LockedPackage], interpreter: Component, licences: Mapping[str, str]
) -> Iterator[Component]:
    """Conda's packages with the distributions that they brought, or the interpreter; then the other distributions."""
    of_conda: dict[str, list[LockedPackage]] = {}
    own = []
    urls = {package.url for package in lock.python.conda.packages} if lock.python.conda is not None else set()
    for package in installed:
        if isinstance(package.origin, CondaOrigin) and package.origin.url in urls:
            of_conda.setdefault(package.origin.url, []).append(package)
        else:
            own.append(package)
    if lock.python.conda is not None:
        for found in lock.python.conda.packages:
            inner = [_distribution(package, lock, licences) for package in of_conda.get(found.url or "", ())]
            yield _conda(found) | ({"components": inner} if inner else {})
    else:
        yield interpreter
    yield from (_distribution(package, lock, licences) for package in own)


def _installed(lock: EnvLock, plan: BuildPlan) -> Sequence[LockedPackage]:
    """The distributions that the plan puts in: those of its steps, and conda's."""
    names: set[str] = set()
    for step in plan.steps:
        match step:
            case InstallWheels(wheels=wheels):
                names |= {wheel.name for wheel in wheels}
            case InstallPacked(packages=packed):
                names |= {package.name for package in packed}
            case _:
                pass
    return [package for package in lock.packages if package.name in names or isinstance(package.origin, CondaOrigin)]


def _interpreter(lock: EnvLock, base: Base) -> Component:
    """The base's, which runs the environment; its exact version is known when somebody looked inside."""
    version = base.inventory.python if base.inventory is not None else None
    name = lock.python.implementation
    where = purl.generic(name, version) if version is not None else ""
    properties = [("dev.envsnap:captured-version", lock.python.version)]
    return _component("platform", name, "base/python", part=_BASE, version=version or "", purl=where, properties=properties)


def _captured_interpreter(lock: EnvLock) -> Component:
    name, version = lock.python.implementation, lock.python.version
    return _component("platform", name, "environment/python", version=version, purl=purl.generic(name, version))


def _distribution(package: LockedPackage, lock: EnvLock, licences: Mapping[str, str]) -> Component:
    component = _component(
        "library",
        package.name,
        f"environment/pypi/{package.name}",
        version=package.version,
        purl=_name(package, lock),
        properties=[
            ("dev.envsnap:provenance", package.provenance),
            ("dev.envsnap:origin", str(package.origin.__struct_config__.tag)),
            *([("dev.envsnap:index", package.origin.index)] if isinstance(package.origin, IndexOrigin) and package.origin.index else []),
            *([("dev.envsnap:files", package.files)] if package.files is not None else []),
            *(("dev.envsnap:modified", path) for path in package.modified),
        ],
    )
    sha256 = package.blob.removeprefix("sha256:") if package.blob is not None else package.sha256
    if sha256 is not None:
        component["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    match package.origin:
        case VcsOrigin(url=url):
            component |= _reference("vcs", address(url))
        case WheelOrigin(url=url):
            component |= _reference("distribution", address(url))
        case _:
            pass
    if package.name in licences:
        component["licenses"] = [{"expression": licences[package.name]}]
    return component


def _name(package: LockedPackage, lock: EnvLock) -> str:
    match package.origin:
        case DirectoryOrigin() | EditableOrigin():  # an index may have another project of that name
            return purl.generic(package.name, package.version)
        case SystemOrigin(package=name, version=version, arch=arch) if package.provenance == "system":
            return _of_system(name, version, arch, lock)
        case _:
            return purl.pypi(package.name, package.version, _qualifiers(package))


def _of_system(name: str, version: str, arch: str, lock: EnvLock) -> str:
    distribution = lock.observed.platform.distribution
    of_dpkg = distribution.partition(" ")[0] in _DPKG
    return purl.deb(name, version, arch, distribution) if of_dpkg else purl.generic(name, version)


def _qualifiers(package: LockedPackage) -> dict[str, str]:
    match package.origin:
        case VcsOrigin(vcs="git", url=url, commit=commit):
            return {"vcs_url": git_address(url, commit) or ""}
        case IndexOrigin() if package.file is not None and package.blob is None:
            return {"file_name": package.file}
        case _:
            return {}


def _conda(package: LockedCondaPackage) -> Component:
    component = _component(
        "library",
        package.name,
        f"environment/conda/{package.name}",
        version=package.version,
        purl=purl.conda(package.name, package.version, package.build, package.url),
        properties=[
            ("dev.envsnap:provenance", "conda"),
            *([("dev.envsnap:files", package.files)] if package.files is not None else []),
            *(("dev.envsnap:modified", path) for path in package.modified),
        ],
    )
    hashes = [{"alg": name, "content": value} for name, value in (("SHA-256", package.sha256), ("MD5", package.md5)) if value is not None]
    return component | ({"hashes": hashes} if hashes else {}) | _reference("distribution", package.url)


def _system(plan: BuildPlan, files: Sequence[PackageFile]) -> Iterator[Component]:
    """Packages of the distribution that are put on the base: exact ones where a signed index named them, else names."""
    yield from _files(files, plan.base.inventory.distribution if plan.base.inventory is not None else "", "environment")
    if not files:
        asked = {name for step in plan.steps if isinstance(step, AptInstall) for name in step.packages}
        yield from (_component("library", name, f"environment/deb/{name}") for name in sorted(asked))


def _needed(lock: EnvLock) -> Iterator[Component]:
    """What the environment needs of the operating system: its packages; a library that no package owned by its own name."""
    for entry in lock.system_packages:
        properties = [("dev.envsnap:soname", soname) for soname in entry.sonames]
        if entry.name is None:
            yield from (_component("library", soname, f"environment/library/{soname}") for soname in entry.sonames)
            continue
        name, version, arch = entry.name, entry.version or "", entry.arch or ""
        where = _of_system(name, version, arch, lock)
        reference = f"environment/system/{name}:{arch}"
        yield _component("library", name, reference, version=version, purl=where, properties=properties)


def _project(source: LockedSource) -> Component:
    properties = [("dev.envsnap:files", source.files), *([("dev.envsnap:dirty", "true")] if source.dirty else [])]
    component = _component(
        "application", source.name, f"environment/source/{source.name}", version=source.commit or "", properties=properties
    )
    return component | (_reference("vcs", address(source.remote)) if source.remote is not None else {})


def _component(
    kind: str,
    name: str,
    reference: str,
    *,
    part: str = "environment",
    version: str = "",
    purl: str = "",
    properties: Iterable[tuple[str, str]] = (),
) -> Component:
    given = [(PART, part), *properties] if reference not in (_IMAGE, _LOCK) else [*properties]
    component: Component = {"type": kind, "bom-ref": reference, "name": name}
    component |= {"version": version} if version else {}
    component |= {"purl": purl} if purl else {}
    return component | {"properties": [{"name": key, "value": value} for key, value in given]}


def _reference(kind: str, url: str | None) -> Component:
    return {"externalReferences": [{"type": kind, "url": url}]} if url is not None else {}
