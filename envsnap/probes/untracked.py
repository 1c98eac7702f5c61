"""Files that git does not track and a project needs all the same: which of them travel, and which must not.

Secrets, environments, what envsnap wrote itself and what is too large stay behind; each by name, never silently, but for what is
never wanted.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from envsnap import redaction
from envsnap.blobs import BlobStore
from envsnap.model.facts import Problem
from envsnap.model.kinds import RelativePath
from envsnap.model.lock import LockedFile
from envsnap.probes.git import GitError, Repository, names
from envsnap.progress import SILENT, Progress

FILE_LIMIT_BYTES = 64 << 20
TOTAL_LIMIT_BYTES = 256 << 20
WAY_OUT = "If it is none, say so on that line: pragma: allowlist secret"

_SECRET_FILES = (
    *(".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
    *(".netrc", "_netrc", ".pypirc", ".pgpass", ".htpasswd", ".git-credentials", ".dockercfg", "credentials*", "kubeconfig"),
)
_HARMLESS_FILES = (".env.example", ".env.sample", ".env.template", "*.pub")
_LISTED = 6
_LOCK = re.compile(rb"(?:#[^\n]*\n)*envsnap: \d")
_BLOB = re.compile(r"[0-9a-f]{64}\Z")
_NEVER_PACKED = {
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    ".eggs",
    ".tox",
    ".nox",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "node_modules",
}
_BUILD_OUTPUT = {"build", "dist"}
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An untracked file. Attributes: owner: path of the submodule that it lies in, "" for the project; path: relative to it."""

    owner: str
    path: str
    file: Path
    size_bytes: int

    @property
    def full_path(self) -> str:
        return f"{self.owner}/{self.path}" if self.owner else self.path


class _Content(NamedTuple):
    """Attributes: data: of a link, its target."""

    data: bytes
    executable: bool = False
    link: bool = False


class Packer:
    """Chooses and keeps untracked files of one project.

    Attributes:
        problems: what had to stay behind, and why.
        withheld: path of a file that looks like a secret -> how it gets to a run.
    """

    def __init__(self, top: Path, blobs: BlobStore, progress: Progress = SILENT) -> None:
        self.top = top
        self.progress = progress
        self.blobs = blobs
        self.problems: list[Problem] = []
        self.withheld: dict[str, str] = {}
        self._environments: dict[Path, bool] = {}

    def problem(self, where: str, what: str) -> None:
        self.problems.append(Problem(where=where, what=what))

    def withhold(self, path: str, what: str) -> None:
        self.withheld[path] = "a file that looks like a secret: mount it at run time"
        self.problem(path, f"looks like a secret; {what}")

    def candidate(self, owner: str, path: str, file: Path) -> Candidate | None:
        """A file that is to travel; None, with the reason kept, where it must not or cannot."""
        full = f"{owner}/{path}" if owner else path
        if self.own_output(file) or self.in_environment(file) or "__pycache__" in file.parts:
            return None
        try:
            status = file.lstat()
        except OSError as error:
            self.problem(full, f"left out: {error.strerror}")
            return None
        if stat.S_ISDIR(status.st_mode):
            self.problem(full, "left out: a repository inside a repository, whose files git does not list")
        elif not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            self.problem(full, "left out: neither a file nor a symbolic link")
        elif not is_lock_path(full):
            self.problem(full.encode("utf-8", "replace").decode(), "left out: the name cannot be written in a lock")
        elif is_secret_file(path):
            self.withhold(full, "left out")
        elif status.st_size > FILE_LIMIT_BYTES:
            self.problem(full, f"left out: {status.st_size >> 20} MiB, the limit for one untracked file is {FILE_LIMIT_BYTES >> 20}")
        else:
            return Candidate(owner=owner, path=path, file=file, size_bytes=status.st_size)
        return None

    def pack(self, candidates: Sequence[Candidate]) -> dict[str, tuple[LockedFile, ...]]:
        """Keep files as blobs, by owner. Over the limit the small ones go first: they are the code."""
        chosen: list[tuple[Candidate, str]] = []
        total, left_out = 0, 0
        for candidate in sorted(candidates, key=lambda each: (each.size_bytes, each.full_path)):
            if (total := total + candidate.size_bytes) > TOTAL_LIMIT_BYTES:
                left_out += 1
            elif (content := self._read(candidate)) is not None and not self._is_withheld(candidate, content):
                chosen.append((candidate, _sha256(content.data)))
        self._list([candidate for candidate, _ in chosen])
        packed: dict[str, list[LockedFile]] = {"": []}
        for candidate, checked in chosen:
            if (file := self._keep(candidate, checked)) is not None:
                packed.setdefault(candidate.owner, []).append(file)
        if left_out:
            limit = f"the untracked files are more than {TOTAL_LIMIT_BYTES >> 20} MiB"
            self.problem(
                "source", f"{left_out} left out, the largest: {limit}. What need not travel belongs in .gitignore or .envsnapignore"
            )
        return {owner: tuple(sorted(files, key=lambda file: file.path)) for owner, files in packed.items()}

    def _list(self, candidates: Sequence[Candidate]) -> None:
        """Say what is about to travel, before it does: the names, and of many those that weigh most."""
        if not candidates:
            return
        total = sum(candidate.size_bytes for candidate in candidates)
        heavy = sorted(candidates, key=lambda candidate: (-candidate.size_bytes, candidate.full_path))
        shown = ", ".join(f"{candidate.full_path} ({_size(candidate.size_bytes)})" for candidate in heavy[:_LISTED])
        more = f" and {len(heavy) - _LISTED} more" if len(heavy) > _LISTED else ""
        number = f"{len(candidates)} file{'s' if len(candidates) > 1 else ''}"
        self.progress.note(f"not in git, and packed: {number}, {_size(total)}: {shown}{more}")
        for candidate in heavy[_LISTED:]:
            self.progress.detail(f"  {candidate.full_path} ({_size(candidate.size_bytes)})")

    def _keep(self, candidate: Candidate, checked: str) -> LockedFile | None:
        """Args: checked: sha256 of the content that holds no secret: one that was written since is looked at again."""
        content = self._read(candidate)
        if content is None or (_sha256(content.data) != checked and self._is_withheld(candidate, content)):
            return None
        return LockedFile(path=candidate.path, blob=self.blobs.put(content.data), executable=content.executable, link=content.link)

    def _read(self, candidate: Candidate) -> _Content | None:
        try:
            if candidate.file.is_symlink():
                return _Content(os.fsencode(candidate.file.readlink()), link=True)
            return _Content(candidate.file.read_bytes(), executable=bool(candidate.file.stat().st_mode & stat.S_IXUSR))
        except OSError as error:
            self.problem(candidate.full_path, f"left out: {error.strerror}")
            return None

    def _is_withheld(self, candidate: Candidate, content: _Content) -> bool:
        if content.link or not (found := redaction.find_secrets_in(content.data)):
            return False
        self.withhold(candidate.full_path, f"left out: {found[0]}. {WAY_OUT}")
        return True

    def walk(self, top: Path) -> Iterator[Path]:
        """Files and links of a directory that is not in git, without what tools put there."""
        for place, directories, files in os.walk(top):
            inside = Path(place)
            links = [name for name in directories if (inside / name).is_symlink()]
            directories[:] = [name for name in directories if name not in links and not _is_build_output(inside / name)]
            yield from (inside / name for name in (*files, *links) if not name.endswith((".pyc", ".pyo")))

    def own_output(self, file: Path) -> bool:
        """What envsnap itself wrote, under whatever name: a capture must not change because there was one before."""
        return _is_blob(file) or _is_lock(file) or _is_context(file)

    def in_environment(self, path: Path) -> bool:
        """Inside a virtual or conda environment: that is captured as packages, never as files."""
        return any(self._is_environment(place) for place in (path, *path.parents) if place != self.top and place.is_relative_to(self.top))

    def _is_environment(self, directory: Path) -> bool:
        if directory not in self._environments:
            self._environments[directory] = (directory / "pyvenv.cfg").exists() or (directory / "conda-meta").is_dir()
        return self._environments[directory]


def untracked(member: Repository, within: Sequence[Path] = ()) -> Iterator[str]:
    """Files that git neither tracks nor ignores, those of nested repositories included. Args: within: directories; none for all."""
    options = ("--others", "--exclude-standard", *_envsnapignore(member), "-z")
    for path in names(member.run("ls-files", *options, "--", *_places(member, within))):
        if not path.endswith("/"):
            yield path
            continue
        inner = Repository(member.directory / path)  # a repository that is no submodule
        try:
            inside = [*names(inner.run("ls-files", "--cached", "-z")), *untracked(inner)]
        except GitError:
            yield path
            continue
        yield from (path + file for file in inside if os.path.lexists(inner.directory / file))


def ignored_modules(member: Repository, editables: Sequence[Path]) -> Iterator[str]:
    """What Python imports from an editable although git ignores it: built extensions, generated modules of a package."""
    roots = [path for path in editables if path.is_relative_to(member.directory)]
    if not roots:
        return

    def ignored(*rules: str) -> list[str]:
        return names(member.run("ls-files", "--others", "--ignored", *rules, "-z", "--", *_places(member, roots)))

    unwanted = frozenset(ignored(*rules) if (rules := _envsnapignore(member)) else ())
    for path in ignored("--exclude-standard"):
        file = member.directory / path
        module = path.endswith(".so") or (path.endswith(".py") and (file.parent / "__init__.py").exists())
        if module and path not in unwanted and not any(_is_build_output(member.directory / up) for up in PurePosixPath(path).parents[:-1]):
            yield path


def _envsnapignore(member: Repository) -> tuple[str, ...]:
    file = member.directory / ".envsnapignore"
    return (f"--exclude-from={file}",) if file.is_file() else ()


def _places(member: Repository, directories: Sequence[Path]) -> list[str]:
    """As pathspecs; the whole work tree where one of them is that."""
    if member.directory in directories or not directories:
        return [":(top)"]
    return [f":(top,literal){path.relative_to(member.directory)}" for path in directories]


def _is_build_output(directory: Path) -> bool:
    if directory.name in _BUILD_OUTPUT:  # beside a project file; elsewhere it may well be a package of that name
        return any((directory.parent / name).exists() for name in _PROJECT_FILES)
    return directory.name in _NEVER_PACKED or directory.name.endswith(".egg-info")


def _size(number: int) -> str:
    return f"{number} B" if number < 1000 else f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_secret_file(path: str) -> bool:
    """Whether files of this name hold keys or passwords."""
    name = PurePosixPath(path).name.lower()
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _SECRET_FILES) and not any(
        fnmatch.fnmatchcase(name, pattern) for pattern in _HARMLESS_FILES
    )


def is_lock_path(path: str) -> bool:
    """Whether a lock can hold this path: no control characters or backslashes, and UTF-8."""
    try:
        msgspec.convert(path, RelativePath)
        path.encode()
    except (msgspec.ValidationError, UnicodeEncodeError):
        return False
    return True


def _is_blob(file: Path) -> bool:
    return file.parent.name == "sha256" and file.parent.parent.suffix == ".blobs" and _BLOB.match(file.name) is not None


def _is_lock(file: Path) -> bool:
    """Whether it begins as a lock does; one that is gone or cannot be read is none."""
    if file.suffix != ".yaml" or not file.is_file():
        return False
    try:
        with file.open("rb") as opened:
            return _LOCK.match(opened.read(1024)) is not None
    except OSError:
        return False


def _is_context(file: Path) -> bool:
    """Whether it lies in `images/NAME/`, a rendered build context."""
    return any(
        place.parent.name == "images" and (place / "Dockerfile").exists() and (place / "lock.yaml").exists() for place in file.parents
    )
