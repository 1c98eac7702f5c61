"""A project's files on disk: written exactly as its lock says, and listed.

Everything here may come from an untrusted lock or repository: a path that leaves the destination, or passes through a symbolic
link or a .git directory, is refused before anything is written there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from envsnap.blobs import BlobStore
from envsnap.errors import InputError
from envsnap.model.lock import LfsFile, LockedFile, LockedSource
from envsnap.probes.git import GitError, Mode, Repository, patched_tree
from envsnap.process import NotStarted

ManifestLine = tuple[str, str, str]


def materialise(source: LockedSource, blobs: BlobStore, repository: Path | None, destination: Path) -> None:
    """Write the project's files: the commit's tree objects, then the patches, then what git does not track.

    No filter, attribute or user setting of git takes part (`git archive` leaves out export-ignore and expands export-subst).

    Args:
        repository: one that has the commit (`find_repository`); None when the source has none.
        destination: an empty or new directory.

    Raises:
        InputError: a blob or object is missing or changed, a path is refused, or the files are not those of the lock.
    """
    write_files(source, blobs, repository, destination)
    found = manifest_digest(manifest(destination))
    if found != source.files:
        raise InputError(
            f"the files of {source.name} are not those that were captured",
            why=f"the lock says {source.files[:19]}, commit, patch and untracked files give {found[:19]}",
            hint="capture again",
        )


def write_files(source: LockedSource, blobs: BlobStore, repository: Path | None, destination: Path) -> None:
    """`materialise` without its last look: for the capture, which is about to learn the digest."""
    writer = _Writer(destination)
    try:
        if source.commit is not None:
            if repository is None:
                raise InputError("the project's repository is needed", hint="--project DIR names it, --no-source leaves it out")
            _write_commit(writer, Repository(repository), source.commit, source.patch, blobs, "")
            for submodule in source.submodules:
                inner = _submodule_repository(repository, submodule.path, submodule.commit)
                _write_commit(writer, inner, submodule.commit, submodule.patch, blobs, f"{submodule.path}/")
                _write_untracked(writer, submodule.untracked, blobs, f"{submodule.path}/")
            _write_lfs(writer, source, repository)
        _write_untracked(writer, source.untracked, blobs, "")
    except GitError as error:
        raise InputError("the project's commit cannot be read", why=str(error), hint="--project DIR names another repository") from error
    except NotStarted as error:
        raise InputError("the project's commit cannot be read", why=str(error), hint="install git") from error


def manifest(directory: Path) -> list[ManifestLine]:
    """All files and links below a directory, sorted by the bytes of their paths.

    Each is (path, mode, sha256) with git's modes "100644", "100755" and "120000" (a link: the hash is of its target), as
    `guest/collect.py --source` reads it.
    """
    lines: list[ManifestLine] = []
    for place, directories, names in os.walk(directory):
        files = [Path(place, name) for name in names]
        links = [link for name in directories if (link := Path(place, name)).is_symlink()]
        lines += [(str(file.relative_to(directory)), *_describe(file)) for file in (*files, *links)]
    return sorted(lines, key=lambda line: os.fsencode(line[0]))


def manifest_digest(files: Sequence[ManifestLine]) -> str:
    """SHA-256 ("sha256:…") of the manifest as compact ASCII JSON, a list of lists."""
    document = json.dumps([list(line) for line in files], separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(document.encode()).hexdigest()


def lfs_content(repository: Repository, path: str, sha256: str) -> Path | None:
    """A local file with the content of a git-lfs pointer: the work tree's, or git-lfs's own store; checked."""
    candidates = [repository.directory / path]
    if (common := repository.ask("rev-parse", "--git-common-dir")) is not None:
        candidates.append(repository.directory / common / "lfs/objects" / sha256[:2] / sha256[2:4] / sha256)
    return next((file for file in candidates if file.is_file() and not file.is_symlink() and hash_file(file) == sha256), None)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _describe(path: Path) -> tuple[Mode, str]:
    if path.is_symlink():
        return "120000", hashlib.sha256(os.fsencode(path.readlink())).hexdigest()
    return ("100755" if path.stat().st_mode & stat.S_IXUSR else "100644"), hash_file(path)


class _Writer:
    """Writes below one directory and nowhere else. Paths are '/'-separated; undecodable bytes are surrogates, as `os.fsdecode` makes."""

    def __init__(self, top: Path) -> None:
        top.mkdir(parents=True, exist_ok=True)
        self._top = top
        self._directories: set[Path] = {top}

    def write(self, path: str, mode: Mode, data: bytes) -> None:
        full = self._clear(path)
        if mode == "120000":
            if not data or b"\0" in data:
                raise InputError(f"refused the symbolic link {path!r}", why="its target is not a path")
            full.symlink_to(os.fsdecode(data))
            return
        full.write_bytes(data)
        full.chmod(0o755 if mode == "100755" else 0o644)

    def replace(self, path: str, content: Path) -> None:
        """Give a file that was written the content of another, and leave its mode."""
        written = self._top / path
        mode = 0o755 if written.is_file() and written.stat().st_mode & stat.S_IXUSR else 0o644
        full = self._clear(path)
        shutil.copyfile(content, full)
        full.chmod(mode)

    def _clear(self, path: str) -> Path:
        """Where `path` goes, with its parents made and any earlier file gone. Raises InputError: refused."""
        parts = path.split("/")
        if "\0" in path or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
            raise InputError(f"refused the path {path!r}", why="it leaves the project, or enters a .git directory")
        for depth in range(1, len(parts)):
            self._directory(self._top.joinpath(*parts[:depth]))
        full = self._top.joinpath(*parts)
        if full.is_dir() and not full.is_symlink():
            raise InputError(f"refused the path {path!r}", why="a directory is already there")
        full.unlink(missing_ok=True)
        return full

    def _directory(self, path: Path) -> None:
        if path in self._directories:
            return
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise InputError(f"refused a path below {str(path.relative_to(self._top))!r}", why="it is a file or a symbolic link")
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
        self._directories.add(path)


def _write_commit(writer: _Writer, repository: Repository, commit: str, patch: str | None, blobs: BlobStore, prefix: str) -> None:
    with tempfile.TemporaryDirectory(prefix="envsnap-git-") as scratch:
        tree = commit
        if patch is not None:
            repository, tree = patched_tree(repository, commit, blobs.read(patch), Path(scratch))
        for file, data in repository.contents(repository.tree(tree)):
            writer.write(prefix + os.fsdecode(file.path), file.mode, data)


def _write_untracked(writer: _Writer, files: Iterable[LockedFile], blobs: BlobStore, prefix: str) -> None:
    for file in files:
        mode: Mode = "120000" if file.link else "100755" if file.executable else "100644"
        writer.write(prefix + file.path, mode, blobs.read(file.blob))


def _write_lfs(writer: _Writer, source: LockedSource, repository: Path) -> None:
    for pointer in source.lfs:
        content = _find_lfs(source, repository, pointer)
        if content is None:
            raise InputError(
                f"the git-lfs content of {pointer.path} is not at hand",
                why=f"no file with sha256 {pointer.sha256[:12]} in {repository}",
                hint="run `git lfs pull` there, or --project DIR",
            )
        writer.replace(pointer.path, content)


def _find_lfs(source: LockedSource, repository: Path, pointer: LfsFile) -> Path | None:
    owners = [submodule for submodule in source.submodules if pointer.path.startswith(f"{submodule.path}/")]
    if not owners:
        return lfs_content(Repository(repository), pointer.path, pointer.sha256)
    owner = max(owners, key=lambda submodule: len(submodule.path))
    inner = _submodule_repository(repository, owner.path, owner.commit)
    return lfs_content(inner, pointer.path.removeprefix(f"{owner.path}/"), pointer.sha256)


def _submodule_repository(repository: Path, path: str, commit: str) -> Repository:
    """Where a submodule's commit is: its own work tree, or the same object store when it was fetched for a build."""
    for candidate in (Repository(repository / path), Repository(repository)):
        if candidate.directory.is_dir() and candidate.has_commit(commit):
            return candidate
    raise InputError(f"the commit {commit[:12]} of submodule {path} is not at hand", hint=f"git -C {repository} submodule update --init")
