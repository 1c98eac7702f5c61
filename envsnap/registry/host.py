"""One registry's API: where it answers, what it is shown, how long it is waited for, and what is said when it refuses."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from envsnap import redaction, redirects
from envsnap.errors import EngineError, causes
from envsnap.oci.reference import api_host, is_loopback
from envsnap.registry.auth import Authorizer, Scopes
from envsnap.registry.patience import Attempts, Trouble
from envsnap.registry.wire import Answer, Body, Wire

T = TypeVar("T")
_MAX_REDIRECTS = 5
_HANDSHAKE_S = 2.0
_SHOWN = 200  # characters of what is no address


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a registry is asked.

    Attributes:
        url: whole, or a path below /v2/.
        what: fails when there is no good answer ("cannot look up REF").
        good: statuses of answers that the caller reads; any other is an error.
        about: what a 404 says is missing ("team/image:1").
        read_s: to wait for the answer; None for what `Patience` says.
    """

    method: str
    url: str
    what: str
    repository: str
    scopes: Scopes
    good: frozenset[int]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | bytes | None = None
    about: str = ""
    read_s: float | None = None


class Host:
    """A registry, or a mirror of one.

    Attributes:
        registry: as docker names it, also for credentials ("localhost:5000").
        mirror: it stands in for another registry, and whoever asks has that one left.
        doubted: it did not answer, or wrongly: do not ask it again.
        answered: it has given an answer, whatever that was.
    """

    def __init__(self, registry: str, wire: Wire, env: Mapping[str, str], *, plain: bool, mirror: bool = False) -> None:
        self.registry = registry
        self.mirror = mirror
        self.doubted = False
        self.patience = wire.patience
        self._wire = wire
        self._loopback = is_loopback(registry)
        self._plain = plain
        self._scheme = "http" if plain or self._loopback else "https"
        self.answered = False
        self._authorizer = Authorizer(registry, wire, env, self._require_safe)

    def url(self, path: str) -> str:
        """Of something below /v2/."""
        return f"{self._scheme}://{api_host(self.registry)}/v2/{path}"

    def address(self, target: str, what: str, *, base: str = "") -> str:
        """Where an answer leads. Args: base: that was asked, where `target` may be relative to it. Raises EngineError: it is no address."""
        try:
            url = urljoin(base, target)
            _ = urlsplit(url).port  # the last that is looked at, and may be none
        except ValueError as error:
            shown = repr(redaction.text(target)[:_SHOWN])
            raise EngineError(what, why=f"{self.registry} leads to {shown}, which is no address") from error
        return url

    def attempts(self) -> Attempts:
        return Attempts(self.patience, self._wire.pause)

    def persist(self, once: Callable[[], T], *, what: str) -> T:
        """What `once` returns, tried again as long as it raises Trouble that may pass.

        Raises:
            EngineError: it does not pass.
        """
        attempts = self.attempts()
        while True:
            try:
                return once()
            except Trouble as trouble:
                self.endure(attempts, trouble, what=what)

    def endure(self, attempts: Attempts, trouble: Trouble, *, what: str) -> None:
        """Wait for another attempt; a mirror gets none, and what never answered has few. Raises EngineError: there is none."""
        try:
            attempts.failed(trouble, limit=1 if self.mirror else None if self.answered else self.patience.first_attempts)
        except Trouble as final:
            self.doubted = True
            raise EngineError(what, why=f"{self.registry} {final.why}", hint=final.hint) from final.__cause__

    def ask(self, request: Request) -> Answer:
        """The answer, which has one of the statuses that are good; its body is still to be read.

        Raises:
            EngineError: it has another status, or none came.
        """
        return self.persist(lambda: self.once(request), what=request.what)

    def once(self, request: Request) -> Answer:
        """One attempt of `ask`. Raises Trouble, too: it is worth another."""
        answer = self._follow(replace(request, url=request.url if "://" in request.url else self.url(request.url)))
        if answer.status in request.good:
            return answer
        with answer:
            if trouble := answer.later():
                raise trouble
            raise self._refusal(answer, request)

    def _follow(self, request: Request) -> Answer:
        """Reads may lead to another place, a blob's storage; that is never shown what the registry is shown."""
        for _ in range(_MAX_REDIRECTS):
            answer = self._authorized(request)
            target = answer.headers.get("Location", "")
            if request.method not in ("GET", "HEAD") or answer.status not in redirects.STATUSES or not target:
                return answer
            answer.close()
            request = replace(request, url=self.address(target, request.what, base=request.url))
        raise EngineError(request.what, why=f"{self.registry} leads from one place to another without end")

    def _authorized(self, request: Request) -> Answer:
        self._require_safe(request.url, request.what)
        ours = urlsplit(request.url).netloc == urlsplit(self.url("")).netloc
        shown = self._authorizer.header(request.scopes, request.what) if ours else ""
        answer = self._send(request, shown)
        if answer.status != 401 or not ours:
            return answer
        answer.close()
        if not self._authorizer.renew(request.scopes, answer.headers.get("WWW-Authenticate", ""), shown, request.what):
            return answer
        return self._send(request, self._authorizer.header(request.scopes, request.what))

    def _send(self, request: Request, shown: str) -> Answer:
        headers = {**request.headers, "Authorization": shown} if shown else request.headers
        try:
            answer = self._wire.send(request.method, request.url, headers=headers, body=request.body, read_s=request.read_s)
        except Trouble as trouble:
            self._try_encryption(trouble)
            raise
        if answer.status == 400 and not self.answered:
            self._try_encryption(Trouble(f"answered with {answer.said()}"))
        self.answered = True
        return answer

    def _try_encryption(self, trouble: Trouble) -> None:
        """A registry on this machine is asked without encryption first. One that wants it, says so or hangs up: it gets it then."""
        if self.answered or not self._loopback or self._plain or self._scheme == "https":
            return
        silent = any(isinstance(one, TimeoutError) for one in causes(trouble))
        if silent or not trouble.passing or not _speaks_tls(self.registry):
            return
        self._scheme = "https"
        raise Trouble("wants an encrypted connection") from trouble

    def _require_safe(self, url: str, what: str) -> None:
        """Plain HTTP is for a registry on this machine, while it stays there, and for one that was named for it."""
        parts = urlsplit(self.address(url, what))
        allowed = (self._loopback and is_loopback(parts.netloc)) or (self._plain and parts.netloc == api_host(self.registry))
        if parts.scheme != "https" and not (parts.scheme == "http" and allowed):
            raise EngineError(what, why=f"{self.registry} leads to {redaction.url(url)}, which is not encrypted")

    def _refusal(self, answer: Answer, request: Request) -> EngineError:
        what, about = request.what, request.about
        if answer.status in (401, 403):
            hint = f"docker login {self.registry}   or check the name: some registries say this of what does not exist"
            return EngineError(what, why=f"{self.registry} denies access to {request.repository}", hint=hint)
        if answer.status == 404:
            return EngineError(what, why=f"{self.registry} has no {about}", hint="check the name and the tag")
        return EngineError(what, why=f"{self.registry} answered with {answer.said()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """An answer that was read."""

    status: int
    url: str
    headers: Mapping[str, str]
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository at a registry or at a mirror."""

    host: Host
    repository: str

    @property
    def pull(self) -> Scopes:
        return frozenset({f"repository:{self.repository}:pull"})

    @property
    def push(self) -> Scopes:
        return frozenset({f"repository:{self.repository}:pull,push"})

    def request(
        self,
        method: str,
        path: str,
        *,
        what: str,
        good: Collection[int],
        scopes: Scopes | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
        about: str = "",
        read_s: float | None = None,
    ) -> Request:
        """About something in this repository.

        Args:
            path: below it ("manifests/1"), or a whole URL.
            scopes: None to read.
        """
        return Request(
            method=method,
            url=path if "://" in path else f"{self.repository}/{path}",
            what=what,
            repository=self.repository,
            scopes=self.pull if scopes is None else scopes,
            good=frozenset(good),
            headers=headers or {},
            body=body,
            about=about or self.repository,
            read_s=read_s,
        )

    def read(self, path: str, *, limit: int, what: str, good: Collection[int], **more: Any) -> Document:
        """All that a GET gives, of at most `limit` bytes; asked for again when it breaks off. Raises EngineError: as `Host.ask`."""

        def once() -> Document:
            with self.host.once(self.request("GET", path, what=what, good=good, **more)) as answer:
                return Document(status=answer.status, url=answer.url, headers=answer.headers, raw=answer.body(limit))

        return self.host.persist(once, what=what)

    def ask(self, method: str, path: str, *, what: str, good: Collection[int], **more: Any) -> Answer:
        """`Host.ask` with such a request."""
        return self.host.ask(self.request(method, path, what=what, good=good, **more))


def _speaks_tls(host: str) -> bool:
    """Whether a port of this machine answers a TLS handshake; nothing is sent, and nothing believed."""
    parts = urlsplit(f"//{host}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 443), timeout=_HANDSHAKE_S) as raw,
            context.wrap_socket(raw, server_hostname=parts.hostname),
        ):
            return True
    except OSError:
        return False
