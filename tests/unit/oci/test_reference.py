"""Names of images."""

from __future__ import annotations

import pytest
from docker.auth import INDEX_NAME, INDEX_URL

from envsnap.errors import UsageError
from envsnap.oci.reference import (
    Reference,
    api_host,
    familiar,
    is_loopback,
    names_registry,
    parse_reference,
    require_tag,
    same_repository,
    with_digest,
)

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("debian", Reference(registry=INDEX_NAME, repository="library/debian", tag="latest")),
        ("debian:bookworm", Reference(registry=INDEX_NAME, repository="library/debian", tag="bookworm")),
        ("me/thing:1", Reference(registry=INDEX_NAME, repository="me/thing", tag="1")),
        (f"{INDEX_NAME}/library/debian", Reference(registry=INDEX_NAME, repository="library/debian", tag="latest")),
        (f"index.{INDEX_NAME}/debian", Reference(registry=INDEX_NAME, repository="library/debian", tag="latest")),
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
        "-example.com/a",
        "example-.com/a",
        "example..com/a",
        "example.com./a",
        "localhost:٥٠٠٠/a",
        "f" * 64,
        "f" * 64 + ":1",
        "example.com/" + "a" * 256,
    ],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(UsageError, match="is not the name of an image"):
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


@pytest.mark.parametrize("text", ["thing", "me/thing:2026-q4", "localhost:5000/a/b:1.0", "example.com/" + "f" * 64])
def test_what_an_image_can_be_called(text: str) -> None:
    assert require_tag(text) == parse_reference(text)


@pytest.mark.parametrize(
    "text", ["", "A b", "a:1:2", "f" * 64, f"a@{DIGEST}", f"a:1@{DIGEST}", "sha256:" + "0" * 64, "sha256", "https://example.com/a:1", "-t"]
)
def test_what_no_image_can_be_called(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_tag(text)
    assert caught.value.exit_code == 2
    assert caught.value.hint


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("debian", f"{INDEX_NAME}/library/debian:12", True),
        ("debian:12", f"debian@{DIGEST}", True),
        ("library/debian", f"index.{INDEX_NAME}/debian", True),
        ("localhost:5000/debian:12", f"localhost:5000/debian:1@{DIGEST}", True),
        ("debian", "localhost:5000/debian", False),
        ("localhost:5000/debian", "localhost:5001/debian", False),
        ("localhost:5000/debian", "localhost:5000/my/debian", False),
        ("example.com/my/debian", f"debian@{DIGEST}", False),
        ("debian", "<none>@<none>", False),
        ("<none>", "<none>", False),
    ],
)
def test_two_names_of_one_repository(left: str, right: str, same: bool) -> None:
    assert same_repository(left, right) is same
    assert same_repository(right, left) is same


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("debian", "debian"),
        ("debian:12", "debian"),
        ("localhost:5000/debian", "localhost:5000/debian"),
        ("localhost:5000/debian:12", "localhost:5000/debian"),
        ("localhost:5000/debian@sha256:" + "1" * 64, "localhost:5000/debian"),
        ("localhost:5000/a/debian:12@sha256:" + "1" * 64, "localhost:5000/a/debian"),
        ("[::1]:5000/debian", "[::1]:5000/debian"),
    ],
)
def test_a_repository_at_a_digest(reference: str, expected: str) -> None:
    assert with_digest(reference, DIGEST) == f"{expected}@{DIGEST}"
    assert same_repository(with_digest(reference, DIGEST), reference)


@pytest.mark.parametrize(
    "text", ["registry.example.com/a:1", "localhost/a", "localhost:5000/a/b:1", f"{INDEX_NAME}/library/a", f"host:1/a@{DIGEST}"]
)
def test_a_name_that_says_its_registry(text: str) -> None:
    assert names_registry(text)


@pytest.mark.parametrize("text", ["a", "a:1", "me/a:1", "envsnap/a:1", f"a@{DIGEST}", "a/b/c"])
def test_a_name_that_leaves_its_registry_to_the_default(text: str) -> None:
    assert not names_registry(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{INDEX_NAME}/library/debian:1", "debian:1"),
        (f"{INDEX_NAME}/envsnap/yolo:1", "envsnap/yolo:1"),
        (f"{INDEX_NAME}/library/a/b:1", "library/a/b:1"),
        (f"{INDEX_NAME}/localhost/yolo:1", f"{INDEX_NAME}/localhost/yolo:1"),  # without it another registry's
        (f"{INDEX_NAME}/library/", f"{INDEX_NAME}/library/"),
        ("registry.example.com/library/yolo:1", "registry.example.com/library/yolo:1"),
        ("no name", "no name"),
    ],
)
def test_the_default_registry_is_not_said(text: str, said: str) -> None:
    assert familiar(text) == said
