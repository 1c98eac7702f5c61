"""Tokens and credentials: which are asked for, how long they hold, and who is never shown any."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from envsnap.errors import EngineError
from envsnap.oci.documents import read_config
from envsnap.oci.image import BaseImage
from envsnap.registry.auth import Challenge, parse_challenge
from envsnap.registry.client import Registry
from tests.fakes.http_server import Answer, serving
from tests.fakes.images import image
from tests.fakes.registry import FakeRegistry
from tests.unit.registry.conftest import FAST


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        ('Bearer realm="https://a/t",service="s",scope="repository:a:pull"', Challenge("https://a/t", "s", "repository:a:pull")),
        ('bearer realm="https://a/t?x=1,2" , service="s"', Challenge("https://a/t?x=1,2", "s", "")),
        ('Basic realm="x", Bearer realm="https://a/t",service="s"', Challenge("https://a/t", "s", "")),
        ('Bearer realm="https://a/t",service="s", Basic realm="x"', Challenge("https://a/t", "s", "")),
        ('Basic realm="x"', Challenge()),
        ("Basic", Challenge()),
        ("Bearer", None),
        ("Negotiate", None),
        ("", None),
    ],
)
def test_challenges(header: str, challenge: Challenge | None) -> None:
    assert parse_challenge(header) == challenge


@dataclass
class Door:
    """A registry behind a token server. Attributes: lifetime_s: as it says; good: tokens that hold; asked: queries for tokens.
    failures: before the first token; void: tokens do not hold.
    """

    behind: FakeRegistry
    lifetime_s: int | None = 300
    login: str = ""
    failures: int = 0
    void: bool = False
    good: set[str] = field(default_factory=set)
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: BaseHTTPRequestHandler) -> Answer:
        url, authorization = urlsplit(request.path), request.headers.get("Authorization", "")
        if url.path == "/token":
            return self._token(request, parse_qs(url.query), authorization)
        if authorization not in self.good:
            self.refused += 1
            realm = f"http://{request.headers['Host']}/token"
            return 401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="here",scope="repository:other:pull"'}, b""
        return self.behind.answer(request)

    def _token(self, request: BaseHTTPRequestHandler, query: dict[str, list[str]], authorization: str) -> Answer:
        with self.lock:
            if self.failures:
                self.failures -= 1
                return 503, {}, b""
            if authorization != self.login:
                return 401, {}, b""
            if request.command == "POST":
                query = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
            self.asked.append(query)
            token = f"t{len(self.asked)}"
            self.good |= set() if self.void else {f"Bearer {token}"}
        lifetime = {} if self.lifetime_s is None else {"expires_in": self.lifetime_s}
        return 200, {}, json.dumps({"access_token": token, **lifetime}).encode()


@pytest.fixture
def door(server: FakeRegistry) -> Door:
    bundle = image(b"layer")
    server.manifests["a/b", "1"] = (bundle.manifest.media_type, bundle.manifest.raw)
    return Door(server)


@pytest.fixture
def address(door: Door) -> Iterator[str]:
    with serving(door.answer) as address:
        yield address


def test_a_token_is_for_what_is_done_and_for_what_the_registry_wants(door: Door, address: str, client: Registry) -> None:
    client.manifest(f"{address}/a/b:1")
    assert door.asked == [{"service": ["here"], "scope": ["repository:a/b:pull", "repository:other:pull"]}]


def test_mounting_asks_for_both_repositories(door: Door, address: str, client: Registry) -> None:
    layer = image(b"layer").manifest.layers[0]
    door.behind.blobs["base", layer.digest] = b"layer"
    assert client.mount(f"{address}/a/b:1", layer, f"{address}/base:1")
    assert door.asked[0]["scope"][:2] == ["repository:a/b:pull,push", "repository:base:pull"]


@pytest.mark.parametrize("lifetime_s", [300, None, 1, 0])
def test_a_token_is_kept_as_long_as_it_says(door: Door, address: str, client: Registry, lifetime_s: int | None) -> None:
    door.lifetime_s = lifetime_s
    for _ in range(3):
        client.manifest(f"{address}/a/b:1")
    assert len(door.asked) == 1
    assert door.refused == 1


def test_a_token_that_ran_out_is_renewed_before_it_is_refused(
    door: Door, address: str, client: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.manifest(f"{address}/a/b:1")
    now = time.monotonic() + 299
    monkeypatch.setattr("envsnap.registry.auth.time.monotonic", lambda: now)
    client.manifest(f"{address}/a/b:1")
    assert len(door.asked) == 2
    assert door.refused == 1


def test_a_token_that_is_refused_is_renewed(door: Door, address: str, client: Registry) -> None:
    client.manifest(f"{address}/a/b:1")
    door.good.clear()
    client.manifest(f"{address}/a/b:1")
    assert (len(door.asked), door.refused) == (2, 2)


def test_many_threads_fetch_one_token(door: Door, address: str, client: Registry) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.manifest(f"{address}/a/b:1"), range(16)))
    assert len(door.asked) == 1


def test_a_token_server_that_fails_is_asked_again(door: Door, address: str, client: Registry) -> None:
    door.failures = 2
    client.manifest(f"{address}/a/b:1")
    door.failures, door.good = 99, set()
    with pytest.raises(EngineError) as caught:
        client.manifest(f"{address}/a/b:1")
    assert "HTTP 503" in caught.value.why


def test_tokens_that_never_hold_end_in_denied(door: Door, address: str, client: Registry) -> None:
    door.void = True
    with pytest.raises(EngineError) as caught:
        client.manifest(f"{address}/a/b:1")
    assert "denies access to a/b" in caught.value.why
    assert len(door.asked) == 1


@dataclass
class Robots:
    """A registry whose one user may read and write a/b alone.

    Attributes:
        strict: its token server, asked for more than that, gives nothing; else it gives what it may.
        asked: scopes of each query for a token. refused: requests, as "METHOD path".
    """

    behind: FakeRegistry
    strict: bool
    asked: list[list[str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    given: dict[str, set[str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: BaseHTTPRequestHandler) -> Answer:
        url, authorization = urlsplit(request.path), request.headers.get("Authorization", "")
        query = parse_qs(url.query)
        if url.path == "/token":
            return self._token(query.get("scope", []), authorization)
        actions = "pull" if request.command in ("GET", "HEAD") else "pull,push"
        needed = [f"repository:a/b:{actions}", *(f"repository:{source}:pull" for source in query.get("from", ()))]
        if not rights(needed) <= self.given.get(authorization, set()):
            self.refused.append(f"{request.command} {request.path}")
            request.rfile.read(int(request.headers.get("Content-Length", "0")))
            challenge = f'Bearer realm="http://{request.headers["Host"]}/token",service="here",scope="{" ".join(needed)}"'
            return 401, {"WWW-Authenticate": challenge}, b""
        return self.behind.answer(request)

    def _token(self, scopes: list[str], authorization: str) -> Answer:
        with self.lock:
            self.asked.append(sorted(scopes))
            may = rights(scopes) & rights(["repository:a/b:pull,push"])
            if authorization != basic("robot", "geheim") or (self.strict and may != rights(scopes)):
                return 401, {}, b""
            self.given[f"Bearer t{len(self.asked)}"] = may
            return 200, {}, json.dumps({"token": f"t{len(self.asked)}"}).encode()


def rights(scopes: list[str]) -> set[str]:
    """What scopes come to, one action each."""
    split = [one.rpartition(":") for scope in scopes for one in scope.split()]
    return {f"{name}:{action}" for name, _, actions in split for action in actions.split(",")}


def logged_in(address: str, place: Path, password: str) -> Registry:
    auths = {address: {"auth": base64.b64encode(f"robot:{password}".encode()).decode()}}
    (place / "config.json").write_text(json.dumps({"auths": auths}), encoding="utf-8")
    return Registry({"DOCKER_CONFIG": str(place)}, patience=FAST)


@pytest.mark.parametrize("strict", [True, False])
def test_who_may_not_read_the_base_pushes_upon_it_all_the_same(server: FakeRegistry, tmp_path: Path, strict: bool) -> None:
    robots, bundle, base = Robots(server, strict), image(b"below", b"above"), image(b"below")
    server.blobs["a/b", base.manifest.layers[0].digest] = b"below"
    with serving(robots.answer) as address:
        known = BaseImage(
            config=read_config(base.blobs[base.manifest.config.digest], what=""), manifest=base.manifest, reference=f"{address}/base:1"
        )
        pushed = logged_in(address, tmp_path, "geheim").push(f"{address}/a/b:1", bundle.manifest, bundle.read, base=known)
    assert pushed.uploaded_bytes == len(b"above") + bundle.manifest.config.size
    assert server.manifests["a/b", "1"][1] == bundle.manifest.raw
    assert any("mount=" in one for one in robots.refused)


def test_what_a_mount_was_refused_for_is_asked_for_by_nothing_else(server: FakeRegistry, tmp_path: Path) -> None:
    robots, layer = Robots(server, strict=True), image(b"layer").manifest.layers[0]
    with serving(robots.answer) as address:
        client = logged_in(address, tmp_path, "geheim")
        assert not client.mount(f"{address}/a/b:1", layer, f"{address}/base:1")
        assert robots.asked == [["repository:a/b:pull,push", "repository:base:pull"]]
        assert client.upload(f"{address}/a/b:1", layer, lambda _: iter([b"layer"])) == layer.size
    assert robots.asked[1:] == [["repository:a/b:pull"], ["repository:a/b:pull,push"]]
    assert all("mount=" in one for one in robots.refused)


def test_a_wrong_password_is_told_by_the_upload_after_the_mount(server: FakeRegistry, tmp_path: Path) -> None:
    robots, layer = Robots(server, strict=True), image(b"layer").manifest.layers[0]
    with serving(robots.answer) as address:
        client = logged_in(address, tmp_path, "falsch")
        assert not client.mount(f"{address}/a/b:1", layer, f"{address}/base:1")
        with pytest.raises(EngineError) as caught:
            client.upload(f"{address}/a/b:1", layer, lambda _: iter([b"layer"]))
    assert caught.value.why == f"{address} denies access to a/b"
    assert caught.value.hint.startswith(f"docker login {address} ")
    assert not server.asked


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper that is asked for every registry; its answer is what the file beside it holds."""
    script = tmp_path / "docker-credential-test"
    script.write_text(
        f"""#!/bin/sh\ncat >>{tmp_path}/asked\ntest -e {tmp_path}/answer || exit 1\ncat {tmp_path}/answer\n""", encoding="utf-8"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "config.json").write_text('{"credsStore": "test"}', encoding="utf-8")
    return tmp_path


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_helper_gives_a_password(door: Door, address: str, helper: Path) -> None:
    (helper / "answer").write_text('{"Username": "me", "Secret": "geheim"}', encoding="utf-8")
    door.login = basic("me", "geheim")
    assert Registry({"DOCKER_CONFIG": str(helper)}, patience=FAST).manifest(f"{address}/a/b:1").digest
    assert (helper / "asked").read_text(encoding="utf-8").strip() == address


def test_a_helper_gives_an_identity_token(door: Door, address: str, helper: Path) -> None:
    (helper / "answer").write_text('{"Username": "<token>", "Secret": "id3ntity"}', encoding="utf-8")
    assert Registry({"DOCKER_CONFIG": str(helper)}, patience=FAST).manifest(f"{address}/a/b:1").digest
    assert door.asked[0]["refresh_token"] == ["id3ntity"]
    assert door.asked[0]["scope"] == ["repository:a/b:pull repository:other:pull"]


@pytest.mark.parametrize("answer", [None, "no JSON"])
def test_a_helper_that_fails_says_so(door: Door, address: str, helper: Path, answer: str | None) -> None:
    if answer is not None:
        (helper / "answer").write_text(answer, encoding="utf-8")
    with pytest.raises(EngineError) as caught:
        Registry({"DOCKER_CONFIG": str(helper)}, patience=FAST).manifest(f"{address}/a/b:1")
    assert f"credentials for {address}" in caught.value.why
    assert caught.value.hint == f"docker login {address}"


def test_a_mirror_gets_its_own_credentials_and_not_the_registrys(door: Door, address: str, server: FakeRegistry, tmp_path: Path) -> None:
    auths = {server.address: {"auth": base64.b64encode(b"me:geheim").decode()}, address: {"auth": base64.b64encode(b"you:other").decode()}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}), encoding="utf-8")
    door.login = basic("you", "other")
    client = Registry({"DOCKER_CONFIG": str(tmp_path)}, mirrors={server.address: [address]}, patience=FAST)
    client.manifest(f"{server.address}/a/b:1")
    assert len(door.asked) == 1
