"""export: a lock's packages in formats that others install from, or read. No image is needed, and no engine."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from envsnap import redaction
from envsnap.attest.locations import address, git_address
from envsnap.attest.sbom import bill_of_lock
from envsnap.model.lock import EnvLock, LockedPackage
from envsnap.model.origins import VcsOrigin
from envsnap.probes.addresses import addresses
from envsnap.probes.wheels import pip_config
from envsnap.progress import Progress
from envsnap.render import conda as conda_format
from envsnap.render import exchange
from envsnap.render import pylock as pylock_format
from envsnap.render.exchange import Parts, few
from envsnap.render.pylock import Address
from envsnap.storage import disk_errors, write_file
from envsnap.workflows import places

_PAGE = "index.html"
_NAME = re.compile(r"pylock(\.[^.]+)?\.toml")
_REACHED = ("https://", "http://", "ssh://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a lock is to be written.

    Attributes:
        place: of the file; None for standard output.
        pip_conf, ca_bundle, offline: how indexes are asked for addresses.
    """

    lock: EnvLock
    file: Path
    place: Path | None
    cache: Path
    env: Mapping[str, str]
    progress: Progress
    pip_conf: Path | None = None
    ca_bundle: Path | None = None
    offline: bool = False

    def name(self, default: str) -> str:
        return self.place.name if self.place is not None else default


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A format's text, and what it names beside itself.

    Attributes:
        wheels: file name -> blob, of those that the lock keeps. page: HTML that lists them; "" where nobody looks for one.
    """

    text: str
    wheels: Mapping[str, str]
    page: str = ""


def requirements(asked: Asked) -> Written:
    """Pip's requirements, for its hash mode."""
    found = exchange.parts(asked.lock)
    _warn(asked, found)
    text = exchange.requirements(asked.lock, _repositories(asked.lock), file=asked.name("requirements.txt"))
    wheels = _kept(found.packed)
    return Written(text=text, wheels=wheels, page=exchange.wheels_page(wheels) if wheels else "")


def pylock(asked: Asked) -> Written:
    """pylock.toml.

    Raises:
        InputError: the certificates to trust are not there. EngineError: pip cannot be asked for its indexes.
    """
    name = asked.name("pylock.toml")
    if not _NAME.fullmatch(name):
        asked.progress.warning(f"{name}: tools look for pylock.toml or pylock.NAME.toml, and refuse other names")
    found = exchange.parts(asked.lock)
    _warn(asked, found)
    text = pylock_format.text(asked.lock, _addresses(asked, found), _repositories(asked.lock), file=name)
    return Written(text=text, wheels=_kept(found.packed))


def conda(asked: Asked) -> Written:
    """Conda's environment.yml."""
    found = conda_format.beside_conda(asked.lock)
    _warn(asked, found)
    for sentence in conda_format.unlike(asked.lock, few):
        asked.progress.warning(f"conda's packages {sentence}")
    repositories = _repositories(asked.lock)
    text = conda_format.text(asked.lock, repositories, file=asked.name("environment.yml"))
    return Written(text=text, wheels=_kept(tuple(one for one in found.packed if one.name not in repositories)))


def cyclonedx(asked: Asked) -> Written:
    """The bill of materials of what was captured."""
    return Written(text=bill_of_lock(asked.lock).decode("ascii") + "\n", wheels={})


def put_wheels(asked: Asked, written: Written) -> tuple[Path, ...]:
    """Have the wheels beside the file; returns their paths. With standard output a person is told what has to lie there.

    Raises:
        InputError: one is missing beside the lock, or damaged. TargetError: the disk is full, or the place cannot be written.
    """
    beside = exchange.wheels_directory(asked.lock)
    if asked.place is None:
        if written.wheels:
            asked.progress.warning(f"{few(sorted(written.wheels))}: looked for in {beside}, where -o FILE puts what the lock keeps")
        return ()
    folder, blobs = asked.place.parent / beside, places.blobs_of(asked.file)
    paths = []
    for name, digest in sorted(written.wheels.items()):
        with disk_errors(f"write {folder}", folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".wheel.", dir=folder) as scratch:  # a whole one or none
                blobs.copy_to(digest, copy := Path(scratch, name))
                copy.chmod(0o644)
                copy.replace(folder / name)
        paths.append(folder / name)
    if written.page:
        write_file(folder / _PAGE, written.page.encode("ascii"))
    return tuple(paths)


def _warn(asked: Asked, found: Parts) -> None:
    for sentence in exchange.warnings(asked.lock, found):
        asked.progress.warning(sentence)


def _kept(packages: tuple[LockedPackage, ...]) -> dict[str, str]:
    return {package.file: package.blob for package in packages if package.file is not None and package.blob is not None}


def _repositories(lock: EnvLock) -> dict[str, str]:
    """Package -> its commit in its git repository as pip is given it, where that is all of it, and others may reach it."""
    found = {}
    for package in lock.packages:
        origin = package.origin
        if package.provenance != "vcs" or not isinstance(origin, VcsOrigin) or origin.vcs != "git":
            continue
        if (address(origin.url) or "").startswith(_REACHED):
            below = f"#subdirectory={quote(origin.subdirectory)}" if origin.subdirectory else ""
            found[package.name] = f"{git_address(origin.url, origin.commit)}{below}"
    return found


def _addresses(asked: Asked, found: Parts) -> dict[str, Address]:
    """Where indexes have the wheels; of those that nobody is known to have, a person is told what to do."""
    if not found.wheels:
        return {}
    config = pip_config(sys.executable, asked.pip_conf, asked.env)
    answers = addresses(found.wheels, config, offline=asked.offline, cache=asked.cache, ca_bundle=asked.ca_bundle, progress=asked.progress)
    known: dict[str, Address] = {}
    unknown: dict[str, list[str]] = {}
    for name, answer in answers.items():
        if isinstance(answer, str):
            unknown.setdefault(answer, []).append(name)
            continue
        location, file = answer
        assert file.url is not None
        index = redaction.url(location.url) if location.kind == "index" else None
        known[name] = Address(url=redaction.url(file.url), index=index, size_bytes=file.size_bytes)
    for why, names in unknown.items():
        folder = exchange.wheels_directory(asked.lock)
        asked.progress.warning(
            f"no address of {few(names)}: {why}; {'they are' if len(names) > 1 else 'it is'} looked for in {folder} beside the file, "
            f"where `pip download --require-hashes --no-deps -d {folder} -r FILE` puts what `--format requirements` names"
        )
    return known
