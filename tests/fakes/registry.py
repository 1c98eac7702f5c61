"""A registry in memory, on loopback: what OCI distribution 1.1 asks of one, and ways to be another kind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.http_server import Answer, serving

_PATH = re.compile(r"/v2/(?P<repository>.+?)/(?P<kind>blobs/uploads|blobs|manifests|referrers|tags)/(?P<name>[^/]*)\Z")


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class FakeRegistry:
    """Attributes:
    blobs, manifests: (repository, digest or tag) -> bytes, media type and bytes.
    uploads: session -> what came so far; kept when a connection breaks.
    least_chunk: OCI-Chunk-Min-Length; chunks: takes them at all; largest_body: more is a 413.
    lists: tells the tags of a repository, `page` at a time.
    referrers: has the API. ranges: serves parts of a blob. mounts: between repositories. digests: says Docker-Content-Digest.
    asked: "METHOD path" of every request. clients: addresses of the connections that they came by.
    """

    address: str = ""
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    least_chunk: int = 0
    chunks: bool = True
    largest_body: int = 1 << 40
    referrers: bool = True
    ranges: bool = True
    mounts: bool = True
    digests: bool = True
    lists: bool = True
    page: int = 100
    asked: list[str] = field(default_factory=list)
    clients: set[Any] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, pattern: str) -> int:
        """How many requests match."""
        return sum(1 for one in self.asked if re.search(pattern, one))

    def answer(self, request: BaseHTTPRequestHandler) -> Answer:
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        with self.lock:
            self.asked.append(f"{request.command} {request.path}")
            self.clients.add(request.client_address)
        match = _PATH.match(url.path)
        if match is None:
            return 404, {}, b""
        repository, kind, name = match.groups()
        if kind == "blobs/uploads":
            return self._upload(request, repository, name, query)
        if kind == "blobs":
            return self._blob(request, repository, name)
        if kind == "tags":
            return self._tags(repository, query)
        if kind == "referrers":
            return self._referrers(repository, name)
        return self._manifest(request, repository, name)

    def _upload(self, request: BaseHTTPRequestHandler, repository: str, session: str, query: dict[str, str]) -> Answer:
        place = f"/v2/{repository}/blobs/uploads/"
        if request.command == "POST":
            source = (query.get("from", ""), query.get("mount", ""))
            if self.mounts and source in self.blobs:
                self.blobs[repository, source[1]] = self.blobs[source]
                return 201, {"Location": f"/v2/{repository}/blobs/{source[1]}"}, b""
            with self.lock:
                session = f"session{len(self.asked)}"
                self.uploads[session] = bytearray()
            least = {"OCI-Chunk-Min-Length": str(self.least_chunk)} if self.least_chunk else {}
            return 202, {"Location": f"{place}{session}", "Range": "0-0", **least}, b""
        if session not in self.uploads:
            return 404, {}, b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}'
        kept = self.uploads[session]
        if request.command == "DELETE":
            del self.uploads[session]
            return 204, {}, b""
        here = {"Location": f"{place}{session}"}
        if request.command == "GET":
            return 204, {**here, "Range": f"0-{max(len(kept) - 1, 0)}"}, b""
        length = int(request.headers.get("Content-Length", "0"))
        if length > self.largest_body or (request.command == "PATCH" and not self.chunks):
            request.rfile.read(length)
            return (413 if self.chunks else 405), {}, b""
        span = request.headers.get("Content-Range", "")
        if span and int(span.partition("-")[0]) != len(kept):
            request.rfile.read(length)
            return 416, {**here, "Range": f"0-{max(len(kept) - 1, 0)}"}, b""
        with contextlib.suppress(ConnectionError):
            while length and (piece := request.rfile.read1(min(length, 1 << 16))):
                kept += piece
                length -= len(piece)
        if length:
            request.close_connection = True
            return 499, {}, b""
        if request.command == "PATCH":
            return 202, {**here, "Range": f"0-{len(kept) - 1}"}, b""
        del self.uploads[session]
        if sha256(bytes(kept)) != query["digest"]:
            return 400, {}, b'{"errors": [{"code": "DIGEST_INVALID", "message": "provided digest did not match uploaded content"}]}'
        self.blobs[repository, query["digest"]] = bytes(kept)
        return 201, {"Docker-Content-Digest": query["digest"]}, b""

    def _blob(self, request: BaseHTTPRequestHandler, repository: str, digest: str) -> Answer:
        data = self.blobs.get((repository, digest))
        if data is None:
            return 404, {}, b'{"errors": [{"code": "BLOB_UNKNOWN"}]}'
        span = request.headers.get("Range", "")
        if span and self.ranges:
            start = int(span.removeprefix("bytes=").rstrip("-"))
            return 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]
        return 200, {"Content-Length": str(len(data))}, data

    def _manifest(self, request: BaseHTTPRequestHandler, repository: str, name: str) -> Answer:
        if request.command == "PUT":
            return self._put(request, repository, name)
        found = self.manifests.get((repository, name))
        if found is None:
            return 404, {}, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}'
        digest = {"Docker-Content-Digest": sha256(found[1])} if self.digests else {}
        return 200, {"Content-Type": found[0], "Content-Length": str(len(found[1])), **digest}, found[1]

    def _put(self, request: BaseHTTPRequestHandler, repository: str, name: str) -> Answer:
        data = request.rfile.read(int(request.headers["Content-Length"]))
        document = json.loads(data)
        needed = [one["digest"] for one in (*document.get("layers", ()), *([document["config"]] if "config" in document else ()))]
        if missing := [one for one in needed if (repository, one) not in self.blobs]:
            return 400, {}, json.dumps({"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": f"blob unknown: {missing[0]}"}]}).encode()
        for key in {name, sha256(data)}:
            self.manifests[repository, key] = (request.headers["Content-Type"], data)
        digest = {"Docker-Content-Digest": sha256(data)} if self.digests else {}
        noted = {"OCI-Subject": document["subject"]["digest"]} if self.referrers and "subject" in document else {}
        return 201, {**digest, **noted}, b""

    def _tags(self, repository: str, query: dict[str, str]) -> Answer:
        tags = sorted(name for where, name in self.manifests if where == repository and not name.startswith("sha256:"))
        if not tags or not self.lists:
            return (404, {}, b'{"errors": [{"code": "NAME_UNKNOWN"}]}') if self.lists else (403, {}, b"")
        rest = [tag for tag in tags if tag > query.get("last", "")]
        page = rest[: self.page]
        link = f'</v2/{repository}/tags/list?n={self.page}&last={page[-1]}>; rel="next"' if len(rest) > self.page else ""
        return 200, {"Link": link} if link else {}, json.dumps({"name": repository, "tags": page}).encode()

    def _referrers(self, repository: str, digest: str) -> Answer:
        if not self.referrers:
            return 404, {}, b"404 page not found"
        found = {}
        for (where, _), (kind, data) in self.manifests.items():
            document = json.loads(data)
            if where == repository and document.get("subject", {}).get("digest") == digest:
                about = {name: document[name] for name in ("artifactType", "annotations") if name in document}
                found[sha256(data)] = {"mediaType": kind, "digest": sha256(data), "size": len(data), **about}
        kind = "application/vnd.oci.image.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": kind, "manifests": list(found.values())}
        return 200, {"Content-Type": kind}, json.dumps(index).encode()


@contextmanager
def running() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    with serving(registry.answer) as address:
        registry.address = address
        yield registry
