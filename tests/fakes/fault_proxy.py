"""Something unreliable between a client and a registry: forwards HTTP, and fails as it was told to."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

_PIECE = 1 << 16
Kind = Literal["status", "cut-upload", "lose-answer", "cut-download", "truncate", "corrupt", "dribble", "hang"]


@dataclass
class Fault:
    """What goes wrong with the next requests of a kind.

    Attributes:
        method, path: which; `path` is searched for as a regular expression.
        kind: "status" answers with that and never asks the registry; "cut-upload" resets both sides after `at` bytes of the body;
            "lose-answer" resets the client when the registry has done it; "cut-download" resets after `at` bytes of the answer;
            "truncate" ends it there in good form; "corrupt" changes its byte `at`; "dribble" sends what follows `at` byte by byte;
            "hang" says nothing.
        times: how often. after: how many of them go well before.
    """

    method: str
    path: str
    kind: Kind
    times: int = 1
    after: int = 0
    at: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Guard:
    """A token server. Attributes: uses: requests that one token is good for; issued: scopes that were asked for."""

    uses: int
    issued: list[tuple[str, ...]] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)

    def admits(self, authorization: str) -> bool:
        left = self.left.get(authorization, 0)
        self.left[authorization] = left - 1
        return left > 0


@dataclass
class FaultProxy:
    """Attributes:
    faults: those still to come; each is taken off when it has happened.
    happened: kinds, in order. sent: bytes of bodies that were forwarded. asked: "METHOD path" of every request.
    """

    upstream: str
    address: str = ""
    faults: list[Fault] = field(default_factory=list)
    guard: Guard | None = None
    happened: list[Kind] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def count(self, pattern: str) -> int:
        return sum(1 for one in self.asked if re.search(pattern, one))

    def next_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.asked.append(f"{method} {path}")
            for fault in self.faults:
                if fault.method == method and re.search(fault.path, path):
                    if fault.after > 0:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    self.happened.append(fault.kind)
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def do_GET(self) -> None:
        proxy, length = self.proxy, int(self.headers.get("Content-Length", "0"))
        if proxy.guard is not None and not self._admitted(proxy.guard, length):
            return
        fault = proxy.next_fault(self.command, self.path)
        kind = fault.kind if fault is not None else ""
        if fault is not None and kind == "hang":
            proxy.ended.wait(60)
            self._reset()
        elif fault is not None and kind == "status":
            self._drain(length)
            self._say(fault.status, fault.headers)
        else:
            self._forward(fault, kind, length)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _forward(self, fault: Fault | None, kind: str, length: int) -> None:
        at = fault.at if fault is not None else 0
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "authorization"):
                    upstream.putheader(name, value)
            upstream.endheaders()
            left = min(length, at) if kind == "cut-upload" else length
            while left and (piece := self.rfile.read(min(left, _PIECE))):
                upstream.send(piece)
                self.proxy.sent += len(piece)
                left -= len(piece)
            if kind == "cut-upload":
                time.sleep(0.05)  # so that the registry takes what there is before it hears of the end
                _linger(upstream.sock)
                self._reset()
                return
            answer = upstream.getresponse()
            if kind == "lose-answer":
                answer.read()
                self._reset()
                return
            self._answer(answer, kind, at)
        finally:
            upstream.close()

    def _answer(self, answer: http.client.HTTPResponse, kind: str, at: int) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        done = 0
        while piece := answer.read(_PIECE):
            if kind == "corrupt" and done <= at < done + len(piece):
                changed = bytearray(piece)
                changed[at - done] ^= 1
                piece = bytes(changed)
            if kind in ("cut-download", "truncate", "dribble") and done + len(piece) > at:
                self.wfile.write(piece[: max(0, at - done)])
                self.wfile.flush()
                if kind == "dribble":
                    self._dribble(piece[max(0, at - done) :])
                elif kind == "cut-download":
                    time.sleep(0.05)
                    self._reset()
                self.close_connection = True
                return
            self.wfile.write(piece)
            done += len(piece)

    def _dribble(self, rest: bytes) -> None:
        for index in range(len(rest)):
            self.wfile.write(rest[index : index + 1])
            if self.proxy.ended.wait(0.05):
                return

    def _admitted(self, guard: Guard, length: int) -> bool:
        url = urlsplit(self.path)
        if url.path == "/token":
            with self.proxy.lock:
                guard.issued.append(tuple(parse_qs(url.query).get("scope", ())))
                token = f"token{len(guard.issued)}"
                guard.left[f"Bearer {token}"] = guard.uses
            self._say(200, {}, f'{{"token": "{token}", "expires_in": 300}}'.encode())
            return False
        with self.proxy.lock:
            admitted = guard.admits(self.headers.get("Authorization", ""))
        if not admitted:
            self._drain(length)
            self._say(401, {"WWW-Authenticate": f'Bearer realm="http://{self.proxy.address}/token",service="test"'})
        return admitted

    def _drain(self, length: int) -> None:
        while length and (piece := self.rfile.read(min(length, _PIECE))):
            length -= len(piece)

    def _say(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        _linger(self.connection)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def _linger(sock: socket.socket) -> None:
    """Make the end of a connection a reset, not a farewell."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)  # without shutdown(), which would be a farewell

    def handle_error(self, *_: Any) -> None:
        """Clients and registries that hang up are what this is for."""


@contextmanager
def running(upstream: str) -> Iterator[FaultProxy]:
    """A proxy on loopback in front of "HOST:PORT"."""
    proxy = FaultProxy(upstream)
    with _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy})) as server:
        proxy.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            server.shutdown()
            thread.join()
