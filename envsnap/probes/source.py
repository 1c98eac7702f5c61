"""The project: what git knows of it, what git does not track, and a repository to build from.

Reading takes no lock and touches no index. What cannot be taken along is named, never dropped silently.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import msgspec

from envsnap import redaction
from envsnap.blobs import BlobStore
from envsnap.model.facts import Problem
from envsnap.model.kinds import LockName
from envsnap.model.lock import LfsFile, LockedSource, LockedSubmodule
from envsnap.probes.fetch import find_repository
from envsnap.probes.git import GitError, Repository, names, new_repository
from envsnap.probes.secrets import secrets_below
from envsnap.probes.tree import hash_file, lfs_content, manifest, manifest_digest, materialise, write_files
from envsnap.probes.untracked import WAY_OUT, Packer, ignored_modules, is_lock_path, is_secret_file, untracked
from envsnap.process import NotStarted
from envsnap.progress import SILENT, Progress

__all__ = ["SourceProbe", "find_repository", "manifest", "manifest_digest", "materialise", "read_source", "secrets_below"]

Pointers: TypeAlias = Mapping[str, tuple[str, int]]
"""Path of a git-lfs pointer in a commit -> sha256 and size of its content."""

_BINARY = b"\nGIT binary patch\n"
_UNKNOWN = "sha256:" + "0" * 64  # of a draft, until its files were written once

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: at most 1024 bytes, keys after the first sorted.
_LFS_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ .*\n)*?oid sha256:([0-9a-f]{64})\nsize ([0-9]+)\n"
)
_LFS_POINTER_BYTES = 1024

# Everything a user's settings or a driver could change about a patch is said, so that the same files give the same bytes.
_DIFF = (
    *("diff", "--binary", "--full-index", "--no-color", "--no-renames", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--inter-hunk-context=0", "--diff-algorithm=myers", f"-O{os.devnull}"),
)
_DIFF_SETTINGS = ("-c", "core.quotePath=true", "-c", "diff.relative=false", "-c", "diff.suppressBlankEmpty=false")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceProbe:
    """What was found of the project.

    Attributes:
        source: None where there is neither a commit nor an editable package to take along.
        root: the directory that the source's paths are relative to; None without a source.
        withheld: path of a file that looks like a secret -> how it gets to a run.
    """

    source: LockedSource | None = None
    root: Path | None = None
    problems: tuple[Problem, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)


def read_source(project: Path, editables: Sequence[Path], blobs: BlobStore, name: LockName, progress: Progress = SILENT) -> SourceProbe:
    """Read the project's state; its patch and untracked files become blobs.

    Args:
        editables: directories that editable packages put on the path. Those inside the project bring along what git ignores and
            Python needs all the same: extensions built in place, generated modules. Without a commit they are the source.
        name: directory below /workspace where the project lives in an image.
    """
    project = project.resolve()
    try:
        root = _root(project)
        commit = None if root is None else Repository(root).ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        reader = _Reader(root or project, blobs, name, progress)
        inside = [path for editable in editables if (path := editable.resolve()).is_relative_to(reader.root)]
        for path in filter(reader.packer.in_environment, inside):
            reader.packer.problem(str(path), "an editable package inside an environment: its files do not travel")
        if commit is None and not inside:
            return SourceProbe()
        with progress.task("reading the project's files"):
            source = reader.directory(inside) if commit is None else reader.repository(commit, inside)
    except (GitError, NotStarted) as error:
        return SourceProbe(problems=(Problem(where="git", what=f"the project's git state cannot be read: {error}"),))
    return SourceProbe(source=source, root=reader.root, problems=tuple(reader.packer.problems), withheld=reader.packer.withheld)


def _root(project: Path) -> Path | None:
    """Top of the work tree around the project; None where there is none. Raises GitError: there is one and git refuses it."""
    try:
        root = Path(os.fsdecode(Repository(project).run("rev-parse", "--show-toplevel")).rstrip("\n")).resolve()
    except GitError:
        if any((place / ".git").exists() for place in (project, *project.parents)):
            raise
        return None
    if not project.is_relative_to(root):
        raise GitError(f"core.worktree of the repository points elsewhere: {root}")
    return root


class _Reader:
    """Gathers the parts of one source, and what had to stay behind. A *member* is the repository or one of its submodules."""

    def __init__(self, root: Path, blobs: BlobStore, name: LockName, progress: Progress) -> None:
        self.root = root
        self.blobs = blobs
        self.name = name
        self.packer = Packer(root, blobs, progress)

    def repository(self, commit: str, editables: Sequence[Path]) -> LockedSource:
        with tempfile.TemporaryDirectory(prefix="envsnap-index-") as scratch:
            found = {"": Repository(self.root), **dict(_submodules(Repository(self.root)))}
            members = {path: member.with_private_index(Path(scratch, str(number))) for number, (path, member) in enumerate(found.items())}
            return self._finish(self._read(members, commit, editables), self.root)

    def _read(self, members: Mapping[str, Repository], commit: str, editables: Sequence[Path]) -> LockedSource:
        pointers = {path: dict(_pointers(member)) for path, member in members.items()}
        changes = {path: self._patch(member, path, pointers[path]) for path, member in members.items()}
        patches = {path: patch for path, (patch, _) in changes.items()}
        lfs = [pointer for path, member in members.items() for pointer in self._lfs(member, path, pointers[path])]
        paths = [
            (owner, path)
            for owner, member in members.items()
            for path in sorted(
                {*untracked(member), *ignored_modules(member, editables), *_edited(member, pointers[owner]), *changes[owner][1]}
            )
        ]
        candidates = [self.packer.candidate(owner, path, members[owner].directory / path) for owner, path in paths]
        packed = self.packer.pack([candidate for candidate in candidates if candidate is not None])
        submodules = [
            LockedSubmodule(path=path, remote=_remote(member), commit=_head(member), patch=patches[path], untracked=packed.get(path, ()))
            for path, member in sorted(members.items())
            if path
        ]
        top = members[""]
        return LockedSource(
            name=self.name,
            files=_UNKNOWN,
            remote=_remote(top),
            commit=commit,
            branch=top.ask("symbolic-ref", "--quiet", "--short", "HEAD"),
            dirty=any(patches.values()) or any(packed.values()),
            patch=patches[""],
            untracked=packed[""],
            submodules=tuple(submodules),
            lfs=tuple(lfs),
        )

    def directory(self, editables: Sequence[Path]) -> LockedSource:
        """Without a commit: the files of the editable packages alone, by git's rules of what to ignore all the same."""
        with tempfile.TemporaryDirectory(prefix="envsnap-git-") as scratch:
            new_repository(Path(scratch))
            member = Repository(self.root, {"GIT_DIR": scratch, "GIT_WORK_TREE": str(self.root)})
            wanted = {self.root / path for path in (*untracked(member, editables), *ignored_modules(member, editables))}
        files = sorted(wanted & {file for editable in editables for file in self.packer.walk(editable)})
        candidates = [self.packer.candidate("", str(file.relative_to(self.root)), file) for file in files]
        packed = self.packer.pack([candidate for candidate in candidates if candidate is not None])
        return self._finish(LockedSource(name=self.name, files=_UNKNOWN, dirty=True, untracked=packed[""]), None)

    def _finish(self, draft: LockedSource, repository: Path | None) -> LockedSource:
        with tempfile.TemporaryDirectory(prefix="envsnap-source-") as scratch:
            write_files(draft, self.blobs, repository, Path(scratch))
            for path, secret in secrets_below(Path(scratch)):  # of the commit: all else was searched before it was kept
                what = f"is committed with what looks like a secret ({secret}): no image is built with it. {WAY_OUT}"
                self.packer.problem(path, what)
            return msgspec.structs.replace(draft, files=manifest_digest(manifest(Path(scratch))))

    def _patch(self, member: Repository, owner: str, pointers: Pointers) -> tuple[str | None, Sequence[str]]:
        """Blob of the difference between commit and work tree, None where there is none; and the changed files that travel whole,
        since a patch of them would hold a secret that they do not.
        """
        changed = names(member.run("diff", "--name-only", "-z", "--no-renames", "--ignore-submodules=all", "HEAD"))
        travel_whole = set(_edited(member, pointers)) | {path for path in pointers if (member.directory / path).exists()}
        left_out = [path for path in changed if path in travel_whole or self.packer.own_output(member.directory / path)]
        secret = dict.fromkeys(filter(is_secret_file, changed), "")
        whole: list[str] = []
        patch = _diff(member, [*left_out, *secret])
        if redaction.find_secrets(patch.decode("latin-1")) or _BINARY in patch:
            for path in changed:
                if path in left_out or path in secret or not (found := _secrets_of_change(member, path)):
                    continue
                here = member.directory / path
                if here.is_file() and not here.is_symlink() and not redaction.find_secrets_in(here.read_bytes()):
                    whole.append(path)  # the secret was in what the change took away, or beside it
                else:
                    secret[path] = f" ({found[0].kind}). {WAY_OUT}"
            patch = _diff(member, [*left_out, *secret, *whole])
        for path, why in secret.items():
            self.packer.withhold(_joined(owner, path), f"its change is left out, the image has it as committed{why}")
        return (self.blobs.put(patch) if patch else None), whole

    def _lfs(self, member: Repository, owner: str, pointers: Pointers) -> Iterator[LfsFile]:
        """The git-lfs files of a commit whose content is at hand."""
        for path, (sha256, size_bytes) in pointers.items():
            here, full = member.directory / path, _joined(owner, path)
            if not here.exists():  # deleted, which the patch says, or not checked out
                continue
            if lfs_content(member, path, sha256) is None:
                if _pointer(here) is not None:
                    self.packer.problem(
                        full, "its git-lfs content is not at hand: the image will have the pointer (`git lfs pull` brings it)"
                    )
            elif not is_lock_path(full):
                self.packer.problem(full, "its git-lfs content is left out: the name cannot be written in a lock")
            else:
                yield LfsFile(path=full, sha256=sha256, size_bytes=size_bytes)


def _joined(owner: str, path: str) -> str:
    return f"{owner}/{path}" if owner else path


def _submodules(member: Repository, prefix: str = "") -> Iterator[tuple[str, Repository]]:
    for path in member.submodules():
        inner = Repository(member.directory / path)
        yield prefix + path, inner
        yield from _submodules(inner, f"{prefix}{path}/")


def _pointers(member: Repository) -> Iterator[tuple[str, tuple[str, int]]]:
    """The git-lfs pointers of a commit."""
    small = [file for file in member.tree("HEAD") if file.mode != "120000" and 100 < file.size_bytes <= _LFS_POINTER_BYTES]
    for file, data in member.contents(small):
        if match := _LFS_POINTER.fullmatch(data):
            yield os.fsdecode(file.path), (match[1].decode(), int(match[2]))


def _pointer(file: Path) -> str | None:
    """The sha256 that a file in the work tree points to; None for one that is no pointer."""
    if file.stat().st_size > _LFS_POINTER_BYTES or (match := _LFS_POINTER.fullmatch(file.read_bytes())) is None:
        return None
    return match[1].decode()


def _edited(member: Repository, pointers: Pointers) -> Iterator[str]:
    """git-lfs files with other content than the commit's: a patch of them would need git-lfs, so they travel whole."""
    for path, (sha256, _) in pointers.items():
        here = member.directory / path
        if here.is_file() and _pointer(here) != sha256 and hash_file(here) != sha256:
            yield path


def _diff(member: Repository, left_out: Sequence[str] = (), *, only: str | None = None) -> bytes:
    places = [f":(top,literal){only}"] if only is not None else [":(top)", *(f":(top,exclude,literal){path}" for path in left_out)]
    return member.run(*_DIFF_SETTINGS, *_DIFF, "HEAD", "--", *places)


def _secrets_of_change(member: Repository, path: str) -> Sequence[redaction.Secret]:
    """In a file's patch; where that is compressed, in the file before and after."""
    patch = _diff(member, only=path)
    if _BINARY not in patch:
        return redaction.find_secrets(patch.decode("latin-1"))
    committed = {os.fsdecode(file.path): file for file in member.tree("HEAD")}
    before = b"".join(data for _, data in member.contents([committed[path]])) if path in committed else b""
    here = member.directory / path
    after = here.read_bytes() if here.is_file() and not here.is_symlink() else b""
    return (*redaction.find_secrets_in(before), *redaction.find_secrets_in(after))


def _head(member: Repository) -> str:
    return member.run("rev-parse", "--verify", "HEAD^{commit}").decode().strip()


def _remote(member: Repository) -> str | None:
    """Address of "origin", or of the only remote there is, without credentials."""
    remotes = (member.ask("remote") or "").splitlines()
    name = "origin" if "origin" in remotes else remotes[0] if len(remotes) == 1 else None
    address = None if name is None else member.ask("config", "--get", f"remote.{name}.url")
    if address is None or not address.isprintable() or " " in address:  # a lock holds no white space in an address
        return None
    return redaction.text(redaction.url(address))
