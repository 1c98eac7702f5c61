"""A lock's packages for whoever installs them without envsnap: which formats can have which, and pip's requirements."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from envsnap.model.lock import EnvLock, LockedPackage
from envsnap.model.origins import BaseOrigin, CondaOrigin, EditableOrigin, IndexOrigin, SystemOrigin, UnknownOrigin, VcsOrigin
from envsnap.model.plan import PinnedWheel
from envsnap.render import files
from envsnap.render.quoting import comment

OF_CONDA = "conda's package; --format conda has it"
_FEW = 4


class LeftOut(NamedTuple):
    """A package that a format cannot have. Attributes: why: a clause, the same for those that share it."""

    name: str
    version: str
    why: str


class Parts(NamedTuple):
    """The packages of a lock, by what there is to install them from; each in one of the four, sorted by name.

    Attributes:
        wheels: files of an index. packed: wheels that the lock keeps, all files of the package in them.
        in_place: of the project, installed with `pip install -e`: their wheels hold metadata alone.
        left_out: those of which there is no file.
    """

    wheels: tuple[PinnedWheel, ...]
    packed: tuple[LockedPackage, ...]
    in_place: tuple[LockedPackage, ...]
    left_out: tuple[LeftOut, ...]


def parts(lock: EnvLock) -> Parts:
    """What can be installed as a distribution; conda's packages cannot: they need each other, and not an index's."""
    wheels, packed, in_place, left_out = [], [], [], []
    for package in sorted(lock.packages, key=lambda package: package.name):
        if isinstance(package.origin, CondaOrigin):
            left_out.append(LeftOut(package.name, package.version, OF_CONDA))
        elif package.blob is not None and isinstance(package.origin, EditableOrigin) and package.provenance == "source":
            in_place.append(package)
        elif package.blob is not None:
            packed.append(package)
        elif package.file is not None and package.sha256 is not None:
            index = package.origin.index if isinstance(package.origin, IndexOrigin) else None
            wheel = PinnedWheel(name=package.name, version=package.version, file=package.file, sha256=package.sha256, index=index)
            wheels.append(wheel)
        else:
            left_out.append(LeftOut(package.name, package.version, _why(lock, package)))
    return Parts(tuple(wheels), tuple(packed), tuple(in_place), tuple(left_out))


def wheels_directory(lock: EnvLock) -> str:
    """Where the wheels that the lock keeps lie, under their own names, beside what names them."""
    return f"{lock.name}.wheels"


def requirements(lock: EnvLock, repositories: Mapping[str, str], *, file: str) -> str:
    """For `pip install --require-hashes --no-deps -r FILE`, which takes exactly these files and nothing else.

    Args:
        repositories: package -> its commit as pip is given it ("git+https://…@…"), of those that came from a repository.
        file: the name that whoever installs it has it under.
    """
    found = parts(lock)
    elsewhere = sorted({wheel.index for wheel in found.wheels if wheel.index})
    head = [
        *heading(lock, f"pip install --require-hashes --no-deps -r {file}"),
        *(f"{_count(found.wheels, index)} of {index}: pip must be told its address (--extra-index-url, pip.conf)." for index in elsewhere),
    ]
    return "".join(
        (
            _comments(head),
            f"--find-links {wheels_directory(lock)}\n" if found.packed else "",
            files.requirements(found.wheels),
            *map(_kept, found.packed, (repositories.get(package.name) for package in found.packed)),
            _comments(missing(lock, found)),
        )
    )


def wheels_page(wheels: Mapping[str, str]) -> str:
    """A page of `wheels_directory` for pip. With hashes: of a folder's files it knows none, and then another build in an index, of the
    same version, may be its choice, which it refuses when it has it.

    Args:
        wheels: file name -> blob.
    """
    lines = (f'<a href="{quote(file)}#sha256={blob.removeprefix("sha256:")}">{file}</a>' for file, blob in sorted(wheels.items()))
    return "".join(f"{line}\n" for line in ("<!DOCTYPE html>", "<html><body>", *lines, "</body></html>"))


def heading(lock: EnvLock, command: str) -> Iterator[str]:
    """What any such file begins with: what it is of, and how it is installed."""
    yield f"{lock.name}, as envsnap captured it. Lock: {lock.digest}"
    yield f"Into an empty environment of {_interpreter(lock)}:"
    yield f"  {command}"


def missing(lock: EnvLock, found: Parts) -> Iterator[str]:
    """Sentences for the file: what of the environment is not in it, or in it without proof."""
    for package in found.in_place:
        yield f"Left out: {package.name} {package.version}: {_in_place(lock, package)}"
    for one in found.left_out:
        yield f"Left out: {one.name} {one.version}: {one.why}"
    for package in lock.packages:
        if package.provenance == "unproven" and package.is_to_be_had:
            yield f"Unproven: {package.name} {package.version}: {_reason(lock, package)}"
    if lock.source is not None:
        commit = f" at {lock.source.commit}" if lock.source.commit is not None else ""
        yield f"Not in here: the files of the project, {lock.source.name}{commit}{', changed since' if lock.source.dirty else ''}"
    if lock.system_packages:
        names = sorted({package.name or package.sonames[0] for package in lock.system_packages})
        yield f"Not in here, and needed from the operating system: {', '.join(names)}"
    if lock.env:
        yield f"Not in here, and set where it was captured: {', '.join(sorted(lock.env))}"


def _in_place(lock: EnvLock, package: LockedPackage) -> str:
    path = package.origin.path if isinstance(package.origin, EditableOrigin) else None
    project = lock.source.name if lock.source is not None else "the project"
    where = f"{path} of {project}" if path else project
    return f"the project's own, installed in place, and its files are no wheel: pip install --no-deps -e, in {where}"


def warnings(lock: EnvLock, found: Parts) -> Iterator[str]:
    """What a person must be told of: few names for each reason; the file has all of them."""
    reasons: dict[str, list[str]] = {}
    for package in found.in_place:
        reasons.setdefault(_in_place(lock, package), []).append(package.name)
    for one in found.left_out:
        reasons.setdefault(one.why, []).append(one.name)
    for why, names in reasons.items():
        yield f"left out: {few(names)}: {why}"
    unproven = [package.name for package in lock.packages if package.provenance == "unproven" and package.is_to_be_had]
    if unproven:
        yield f"unproven, and in it all the same: {few(unproven)}"


def few(names: Sequence[str]) -> str:
    return ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")


def python_release(lock: EnvLock) -> str | None:
    """As "3.11"; None of a version that is not written so."""
    match = re.match(r"\d+\.\d+(?!\d)", lock.python.version)
    return match[0] if match is not None else None


def _interpreter(lock: EnvLock) -> str:
    return f"{lock.python.implementation} {python_release(lock) or lock.python.version} on Linux {lock.python.interpreter.machine}"


def _kept(package: LockedPackage, repository: str | None) -> str:
    assert package.file is not None and package.blob is not None  # a lock that lacks either is refused when it is read
    came = f", packed from {package.name} @ {repository} (of which pip takes no hash)" if repository is not None else ", packed at capture"
    edited = f"; edited in place: {few(package.modified)}" if package.modified else ""
    return f"{comment(package.file + came + edited)}\n{files.pinned(package.name, package.version, package.blob.removeprefix('sha256:'))}\n"


def _why(lock: EnvLock, package: LockedPackage) -> str:
    match package.origin:
        case BaseOrigin(reference=reference):
            return f"part of the image {reference}"
        case SystemOrigin(package=name):
            return f"of the distribution's package {name}"
        case _:
            return f"unproven: {_reason(lock, package)}"


def _reason(lock: EnvLock, package: LockedPackage) -> str:
    if isinstance(package.origin, UnknownOrigin):
        return package.origin.reason
    where = f"packages.{package.name}"
    problem = next((problem.what for problem in lock.capture.problems if problem.where == where), None)
    if problem is None and isinstance(package.origin, VcsOrigin):
        return f"from {package.origin.url} at {package.origin.commit}, and no wheel of it was kept"
    return problem or "nothing vouches for it"


def _count(wheels: Sequence[PinnedWheel], index: str) -> str:
    number = sum(wheel.index == index for wheel in wheels)
    return f"{number} wheel{'s are' if number > 1 else ' is'}"


def _comments(sentences: Iterable[str]) -> str:
    return "".join(f"{comments(sentence)}\n" for sentence in sentences)


def comments(sentence: str) -> str:
    """One sentence as comment lines; a command keeps its indent, and its line."""
    if sentence.startswith("  "):
        return f"#   {comment(sentence).removeprefix('# ')}"
    return comment(sentence)
