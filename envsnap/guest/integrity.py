"""Installed files against their RECORD."""

from __future__ import annotations

import hashlib
import os
import posixpath
import time
from typing import Iterable, Iterator, NamedTuple, Sequence

from .distributions import Installed
from .record import Entry, canonical_digest
from .text import hash_or_none, is_below, open_regular, say_progress, sha256_of


class Meter:
    """Counts bytes from several threads and says so, a few times a second."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._said = 0.0

    def advance(self, count: int) -> None:
        self._done += count  # a count that two threads lose between them only makes a progress bar lag
        now = time.monotonic()
        if now - self._said >= 0.2 or self._done >= self._total:
            self._said = now
            say_progress(self._done, self._total, "bytes", "integrity")


class Integrity(NamedTuple):
    """What the files of a distribution really are.

    Attributes:
        modified: paths of files that are not what RECORD says; "missing: …" and "added: …" for those on one side only; sorted.
        digest: `canonical_digest` of the files as they are.
    """

    modified: list[str]
    digest: str


PART_FILES, PART_BYTES = 256, 32 << 20


def check_integrity(distributions: Sequence[Installed]) -> dict[str, Integrity]:
    """By name, for each distribution that has a RECORD and is not conda's, which has hashes of its own."""
    from concurrent.futures import ThreadPoolExecutor

    recorded = [found for found in distributions if found.entries is not None and found.facts["conda"] is None]
    work = [(found, entry) for found in recorded for entry in found.payload()]
    meter = Meter(sum(max(entry.size, 0) for _, entry in work))
    # A task for each file would cost more than hashing most of them.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        checked = pool.map(lambda part: [look_at(found.path_of(entry), entry, meter) for found, entry in part], parts_of(work))
        words = [word for part in checked for word in part]
    actual: dict[str, list[Entry]] = {found.name: [] for found in recorded}
    modified: dict[str, set[str]] = {found.name: set() for found in recorded}
    for (found, entry), seen in zip(work, words):  # noqa: B905  (3.8 has no `strict`)
        if seen is None:
            modified[found.name].add("missing: " + entry.path)
            continue
        if seen != entry.sha256:
            modified[found.name].add(entry.path)
        actual[found.name].append(entry._replace(sha256=seen))
    for found, path, file in added_files(distributions):
        sha256 = hash_or_none(file)
        if sha256 is not None:
            modified[found.name].add("added: " + path)
            actual[found.name].append(Entry(path, sha256, -1))
    return {name: Integrity(sorted(modified[name]), canonical_digest(entries)) for name, entries in actual.items()}


def parts_of(work: Sequence[tuple[Installed, Entry]]) -> Iterator[Sequence[tuple[Installed, Entry]]]:
    """Consecutive pieces of some hundred small files or a few large ones."""
    start, size = 0, 0
    for number, (_, entry) in enumerate(work):
        size += max(entry.size, 0)
        if size >= PART_BYTES or number - start >= PART_FILES:
            yield work[start : number + 1]
            start, size = number + 1, 0
    if start < len(work):
        yield work[start:]


def look_at(path: str, entry: Entry, meter: Meter) -> str | None:
    """The file's SHA-256; RECORD's own where that has none and the file is there; None when it cannot be read."""
    try:
        if not entry.sha256:
            os.stat(path)
            return ""
        if not 0 <= entry.size <= SMALL_BYTES:
            return sha256_of(path, meter.advance)
        handle = open_regular(path)
        try:
            data = os.read(handle, entry.size + 1)  # one more than there should be: a longer file differs
            longer = len(data) > entry.size or os.read(handle, 1)
        finally:
            os.close(handle)
        if longer:
            return sha256_of(path, meter.advance)
    except OSError:
        return None
    meter.advance(len(data))
    return hashlib.sha256(data).hexdigest()


SMALL_BYTES = 1 << 18


def added_files(distributions: Iterable[Installed]) -> Iterator[tuple[Installed, str, str]]:
    """Files in a distribution's own folders that no RECORD names: (distribution, canonical path, file). A folder below the site
    directory is its own when every file that a RECORD has in it is of this distribution; so are the folders below that no RECORD knows.
    """
    owners: dict[str, set[str]] = {}
    known: set[str] = set()
    by_name = {}
    for found in distributions:
        by_name[found.name] = found
        for entry in found.entries or ():
            file = posixpath.normpath(found.path_of(entry))
            known.add(file)
            if entry.path.endswith(".pyc"):
                continue
            folder = os.path.dirname(file)
            owners.setdefault(folder, set()).add(found.name)
            # Whatever has a recorded folder below it is known too, though it may belong to several.
            while is_below(folder, found.location) or is_below(folder, found.prefix):
                folder = os.path.dirname(folder)
                if folder in owners:
                    break
                owners[folder] = set()
    for folder in sorted(owners):
        if len(owners[folder]) != 1:
            continue
        found = by_name[next(iter(owners[folder]))]
        # Below the prefix (share/man/man1) a folder is everybody's, whoever uses it now.
        if (
            found.facts["editable_paths"]
            or found.facts["conda"]
            or not is_below(folder, found.location)
            or folder == found.facts["metadata_dir"]
        ):
            continue
        for file in unknown_files(folder, owners.keys(), known):
            yield found, file[len(found.location.rstrip("/")) + 1 :], file


def unknown_files(folder: str, recorded: Iterable[str], known: set[str]) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name != "__pycache__" and entry.path not in recorded:
                yield from unknown_files(entry.path, recorded, known)
        elif entry.path not in known and not entry.name.endswith((".pyc", ".pyo")) and entry.is_file():
            yield entry.path
