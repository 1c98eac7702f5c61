"""Redirects on servers of loopback: how far they are followed, what is read of them, and who is shown a login."""

from __future__ import annotations

from base64 import b64encode
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from envsnap import redirects
from tests.fakes import tls
from tests.fakes.http_server import Answer, serving

LOGIN = "Basic " + b64encode(b"me:hunter2").decode()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No login, proxy or certificate of whoever runs the tests."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def read(url: str, *, verify: Path | None = None) -> bytes:
    with redirects.session() as session, redirects.get(session, url, verify=str(verify) if verify else None) as response:
        return response.content


def to(target: str) -> Answer:
    return 302, {"Location": target}, b""


class Steps:
    """Leads on so many times, each time relative to the last. Attributes: asked: Authorization of every request, "" without."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.asked: list[str] = []

    def __call__(self, request: BaseHTTPRequestHandler) -> Answer:
        self.asked.append(request.headers.get("Authorization", ""))
        self.left -= 1
        return to(f"/{self.left}") if self.left >= 0 else (200, {}, b"arrived")


def test_so_many_steps_and_no_more() -> None:
    with serving(steps := Steps(redirects.MAX_STEPS)) as address:
        assert read(f"http://{address}/") == b"arrived"
    assert len(steps.asked) == redirects.MAX_STEPS + 1
    with serving(steps := Steps(redirects.MAX_STEPS + 1)) as address, pytest.raises(redirects.Astray, match="without end"):
        read(f"http://{address}/")
    assert len(steps.asked) == redirects.MAX_STEPS + 1


def test_what_comes_with_a_redirect_is_not_read() -> None:
    sent = 0

    def endless(request: BaseHTTPRequestHandler) -> Answer:
        nonlocal sent
        if request.path == "/there":
            return 200, {}, b"arrived"
        request.close_connection = True
        request.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(1000):
            request.wfile.write(b"x" * 100_000)
            sent += 100_000
        return 200, {}, b""

    with serving(endless) as address:
        assert read(f"http://{address}/") == b"arrived"
    assert sent < 50_000_000


def test_not_from_an_encrypted_address_to_one_that_is_not(tmp_path: Path) -> None:
    certificate = tls.make_certificate(tmp_path)
    asked: list[str] = []

    def there(request: BaseHTTPRequestHandler) -> Answer:
        asked.append(request.path)
        return 200, {}, b"arrived"

    with serving(there) as plain, serving(lambda _: to(f"http://{plain}/x?key=hunter2"), tls=tls.of_server(certificate)) as address:
        with pytest.raises(redirects.Astray) as astray:
            read(f"https://{address}/", verify=certificate)
        assert str(astray.value) == f"leads to http://{plain}/x, which is not encrypted" and not asked
        assert read(f"http://{plain}/") == b"arrived"  # what was never encrypted
    with serving(there, tls=tls.of_server(certificate)) as encrypted, serving(lambda _: to(f"https://{encrypted}/")) as address:
        assert read(f"http://{address}/", verify=certificate) == b"arrived"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("file:///etc/passwd", "leads to file:///etc/passwd, which is no address of the web"),
        ("ftp://127.0.0.1/x", "leads to ftp://127.0.0.1/x, which is no address of the web"),
        ("https://[x/", "leads to 'https://[x/', which is no address"),
        ("https://127.0.0.1:99999/", "leads to 'https://127.0.0.1:99999/', which is no address"),
        ("https:///x", "no address of the web"),
    ],
)
def test_what_is_no_address_of_the_web(target: str, said: str) -> None:
    with serving(lambda _: to(target)) as address, pytest.raises(redirects.Astray) as astray:
        read(f"http://{address}/")
    assert said in str(astray.value)


def test_a_redirect_that_leads_nowhere_is_the_answer() -> None:
    with serving(lambda _: (302, {}, b"no more")) as address:
        assert read(f"http://{address}/") == b"no more"


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/there", LOGIN),
        ("http://{address}/there", LOGIN),
        ("http://localhost:{port}/there", ""),
        ("http://{other}/there", ""),
        ("http://you:password@{other}/there", ""),  # nor one that the answer itself names
    ],
)
def test_a_login_is_for_its_host(target: str, shown: str) -> None:
    asked: list[tuple[str, str]] = []

    def leading(request: BaseHTTPRequestHandler) -> Answer:
        asked.append((request.path, request.headers.get("Authorization", "")))
        return (
            (200, {}, b"arrived")
            if request.path == "/there"
            else to(target.format(address=address, port=address.rpartition(":")[2], other=other))
        )

    with serving(leading) as other, serving(leading) as address:
        assert read(f"http://me:hunter2@{address}/") == b"arrived"
    assert asked == [("/", LOGIN), ("/there", shown)]


@pytest.mark.parametrize(
    ("url", "of", "login"),
    [
        ("https://example.com/b", "https://me:pw@example.com/a", True),
        ("https://example.com:443/b", "https://me:pw@EXAMPLE.com/a", True),
        ("https://example.com/b", "http://me:pw@example.com/a", True),
        ("http://example.com/b", "https://me:pw@example.com/a", False),
        ("https://example.com:8443/b", "https://me:pw@example.com/a", False),
        ("https://example.com:8443/b", "http://me:pw@example.com:8080/a", False),
        ("https://files.example.com/b", "https://me:pw@example.com/a", False),
        ("https://you@example.com/b", "https://me:pw@example.com/a", False),
        ("https://example.com/b", "https://example.com/a", False),
        ("https://example.com:99999/b", "https://me:pw@example.com/a", False),
        ("https://[x/b", "https://me:pw@example.com/a", False),
    ],
)
def test_whom_a_login_is_given_to(url: str, of: str, login: bool) -> None:
    assert redirects.with_login(url, of) == (url.replace("https://", "https://me:pw@") if login else url)
