"""Names of images."""

from __future__ import annotations

import pytest
from docker.auth import INDEX_NAME, INDEX_URL

from envsnap.engines.reference import Reference, api_host, is_loopback, parse_reference
from envsnap.errors import EngineError

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("debian", Reference(registry=INDEX_NAME, repository="library/debian", tag="latest")),
        ("debian:bookworm", Reference(registry=INDEX_NAME, repository="library/debian", tag="bookworm")),
        ("me/thing:1", Reference(registry=INDEX_NAME, repository="me/thing", tag="1")),
        (f"{INDEX_NAME}/library/debian", Reference(registry=INDEX_NAME, repository="library/debian", tag="latest")),
        ("localhost/x", Reference(registry="localhost", repository="x", tag="latest")),
        ("localhost:5000/a/b:1.0-x", Reference(registry="localhost:5000", repository="a/b", tag="1.0-x")),
        ("registry.example.com/a__b/c.d:1", Reference(registry="registry.example.com", repository="a__b/c.d", tag="1")),
        (f"localhost:5000/a@{DIGEST}", Reference(registry="localhost:5000", repository="a", digest=DIGEST)),
        (f"localhost:5000/a:1@{DIGEST}", Reference(registry="localhost:5000", repository="a", tag="1", digest=DIGEST)),
    ],
)
def test_a_name_is_taken_apart_as_docker_does(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "A/B",
        "localhost:5000/",
        "localhost:5000/a:",
        "a@",
        "a@sha256:12",
        "a@md5:" + "0" * 32,
        "-x",
        "a/../b",
        "https://example.com/a",
        "localhost:5000/a:1\n",
        f"localhost:5000/a@{DIGEST}\n",
        "localhost:5000/a:" + "x" * 129,
        "exa mple.com/a",
        "localhost:5000?x=/a",
        "user@example.com/a",
    ],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(EngineError, match="is not the name of an image"):
        parse_reference(text)


def test_the_default_registry_answers_under_another_name() -> None:
    assert api_host("localhost:5000") == "localhost:5000"
    assert api_host(INDEX_NAME) in INDEX_URL
    assert api_host(INDEX_NAME) != INDEX_NAME


@pytest.mark.parametrize(("host", "expected"), [("localhost", True), ("localhost:1", True), ("127.3.2.1:1", True), ("[::1]:1", True)])
def test_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "[::2]:1"])
def test_not_this_machine(host: str) -> None:
    assert not is_loopback(host)
