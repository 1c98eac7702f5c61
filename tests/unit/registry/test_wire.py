"""Connections: their pace, their trust, their proxies, and where they do not lead."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from envsnap.errors import EngineError
from envsnap.registry.client import Registry
from envsnap.registry.patience import Attempts, Patience, Trouble, retry_after
from envsnap.registry.upload import from_file
from envsnap.registry.wire import _Lines
from tests.fakes import tls
from tests.fakes.http_server import Answer, serving
from tests.fakes.images import blob, image
from tests.fakes.registry import FakeRegistry
from tests.unit.registry.conftest import FAST

BUNDLE = image(b"layer")


@pytest.fixture(autouse=True)
def kept(server: FakeRegistry) -> None:
    server.manifests["a/b", "1"] = (BUNDLE.manifest.media_type, BUNDLE.manifest.raw)


@contextmanager
def speaking(talk: bytes, every_s: float = 0.0) -> Iterator[str]:
    """Says the same to everybody, byte by byte where `every_s` says so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    for index in range(len(talk)) if every_s else [0]:
                        try:
                            connection.sendall(talk[index : index + 1] if every_s else talk)
                        except OSError:
                            break
                        if ended.wait(every_s):
                            break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_headers_that_come_byte_by_byte_are_not_waited_for(client: Registry) -> None:
    before = time.monotonic()
    with speaking(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 60000, every_s=0.05) as address, pytest.raises(EngineError) as caught:
        client.manifest(f"{address}/a/b:1")
    assert "does not answer: " in caught.value.why
    assert " bytes in 0 s" in caught.value.why
    assert time.monotonic() - before < 5


@pytest.mark.parametrize(
    "talk",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nshort\r\n0\r\n\r\n",
        *(
            b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % target
            for target in (b"https://[x/", b"//[::1", b"https://a:99999/", b"https://a:b/", b"https://%E2%82%AC:x@127.0.0.1:1/")
        ),
        *(
            b'HTTP/1.1 401 No\r\nContent-Length: 0\r\nWWW-Authenticate: Bearer realm="%s"\r\n\r\n' % realm
            for realm in (b"https://[x/", b"https://a:99999/", b"https:///", b"/token")
        ),
    ],
)
def test_nonsense_ends_in_our_error(server: FakeRegistry, client: Registry, talk: bytes) -> None:
    server.blobs["a/b", blob(b"x").digest] = b"x"
    with speaking(talk) as address:
        with pytest.raises(EngineError, match="cannot look up"):
            client.manifest(f"{address}/a/b:1")
        with pytest.raises(EngineError, match="cannot fetch"):
            b"".join(client.open_blob(f"{address}/a/b:1", blob(b"x")))
        mirrored = Registry({"DOCKER_CONFIG": "/nonexistent"}, mirrors={server.address: [address]}, patience=FAST)
        assert mirrored.manifest(f"{server.address}/a/b:1").digest == BUNDLE.manifest.digest
        assert b"".join(mirrored.open_blob(f"{server.address}/a/b:1", blob(b"x"))) == b"x"


NUMBERS = [number.encode().decode("latin-1") for number in ("²", "٣", "9" * 400, "9" * 5000, "-1", "1_0")]  # as they come off the wire


@pytest.mark.parametrize("number", NUMBERS)
def test_a_length_that_is_no_number_counts_as_not_said(server: FakeRegistry, client: Registry, number: str) -> None:
    def odd(request: BaseHTTPRequestHandler) -> Answer:
        status, headers, body = server.answer(request)
        return status, {**headers, **({"Content-Length": number} if request.command == "HEAD" else {})}, body

    with serving(odd) as address:
        found = client.head(f"{address}/a/b:1")
    assert found is not None and found.size == len(BUNDLE.manifest.raw)


@pytest.mark.parametrize("number", ["\xb2", "9" * 5000, "-1"])
def test_a_blob_whose_length_is_no_number_is_read_to_its_size(client: Registry, number: str) -> None:
    def odd(request: BaseHTTPRequestHandler) -> Answer:
        request.close_connection = True
        return 200, {"Content-Length": number}, b"x"

    with serving(odd) as address:
        assert b"".join(client.open_blob(f"{address}/a/b:1", blob(b"x"))) == b"x"


@pytest.mark.parametrize("number", NUMBERS)
def test_a_least_chunk_that_is_no_number_counts_as_not_said(
    server: FakeRegistry, client: Registry, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envsnap.registry.upload.CHUNK", 1)
    server.least_chunk = number  # type: ignore[assignment]
    assert client.upload(f"{server.address}/a/b:1", blob(b"xyz"), lambda at: iter([b"xyz"[at:]])) == 3
    assert server.count("^PATCH") == 3


@pytest.mark.parametrize("number", NUMBERS)
def test_a_range_that_is_no_number_counts_as_not_said(
    server: FakeRegistry, client: Registry, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envsnap.registry.upload.CHUNK", 2)

    def odd(request: BaseHTTPRequestHandler) -> Answer:
        status, headers, body = server.answer(request)
        return status, {**headers, **({"Range": f"0-{number}"} if request.command == "PATCH" else {})}, body

    with serving(odd) as address:
        assert client.upload(f"{address}/a/b:1", blob(b"xyz"), lambda at: iter([b"xyz"[at:]])) == 3


@pytest.mark.parametrize("number", NUMBERS)
def test_a_part_that_is_no_part_is_refused(client: Registry, number: str) -> None:
    with serving(lambda _: (206, {"Content-Range": f"bytes {number}-2/3"}, b"x")) as address, pytest.raises(EngineError) as caught:
        b"".join(client.open_blob(f"{address}/a/b:1", blob(b"x")))
    assert "another part" in caught.value.why


@pytest.mark.parametrize("target", ["https://[x/", "//[::1", "https://a:99999/"])
def test_an_upload_and_a_list_lead_nowhere(client: Registry, target: str) -> None:
    def leading(request: BaseHTTPRequestHandler) -> Answer:
        if request.command == "GET":
            return 200, {"Link": f'<{target}>; rel="next"'}, b'{"tags": ["1"]}'
        return (202, {"Location": target}, b"") if request.command == "POST" else (404, {}, b"")

    with serving(leading) as address:
        assert not client.mount(f"{address}/a/b:1", blob(b"x"), f"{address}/base:1")
        for use in (
            lambda: client.upload(f"{address}/a/b:1", blob(b"x"), lambda _: iter([b"x"])),
            lambda: client.tags(f"{address}/a/b"),
        ):
            with pytest.raises(EngineError) as caught:
                use()
            assert caught.value.why == f"{address} leads to '{target}', which is no address"


@pytest.mark.parametrize(
    "token",
    [b'{"token": "t", "expires_in": %s}' % (b"9" * 400), b'{"token": "\xe2\x82\xac"}', b'{"token": "a\\nb"}', b'{"token": "\\ud800"}'],
)
def test_a_token_of_nonsense(client: Registry, token: bytes) -> None:
    def guarded(request: BaseHTTPRequestHandler) -> Answer:
        if request.path.startswith("/token"):
            return 200, {}, token
        if request.headers.get("Authorization") == "Bearer t":
            return 200, {"Content-Type": BUNDLE.manifest.media_type}, BUNDLE.manifest.raw
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{request.headers["Host"]}/token"'}, b""

    with serving(guarded) as address:
        if b"expires_in" in token:
            assert client.manifest(f"{address}/a/b:1").digest == BUNDLE.manifest.digest
            return
        with pytest.raises(EngineError) as caught:
            client.manifest(f"{address}/a/b:1")
        assert caught.value.why == f"{address} denies access to a/b"


def test_a_redirect_whose_body_does_not_end_is_not_read(client: Registry) -> None:
    sent = 0

    def endless(request: BaseHTTPRequestHandler) -> Answer:
        nonlocal sent
        request.close_connection = True
        request.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(1000):
            request.wfile.write(b"x" * 100_000)
            sent += 100_000
        return 200, {}, b""

    with serving(endless) as address, pytest.raises(EngineError, match="cannot push"):
        client.put_manifest(f"{address}/a/b:1", BUNDLE.manifest)
    assert sent < 50_000_000


def test_a_redirect_round_and_round(client: Registry) -> None:
    with serving(lambda request: (302, {"Location": request.path}, b"")) as address, pytest.raises(EngineError) as caught:
        client.manifest(f"{address}/a/b:1")
    assert "without end" in caught.value.why


@pytest.mark.parametrize("target", ["http://example.com/blob", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_to_an_unencrypted_place_is_not_followed(client: Registry, target: str) -> None:
    with serving(lambda _: (307, {"Location": target}, b"")) as address, pytest.raises(EngineError) as caught:
        b"".join(client.open_blob(f"{address}/a/b:1", blob(b"x")))
    assert f"leads to {target}, which is not encrypted" in caught.value.why


def test_an_upload_is_not_led_to_an_unencrypted_place(client: Registry) -> None:
    def leading(request: BaseHTTPRequestHandler) -> Answer:
        return (202, {"Location": "http://example.com/upload"}, b"") if request.command == "POST" else (404, {}, b"")

    with serving(leading) as address, pytest.raises(EngineError) as caught:
        client.upload(f"{address}/a/b:1", blob(b"x"), lambda _: iter([b"x"]))
    assert "leads to http://example.com/upload" in caught.value.why


def test_a_cookie_is_not_kept(client: Registry) -> None:
    seen: list[str | None] = []

    def baking(request: BaseHTTPRequestHandler) -> Answer:
        seen.append(request.headers.get("Cookie"))
        return 404, {"Set-Cookie": "who=you"}, b""

    with serving(baking) as address:
        assert client.head(f"{address}/a/b:1") is None
        assert client.head(f"{address}/a/b:1") is None
    assert seen == [None, None]


def test_what_a_registry_says_is_told_without_secrets_and_control_characters(client: Registry) -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "\\u001b[31mno; token ghp_0123456789012345678901234567890123456789"}]}'
    with serving(lambda _: (418, {}, body)) as address, pytest.raises(EngineError) as caught:
        client.manifest(f"{address}/a/b:1")
    assert caught.value.why == f"{address} answered with HTTP 418: DENIED  [31mno; token ****"


def test_a_proxy_of_the_environment_is_asked_and_not_for_this_machine(
    server: FakeRegistry, client: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def proxying(request: BaseHTTPRequestHandler) -> Answer:
        seen.append(request.path)
        return 200, {"Content-Type": BUNDLE.manifest.media_type}, BUNDLE.manifest.raw

    with serving(proxying) as address:
        monkeypatch.setenv("http_proxy", f"http://{address}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        far = Registry({"DOCKER_CONFIG": "/nonexistent"}, plain_http=frozenset({"registry.invalid:5000"}), patience=FAST)
        assert far.manifest("registry.invalid:5000/a/b:1").digest == BUNDLE.manifest.digest
        assert seen == ["http://registry.invalid:5000/v2/a/b/manifests/1"]
        assert client.manifest(f"{server.address}/a/b:1").digest == BUNDLE.manifest.digest
        assert len(seen) == 1


def test_plain_http_is_for_this_machine_and_for_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(EngineError) as caught:
        Registry({"DOCKER_CONFIG": "/nonexistent"}, patience=FAST).manifest("registry.invalid:5000/a/b:1")
    assert "registry.invalid:5000 does not answer" in caught.value.why  # TLS was tried, through the proxy


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tls.make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def encrypted(server: FakeRegistry, certificate: Path) -> Iterator[str]:
    with serving(server.answer, tls=tls.of_server(certificate)) as address:
        yield address


def test_a_ca_bundle_of_the_environment(encrypted: str, certificate: Path, tmp_path: Path) -> None:
    env = {"DOCKER_CONFIG": "/nonexistent", "SSL_CERT_FILE": str(certificate)}
    client = Registry(env, patience=FAST)
    assert client.manifest(f"{encrypted}/a/b:1").digest == BUNDLE.manifest.digest
    data = b"x" * 3_000_000
    assert client.upload(f"{encrypted}/a/b:1", blob(data), lambda offset: iter([data[offset:]])) == len(data)
    assert b"".join(client.open_blob(f"{encrypted}/a/b:1", blob(data))) == data
    (tmp_path / "file").write_bytes(other := data + b"y")
    assert client.upload(f"{encrypted}/a/b:1", blob(other), from_file(tmp_path / "file")) == len(other)


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(encrypted: str, server: FakeRegistry) -> None:
    with pytest.raises(EngineError) as caught:
        Registry({"DOCKER_CONFIG": "/nonexistent"}, patience=FAST).manifest(f"{encrypted}/a/b:1")
    assert f"{encrypted} is not trusted: " in caught.value.why
    assert "--ca-bundle FILE" in caught.value.hint
    assert not server.asked


def test_a_ca_bundle_that_is_not_there(server: FakeRegistry) -> None:
    with pytest.raises(EngineError) as caught:
        Registry({"SSL_CERT_FILE": "/nonexistent/ca.pem"}, patience=FAST).manifest(f"{server.address}/a/b:1")
    assert "no CA bundle at /nonexistent/ca.pem" in caught.value.why


def test_closing_ends_what_another_thread_waits_for(client: Registry) -> None:
    caught: list[EngineError] = []

    def wait() -> None:
        try:
            client.manifest(f"{address}/a/b:1")
        except EngineError as error:
            caught.append(error)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2)
        before = time.monotonic()
        client.close()
        thread.join(5)
        assert time.monotonic() - before < 1
    assert [error.why for error in caught] == [f"{address} was left: the work was stopped"]
    with pytest.raises(EngineError, match="cannot look up"):
        client.manifest(f"{address}/a/b:1")


def test_a_connection_that_is_made_after_the_end_is_cut_too() -> None:
    lines = _Lines(FAST)
    lines.cut()
    here, there = socket.socketpair()
    with here, there:
        lines.opened(here)
        assert there.recv(1) == b""


def test_pauses_grow_and_end() -> None:
    pauses: list[float] = []
    attempts = Attempts(Patience(attempts=6, pause_s=1, longest_pause_s=5), pauses.append)
    for _ in range(5):
        attempts.failed(Trouble("no"))
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, (1, 2, 4, 5, 5), strict=True))
    with pytest.raises(Trouble, match="no"):
        attempts.failed(Trouble("no"))
    attempts.progressed()
    attempts.failed(Trouble("no", wait_s=77))
    assert pauses[-1] == 77


@pytest.mark.parametrize("trouble", [Trouble("x", passing=False), Trouble("x", wait_s=121), Trouble("x", wait_s=1e9)])
def test_some_troubles_are_not_waited_for(trouble: Trouble) -> None:
    with pytest.raises(Trouble):
        Attempts(Patience(), lambda _: pytest.fail("waited")).failed(trouble)


def test_no_pause_goes_beyond_the_whole_time() -> None:
    attempts = Attempts(Patience(total_s=10), lambda _: None)
    with pytest.raises(Trouble):
        attempts.failed(Trouble("x", wait_s=11))


def test_retry_after() -> None:
    assert retry_after("7") == 7
    assert retry_after(" 0 ") == 0
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 50))
    assert 45 <= (retry_after(later) or 0) <= 50
    assert retry_after("Sat, 01 Jan 2000 00:00:00 GMT") == 0
    assert [retry_after(text) for text in ("", "soon", "-1", "1.5", "٣")] == [None] * 5
