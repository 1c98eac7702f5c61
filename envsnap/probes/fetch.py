"""A local repository that has a source's commits: one that is there, or one fetched from the remote that the lock names.

The remote comes from an untrusted lock: only addresses of https, ssh, git and files are asked, and git is held to the same list.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from envsnap import redaction
from envsnap.errors import InputError
from envsnap.model.lock import LockedSource
from envsnap.probes.git import NETWORK, GitError, Repository, new_repository
from envsnap.process import NotStarted
from envsnap.progress import SILENT, Progress
from envsnap.storage import touch

_SCP_LIKE = re.compile(r"(?!-)(?:[A-Za-z0-9._-]+@)?(?!-)(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?!//|:)[^\x00-\x20]+\Z")
_URL = re.compile(r"(?:https|ssh|git|file)://(?!-)[^\x00-\x20]*\Z")


def find_repository(
    source: LockedSource, candidates: Sequence[Path], cache: Path, progress: Progress = SILENT, *, offline: bool = False
) -> Path:
    """A local repository that has the source's commits, fetched from its remote where none of the candidates has them.

    Args:
        source: one with a commit.
        cache: where fetched commits are kept.
        offline: ask no remote.

    Raises:
        InputError: no candidate has them, and the remote cannot or must not be asked.
    """
    assert source.commit is not None
    hint = "--project DIR names a clone that has it, --no-source leaves the project out"
    try:
        for candidate in candidates:
            if candidate.is_dir() and _has_commits(candidate, source):
                return candidate
        store = cache / "git" / hashlib.sha256((source.remote or "").encode()).hexdigest()[:24]
        touch(store)
        if not (store / "HEAD").exists():
            new_repository(store, object_format="sha256" if len(source.commit) == 64 else "sha1")
        wanted = [(source.remote, source.commit), *((submodule.remote, submodule.commit) for submodule in source.submodules)]
        for remote, commit in wanted:
            if not Repository(store).has_commit(commit):
                if offline:
                    raise GitError(f"no remote is asked offline, and no clone at hand has {commit[:12]}")
                _fetch(store, remote, commit, progress)
    except (GitError, NotStarted) as error:
        raise InputError(f"the project's commit {source.commit[:12]} is not at hand", why=str(error), hint=hint) from error
    return store


def _has_commits(candidate: Path, source: LockedSource) -> bool:
    if source.commit is None or not Repository(candidate).has_commit(source.commit):
        return False
    return all(
        any(place.is_dir() and Repository(place).has_commit(submodule.commit) for place in (candidate / submodule.path, candidate))
        for submodule in source.submodules
    )


def _fetch(store: Path, remote: str | None, commit: str, progress: Progress) -> None:
    if remote is None:
        raise GitError("it was captured from a repository without a remote")
    if not (_URL.match(remote) or _SCP_LIKE.match(remote) or (remote.startswith("/") and "\n" not in remote)):
        raise GitError(f"the remote {redaction.url(remote)!r} is not an https, ssh, git or file address")
    progress.note(f"fetching {commit[:12]} from {redaction.url(remote)}")
    repository = Repository(store, NETWORK)
    common = ("fetch", "--quiet", "--no-tags", "--recurse-submodules=no")
    try:
        repository.run(*common, "--depth=1", "--", remote, commit)
    except GitError:  # old servers give no commit by name, only branches
        repository.run(*common, "--", remote, "+refs/heads/*:refs/remotes/*")
    if not repository.has_commit(commit):
        raise GitError(f"{redaction.url(remote)} does not have it")
