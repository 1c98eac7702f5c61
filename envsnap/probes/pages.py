"""Project pages of package indexes: over HTTP with a revalidated cache, from `file://` indexes, and from find-links.

A URL may carry credentials. They go to the server that it names and nowhere else: what is kept, said or raised is redacted.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

import msgspec

from envsnap import redaction, redirects
from envsnap.errors import InputError
from envsnap.probes.wheel_record import TAIL_BYTES, PiecewiseFile
from envsnap.storage import write_file

if TYPE_CHECKING:
    import requests
    from pypi_simple import DistributionPackage
    from urllib3.response import BaseHTTPResponse

PAGE_LIMIT_BYTES = 64 << 20
TIMEOUT_S = (10.0, 60.0)  # to connect, between two answers
LONGEST_WAIT_S = 30.0  # that an index may ask for with Retry-After

_JSON = "application/vnd.pypi.simple.v1+json"
_TRUST = "pip's setting `cert` or REQUESTS_CA_BUNDLE names whom to trust"
_GENERIC_SEGMENTS = {"simple", "+simple", "index", "pypi", ""}


class NoProject(Exception):
    """The index answers that it does not know the project."""


class Unanswered(Exception):
    """No answer that means anything; the message is a sentence without credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place where wheels are looked for.

    Attributes:
        url: an index's base URL, a find-links URL, or a local path; may hold credentials, and is never shown.
        label: as the lock names it (IndexOrigin.index); None for the default index.
    """

    url: str
    kind: Literal["index", "find-links"]
    label: str | None

    @property
    def shown(self) -> str:
        """For sentences."""
        if self.label is None:
            return "the default index"
        return self.label if self.kind == "index" and self.label != "file" else f"{self.label} {redaction.shown_url(self.url)}"

    @property
    def directory(self) -> Path | None:
        """Where it lies, for a local one."""
        parts = urlsplit(self.url)
        if parts.scheme == "file":
            return Path(unquote(parts.path))
        return None if parts.netloc else Path(self.url).expanduser()


class ListedFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file as a page lists it.

    Attributes:
        sha256: as published, None without.
        local: path of a file of a local page; url: of any other, without credentials on disk.
    """

    name: str
    sha256: str | None = None
    yanked: bool = False
    size_bytes: int | None = None
    local: str | None = None
    url: str | None = None


def index_label(url: str) -> str:
    """What a lock calls an index, "name@host": no scheme, no credentials, and of the path only its last telling part, unless that may be
    a token. The same address has the same label wherever pip is configured with it, so that a build finds the index again.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return "file"
    host = parts.netloc.rpartition("@")[2]
    names = [segment for segment in parts.path.split("/") if segment not in _GENERIC_SEGMENTS]
    # Some hosts put a token into the path; a repository's name is short.
    name = names[-1] if names and len(names[-1]) <= 40 else ""
    if redaction.is_random(name) or redaction.is_secret_value(name):
        name = ""
    return f"{name}@{host}" if name else host


class Pages:
    """Asks indexes, each page once. Safe to use from several threads.

    Args:
        cache: directory for answers, revalidated by ETag or Last-Modified.
        offline: answer from the cache alone.
        ca_bundle: certificates to trust, whatever else is said of them.
        pip_cert: those that pip's configuration names. As with pip, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE come before them; without
            any of these the public authorities are trusted.
    """

    def __init__(self, cache: Path, *, offline: bool, ca_bundle: Path | None, pip_cert: Path | None) -> None:
        self._cache = cache / "project-pages"
        self._offline = offline
        self._ca_bundle = ca_bundle
        self._pip_cert = pip_cert
        self._threads = threading.local()
        self._silent_hosts: dict[str, str] = {}

    def listed(self, location: Location, name: str) -> Sequence[ListedFile]:
        """Files among which those of a project are: its page on an index, or all that a find-links place has. Raises as those two."""
        return self.links(location) if location.kind == "find-links" else self.project(location, name)

    def project(self, location: Location, name: str) -> Sequence[ListedFile]:
        """Files of one project on an index.

        Raises:
            NoProject: the index has no such project.
            Unanswered: it cannot be asked, or its answer is no index page.
        """
        directory = location.directory
        if directory is None:
            return self._remote(location, location.url.rstrip("/") + f"/{name}/", name)
        page = directory / name / "index.html"
        if not page.is_file():
            raise NoProject
        return self._local(page, name)

    def links(self, location: Location) -> Sequence[ListedFile]:
        """All files of a find-links folder or page. Raises Unanswered."""
        directory = location.directory
        try:
            if directory is None:
                return self._remote(location, location.url, None)
            if directory.is_dir():
                return [ListedFile(name=file.name, local=str(file)) for file in sorted(directory.iterdir()) if file.suffix == ".whl"]
            return self._local(directory, None)
        except NoProject:
            raise Unanswered(f"{location.shown} does not exist") from None

    def _local(self, page: Path, name: str | None) -> Sequence[ListedFile]:
        try:
            with page.open("rb") as file:
                body = file.read(PAGE_LIMIT_BYTES + 1)
        except OSError as error:
            raise Unanswered(f"{page} cannot be read: {error.strerror}") from error
        if len(body) > PAGE_LIMIT_BYTES:
            raise Unanswered(f"{page} is larger than {PAGE_LIMIT_BYTES >> 20} MiB")
        return _parse(body, "text/html", page.as_uri(), name, str(page))

    def _remote(self, location: Location, url: str, name: str | None) -> Sequence[ListedFile]:
        entry = self._cache / hashlib.sha256(redaction.url(url).encode()).hexdigest()
        kept = _read_kept(entry)
        if self._offline:
            if kept is None:
                raise Unanswered(f"offline, and no earlier answer of {location.shown} is kept")
            return kept.files
        if kept is not None and time.time() < kept.fresh_until:
            return kept.files
        host = urlsplit(url).netloc
        if host in self._silent_hosts:
            raise Unanswered(f"{location.shown} {self._silent_hosts[host]}")
        with self._get(location, url, {} if kept is None else kept.validators) as response:
            if response.status_code == 304 and kept is not None:
                write_file(entry, msgspec.json.encode(msgspec.structs.replace(kept, fresh_until=_fresh_until(response.headers))))
                return kept.files
            if response.status_code in (404, 410):
                raise NoProject
            if response.status_code in (401, 403):
                raise Unanswered(f"{location.shown} wants other credentials ({response.status_code})")
            if response.status_code != 200:
                raise Unanswered(f"{location.shown} answers {response.status_code}")
            body = self._body(location, response)
            headers = response.headers
        digest = hashlib.sha256(body).hexdigest()
        # Some indexes send neither validator; parsing is what takes the time.
        known = kept is not None and kept.body_sha256 == digest
        files = (
            kept.files if kept is not None and known else _parse(body, headers.get("content-type", "text/html"), url, name, location.shown)
        )
        fresh = _Kept(
            etag=headers.get("etag", ""),
            last_modified=headers.get("last-modified", ""),
            body_sha256=digest,
            fresh_until=_fresh_until(headers),
            files=tuple(msgspec.structs.replace(file, url=redaction.url(file.url or "") or None) for file in files),
        )
        if fresh != kept:
            write_file(entry, msgspec.json.encode(fresh))
        return files

    @contextmanager
    def opened(self, location: Location, file: ListedFile) -> Iterator[IO[bytes] | PiecewiseFile]:
        """A listed file, of which only what is read is fetched where the server can do that; else the whole, held against its hash.

        Raises:
            Unanswered: it cannot be had.
        """
        if file.local is not None:
            try:
                with Path(file.local).open("rb") as local:
                    yield local
            except OSError as error:
                raise Unanswered(f"{file.local} cannot be read: {error.strerror}") from error
            return
        if self._offline or file.url is None:
            raise Unanswered(f"offline, and the RECORD of {file.name} was never read")
        url = redirects.with_login(file.url, location.url)
        with self._piece(location, url, f"bytes=-{TAIL_BYTES}") as response:
            total = _number(response.headers.get("content-range", "").rpartition("/")[2])
            if response.status_code == 206 and total is not None:
                tail = self._body(location, response)
                yield PiecewiseFile(tail, total, lambda start, end: self._between(location, url, start, end))
            elif response.status_code == 200:  # it serves no pieces
                with self._whole(location, response, file) as whole:
                    yield whole
            else:
                raise Unanswered(f"{location.shown} answers {response.status_code} for {file.name}")

    def pieces(self, location: Location, file: ListedFile, *, start: int = 0) -> Iterator[bytes]:
        """The bytes of a remote file from `start` on.

        Raises:
            Unanswered: it cannot be had, or the connection breaks: what was yielded is good, and the rest may be asked for again.
        """
        import requests

        if self._offline or file.url is None:
            raise Unanswered(f"offline, and {file.name} was never fetched")
        url = redirects.with_login(file.url, location.url)
        with self._piece(location, url, f"bytes={start}-") as response:
            if response.status_code not in (200, 206):
                raise Unanswered(f"{location.shown} answers {response.status_code} for {file.name}")
            skip = start if response.status_code == 200 else 0  # it serves no pieces
            try:
                for piece in response.iter_content(1 << 20):
                    if skip < len(piece):
                        yield piece[skip:]
                    skip = max(0, skip - len(piece))
            except (requests.RequestException, ValueError) as error:
                raise Unanswered(f"{location.shown} breaks off in the middle of {file.name}") from error

    def _piece(self, location: Location, url: str, range_: str) -> requests.Response:
        return self._get(location, url, {"Range": range_, "Accept": "*/*", "Accept-Encoding": "identity"})

    def _between(self, location: Location, url: str, start: int, end: int) -> bytes:
        with self._piece(location, url, f"bytes={start}-{end - 1}") as response:
            if response.status_code != 206:
                raise Unanswered(f"{location.shown} answers {response.status_code} for a piece of a file")
            return self._body(location, response)

    @contextmanager
    def _whole(self, location: Location, response: requests.Response, file: ListedFile) -> Iterator[IO[bytes]]:
        import requests

        digest = hashlib.sha256()
        with tempfile.TemporaryFile() as whole:
            try:
                for chunk in response.iter_content(1 << 20):
                    digest.update(chunk)
                    whole.write(chunk)
            except (requests.RequestException, ValueError) as error:
                raise Unanswered(f"{location.shown} breaks off in the middle of {file.name}") from error
            if file.sha256 not in (None, digest.hexdigest()):
                raise Unanswered(f"{location.shown} sends other bytes for {file.name} than the hash that it publishes")
            whole.seek(0)
            yield whole

    def _get(self, location: Location, url: str, headers: Mapping[str, str]) -> requests.Response:
        import requests
        from pypi_simple import ACCEPT_JSON_PREFERRED

        try:
            return redirects.get(
                self._session(),
                url,
                headers={"Accept": ACCEPT_JSON_PREFERRED, **headers},
                timeout=TIMEOUT_S,
                verify=None if self._ca_bundle is None else str(self._ca_bundle),
            )
        except redirects.Astray as error:
            raise Unanswered(f"{location.shown} {error}") from error
        except requests.exceptions.SSLError as error:
            raise self._silent(location, url, f"has a certificate that is not trusted ({_TRUST})") from error
        except requests.Timeout as error:
            raise self._silent(location, url, f"does not answer within {TIMEOUT_S[1]:g} s") from error
        except requests.ConnectionError as error:
            raise self._silent(location, url, "cannot be reached") from error
        except (requests.RequestException, ValueError) as error:  # requests lets some of what comes of nonsense through
            raise Unanswered(f"{location.shown} cannot be asked ({type(error).__name__})") from error
        except OSError as error:  # the file of certificates is looked for when it is needed
            raise InputError("the certificates to trust are not there", why=str(error), hint=_TRUST) from error

    def _silent(self, location: Location, url: str, what: str) -> Unanswered:
        """Remember that a host is down: a hundred packages must not each wait for it."""
        self._silent_hosts[urlsplit(url).netloc] = what
        return Unanswered(f"{location.shown} {what}")

    def _body(self, location: Location, response: requests.Response) -> bytes:
        import requests

        body = bytearray()
        try:
            for chunk in response.iter_content(1 << 16):
                body += chunk
                if len(body) > PAGE_LIMIT_BYTES:
                    raise Unanswered(f"{location.shown} answers more than {PAGE_LIMIT_BYTES >> 20} MiB")
        except (requests.RequestException, ValueError) as error:
            raise Unanswered(f"{location.shown} breaks off in the middle of an answer") from error
        return bytes(body)

    def _session(self) -> requests.Session:
        """One for each thread: a session may not be shared."""
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        if not hasattr(self._threads, "session"):
            session = redirects.session()
            session.verify = True if self._pip_cert is None else str(self._pip_cert)  # pip sets it so: the environment comes before it

            class Patient(Retry):
                def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
                    asked = super().get_retry_after(response)
                    return None if asked is None else min(asked, LONGEST_WAIT_S)

            retries = Patient(total=2, backoff_factor=0.3, status_forcelist=(429, 502, 503, 504), raise_on_status=False)
            session.mount("https://", HTTPAdapter(max_retries=retries))
            session.mount("http://", HTTPAdapter(max_retries=retries))
            self._threads.session = session
        session = self._threads.session
        assert isinstance(session, requests.Session)
        return session


class _Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of an answer. Attributes: fresh_until: the server asks for no question before that time, seconds since 1970."""

    etag: str
    last_modified: str
    body_sha256: str
    fresh_until: float = 0.0
    files: tuple[ListedFile, ...]

    @property
    def validators(self) -> dict[str, str]:
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {header: value for header, value in named.items() if value}


def _read_kept(entry: Path) -> _Kept | None:
    try:
        return msgspec.json.decode(entry.read_bytes(), type=_Kept)
    except (OSError, ValueError):
        return None


def _parse(body: bytes, content_type: str, url: str, name: str | None, shown: str) -> Sequence[ListedFile]:
    from pypi_simple import ProjectPage, UnsupportedRepoVersionError

    kind, _, parameters = content_type.partition(";")
    try:
        if kind.strip().lower() == _JSON:
            page = ProjectPage.from_json_data(json.loads(body), url)
        elif "html" in kind.lower():
            charset = parameters.partition("charset=")[2].strip(" \"'") or None
            page = ProjectPage.from_html(name or "", body, url, charset)
        else:
            raise Unanswered(f"{shown} answers with content of type {kind.strip()!r}")
        if name is not None and not page.packages:  # as a login page does
            raise Unanswered(f"{shown} answers a page that lists no file of {name}")
        return [_listed(package) for package in page.packages if package.filename.endswith(".whl")]
    except (ValueError, RecursionError, LookupError, UnsupportedRepoVersionError) as error:
        raise Unanswered(f"{shown} answers what is no index page ({type(error).__name__})") from error


def _listed(package: DistributionPackage) -> ListedFile:
    parts = urlsplit(package.url)
    return ListedFile(
        name=package.filename,
        sha256=package.digests.get("sha256", "").lower() or None,
        yanked=package.is_yanked,
        size_bytes=package.size,
        local=unquote(parts.path) if parts.scheme == "file" else None,
        url=None if parts.scheme == "file" else package.url,
    )


def _fresh_until(headers: Mapping[str, str]) -> float:
    """RFC 9111, the part that matters here: `Cache-Control: max-age`, less the time that the answer already lay in a cache."""
    control = headers.get("cache-control", "").lower()
    age = _number(headers.get("age", "0"))
    match = re.search(r"(?:^|[\s,])max-age=([0-9]{1,9})", control)
    if match is None or "no-cache" in control or "no-store" in control or age is None:
        return 0.0
    return time.time() + int(match[1]) - age


def _number(text: str) -> int | None:
    """What a header counts; None where it is no number of a size that anything has."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
