"""Whatever a registry answers, its client ends in what was asked for, or in its own error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsnap.errors import EngineError
from envsnap.registry.client import Registry
from envsnap.registry.patience import Patience
from tests.fakes.http_server import Answer, serving
from tests.fakes.images import blob, image

DATA = b"x" * 100
BUNDLE = image(DATA)
HASTY = Patience(attempts=2, first_attempts=2, pause_s=0, longest_wait_s=0, connect_s=2, read_s=2, commit_s=2)

numbers = st.sampled_from(["²", "٣", "-1", "+1", "1_0", " 7", "9" * 30, "9" * 5000, "", "100", "0x9", "1, 2", "nan", "1e9"])
addresses = st.sampled_from(
    [
        "https://[x/",
        "//[::1/v2/",
        "https://[:::]:5000/",
        "https://[v1.x]/",
        "https://example.com:99999/",
        "http://127.0.0.1:x/",
        "https:///v2/",
        "https://..invalid/",
        "https://" + "a" * 70 + ".invalid/",
        "http://%E2%82%AC:x@{here}/v2/",
        "http://{here}/\u00ff%zz?\u0001#",
        "http://[::ffff:127.0.0.1%25lo]/",
        "mailto:x",
        "?",
        "/v2/a/b/next",
        "\\\\",
    ]
)
words = st.one_of(numbers, addresses, st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=12))


def templates(*forms: str) -> st.SearchStrategy[str]:
    return st.builds(lambda form, word: form.replace("@", word), st.sampled_from(forms), words)


HEADERS = {
    "Location": templates("@"),
    "Content-Range": templates("@", "bytes @-99/100", "bytes 0-@/100", "bytes 0-99/@"),
    "Range": templates("@", "0-@", "bytes=0-@"),
    "OCI-Chunk-Min-Length": templates("@"),
    "Retry-After": templates("@"),
    "Link": templates("@", '<@>; rel="next"'),
    "WWW-Authenticate": templates("@", 'Bearer realm="@"', 'Bearer realm="http://{here}/token",service="@",scope="@"', "Basic @"),
    "Docker-Content-Digest": templates("@", "sha256:@"),
    "Content-Type": templates("@"),
}
answers = st.tuples(
    st.sampled_from([200, 200, 201, 202, 204, 206, 302, 307, 400, 401, 404, 416, 429, 503]),
    st.fixed_dictionaries({}, optional=HEADERS),
    st.sampled_from([b"", b"{}", DATA, BUNDLE.manifest.raw, b'{"tags": ["1"]}', b'{"manifests": []}', b'{"errors": [1]}', b"[" * 9000]),
)
tokens = st.fixed_dictionaries(
    {},
    optional={
        "token": st.sampled_from(["t", "", "\u20ac", "a\nb", "\ud800", 1, None]),
        "expires_in": st.sampled_from([10**400, -1, 0, 300, True, 1.5, "300", None, float("inf")]),
    },
)
USES: dict[str, Callable[[Registry, str], object]] = {
    "manifest": lambda client, reference: client.manifest(reference),
    "head": lambda client, reference: client.head(reference),
    "resolve": lambda client, reference: client.resolve(reference, machine="x86_64"),
    "tags": lambda client, reference: client.tags(reference),
    "referrers": lambda client, reference: client.referrers(reference, BUNDLE.manifest.digest),
    "blob": lambda client, reference: b"".join(client.open_blob(reference, blob(DATA))),
    "mount": lambda client, reference: client.mount(reference, blob(DATA), reference.replace("a/b", "base")),
    "upload": lambda client, reference: client.upload(reference, blob(DATA), lambda offset: iter([DATA[offset:]])),
    "upload in chunks": lambda client, reference: client.upload(reference, blob(DATA * 9), lambda offset: iter([(DATA * 9)[offset:]])),
    "put": lambda client, reference: client.put_manifest(reference, BUNDLE.manifest),
}


@pytest.fixture(scope="module")
def talk() -> Iterator[Talk]:
    talk, patched = Talk(), pytest.MonkeyPatch()
    with serving(talk.answer) as talk.address:
        patched.setattr("envsnap.registry.upload.CHUNK", 2 * len(DATA))
        yield talk
        patched.undo()


class Talk:
    """A registry that says what it was told to, in turn."""

    def __init__(self) -> None:
        self.address = ""
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.token = b"{}"
        self.said = 0

    def answer(self, request: BaseHTTPRequestHandler) -> Answer:
        request.rfile.read(int(request.headers.get("Content-Length", "0")))
        if request.path.startswith("/token"):
            return 200, {}, self.token
        status, headers, body = self.answers[self.said % len(self.answers)]
        self.said += 1
        encoded = {name: value.replace("{here}", self.address).encode("utf-8").decode("latin-1") for name, value in headers.items()}
        return status, encoded, body


@settings(max_examples=150, deadline=None)
@given(use=st.sampled_from(sorted(USES)), said=st.lists(answers, min_size=1, max_size=4), token=tokens)
def test_nonsense_ends_in_our_error(talk: Talk, use: str, said: list[tuple[int, dict[str, str], bytes]], token: dict[str, object]) -> None:
    talk.answers, talk.said, talk.token = said, 0, json.dumps(token).encode()
    client = Registry({"DOCKER_CONFIG": "/nonexistent"}, patience=HASTY)
    with contextlib.closing(client), contextlib.suppress(EngineError):
        USES[use](client, f"{talk.address}/a/b:1")
