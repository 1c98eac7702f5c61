"""The tags of a repository: over pages, and what is no list of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest

from envsnap.errors import EngineError
from envsnap.registry import tags
from envsnap.registry.client import Registry
from tests.fakes.http_server import Answer, serving
from tests.fakes.images import image
from tests.fakes.registry import FakeRegistry

BUNDLE = image(b"layer")


def test_over_pages(server: FakeRegistry, client: Registry) -> None:
    names = [f"{year}.{month:02}-py3" for year in (24, 25) for month in range(1, 13)]
    for name in (*names, BUNDLE.manifest.digest):
        server.manifests["nvidia/pytorch", name] = (BUNDLE.manifest.media_type, BUNDLE.manifest.raw)
    server.page = 5
    assert client.tags(f"{server.address}/nvidia/pytorch") == tuple(names)
    assert server.count("tags/list") == 5


def test_from_a_mirror_else_from_the_registry(server: FakeRegistry, client: Registry) -> None:
    server.manifests["m/nvidia/pytorch", "1"] = (BUNDLE.manifest.media_type, BUNDLE.manifest.raw)
    mirrored = Registry({"DOCKER_CONFIG": "/nonexistent"}, mirrors={"nvcr.io": [f"{server.address}/m"]}, patience=client._wire.patience)
    assert mirrored.tags("nvcr.io/nvidia/pytorch") == ("1",)
    mirrored.close()


def test_what_is_denied_and_what_is_not_there(server: FakeRegistry, client: Registry) -> None:
    with pytest.raises(EngineError, match="cannot list the tags of") as caught:
        client.tags(f"{server.address}/a/b")
    assert caught.value.why == f"{server.address} has no a/b"
    server.lists = False
    with pytest.raises(EngineError) as caught:
        client.tags(f"{server.address}/a/b")
    assert caught.value.why == f"{server.address} denies access to a/b"


def listing(*names: object) -> bytes:
    return json.dumps({"name": "a/b", "tags": names}).encode()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: (200, {}, b"<html>"), "not JSON"),
        (lambda _: (200, {}, b'{"tags": "1"}'), "no list of tags"),
        (lambda _: (200, {}, listing("ok", "../../x")), "no list of tags"),
        (lambda _: (200, {}, listing("ok", 7)), "no list of tags"),
        (lambda _: (200, {}, listing(*map(str, range(tags._MAX_TAGS + 1)))), f"more than {tags._MAX_TAGS} tags"),
        (lambda _: (200, {}, b" " * (9 << 20)), "more than 8 MiB"),
        (
            lambda _: (200, {"Link": '<http://127.0.0.1:1/v2/a/b/tags/list>; rel="next"'}, listing("1")),
            "leads to another place for more tags",
        ),
        (lambda request: (200, {"Link": f'<{request.path}>; rel="next"'}, listing("1")), "lists tags without end"),
    ],
)
def test_what_is_no_list(answer: Callable[[BaseHTTPRequestHandler], Answer], why: str, client: Registry) -> None:
    with serving(answer) as address, pytest.raises(EngineError) as caught:
        client.tags(f"{address}/a/b")
    assert why in caught.value.why


def test_a_repository_whose_tags_were_all_deleted(client: Registry) -> None:
    with serving(lambda _: (200, {}, b'{"name": "a/b", "tags": null}')) as address:
        assert client.tags(f"{address}/a/b") == ()
