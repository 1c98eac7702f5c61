"""L0: is what is in the image what is in the lock? All of it exact."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from envsnap.model.facts import CollectedFacts, Distribution, FrameworkFacts, LoadedLibrary
from envsnap.model.frameworks import Framework
from envsnap.model.lock import EnvLock, LockedCondaPackage, LockedFramework
from envsnap.parity.check import Case, Check, Finding, equal, equal_tables, inconclusive
from envsnap.parity.steering import steering


def _python(case: Case) -> Finding:
    python, found = case.lock.python, case.found.facts.interpreter
    return equal(
        _python_text(python.implementation, python.version, python.interpreter.soabi or python.abi, python.interpreter.machine),
        _python_text(found.implementation, found.version, found.soabi or found.abi, found.machine),
    )


def _python_text(implementation: str, version: str, abi: str, machine: str) -> str:
    return f"{implementation} {'.'.join(version.split('.')[:2])}, {abi}, {machine}"


def _packages(case: Case) -> Finding:
    expected = {package.name: package.version for package in case.lock.packages}
    found = {name: found.version for name, found in _installed(case.found.facts).items()}
    return equal_tables(
        expected | {f"conda's {package.name}": f"{package.version} {package.build}" for package in _conda(case.lock)},
        found | {f"conda's {package.name}": f"{package.version} {package.build}" for package in case.found.facts.conda},
    )


def _conda(lock: EnvLock) -> tuple[LockedCondaPackage, ...]:
    return lock.python.conda.packages if lock.python.conda is not None else ()


def _files(case: Case) -> Finding:
    installed = _installed(case.found.facts)
    both = [
        (package.name, package.files, installed[package.name].files or "no usable RECORD")
        for package in case.lock.packages
        if package.files is not None and package.name in installed and installed[package.name].version == package.version
    ]
    of_conda = {package.name: package for package in case.found.facts.conda}
    both += [
        (f"conda's {package.name}", package.files, of_conda[package.name].files or "no list of files")
        for package in _conda(case.lock)
        if package.files is not None and package.name in of_conda
    ]
    return equal_tables({name: files for name, files, _ in both}, {name: found for name, _, found in both})


def _edited(case: Case) -> Finding:
    # A rebuilt wheel has the edits in it, so nothing of it is edited any more.
    known = {package.name: set(package.modified) for package in case.lock.packages if package.provenance != "rebuilt"}
    installed = _installed(case.found.facts).values()
    of_system = {package.name for package in case.lock.packages if package.provenance == "system"}
    changed = {d.name: d.system.modified if d.system is not None and d.name in of_system else d.changed for d in installed}
    edits = [
        f"{dist.name}: {', '.join(new)}"
        for dist in installed
        if (new := sorted(set(changed[dist.name] or ()) - known.get(dist.name, set())))
    ]
    edits += [f"conda's {package.name}: {', '.join(package.modified)}" for package in case.found.facts.conda if package.modified]
    lost = [
        f"{dist.name} without the edit of {', '.join(gone)}"
        for dist in installed
        if (left := changed[dist.name]) is not None and (gone := sorted(known.get(dist.name, set()) - set(left)))
    ]
    if edits or lost:
        return Finding(status="fail", expected="files as they were where it was captured", actual="; ".join([*edits, *lost]))
    if unchecked := [dist.name for dist in installed if changed[dist.name] is None]:
        return inconclusive("no file edited after it was installed", f"files not held against RECORD: {', '.join(unchecked)}")
    return Finding(status="pass", expected="none", actual="none")


def _imports(case: Case) -> Finding:
    wanted, found = case.lock.observed.imports, case.found.facts.imports
    if found is None:
        return inconclusive(f"{len(wanted)} modules import", "nobody tried to import them")
    if not wanted and case.lock.packages:
        return inconclusive("the modules that imported at capture import", "none was tried at capture")
    broken = {module: found.get(module, "not found") for module in wanted if found.get(module, "not found")}
    if broken:
        return Finding(
            status="fail",
            expected=f"{', '.join(broken)} import",
            actual="; ".join(f"{module}: {error}" for module, error in broken.items()),
        )
    return Finding(status="pass", expected=f"{len(wanted)} modules", actual=f"{len(wanted)} modules")


def _libraries(case: Case) -> Finding:
    expected = _by_soname(case.lock.observed.cuda.loaded)
    found = _by_soname(case.found.facts.libraries)
    differing = [soname for soname in sorted(expected.keys() & found.keys()) if not _same(expected[soname], found[soname])]
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    unproven: list[str] = []
    excused = 0
    if found and case.captured_on_gpu and not case.found_on_gpu:
        # A CPU run maps fewer libraries. One whose package's files are equal is there all the same; of the others nobody knows.
        unproven = [soname for soname in missing if not _owned_by_locked(expected[soname], case)]
        excused, missing = len(missing) - len(unproven), []
    elif case.found_on_gpu and not case.captured_on_gpu:
        excused, extra = len(extra), [soname for soname in extra if not _owned_by_locked(found[soname], case)]
        excused -= len(extra)
    if wrong := sorted({*differing, *missing, *extra}):
        return Finding(
            status="fail",
            expected="; ".join(_libraries_text(soname, expected.get(soname, ())) for soname in wrong),
            actual="; ".join(_libraries_text(soname, found.get(soname, ())) for soname in wrong),
        )
    if unproven:
        return inconclusive("; ".join(_libraries_text(soname, expected[soname]) for soname in unproven), "not loaded without a GPU")
    equal_ones = len(expected.keys() & found.keys())
    note = f", {excused} only with a GPU" if excused else ""
    return Finding(status="pass", expected=str(len(expected)), actual=f"{equal_ones} equal{note}")


def _by_soname(libraries: Iterable[LoadedLibrary]) -> dict[str, tuple[LoadedLibrary, ...]]:
    table: dict[str, tuple[LoadedLibrary, ...]] = {}
    for library in sorted(libraries, key=lambda library: (library.soname, library.version or "", library.sha256 or "", library.path)):
        if not library.injected:
            table[library.soname] = (*table.get(library.soname, ()), library)
    return table


def _same(left: tuple[LoadedLibrary, ...], right: tuple[LoadedLibrary, ...]) -> bool:
    return len(left) == len(right) and all(
        _owner_kind(one) == _owner_kind(other)
        and one.version == other.version
        and (one.sha256 or other.sha256) == (other.sha256 or one.sha256)
        for one, other in zip(left, right, strict=True)
    )


def _owner_kind(library: LoadedLibrary) -> str:
    if library.owner is None:
        return "nobody"
    return "system" if ":" in library.owner else "package"


def _owned_by_locked(libraries: tuple[LoadedLibrary, ...], case: Case) -> bool:
    judged = {package.name for package in case.lock.packages if package.files is not None}
    return all(library.owner in judged for library in libraries)


def _libraries_text(soname: str, libraries: tuple[LoadedLibrary, ...]) -> str:
    if not libraries:
        return f"{soname} not loaded"
    return " and ".join(
        f"{soname} {library.version or 'of unknown version'} from {library.owner or library.path.rpartition('/')[0]}"
        + (f" (sha256 {library.sha256[:12]}…)" if library.sha256 else "")
        for library in libraries
    )


def _system_libraries(case: Case) -> Finding:
    there = {library.soname for library in case.found.facts.system_libraries if library.path is not None}
    needed = {soname: package.needed_by for package in case.lock.system_packages if package.needed_by for soname in package.sonames}
    if missing := sorted(set(needed) - there):
        return Finding(
            status="fail",
            expected="; ".join(f"{soname}, needed by {', '.join(needed[soname])}" for soname in missing),
            actual=f"not found: {', '.join(missing)}",
        )
    return Finding(status="pass", expected=str(len(needed)), actual=f"{len(needed)} found")


def _torch(case: Case) -> Finding | None:
    locked, found = case.lock.observed.cuda.torch, case.found.facts.torch
    return None if locked is None and found is None else _build("torch", locked, found)


def _tensorflow(case: Case) -> Finding | None:
    # Older locks have none although it was installed.
    locked = case.lock.observed.cuda.tensorflow
    return _build("tensorflow", locked, case.found.facts.tensorflow) if locked is not None else None


def _paddle(case: Case) -> Finding | None:
    locked = case.lock.observed.cuda.paddle
    return _build("paddle", locked, case.found.facts.paddle) if locked is not None else None


def _build(name: Framework, locked: LockedFramework | None, found: FrameworkFacts | None) -> Finding:
    return equal(
        f"{locked.version}, git {locked.git}" if locked else f"no {name}",
        f"{found.version}, git {found.git}" if found else f"no {name}",
        told=locked.version if locked else "",
    )


def _flags(case: Case) -> Finding | None:
    asked = case.lock.observed.cuda.framework
    if asked is None:
        return None
    name, locked = asked
    facts = case.found.facts
    found = {"torch": facts.torch, "tensorflow": facts.tensorflow, "paddle": facts.paddle}[name]
    if found is None:
        return inconclusive(f"{len(locked.flags)} flags", f"no {name} to ask")
    return equal_tables(locked.flags, found.flags)


def _env(case: Case) -> Finding:
    expected, found = steering(case.lock.env), steering(case.found.facts.env)
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if case.of_host:
        settings = [f"{name}={shlex.quote(expected[name])}" if name in expected else f"-u {name}" for name in differing]
        words = ["env", *sorted(settings, key=lambda word: not word.startswith("-u ")), "envsnap verify --python …"]
    else:
        words = ["envsnap build …", *(f"--env {name}={expected.get(name, '')}" for name in differing)]
    return equal_tables(_assignments(expected), _assignments(found), hint=" ".join(words))


def _assignments(env: Mapping[str, str]) -> dict[str, str]:
    return {name: f"= {value}" for name, value in env.items()}


def _source(case: Case) -> Finding | None:
    source, found = case.lock.source, case.found.facts.source_files
    if source is None:
        return None
    if found is None:
        return Finding(status="fail", expected=source.files, actual="the image holds no manifest of the project's files")
    if found.differing or found.digest != source.files:
        differing = f": {', '.join(found.differing)}" if found.differing else ""
        return Finding(status="fail", expected=source.files, actual=f"{found.digest}{differing}")
    return Finding(status="pass", expected=source.files, actual="equal")


def _installed(facts: CollectedFacts) -> dict[str, Distribution]:
    """By name; the first on sys.path is the one that imports."""
    installed: dict[str, Distribution] = {}
    for distribution in facts.distributions:
        installed.setdefault(distribution.name, distribution)
    return installed


_REBUILD = "build the image again (envsnap build) and run nothing that installs in it"
_CHANGED = "envsnap diff LOCK --python … names all that changed: undo it, or capture again"

CHECKS = (
    Check(
        id="identity.python",
        layer="L0",
        rule="same implementation, minor version, ABI and machine",
        usually="another interpreter comes first on PATH",
        hint="envsnap plan names the bases that have this Python",
        on_host=("--python names another interpreter than the captured one", "name the captured one, or capture this one"),
        look=_python,
    ),
    Check(
        id="identity.packages",
        layer="L0",
        rule="same names and versions, no more and no fewer",
        usually="something was installed in or removed from the image after it was built",
        hint=_REBUILD,
        on_host=("something was installed or removed since the capture", _CHANGED),
        look=_packages,
    ),
    Check(
        id="identity.files",
        layer="L0",
        rule="same digest of the canonical RECORD",
        usually="the same version from another build or another index",
        hint="compare its wheel's sha256 in the lock with what the index serves now; then build again",
        on_host=("the same version was installed from another build or another index", _CHANGED),
        look=_files,
    ),
    Check(
        id="identity.edited",
        layer="L0",
        rule="every installed file is what its RECORD says",
        usually="a file was edited in place, or a later layer wrote over it",
        hint=_REBUILD,
        on_host=("a file was edited in place", "install that package again, or capture again"),
        look=_edited,
    ),
    Check(
        id="identity.imports",
        layer="L0",
        rule="what imported where it was captured imports",
        usually="a system library is missing, or a project's path is not on sys.path",
        hint="the error names the library; envsnap plan shows which system packages are installed for it",
        on_host=("a system library is missing, or a project's path is not on sys.path", "the error names the library: install it"),
        look=_imports,
    ),
    Check(
        id="identity.libraries",
        layer="L0",
        rule="same libraries loaded, by soname, version and sha256, from the same kind of owner; the driver's are left out",
        usually="LD_LIBRARY_PATH of the base comes before the package's own directory",
        hint="envsnap build … --env LD_LIBRARY_PATH=   or another base (envsnap plan)",
        on_host=("LD_LIBRARY_PATH comes before the package's own directory", "env -u LD_LIBRARY_PATH envsnap verify --python …"),
        look=_libraries,
    ),
    Check(
        id="identity.system-libraries",
        layer="L0",
        rule="every soname that an extension needs is found",
        usually="a system package was removed, or the base has it under another name",
        hint="envsnap plan shows which system package brings each soname",
        on_host=("a system package was removed", "install it again: system_packages in the lock names it"),
        look=_system_libraries,
    ),
    *(
        Check(
            id=f"identity.{name}",
            layer="L0",
            rule=f"same {name} build, by version and git revision",
            usually=f"the base's own {name} comes first on sys.path",
            hint="look at PYTHONPATH and the user site directory in the image",
            on_host=(f"another {name} comes first on sys.path", "look at PYTHONPATH and the user site directory"),
            look=look,
        )
        for name, look in {"torch": _torch, "tensorflow": _tensorflow, "paddle": _paddle}.items()
    ),
    Check(
        id="identity.flags",
        layer="L0",
        rule="same flags after import",
        usually="a variable or a sitecustomize changes the framework's defaults",
        hint="identity.env names the variable, if it is one",
        look=_flags,
    ),
    Check(
        id="identity.env",
        layer="L0",
        rule="same variables that steer numbers; blank and neutral ones count as not set",
        usually="the base image sets it (NGC images set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1, which turns TF32 on)",
        hint="envsnap build … --env NAME=",
        on_host=("the shell that verify is started in has another value", ""),
        look=_env,
    ),
    Check(
        id="identity.source",
        layer="L0",
        rule="same digest of the manifest of the project's files",
        usually="a file of the project was edited or removed in the image",
        hint=_REBUILD,
        look=_source,
    ),
)
