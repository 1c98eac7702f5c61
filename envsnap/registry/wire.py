"""HTTP as the registry client needs it: one request, one answer, on connections that are measured and can be cut.

requests is used for its proxies and its TLS, and for nothing that it would decide by itself: no redirect is followed here, no login taken
from a .netrc, no cookie kept, nothing tried again.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from envsnap import __version__, redaction, redirects
from envsnap.errors import causes, innermost
from envsnap.oci.reference import is_loopback
from envsnap.registry.patience import LATER, Patience, Trouble, retry_after

PIECE = 1 << 18
"""Bytes that are read or sent at once: large enough that Python's share of the work is small, small enough that each is soon done."""
_SAID_BYTES = 1 << 14
_SAID_CHARACTERS = 300
_NUMBER = re.compile(r"[0-9]{1,18}\Z")
_CONNECTIONS = 32
_BROKEN = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)
"""What urllib3, below requests, raises; ValueError comes of nonsense that nobody looked for: a negative chunk, letters no header holds."""


class FilePart:
    """Bytes of an open file, from `start` to `end`: where nothing has to encrypt them the kernel sends them. A slice is one, too."""

    __slots__ = ("_end", "_file", "_start")

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, part: slice) -> FilePart:
        start, end, _ = part.indices(len(self))
        return FilePart(self._file, self._start + start, self._start + end)

    def pieces(self) -> Iterator[bytes]:
        """Raises OSError: it cannot be read, or became shorter."""
        for start in range(self._start, self._end, PIECE):
            piece = os.pread(self._file.fileno(), min(PIECE, self._end - start), start)
            yield piece or self._ended()

    def send(self, sock: socket.socket) -> None:
        """Have the kernel send them. Raises OSError: as `socket.sendall`; or as `pieces`."""
        if sock.sendfile(self._file, self._start, len(self)) < len(self):
            self._ended()

    def _ended(self) -> NoReturn:
        raise OSError(errno.EIO, "it became shorter while it was sent", self._file.name)


class Body(Protocol):
    """What is sent, from its start each time it is iterated. Its length is known, so that it needs none of HTTP's own chunks."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes | memoryview | FilePart]: ...


class Answer(contextlib.AbstractContextManager["Answer"]):
    """What came back; to be closed, and usable as a context. Attributes: url: that was asked."""

    def __init__(self, response: requests.Response, url: str) -> None:
        self._response = response
        self.url = url
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._said = ""

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Done with it. A connection whose answer was read is used again, so a short rest is read rather than left."""
        raw = self._response.raw
        if raw.length_remaining is not None and raw.length_remaining <= _SAID_BYTES:
            with contextlib.suppress(*_BROKEN):
                raw.read(decode_content=False)
        self._response.close()

    def number(self, header: str) -> int | None:
        """What a header counts; None where it is not there, or says no number of a size that anything has."""
        text = self.headers.get(header, "")
        return int(text) if _NUMBER.match(text) else None

    def pieces(self) -> Iterator[bytes]:
        """The body as it was sent. Raises Trouble: it broke off."""
        try:
            yield from self._response.raw.stream(PIECE, decode_content=False)
        except _BROKEN as error:
            raise _trouble(error) from error

    def body(self, limit: int) -> bytes:
        """All of it. Raises Trouble: it broke off, or is more than `limit`."""
        raw = bytearray()
        for piece in self.pieces():
            raw += piece
            if len(raw) > limit:
                raise Trouble(f"answered more than {limit >> 20} MiB", passing=False)
        return bytes(raw)

    def later(self) -> Trouble | None:
        """What to make of an answer that asks for another attempt; None for any other one."""
        if self.status not in LATER:
            return None
        return Trouble(f"answered with {self.said()}", wait_s=retry_after(self.headers.get("Retry-After", "")), hint="try again later")

    def said(self) -> str:
        """The status, and the registry's own words for it: "HTTP 429: toomanyrequests: …"."""
        if not self._said:
            words = "".join(one if one.isprintable() else " " for one in redaction.text(self._errors()))[:_SAID_CHARACTERS].strip()
            self._said = f"HTTP {self.status}: {words}" if words else f"HTTP {self.status}"
        return self._said

    def _errors(self) -> str:
        try:
            errors = json.loads(self.body(_SAID_BYTES))["errors"]
            return ", ".join(f"{one.get('code', '')} {one.get('message', '')}".strip() for one in errors[:3])
        except (Trouble, ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return ""


_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables that name the CA bundle."""


class Wire:
    """Sends requests; usable from many threads."""

    def __init__(self, env: Mapping[str, str], patience: Patience) -> None:
        self.patience = patience
        # The first of them counts; --ca-bundle is the first.
        self._named_by = next((name for name in _BUNDLES if env.get(name)), _BUNDLES[-1])
        self._verify: str | bool = env.get(self._named_by) or True
        self._lines = _Lines(patience)
        self._cut = threading.Event()
        self._session = redirects.session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._session.headers["User-Agent"] = f"envsnap/{__version__}"
        self._session.headers["Accept-Encoding"] = "identity"  # a digest is of the bytes as they are kept
        adapter = _Adapter(self._lines)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: Body | bytes | None = None, read_s: float | None = None
    ) -> Answer:
        """One request.

        Args:
            body: an empty one is b"".
            read_s: for the answer to come; None for what `Patience` says.

        Raises:
            Trouble: no answer.
        """
        self._require_open()
        patience = self.patience
        # Which proxy, says the environment; what is on this machine is never asked of one, as with docker.
        proxies = {} if is_loopback(urlsplit(url).netloc) else get_environ_proxies(url)
        if isinstance(self._verify, str) and not Path(self._verify).exists():
            hint = f"{self._named_by} or --ca-bundle names it"
            raise Trouble(f"is not asked: there is no CA bundle at {self._verify}", passing=False, hint=hint)
        try:
            response = self._session.request(
                method,
                url,
                headers=dict(headers),
                data=body,  # type: ignore[arg-type]  # the stubs know no iterable with a length
                timeout=(patience.connect_s, read_s or patience.read_s),
                verify=self._verify,
                proxies=proxies,
                allow_redirects=False,
                stream=True,
            )
        except _BROKEN as error:
            self._require_open()
            raise _trouble(error) from error
        return Answer(response, url)

    def pause(self, seconds: float) -> None:
        """Wait. Raises Trouble: everything was cut meanwhile."""
        self._cut.wait(seconds)
        self._require_open()

    def cut(self) -> None:
        """End whatever is under way, in every thread, for good."""
        self._cut.set()
        self._lines.cut()
        self._session.close()

    def _require_open(self) -> None:
        if self._cut.is_set():
            raise Trouble("was left: the work was stopped", passing=False)


def _trouble(error: BaseException) -> Trouble:
    cause = redaction.text(innermost(error))
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in causes(error)):
        hint = "name the CA bundle that it is signed by: --ca-bundle FILE"
        return Trouble(f"is not trusted: {cause}", passing=False, hint=hint)
    passing = not isinstance(error, requests.RequestException | ValueError) or isinstance(
        error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError
    )
    return Trouble(f"does not answer: {cause}", passing=passing, hint="check the network, the proxy and the CA bundle (--ca-bundle)")


class _Lines:
    """The open connections. A connection is cut by shutting its socket down: whoever waits on it wakes up with an error."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._open: dict[int, socket.socket] = {}
        self._cut = False
        self._lock = threading.Lock()

    def opened(self, sock: Any) -> None:
        with self._lock:
            self._open = {key: one for key, one in self._open.items() if one.fileno() >= 0}
            self._open[id(sock)] = sock
            if self._cut:
                _shut(sock)

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            for sock in self._open.values():
                _shut(sock)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Has requests use connections of ours."""

    def __init__(self, lines: _Lines) -> None:
        self._pools = _pools(lines)
        super().__init__(pool_maxsize=_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(lines: _Lines) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's two kinds of pool, of connections that `lines` knows and whose pace is measured."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp = io.BufferedReader(_Measured(self.fp.detach(), lines.patience))

    class Plain(HTTPConnection):
        response_class = Response

        def connect(self) -> None:
            super().connect()
            lines.opened(self.sock)

        def send(self, data: Any) -> None:
            if self.sock is not None:  # urllib3 leaves the time limit of connecting on it
                self.sock.settimeout(lines.patience.read_s)
            if isinstance(data, FilePart):
                data.send(self.sock)
            else:
                super().send(data)

    class Encrypted(HTTPSConnection):
        response_class = Response

        def connect(self) -> None:
            super().connect()
            lines.opened(self.sock)

        def send(self, data: Any) -> None:
            if self.sock is not None:
                self.sock.settimeout(lines.patience.read_s)
            for piece in data.pieces() if isinstance(data, FilePart) else (data,):
                super().send(piece)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}


class _Measured(io.RawIOBase):
    """Reads from a socket and gives up on one that dribbles.

    A time limit for each read is no limit for an answer that comes byte by byte. What counts here is the time spent waiting for bytes,
    after the first: how long the registry thinks, and how long the reader takes for what it got, are other matters.
    """

    def __init__(self, raw: io.RawIOBase, patience: Patience, clock: Callable[[], float] = time.monotonic) -> None:
        self._raw = raw
        self._clock = clock
        self._window_s = patience.slow_s
        self._least = patience.slow_s * patience.slow_bytes_per_s
        self._started = False
        self._waited_s = 0.0
        self._arrived = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        before = self._clock()
        count = self._raw.readinto(buffer)
        if self._started:
            self._waited_s += self._clock() - before
            self._arrived += count or 0
            if self._waited_s >= self._window_s:
                if self._arrived < self._least:
                    raise TimeoutError(f"{self._arrived} bytes in {self._waited_s:.0f} s")
                self._waited_s, self._arrived = 0.0, 0
        self._started = True
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
