"""Looking images up at a registry on loopback: honest, strict, forbidding, lying and broken ones."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from envsnap.errors import EngineError
from envsnap.registry.client import Registry, RegistryImage
from envsnap.registry.patience import Patience
from tests.fakes.http_server import Answer, serving

FAST = Patience(attempts=3, first_attempts=2, pause_s=0.01, connect_s=0.5, read_s=0.5)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


@dataclass
class Shelf:
    """What the server has: path below /v2/ -> media type and bytes; and how it behaves."""

    things: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    token: str = ""
    basic: str = ""
    identity: str = ""
    realm: str = ""

    def image(self, repository: str, tag: str, *, architecture: str = "amd64", media: str = MANIFEST) -> bytes:
        config = encode(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {
                    "Env": ["PATH=/usr/bin", "EQUATION=a=b"],
                    "Labels": {"a": "b"},
                    "Entrypoint": ["/entry.sh"],
                    "Cmd": None,
                    "WorkingDir": "/workspace",
                },
                "rootfs": {"type": "layers", "diff_ids": [sha256(b"3"), sha256(b"4")]},
            }
        )
        manifest = encode(
            {
                "schemaVersion": 2,
                "mediaType": media,
                "config": {"mediaType": "x", "digest": sha256(config), "size": len(config)},
                "layers": [{"digest": sha256(b"1"), "size": 100}, {"digest": sha256(b"2"), "size": 23}],
            }
        )
        self.things[f"{repository}/blobs/{sha256(config)}"] = ("application/octet-stream", config)
        self._manifest(repository, tag, manifest, media)
        return manifest

    def index(self, repository: str, tag: str, images: dict[str, bytes], *, media: str = INDEX) -> bytes:
        document = encode(
            {
                "schemaVersion": 2,
                "mediaType": media,
                "manifests": [
                    {
                        "digest": sha256(manifest),
                        "size": len(manifest),
                        "platform": {"os": platform.split("/")[0], "architecture": platform.split("/")[1]},
                    }
                    for platform, manifest in images.items()
                ],
            }
        )
        self._manifest(repository, tag, document, media)
        return document

    def _manifest(self, repository: str, tag: str, data: bytes, media: str) -> None:
        for name in (tag, sha256(data)):
            self.things[f"{repository}/manifests/{name}"] = (media, data)

    def answer(self, request: BaseHTTPRequestHandler) -> Answer:
        url = urlsplit(request.path)
        authorization = request.headers.get("Authorization", "")
        self.asked.append((request.path, authorization))
        if url.path == "/token":
            return self._answer_token(request, parse_qs(url.query), authorization)
        if self.token and authorization != f"Bearer {self.token}":
            challenge = (
                f'Bearer realm="{self.realm or "http://" + request.headers["Host"] + "/token"}",service="test",scope="repository:a/b:pull"'
            )
            return 401, {"WWW-Authenticate": challenge}, b"{}"
        if not self.token and self.basic and authorization != self.basic:
            return 401, {"WWW-Authenticate": 'Basic realm="test"'}, b"{}"
        found = self.things.get(url.path.removeprefix("/v2/"))
        if found is None:
            return 404, {}, b'{"errors": []}'
        media, data = found
        headers = {"Content-Type": media, "Docker-Content-Digest": sha256(data), **self.extra}
        return 200, headers, data

    def _answer_token(self, request: BaseHTTPRequestHandler, query: dict[str, list[str]], authorization: str) -> Answer:
        if self.identity:
            form = parse_qs(request.rfile.read(int(request.headers.get("Content-Length", "0"))).decode())
            good = form.get("refresh_token") == [self.identity] and form.get("grant_type") == ["refresh_token"]
            return (200, {}, encode({"access_token": self.token})) if good else (401, {}, b"{}")
        if (self.basic and authorization != self.basic) or query.get("service") != ["test"]:
            return 401, {}, b"{}"
        return 200, {}, encode({"token": self.token})


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def host(shelf: Shelf) -> Iterator[str]:
    with serving(shelf.answer) as address:
        yield address


@pytest.fixture
def docker_config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


@pytest.fixture
def look_up(host: str, docker_config: Path) -> Any:
    def resolve(name: str, machine: str = "x86_64") -> RegistryImage:
        return Registry({"DOCKER_CONFIG": str(docker_config.parent)}, patience=FAST).resolve(f"{host}/{name}", machine=machine)

    return resolve


@contextmanager
def refused(why: str) -> Iterator[None]:
    with pytest.raises(EngineError) as caught:
        yield
    assert why in caught.value.what + " " + caught.value.why


@pytest.mark.parametrize("media", [MANIFEST, DOCKER_MANIFEST])
def test_an_image(shelf: Shelf, host: str, look_up: Any, media: str) -> None:
    manifest = shelf.image("a/b", "1", media=media)
    found = look_up("a/b:1")
    assert found.reference == f"{host}/a/b:1"
    assert found.digest == found.manifest_digest == sha256(manifest)
    assert found.layers == 2
    config = found.config
    assert (config.architecture, config.size_bytes, config.workdir, config.entrypoint, config.cmd) == (
        "amd64",
        123,
        "/workspace",
        ("/entry.sh",),
        (),
    )
    assert dict(config.env) == {"PATH": "/usr/bin", "EQUATION": "a=b"}
    assert dict(config.labels) == {"a": "b"}


@pytest.mark.parametrize("media", [INDEX, DOCKER_LIST])
def test_an_index_gives_the_machines_image_and_is_itself_what_gets_pinned(shelf: Shelf, look_up: Any, media: str) -> None:
    amd, arm = shelf.image("a/b", "x"), shelf.image("a/b", "y", architecture="arm64")
    index = shelf.index("a/b", "1", {"unknown/unknown": amd, "linux/amd64": amd, "linux/arm64": arm}, media=media)
    assert look_up("a/b:1").manifest_digest == sha256(amd)
    assert look_up("a/b:1", "aarch64").manifest_digest == sha256(arm)
    assert look_up("a/b:1").digest == look_up("a/b:1", "aarch64").digest == sha256(index)
    assert look_up("a/b:1").machines == look_up("a/b:1", "aarch64").machines == ("x86_64", "aarch64")
    assert look_up("a/b:x").machines == ("x86_64",)
    assert look_up(f"a/b@{sha256(index)}").digest == sha256(index)
    assert look_up(f"a/b:gone@{sha256(index)}").digest == sha256(index)


def test_an_index_without_the_machine_names_what_it_has(shelf: Shelf, look_up: Any) -> None:
    shelf.index("a/b", "1", {"linux/s390x": shelf.image("a/b", "x", architecture="s390x"), "unknown/unknown": b"{}"})
    with refused("is not made for x86_64 it is for linux/s390x"):
        look_up("a/b:1")


def test_an_image_for_another_machine(shelf: Shelf, look_up: Any) -> None:
    shelf.image("a/b", "1", architecture="arm64")
    with refused("is not made for x86_64 it is for linux/arm64"):
        look_up("a/b:1")


def test_what_is_not_there(look_up: Any, host: str) -> None:
    with refused(f"{host} has no a/b:1"):
        look_up("a/b:1")


def test_a_registry_that_does_not_answer() -> None:
    with serving(lambda _: (200, {}, b"")) as address:
        pass
    client = Registry({}, patience=FAST)
    with refused("does not answer"):
        client.resolve(f"{address}/a/b:1", machine="x86_64")
    assert not client.answers(f"{address}/a/b:1")


def test_whoever_says_no_has_answered(host: str) -> None:
    client = Registry({}, patience=FAST)
    assert not client.answers(f"{host}/a/b:1")
    with refused("has no a/b:1"):
        client.resolve(f"{host}/a/b:1", machine="x86_64")
    assert client.answers(f"{host}/other:2")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("tag", "other bytes than their digest says"),
        ("digest", "other bytes than their digest says"),
        ("config", "other bytes than their digest says"),
        ("json", "is not JSON"),
        ("array", "is not a JSON object"),
        ("schema1", "too old or no image's"),
        ("huge", "more than 8 MiB"),
    ],
)
def test_answers_that_are_not_believed(shelf: Shelf, look_up: Any, spoil: str, why: str) -> None:
    digest = sha256(shelf.image("a/b", "1"))
    name = "a/b:1"
    match spoil:
        case "tag":
            shelf.extra = {"Docker-Content-Digest": sha256(b"another")}
        case "digest":
            shelf.things[f"a/b/manifests/{digest}"] = (MANIFEST, shelf.things["a/b/manifests/1"][1] + b" ")
            name = f"a/b@{digest}"
        case "config":
            path = next(path for path in shelf.things if "/blobs/" in path)
            shelf.things[path] = ("x", shelf.things[path][1].replace(b"/entry.sh", b"/evil.sh"))
        case "json":
            shelf.things["a/b/manifests/1"] = (MANIFEST, b"<html>")
        case "array":
            shelf.things["a/b/manifests/1"] = (MANIFEST, b"[]")
        case "schema1":
            shelf.things["a/b/manifests/1"] = ("application/vnd.docker.distribution.manifest.v1+json", encode({"fsLayers": []}))
        case _:
            shelf.things["a/b/manifests/1"] = (MANIFEST, b" " * (9 << 20))
    with refused(why):
        look_up(name)


def test_a_token_is_fetched_and_used(shelf: Shelf, look_up: Any) -> None:
    shelf.token = "t0k"
    shelf.image("a/b", "1")
    assert look_up("a/b:1").layers == 2
    assert [path.partition("?")[0] for path, _ in shelf.asked][:3] == ["/v2/a/b/manifests/1", "/token", "/v2/a/b/manifests/1"]


def credentials(host: str, user: str, password: str) -> bytes:
    return encode({"auths": {host: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}})


@pytest.mark.parametrize("token", ["", "t0k"])
def test_dockers_own_credentials_are_used(shelf: Shelf, host: str, look_up: Any, docker_config: Path, token: str) -> None:
    docker_config.write_bytes(credentials(host, "me", "geheim"))
    shelf.token, shelf.basic = token, "Basic " + base64.b64encode(b"me:geheim").decode()
    shelf.image("a/b", "1")
    assert look_up("a/b:1").layers == 2


def test_an_identity_token_is_traded(shelf: Shelf, host: str, look_up: Any, docker_config: Path) -> None:
    docker_config.write_bytes(encode({"auths": {host: {"identitytoken": "id3ntity"}}}))
    shelf.token, shelf.identity = "t0k", "id3ntity"
    shelf.image("a/b", "1")
    assert look_up("a/b:1").layers == 2


def test_a_credential_helper_is_asked(shelf: Shelf, host: str, look_up: Any, docker_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = docker_config.parent / "docker-credential-test"
    helper.write_text("""#!/bin/sh\necho '{"Username": "me", "Secret": "geheim"}'\n""", encoding="utf-8")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(helper.parent), prepend=":")
    docker_config.write_bytes(encode({"credHelpers": {host: "test"}}))
    shelf.basic = "Basic " + base64.b64encode(b"me:geheim").decode()
    shelf.image("a/b", "1")
    assert look_up("a/b:1").layers == 2


@pytest.mark.parametrize("token", ["", "t0k"])
def test_denied_names_the_remedy_and_no_secret(shelf: Shelf, host: str, look_up: Any, docker_config: Path, token: str) -> None:
    docker_config.write_bytes(credentials(host, "me", "falsch"))
    shelf.token, shelf.basic = token, "Basic nobody"
    shelf.image("a/b", "1")
    with pytest.raises(EngineError) as caught:
        look_up("a/b:1")
    error = caught.value
    assert "denies access to a/b" in error.why
    assert f"docker login {host}" in error.hint
    assert "falsch" not in repr(vars(error))


def test_credentials_that_cannot_be_read(shelf: Shelf, look_up: Any, docker_config: Path) -> None:
    docker_config.write_bytes(encode({"auths": {"x": "not an entry"}}))
    shelf.token = "t0k"
    with refused("credentials for 127.0.0.1"):
        look_up("a/b:1")


def test_neither_token_nor_bytes_come_from_an_unencrypted_place(shelf: Shelf, look_up: Any) -> None:
    shelf.token, shelf.realm = "t0k", "http://example.com/token"
    with refused("leads to http://example.com/token, which is not encrypted"):
        look_up("a/b:1")
    assert not any("Bearer" in authorization for _, authorization in shelf.asked)


def test_a_redirect_to_storage_is_followed_without_the_token(shelf: Shelf) -> None:
    shelf.token = "t0k"
    shelf.image("a/b", "1")
    seen: list[str] = []

    def storage(request: BaseHTTPRequestHandler) -> Answer:
        seen.append(request.headers.get("Authorization", ""))
        return 200, {}, shelf.things[request.path.removeprefix("/v2/")][1]

    with serving(storage) as elsewhere:
        honest = shelf.answer

        def redirecting(request: BaseHTTPRequestHandler) -> Answer:
            status, headers, body = honest(request)
            return (
                (307, {"Location": f"http://{elsewhere.replace('127.0.0.1', 'localhost')}{request.path}"}, b"")
                if "/blobs/" in request.path and status == 200
                else (status, headers, body)
            )

        with serving(redirecting) as front:
            assert Registry({}, patience=FAST).resolve(f"{front}/a/b:1", machine="x86_64").layers == 2
    assert seen == [""]


def test_server_errors_are_said_plainly() -> None:
    with serving(lambda _: (503, {}, b"")) as address, refused("answered with HTTP 503"):
        Registry({}, patience=FAST).resolve(f"{address}/a/b:1", machine="x86_64")


def test_no_answer_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with refused("does not answer"):
            Registry({}, patience=FAST).resolve(f"127.0.0.1:{silent.getsockname()[1]}/a/b:1", machine="x86_64")
