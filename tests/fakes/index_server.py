"""A package index on loopback that answers what a test told it to, and remembers what it was asked."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import ssl
import struct
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class IndexServer:
    """Attributes:
    pages: path -> (status, content type, body).
    etags: answer with an ETag, and 304 to it.
    login: "user:password" that is asked for; "" for none.
    ranges: serve pieces of a file to who asks for them.
    max_age: seconds for which a page need not be asked for again, 0 for none.
    resets: of so many files to come, half is sent before the connection is reset.
    asked: (path, headers) of every request.
    """

    url: str = ""
    pages: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    etags: bool = False
    login: str = ""
    ranges: bool = True
    max_age: int = 0
    resets: int = 0
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def with_login(self, login: str) -> str:
        return self.url.replace("http://", f"http://{login}@")

    def wheel(self, file: str, data: bytes) -> str:
        """Serve a wheel; returns its SHA-256."""
        self.pages[f"/files/{file}"] = (200, "wheel", data)
        return hashlib.sha256(data).hexdigest()

    def html(self, project: str, *links: str) -> None:
        body = "<!DOCTYPE html><html><body>" + "<br/>".join(links) + "</body></html>"
        self.pages[f"/simple/{project}/"] = (200, "text/html; charset=UTF-8", body.encode())

    def json(self, project: str, *files: dict[str, object]) -> None:
        document = {"meta": {"api-version": "1.1"}, "name": project, "versions": [], "files": files}
        self.pages[f"/simple/{project}/"] = (200, JSON, json.dumps(document).encode())


def link(file: str, *, sha256: str = "", attributes: str = "") -> str:
    fragment = f"#sha256={sha256}" if sha256 else ""
    return f'<a href="../../files/{file}{fragment}"{attributes}>{file}</a>'


def entry(file: str, *, sha256: str = "", **more: object) -> dict[str, object]:
    return {"filename": file, "url": f"../../files/{file}", "hashes": {"sha256": sha256} if sha256 else {}, **more}


@contextmanager
def serving(*, tls: ssl.SSLContext | None = None) -> Iterator[IndexServer]:
    index = IndexServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            index.asked.append((self.path, dict(self.headers.items())))
            status, kind, body = index.pages.get(self.path, (404, "text/plain", b"not here"))
            if index.login and self.headers.get("Authorization") != "Basic " + b64encode(index.login.encode()).decode():
                status, kind, body = 401, "text/plain", b"who are you"
            etag = '"' + hashlib.sha256(body).hexdigest()[:8] + '"'
            if index.etags and status == 200 and self.headers.get("If-None-Match") == etag:
                status, body = 304, b""
            match = re.match(r"bytes=(\d*)-(\d*)$", self.headers.get("Range", "")) if index.ranges and status == 200 else None
            piece = ""
            if match is not None:
                start = int(match[1]) if match[1] else max(0, len(body) - int(match[2]))
                end = min(len(body), int(match[2]) + 1) if match[1] and match[2] else len(body)
                piece = f"bytes {start}-{end - 1}/{len(body)}"
                status, body = 206, body[start:end]
            index.sent.append(len(body))
            self.send_response(status)
            if piece:
                self.send_header("Content-Range", piece)
            if index.max_age and kind != "wheel":
                self.send_header("Cache-Control", f"max-age={index.max_age}, public")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if index.etags:
                self.send_header("ETag", etag)
            self.end_headers()
            if kind == "wheel" and index.resets:
                index.resets -= 1
                self.wfile.write(body[: len(body) // 2])
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())  # at once: files made of a socket keep it open beyond its own close()
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    index.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}/simple/"
    try:
        yield index
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
