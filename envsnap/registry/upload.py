"""Blobs written to a registry: in chunks that are taken up again where a connection broke, or whole where chunks are refused."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from envsnap.errors import EngineError
from envsnap.oci.documents import Descriptor
from envsnap.registry.host import Place
from envsnap.registry.patience import LATER, Trouble
from envsnap.registry.wire import Answer, FilePart
from envsnap.storage import disk_errors

OpenAt = Callable[[int], Iterator[bytes | FilePart]]
"""A blob's bytes from an offset on, in pieces of any size; asked again when bytes must be sent again."""

CHUNK = 32 << 20
"""Bytes in one request: what is sent again, at most, when a connection breaks and the registry keeps what it got."""
_LEAST_CHUNK = 1 << 20
_AT_ONCE = 1 << 20  # bytes between two looks at what is sent
_BINARY = "application/octet-stream"
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})\Z")
_ANY = frozenset(range(200, 600)) - {401, 403} - LATER  # answers that mean something to an upload
_REFUSED = frozenset({400, 405, 411, 415, 416, 501})  # of a first chunk: this registry takes none
_NOT_MOUNTED = frozenset({400, 401, 403, 404, 405, 501})  # no right to read the other repository, no such blob in it, or no such request


def from_file(path: Path) -> OpenAt:
    """What `upload` asks for, of a file. The iterators raise TargetError: it cannot be opened."""

    def open_at(offset: int) -> Iterator[FilePart]:
        with disk_errors(f"read {path}", path), path.open("rb") as file:
            if part := FilePart(file, offset, max(offset, os.fstat(file.fileno()).st_size)):
                yield part

    return open_at


def exists(place: Place, digest: str, *, what: str) -> bool:
    """Whether a repository has a blob."""
    with place.ask("HEAD", f"blobs/{digest}", what=what, good={200, 404}) as answer:
        return answer.status == 200


def mount(place: Place, descriptor: Descriptor, source: str, *, what: str) -> bool:
    """Have a blob that another repository of the same registry has. False: it has to be looked for here, and sent where it is not.

    A refusal says nothing of the repository that is written to: whoever may not write there is told so when they upload.
    """
    path = f"blobs/uploads/?mount={quote(descriptor.digest)}&from={quote(source, safe='')}"
    scopes = place.push | {f"repository:{source}:pull"}
    with place.ask("POST", path, what=what, good={201, 202} | _NOT_MOUNTED, scopes=scopes) as answer:
        if answer.status != 202:
            return answer.status == 201
        location = answer.headers.get("Location", "")
    with contextlib.suppress(EngineError, Trouble):  # it began an upload instead, which nobody will end
        session = place.host.address(location, what, base=answer.url)
        place.host.once(place.request("DELETE", session, what=what, good=_ANY, scopes=place.push)).close()
    return False


def upload(place: Place, descriptor: Descriptor, open_at: OpenAt, *, what: str, sent: Callable[[int], object] | None = None) -> int:
    """Have a blob in a repository; returns how many bytes were sent for it.

    Nothing is hashed: the registry keeps a blob only under the digest that it has.

    Args:
        sent: called with the bytes that went out, those that are sent again left out.

    Raises:
        EngineError: the registry does not take it.
        Whatever `open_at` raises.
    """
    if exists(place, descriptor.digest, what=what):
        return 0
    return _Upload(place, descriptor, open_at, what, sent or (lambda _: None)).run()


@dataclass(slots=True)
class _Session:
    """An upload that a registry has open. Attributes: at: how many bytes it has."""

    url: str
    at: int = 0


class _Upload:
    def __init__(self, place: Place, descriptor: Descriptor, open_at: OpenAt, what: str, sent: Callable[[int], object]) -> None:
        self._place = place
        self._descriptor = descriptor
        self._what = what
        self._chunk = CHUNK
        self._least = 0
        self._whole = descriptor.size <= CHUNK
        self._source = _Source(open_at, descriptor.size, sent, what)

    def run(self) -> int:
        attempts = self._place.host.attempts()
        session: _Session | None = None
        best = 0
        while True:
            try:
                session = session or self._begin()
                while not self._whole and session is not None and session.at < self._descriptor.size:
                    session = self._send_chunk(session)
                    if session is not None and session.at > best:
                        best = session.at
                        attempts.progressed()
                if session is not None and self._finish(session):
                    return self._source.sent
                session = None
            except Trouble as trouble:
                self._source.raise_failure()
                self._place.host.endure(attempts, trouble, what=self._what)
                ending = self._whole or (session is not None and session.at == self._descriptor.size)
                if ending and exists(self._place, self._descriptor.digest, what=self._what):  # only the answer was lost
                    return self._source.sent
                session = None if session is None or self._whole else self._look(session)

    def _begin(self) -> _Session:
        with self._place.ask("POST", "blobs/uploads/", what=self._what, good={202}, scopes=self._place.push) as answer:
            self._least = answer.number("OCI-Chunk-Min-Length") or self._least
            self._chunk = max(self._chunk, self._least)
            self._whole = self._whole or self._descriptor.size <= self._chunk
            return _Session(self._location(answer))

    def _send_chunk(self, session: _Session) -> _Session | None:
        """The session with one chunk more; None when another must be begun."""
        start = session.at
        end = min(start + self._chunk, self._descriptor.size)
        headers = {"Content-Type": _BINARY, "Content-Range": f"{start}-{end - 1}"}
        with self._send("PATCH", session.url, start, end, headers) as answer:
            if answer.status == 202:
                return _Session(self._location(answer), self._taken(answer, start, end))
            if answer.status == 413 and self._chunk > max(_LEAST_CHUNK, self._least):
                self._chunk = max(self._chunk // 2, _LEAST_CHUNK, self._least)
                return session
            if start == 0 and answer.status in _REFUSED:
                self._whole = True
                return None
            raise Trouble(f"answered with {answer.said()}", passing=answer.status in (404, 416))

    def _finish(self, session: _Session) -> bool:
        """Name the digest, with the bytes that are missing. False: once more from the start, in smaller parts."""
        mark = "&" if "?" in session.url else "?"
        url = f"{session.url}{mark}digest={quote(self._descriptor.digest)}"
        with self._send("PUT", url, session.at, self._descriptor.size, {"Content-Type": _BINARY}) as answer:
            if answer.status in (201, 204):
                return True
            if answer.status == 413 and self._whole and self._descriptor.size > _LEAST_CHUNK:
                self._whole = False
                self._chunk = max(min(self._chunk, self._descriptor.size) // 2, _LEAST_CHUNK, self._least)
                return False
            # A broken connection's last bytes may have come twice: then the digest is wrong, and all of it has to be sent again.
            raise Trouble(f"answered with {answer.said()}", passing=answer.status in (400, 404, 416))

    def _send(self, method: str, url: str, start: int, end: int, headers: dict[str, str]) -> Answer:
        place = self._place
        body = self._source.window(start, end) if end > start else b""
        request = place.request(
            method,
            url,
            what=self._what,
            good=_ANY,
            scopes=place.push,
            headers=headers,
            body=body,
            read_s=place.host.patience.commit_s if method == "PUT" else None,
        )
        return place.host.once(request)

    def _look(self, session: _Session) -> _Session | None:
        """How far the registry got; None when it says nothing, or keeps nothing of an upload that broke off."""
        request = self._place.request("GET", session.url, what=self._what, good=_ANY, scopes=self._place.push)
        with self._place.host.ask(request) as answer:
            match = _RANGE.match(answer.headers.get("Range", ""))
            if answer.status not in (200, 202, 204) or match is None or match[1] == "0":  # "0-0" is said of one byte and of none
                return None
            return _Session(self._location(answer, session.url), min(int(match[1]) + 1, self._descriptor.size))

    def _taken(self, answer: Answer, start: int, end: int) -> int:
        """How many bytes the registry has after a chunk: as many as it says, where it says so."""
        match = _RANGE.match(answer.headers.get("Range", ""))
        at = int(match[1]) + 1 if match is not None else end
        if not start < at <= end:
            raise Trouble(f"took bytes up to {at} where {start} to {end} were sent")
        return at

    def _location(self, answer: Answer, otherwise: str = "") -> str:
        location = answer.headers.get("Location", otherwise)
        if not location:
            raise EngineError(self._what, why=f"{self._place.host.registry} begins an upload and does not say where")
        return self._place.host.address(location, self._what, base=answer.url)


class _Source:
    """A blob's bytes, read on where that is possible. Attributes: sent: how many went out."""

    def __init__(self, open_at: OpenAt, size: int, report: Callable[[int], object], what: str) -> None:
        self._open_at = open_at
        self._size = size
        self._report = report
        self._what = what
        self._pieces: Iterator[bytes | FilePart] = iter(())
        self._at = -1
        self._rest: memoryview | FilePart = memoryview(b"")
        self._reported = 0
        self._failure: Exception | None = None
        self.sent = 0

    def window(self, start: int, end: int) -> _Window:
        """The bytes from `start` to `end`, as the body of a request."""
        return _Window(self, start, end)

    def raise_failure(self) -> None:
        """What went wrong here while a request asked for bytes: HTTP's layers take some errors for their own."""
        if self._failure is not None:
            raise self._failure

    def read(self, start: int, end: int) -> Iterator[memoryview | FilePart]:
        try:
            if self._at != start:
                self._pieces, self._at, self._rest = self._open_at(start), start, memoryview(b"")
            while self._at < end:
                while not self._rest:
                    self._rest = self._next()
                piece = self._rest[: min(_AT_ONCE, end - self._at)]
                self._rest = self._rest[len(piece) :]
                self._at += len(piece)
                yield piece
                self.sent += len(piece)
                if self._at > self._reported:
                    self._report(self._at - self._reported)
                    self._reported = self._at
        except Exception as failure:
            self._failure = failure
            raise

    def _next(self) -> memoryview | FilePart:
        piece = next(self._pieces, None)
        if piece is None:
            raise EngineError(self._what, why=f"a blob of {self._size} bytes has only {self._at}")
        return piece if isinstance(piece, FilePart) else memoryview(piece)


class _Window:
    def __init__(self, source: _Source, start: int, end: int) -> None:
        self._source = source
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return self._end - self._start

    def __iter__(self) -> Iterator[memoryview | FilePart]:
        return self._source.read(self._start, self._end)
