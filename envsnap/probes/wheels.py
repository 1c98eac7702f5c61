"""Fetching wheels by their hash, from wherever pip is configured to look."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from envsnap.blobs import BlobStore, BlobWriter
from envsnap.errors import EngineError
from envsnap.guest.pip_config import effective_pip_options
from envsnap.model.plan import PinnedWheel
from envsnap.probes.index import Found, PipConfig, published
from envsnap.probes.pages import ListedFile, Location, NoProject, Pages, Unanswered
from envsnap.process import NotStarted, run
from envsnap.progress import Progress, Task

_THREADS = 4
_ATTEMPTS = 5
_LIMIT_BYTES = 16 << 30  # of one wheel: a lock says no sizes, and a disk is soon full
_CONFIG_TIMEOUT_S = 60


def pip_config(python: str, pip_conf: Path | None, env: Mapping[str, str]) -> PipConfig:
    """How the pip of `python` is configured here. Args: pip_conf: a file in place of the usual ones.

    Raises:
        EngineError: pip cannot be asked.
    """
    asked = {**env, **({"PIP_CONFIG_FILE": str(pip_conf)} if pip_conf is not None else {})}
    try:
        done = run((python, "-m", "pip", "config", "list"), env=asked, timeout_s=_CONFIG_TIMEOUT_S)
    except NotStarted as error:
        raise EngineError("cannot ask pip for its indexes", why=str(error)) from error
    if not done.ok:
        raise EngineError("cannot ask pip for its indexes", why=done.tail(3))
    return PipConfig.from_facts(effective_pip_options(_settings(done.stdout.decode("utf-8", "replace"))))


def _settings(text: str) -> Iterable[tuple[str, str]]:
    """Lines such as `global.index-url='https://…'`, as `pip config list` prints them: Python's literals."""
    for line in text.splitlines():
        name, _, literal = line.partition("=")
        try:
            yield name, str(ast.literal_eval(literal))
        except (SyntaxError, ValueError):
            continue


class Wheels:
    """Finds and fetches wheels. What was fetched lies in the store under its own hash.

    Args:
        config: where to look; asked for when something has to be fetched, because that starts pip.
        also: another store that may have some: the blobs beside a lock.
        offline: nobody is asked; what is not at hand is missing.
    """

    def __init__(
        self,
        store: BlobStore,
        config: Callable[[], PipConfig],
        *,
        also: BlobStore,
        cache: Path,
        offline: bool,
        ca_bundle: Path | None,
    ) -> None:
        self._store = store
        self._config = config
        self._also = also
        self._cache = cache
        self._offline = offline
        self._ca_bundle = ca_bundle
        self._local: dict[str, Path] = {}
        self._hashed: set[str] = set()

    def path(self, sha256: str) -> Path | None:
        """Where a wheel lies, fetched or local; None when it is not at hand. Its bytes are checked by whoever reads them."""
        if sha256 in self._local:
            return self._local[sha256]
        self._store.touch(f"sha256:{sha256}")
        kept = (store.path(f"sha256:{sha256}") for store in (self._store, self._also))
        return next((path for path in kept if path.is_file()), None)

    def checked(self, sha256: str) -> Path | None:
        """As `path`, for one whose bytes were hashed: when they were fetched just now, else for this. A damaged copy of the store goes.

        Raises:
            InputError: the file beside the lock is damaged.
        """
        if sha256 not in self._hashed and sha256 not in self._local:
            digest = f"sha256:{sha256}"
            self._store.drop_damaged(digest)
            if not self._store.has(digest) and self._also.has(digest):
                self._also.check(digest)
            self._hashed.add(sha256)
        return self.path(sha256)

    def fetch(self, wheels: Sequence[PinnedWheel], progress: Progress) -> None:
        """Have all of them at hand.

        Raises:
            EngineError: some are not to be had; all of those are named.
            InputError: the certificates to trust are not there.
        """
        wanted = [wheel for wheel in wheels if self.path(wheel.sha256) is None]
        if not wanted:
            return
        config = self._config()
        locations = config.locations()
        pages = Pages(self._cache, offline=self._offline, ca_bundle=self._ca_bundle, pip_cert=config.certificates_file(self._cache))
        failed: dict[str, str] = {}
        with (
            progress.task(f"fetch {len(wanted)} wheels", unit="bytes") as task,
            ThreadPoolExecutor(_THREADS) as pool,
        ):
            running = {pool.submit(self._fetch, wheel, pages, locations, task): wheel for wheel in wanted}
            try:
                for future in as_completed(running):
                    if why := future.result():
                        failed[running[future].file] = why
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if failed:
            shown = sorted(failed)[:4]
            more = f" and {len(failed) - len(shown)} more" if len(failed) > len(shown) else ""
            raise EngineError(
                f"cannot fetch {', '.join(shown)}{more}",
                why="; ".join(dict.fromkeys(failed[name] for name in shown)),
                hint="--pip-conf F names other indexes; capture again with --rescue NAME to keep what is installed",
            )

    def _fetch(self, wheel: PinnedWheel, pages: Pages, locations: Sequence[Location], task: Task) -> str:
        """Fetch one; returns why it is not to be had, "" when it is."""
        reasons = []
        for location in sorted(locations, key=lambda location: location.label != wheel.index):
            try:
                files = pages.listed(location, wheel.name)
            except NoProject:
                continue
            except Unanswered as error:
                reasons.append(str(error))
                continue
            same = [file for file in files if file.name == wheel.file and file.sha256 in (None, wheel.sha256)]
            for file in same:
                try:
                    self._take(wheel, file, pages, location, task)
                except Unanswered as error:
                    reasons.append(str(error))
                else:
                    return ""
        if self._offline:
            return "offline, and not kept from an earlier build"
        return "; ".join(reasons) or "no index that pip is configured to ask has a file of that name and hash"

    def _take(self, wheel: PinnedWheel, file: ListedFile, pages: Pages, location: Location, task: Task) -> None:
        if file.local is not None:
            # A folder's page publishes no hash, and another build of the same version has the same name.
            found = published(file, location)
            if not isinstance(found, Found) or found.sha256 != wheel.sha256:
                raise Unanswered(f"{file.local} is another file than the one with that hash")
            self._local[wheel.sha256] = Path(file.local)
            return
        with self._store.writer(durable=False) as blob:
            self._download(pages, location, file, blob, task)
            if blob.hash.hexdigest() != wheel.sha256:
                raise Unanswered(f"{location.shown} sends other bytes for {file.name} than its hash says")
        self._hashed.add(wheel.sha256)

    def _download(self, pages: Pages, location: Location, file: ListedFile, blob: BlobWriter, task: Task) -> None:
        """All bytes of a file; after a break it goes on where it stopped."""
        done = 0
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                for piece in pages.pieces(location, file, start=done):
                    blob.write(piece)
                    done += len(piece)
                    if done > _LIMIT_BYTES:
                        raise EngineError(f"refused {file.name}", why=f"{location.shown} sends more than {_LIMIT_BYTES >> 30} GiB of it")
                    task.advance(len(piece))
            except Unanswered:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(2 ** (attempt - 2))
            else:
                return
