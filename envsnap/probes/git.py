"""git, asked in a way that changes nothing and runs nothing but git.

A repository's own configuration can name programs (filters, file-system monitors, diff drivers, transports). The repository of a
training environment is somebody's work and not an enemy, but a capture or a build must not run what it did not choose to run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from envsnap import process, redaction
from envsnap.errors import InputError

# What git itself counts as belonging to one repository (`git rev-parse --local-env-vars`), but for -c settings: a hook that
# starts envsnap must not steer it to the hook's repository and index.
_LOCAL_VARIABLES = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_DIR",
        "GIT_EXTERNAL_DIFF",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    }
)
_READ_ONLY = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
# A partial clone fetches a missing object from wherever its configuration says, with whatever program it says.
_NO_NETWORK = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
NETWORK = {"GIT_ALLOW_PROTOCOL": "file:git:https:ssh"}
_NO_USER_CONFIG = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": os.devnull, "XDG_CONFIG_HOME": os.devnull}

_BATCH_BYTES = 32 << 20

Mode = Literal["100644", "100755", "120000"]
"""git's own names: a file, an executable file, a symbolic link."""

_MODES: dict[bytes, Mode] = {b"100644": "100644", b"100664": "100644", b"100755": "100755", b"120000": "120000"}
_GITLINK = b"160000"


class GitError(Exception):
    """git refused or could not; the message is its own last line, without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFile:
    """A file or symbolic link in a tree object. Attributes: object: name of the blob; size_bytes: of its content."""

    path: bytes
    mode: Mode
    object: str
    size_bytes: int


@dataclass(frozen=True)
class Repository:
    """A repository or its work tree. Attributes: extra: variables on top of the protective ones."""

    directory: Path
    extra: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Standard output of one git command.

        Raises:
            GitError: it failed.
            NotStarted: there is no git on PATH.
        """
        return self._run((*self._disarmed, *arguments), stdin)

    def ask(self, *arguments: str) -> str | None:
        """A one-line answer, None where git has none."""
        try:
            return os.fsdecode(self.run(*arguments)).rstrip("\n") or None
        except GitError:
            return None

    def has_commit(self, commit: str) -> bool:
        return self.ask("cat-file", "-t", commit) == "commit"

    def tree(self, treeish: str) -> tuple[TreeFile, ...]:
        """All files of a tree object, in its order; submodules are left out."""
        files: list[TreeFile] = []
        for record in self.run("ls-tree", "-r", "-l", "-z", "--full-tree", treeish).split(b"\0")[:-1]:
            header, path = record.split(b"\t", 1)
            mode, _, name, size = header.split()
            if mode == _GITLINK:
                continue
            if mode not in _MODES:
                raise GitError(f"{os.fsdecode(path)!r} has the unknown mode {mode.decode()}")
            files.append(TreeFile(path=path, mode=_MODES[mode], object=name.decode(), size_bytes=int(size) if size.isdigit() else 0))
        return tuple(files)

    def contents(self, files: Sequence[TreeFile]) -> Iterator[tuple[TreeFile, bytes]]:
        """The content of each file as the object store has it: no filter, no line-end conversion, no substitution.

        Raises:
            GitError: an object is missing.
        """
        for batch in _batches(files):
            answer = memoryview(self.run("cat-file", "--batch", stdin="".join(f"{file.object}\n" for file in batch).encode()))
            for file in batch:
                header, _, _ = bytes(answer[:200]).partition(b"\n")
                words = header.split()
                if len(words) != 3 or words[1] != b"blob":
                    raise GitError(f"object {file.object[:12]} of {os.fsdecode(file.path)!r} is missing")
                start, size = len(header) + 1, int(words[2])
                yield file, bytes(answer[start : start + size])
                answer = answer[start + size + 1 :]

    def submodules(self) -> tuple[str, ...]:
        """Paths of the submodules in the index that are checked out."""
        entries = self.run("ls-files", "--stage", "-z").split(b"\0")[:-1]
        paths = [os.fsdecode(entry.split(b"\t", 1)[1]) for entry in entries if entry.startswith(_GITLINK)]
        return tuple(path for path in paths if (self.directory / path / ".git").exists())

    def with_private_index(self, copy: Path) -> Repository:
        """The same repository with a copy of its index.

        `git diff` writes what it learned back into the index, whatever GIT_OPTIONAL_LOCKS says (seen with 2.39).
        """
        index = self.git_path("index")
        if index.exists():  # its time is kept: git compares the files' times with it
            shutil.copy2(index, copy)
        return Repository(self.directory, {**self.extra, "GIT_INDEX_FILE": str(copy)})

    def git_path(self, name: str) -> Path:
        """Where a part of the repository lies, also for linked work trees and submodules."""
        return self.directory / os.fsdecode(self.run("rev-parse", "--git-path", name)).rstrip("\n")

    @cached_property
    def _disarmed(self) -> tuple[str, ...]:
        """Settings that take every program out of the repository's configuration."""
        settings = ["core.fsmonitor=false", "core.hooksPath=" + os.devnull, "gc.auto=0", "maintenance.auto=false"]
        names = self._run(("config", "--includes", "-z", "--name-only", "--list"), b"").split(b"\0")
        for name in sorted({os.fsdecode(name) for name in names if name.startswith(b"filter.")}):
            if "=" in name:
                raise GitError(f"the filter setting {name!r} cannot be switched off")
            settings.append(f"{name}={'false' if name.endswith('.required') else ''}")
        return tuple(word for setting in settings for word in ("-c", setting))

    def _run(self, arguments: Sequence[str], stdin: bytes) -> bytes:
        inherited = {name: value for name, value in os.environ.items() if name not in _LOCAL_VARIABLES}
        done = process.run(
            ("git", "-C", self.directory, "--no-pager", *arguments),
            env={**inherited, **_READ_ONLY, **_NO_NETWORK, **self.extra},
            stdin=stdin,
        )
        if not done.ok:
            raise GitError(redaction.text(done.tail(1)) or f"git ended with {done.returncode}")
        return done.stdout


def names(output: bytes) -> list[str]:
    """The paths in what a command printed with `-z`."""
    return [os.fsdecode(name) for name in output.split(b"\0")[:-1]]


def _batches(files: Sequence[TreeFile]) -> Iterator[list[TreeFile]]:
    batch: list[TreeFile] = []
    size = 0
    for file in files:
        if batch and size + file.size_bytes > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size_bytes
    if batch:
        yield batch


def new_repository(directory: Path, *, object_format: Literal["sha1", "sha256"] = "sha1") -> None:
    """Make an empty bare repository, untouched by the user's settings and templates."""
    directory.mkdir(parents=True, exist_ok=True)
    arguments = ["init", "--quiet", "--bare", "--template="]
    if object_format != "sha1":  # releases before 2.29 do not know the option
        arguments.append(f"--object-format={object_format}")
    Repository(directory, _NO_USER_CONFIG).run(*arguments, ".")


def patched_tree(repository: Repository, commit: str, patch: bytes, scratch: Path) -> tuple[Repository, str]:
    """Apply a patch to a commit's tree, between objects alone: no work tree, so no conversion and no path outside.

    Args:
        scratch: an empty directory for the index and the new objects; `repository` is only read.

    Returns:
        A repository that has the resulting tree and all that it needs, and the tree's name.

    Raises:
        InputError: the patch does not apply, or names a path that git refuses.
    """
    new_repository(scratch, object_format="sha256" if len(commit) == 64 else "sha1")
    objects = repository.git_path("objects").resolve()
    (scratch / "objects/info/alternates").write_bytes(os.fsencode(objects) + b"\n")
    patched = Repository(scratch, {**_NO_USER_CONFIG, "GIT_DIR": str(scratch), "GIT_INDEX_FILE": str(scratch / "index")})
    patched.run("read-tree", commit)
    try:
        patched.run("apply", "--cached", "--binary", "--whitespace=nowarn", "-", stdin=patch)
    except GitError as error:
        raise InputError("the source's patch does not apply to its commit", why=str(error)) from error
    return patched, patched.run("write-tree").decode().strip()
