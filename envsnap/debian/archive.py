"""A distribution's archives: signed indexes and the .deb files that they vouch for.

The chain of trust is apt's own (apt-secure(8)): a known key signs InRelease, InRelease holds the hashes of the indexes, an index those of
the files. Nothing is believed before its link of the chain holds, and all of it is kept: a second run asks for InRelease alone, an offline
one for nothing. What a disk has damaged since is fetched again.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import hashlib
import lzma
import re
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from envsnap import redaction
from envsnap.blobs import BlobStore
from envsnap.debian import keys
from envsnap.debian.control import Stanza, stanza
from envsnap.debian.distributions import Distribution, find
from envsnap.debian.index import Index
from envsnap.debian.sources import Source, sources
from envsnap.debian.transfer import Missing, Transfer, persistently
from envsnap.errors import EngineError, InputError
from envsnap.model.debian import ArchiveName, DebFile
from envsnap.progress import SILENT, Progress
from envsnap.storage import write_file

_RELEASE_LIMIT = 4 << 20
_INDEX_LIMIT = 512 << 20  # uncompressed; Debian's largest has 55 MB
_PIECE = 1 << 20
# A field that `package.offered` or `Index` reads, with its continuations, or the empty line between two stanzas.
_NEEDED = re.compile(
    rb"^(?:(?:Package|Version|Architecture|Filename|SHA256|Size|Priority|Essential|(?:Pre-)?Depends|Provides|Conflicts|Breaks|Replaces):"
    rb"[^\n]*(?:\n[ \t][^\n]*)*)?\n",
    re.MULTILINE,
)
_DEB_LIMIT = 4 << 30
_PARALLEL = 6
_HASHED = re.compile(r"\s*([0-9a-f]{64})\s+(\d+)\s+(\S+)\s*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where archives are and how they are asked.

    Attributes:
        mirror: as `sources.sources` takes it; None for the host's own configuration.
        keyring: of a mirror that signs with keys of its own; None for the distribution's.
        etc_apt: the host's configuration.
        offline: what is kept is all there is.
        ca_bundle: certificates to trust; None for the usual ones.
    """

    mirror: str | None = None
    keyring: Path | None = None
    etc_apt: Path = Path("/etc/apt")
    offline: bool = False
    ca_bundle: Path | None = None


class Archive:
    """The archives of one distribution for one architecture.

    Args:
        name: "debian 12" or "debian:bookworm".
        arch: as Debian names it ("amd64").
        cache: where what was fetched is kept.

    Raises:
        PlanError: the distribution is not known here.
    """

    def __init__(self, name: str, arch: str, cache: Path, settings: Settings, progress: Progress = SILENT) -> None:
        self.distribution: Distribution = find(name)
        self.arch = arch
        self.store = BlobStore(cache / "blobs")
        self._releases = cache / "debian"
        self._settings = settings
        self._progress = progress
        self._threads = threading.local()

    def index(self) -> Index:
        """What can be installed now.

        Raises:
            PlanError: no mirror is known.
            UsageError: the setting that names one is none.
            EngineError: a mirror does not answer, or what it sends is not what is signed.
            InputError: an index cannot be read; offline, none is kept.
        """
        files: list[tuple[bytes, ArchiveName]] = []
        with self._progress.task(f"read the index of {self.distribution.name}") as task:
            for source in self._sources():
                task.status(source.suite)
                release = self._release(source)
                if release is None:
                    continue
                files += [(text, source.archive) for component in source.components for text in self._packages(source, release, component)]
            return Index(files)

    def fetch(self, files: Sequence[DebFile]) -> None:
        """Have the .debs in the cache, several at a time; one that is damaged there is fetched again.

        Raises:
            EngineError: a mirror does not have one any more, does not answer, or sends other bytes.
            InputError: offline, and one is not kept.
        """
        for file in files:
            self.store.touch(file.digest)
        missing = [file for file in files if not self.store.has_whole(file.digest)]
        if not missing:
            return
        total = sum(file.size_bytes for file in missing)
        places = {source.archive: source for source in reversed(self._sources())}
        with (
            self._progress.task(f"fetch {len(missing)} packages of {self.distribution.name}", total=total, unit="bytes") as task,
            ThreadPoolExecutor(_PARALLEL) as pool,
        ):
            pending = [pool.submit(self._fetch, file, places.get(file.archive, places["main"])) for file in missing]
            try:
                for file, done in zip(missing, pending, strict=True):
                    done.result()
                    task.advance(file.size_bytes)
            finally:
                for one in pending:
                    one.cancel()

    @contextmanager
    def open(self, file: DebFile) -> Iterator[BinaryIO]:
        """A .deb that was fetched. Raises InputError: it is not in the cache."""
        path = self.store.path(file.digest)
        try:
            opened = path.open("rb")
        except OSError as error:
            raise InputError(f"{file.name} {file.version} is not in the cache", why=f"{path}: {error.strerror}") from error
        with opened:
            yield opened

    def _sources(self) -> Sequence[Source]:
        return sources(self.distribution, mirror=self._settings.mirror, etc_apt=self._settings.etc_apt)

    @property
    def _transfer(self) -> Transfer:
        if not hasattr(self._threads, "transfer"):
            self._threads.transfer = Transfer(self._settings.ca_bundle)
        found = self._threads.transfer
        assert isinstance(found, Transfer)
        return found

    # Releases

    def _release(self, source: Source) -> Stanza | None:
        """The signed description of a suite; None for one of updates that the mirror does not have."""
        what = f"cannot read the index of {source.suite}"
        url = f"{source.url}/dists/{source.suite}/InRelease"
        kept = self._releases / f"{hashlib.sha256(redaction.url(url).encode()).hexdigest()}.InRelease"
        if self._settings.offline:
            try:
                signed = kept.read_bytes()
            except OSError as error:
                raise InputError(
                    what, why="offline, and no earlier answer of its mirror is kept", hint="run once with a network"
                ) from error
        else:
            try:
                signed = persistently(lambda: b"".join(self._transfer.pieces(url, limit=_RELEASE_LIMIT, what=what)))
            except Missing:
                if source.suite.endswith("-updates"):
                    self._progress.warning(f"{redaction.url(source.url)} has no {source.suite}")
                    return None
                hint = (
                    "--apt-mirror URL,URL-OF-SECURITY-UPDATES" if source.archive == "security" else "set another mirror: --apt-mirror URL"
                )
                raise EngineError(what, why=f"{redaction.url(url)} does not exist", hint=hint) from None
        release = self._verified(signed, source, what)
        if not self._settings.offline:
            write_file(kept, signed)
        return release

    def _verified(self, signed: bytes, source: Source, what: str) -> Stanza:
        if self._settings.keyring is None:
            keyring = keys.shipped(self.distribution.vendor)
        else:
            try:
                keyring = self._settings.keyring.read_bytes()
            except OSError as error:
                raise InputError(what, why=f"{self._settings.keyring}: {error.strerror}") from error
        release = stanza(keys.verified(signed, keyring, what=what), what=what)
        if source.suite not in (release.get("Suite"), release.get("Codename")):
            raise EngineError(what, why=f"the mirror sends {release.get('Codename') or 'something else'} in its place")
        if self.arch not in release.get("Architectures", "").split():
            raise EngineError(what, why=f"it has nothing for {self.arch}")
        self._look_at_dates(release, source)
        return release

    def _look_at_dates(self, release: Stanza, source: Source) -> None:
        """An index that is held back is still signed. Snapshots are old on purpose, so this says it and goes on."""
        now = dt.datetime.now(dt.timezone.utc)
        until, date = _time(release.get("Valid-Until")), _time(release.get("Date"))
        if until is not None and until < now and not self._settings.offline:
            self._progress.warning(f"the index of {source.suite} was valid until {until:%Y-%m-%d}: the mirror may lack newer updates")
        if date is not None and date > now + dt.timedelta(days=1):
            self._progress.warning(f"the index of {source.suite} is of {date:%Y-%m-%d}, which is still to come: is the clock right?")

    # Indexes

    def _packages(self, source: Source, release: Stanza, component: str) -> Iterator[bytes]:
        """The text of `Packages` of a component; none where the suite has no such component."""
        what = f"cannot read the index of {source.suite}"
        name = f"{component}/binary-{self.arch}/Packages"
        hashes = {found[3]: (found[1], int(found[2])) for line in release.get("SHA256", "").splitlines() if (found := _HASHED.match(line))}
        for ending in (".xz", ".gz"):
            if name + ending in hashes:
                sha256, size = hashes[name + ending]
                by_hash = release.get("Acquire-By-Hash") == "yes"
                folder = f"{source.url}/dists/{source.suite}/{component}/binary-{self.arch}"
                url = f"{folder}/by-hash/SHA256/{sha256}" if by_hash else f"{folder}/Packages{ending}"
                try:
                    self._keep(url, sha256, size, limit=_INDEX_LIMIT, what=what)
                except Missing:
                    why = f"{redaction.url(url)} does not exist, and the signed description names it"
                    raise EngineError(what, why=why, hint="try again later: the mirror may be in the middle of an update") from None
                yield needed(self.store.read(f"sha256:{sha256}"), ending, what)
                return

    # Files

    def _fetch(self, file: DebFile, source: Source) -> None:
        what = f"cannot fetch {file.name} {file.version}"
        try:
            self._keep(f"{source.url}/{file.path}", file.sha256, file.size_bytes, limit=_DEB_LIMIT, what=what)
        except Missing:
            raise EngineError(
                what,
                why=f"{redaction.url(source.url)} does not have it any more: mirrors drop what was replaced",
                hint="a mirror of a snapshot has it (--apt-mirror URL); build with --vendor to keep the files beside the lock",
            ) from None

    def _keep(self, url: str, sha256: str, size: int, *, limit: int, what: str) -> None:
        """Have the file of a hash in the store, whole. Raises Missing, EngineError; offline, InputError."""
        digest = f"sha256:{sha256}"
        self.store.touch(digest)
        if self.store.has_whole(digest):
            return
        if self._settings.offline:
            raise InputError(what, why="offline, and it is not in the cache", hint="run once with a network")
        if size > limit:
            raise EngineError(what, why=f"it has {size} bytes, more than the {limit} that are read")

        def attempt() -> None:
            with self.store.writer(durable=False) as blob:
                got = 0
                for piece in self._transfer.pieces(url, limit=size, what=what):
                    got += blob.write(piece)
                if blob.hash.hexdigest() != sha256:
                    short = f"{got} of {size} bytes came" if got != size else "its SHA-256 is another than the signed index says"
                    raise EngineError(what, why=f"{redaction.url(url)}: {short}", hint="set another mirror: --apt-mirror URL")

        persistently(attempt)


def _time(text: str | None) -> dt.datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.timezone.utc)


def needed(data: bytes, ending: str, what: str) -> bytes:
    """The text of an index without what resolving does not ask for: descriptions and tags are half of it.

    A signed index is no bomb, but its memory is ours: at most `_INDEX_LIMIT` bytes are ever made of it, a piece at a time.

    Args:
        ending: ".xz" or ".gz".

    Raises:
        InputError: it cannot be decompressed, or is beyond the limit.
    """
    kept, size, rest = [], 0, b""
    try:
        for piece in _decompressed(data, ending):
            size += len(piece)
            if size > _INDEX_LIMIT:
                raise InputError(what, why=f"it has more than {_INDEX_LIMIT} bytes")
            whole, mark, rest = (rest + piece).rpartition(b"\n\n")
            kept.append(b"".join(_NEEDED.findall(whole + mark)))
    except (lzma.LZMAError, zlib.error, EOFError) as error:
        raise InputError(what, why=f"it cannot be decompressed: {error}") from error
    return b"".join((*kept, *_NEEDED.findall(rest + b"\n")))


def _decompressed(data: bytes, ending: str) -> Iterator[bytes]:
    if ending == ".xz":
        xz = lzma.LZMADecompressor(memlimit=256 << 20)
        while piece := xz.decompress(data, _PIECE):
            yield piece
            data = b""
            if xz.eof:
                return
    else:
        gz = zlib.decompressobj(16 + zlib.MAX_WBITS)
        while piece := gz.decompress(data, _PIECE):
            yield piece
            data = gz.unconsumed_tail
