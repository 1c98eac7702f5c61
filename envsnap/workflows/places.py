"""Where things lie, and reading and writing locks there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

import msgspec

from envsnap import lockfile, redaction
from envsnap.blobs import BlobStore
from envsnap.errors import InputError, UsageError
from envsnap.lockfile import document
from envsnap.model.lock import EnvLock, LockedSource, LockedSubmodule
from envsnap.storage import write_file

T = TypeVar("T")
_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*\Z")  # as model.kinds.LockName


def lock_path(name: str, output: Path | None) -> Path:
    """Where a capture writes.

    Raises:
        UsageError: the name cannot be an image's, or the file is not a .yaml (its blobs would lie where another lock's do).
    """
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} cannot name a lock",
            why="it also names images: lower case, digits, single separators (. _ -)",
            hint=f"--name {lock_name(Path(name))}",
        )
    if output is not None and output.suffix != ".yaml":
        raise UsageError(f"a lock is a .yaml file, not {output}", hint=f"-o {output.name}.yaml")
    return output if output is not None else Path("lockfiles") / f"{name}.yaml"


def blobs_of(lock: Path) -> BlobStore:
    """`lockfiles/NAME.yaml` keeps its blobs in `lockfiles/NAME.blobs/`."""
    return BlobStore(lock.with_suffix(".blobs"))


def packages_of(lock: Path) -> BlobStore:
    """`lockfiles/NAME.yaml` keeps the distribution's packages in `lockfiles/NAME.packages/`: it does not name them as it does its blobs."""
    return BlobStore(lock.with_suffix(".packages"))


def image_directory(name: str) -> Path:
    return Path("images") / name


def lock_name(directory: Path) -> str:
    """A lock's (and so an image's) name from a directory's: lower case, letters, digits and single separators."""
    words = re.findall(r"[a-z0-9]+", directory.name.lower())
    return "-".join(words)[:100] or "environment"


def read_lock(path: Path) -> EnvLock:
    """The lock at `path`.

    Raises:
        InputError: it is missing, or not a lock that can be trusted (the place in it is named).
    """
    try:
        data = _read(path)
    except OSError as error:
        raise InputError(f"cannot read the lock {path}", why=error.strerror or str(error), hint="envsnap capture writes one") from error
    return lockfile.loads(data, place=str(path))


def read_kept(path: Path, kind: type[T]) -> T:
    """A YAML file of `images/NAME/`. It comes from wherever the lock came from, and is read as that is: bounded, and without aliases.

    Raises:
        OSError: it is not there, or cannot be read. ValueError: it is no such file; the message says where and why.
    """
    try:
        return msgspec.convert(document.parse(_read(path), path.name), kind)
    except InputError as error:
        raise ValueError(error.what) from error


def _read(path: Path) -> bytes:
    """No more of a file than is to be refused for its size. Raises OSError."""
    with path.open("rb") as file:
        return file.read(document.MAX_BYTES + 1)


def copy_for_image(lock: EnvLock, path: Path) -> bytes:
    """The bytes of the lock's copy in an image: those of the last rendering while that is of a lock of the same digest.

    A lock that was captured again on another node differs in what was observed, and so in bytes; what is built from it is the same
    image. One that has a reference where the last had none is taken: whoever pulls the image verifies against it.
    """
    data = path.read_bytes()
    try:
        last = _read(image_directory(lock.name) / "lock.yaml")
        if last == data:
            return data
        earlier = lockfile.loads(last, place="the last rendering's lock")
    except (OSError, InputError):
        return data
    lacks = earlier.observed.reference is None and lock.observed.reference is not None
    return data if earlier.digest != lock.digest or lacks else last


def write_lock(lock: EnvLock, path: Path) -> None:
    """Write a lock that the strict reader accepts, or nothing.

    Raises:
        InputError: something in it looks like a secret: what names it (a branch, a file) must not.
    """
    data = lockfile.dumps(lock)
    if found := redaction.find_secrets(data.decode()):
        line = data.decode().split("\n")[found[0].line - 1]
        raise InputError(
            f"{path} would hold what looks like a secret, and was not written",
            why=f"{line.partition(':')[0].strip(' -')}: {found[0].kind}",
            hint="rename what has it in its name (a branch, a file), and capture again",
        )
    lockfile.loads(data, place=str(path))
    write_file(path, data)


def write_whole(lock: EnvLock, path: Path, blobs: BlobStore) -> None:
    """Write a lock, its blobs first; those that an earlier lock of that name kept and this one does not name go."""
    named, kept = named_blobs(lock), blobs_of(path)
    for digest in sorted(named):
        kept.adopt(blobs, digest)
    write_lock(lock, path)
    kept.keep_only(named)


def named_blobs(lock: EnvLock) -> set[str]:
    """The blobs that the lock names."""
    named = {package.blob for package in lock.packages}
    if lock.python.conda is not None:
        named.add(lock.python.conda.tree)
    if lock.python.tree is not None:
        named.add(lock.python.tree.blob)
    if lock.source is not None:
        trees: tuple[LockedSource | LockedSubmodule, ...] = (lock.source, *lock.source.submodules)
        for tree in trees:
            named |= {tree.patch, *(file.blob for file in tree.untracked)}
    if lock.observed.reference is not None:
        named |= {lock.observed.reference.anchor, *lock.observed.reference.smoke.gradient.values()}
    return {digest for digest in named if digest is not None}
