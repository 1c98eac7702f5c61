"""Signed indexes and what they vouch for, from a directory and from a server on loopback."""

from __future__ import annotations

import gzip
import http.server
import lzma
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envsnap import redirects
from envsnap.blobs import BlobStore
from envsnap.debian import archive as module
from envsnap.debian import transfer
from envsnap.debian.archive import Archive, Settings, needed
from envsnap.debian.distributions import find
from envsnap.debian.index import Index
from envsnap.debian.keys import shipped, verified
from envsnap.debian.sources import sources
from envsnap.errors import EngineError, EnvsnapError, InputError, PlanError, UsageError
from envsnap.progress import Silent
from tests.unit.debian.conftest import OTHER_KEY, Mirror, make


class Noted(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def archive(mirror: Mirror, cache: Path, *, offline: bool = False, url: str | None = None, progress: Silent | None = None) -> Archive:
    settings = Settings(mirror=url or mirror.root.as_uri(), keyring=mirror.keyring, offline=offline)
    return Archive("debian 12", "amd64", cache, settings, progress or Silent())


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer.persistently, "__defaults__", ((0, 0),))


@contextmanager
def served(root: Path, answer: Callable[[http.server.SimpleHTTPRequestHandler], bool] = lambda _: False) -> Iterator[str]:
    """A directory over http. Args: answer: answers itself and returns True, or leaves it to the directory."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if not answer(self):
                super().do_GET()

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_what_is_signed_is_found_and_fetched(mirror: Mirror, tmp_path: Path) -> None:
    made = make("hello", {"usr/bin/hello": b"#!/bin/sh\n"})
    mirror.publish(made)
    with served(mirror.root.parent) as url:
        ours = archive(mirror, tmp_path / "cache", url=f"{url}/mirror")
        (package,) = ours.index().candidates("hello")
        assert package.source_of == made.file
        ours.fetch([made.file])
    with ours.open(made.file) as file:
        assert file.read() == made.data
    offline = archive(mirror, tmp_path / "cache", offline=True, url=f"{url}/mirror")
    assert offline.index().candidates("hello") == [package]
    offline.fetch([made.file])


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: bytes(len(data))], ids=["cut", "zeros"])
def test_what_the_cache_has_damaged_is_fetched_again(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    made, cache = make("hello"), tmp_path / "cache"
    mirror.publish(made)
    ours, offline = archive(mirror, cache), archive(mirror, cache, offline=True)
    (known,) = ours.index().candidates("hello")
    ours.fetch([made.file])
    kept = list((cache / "blobs/sha256").iterdir())
    assert len(kept) == 3  # the suite's index, that of the two suites which have nothing, the package

    def spoil() -> None:
        for path in kept:
            path.write_bytes(damage(path.read_bytes() if path.exists() else b""))

    spoil()
    with pytest.raises(InputError, match="cannot read the index of bookworm") as caught:
        offline.index()
    assert caught.value.hint == "run once with a network"
    with pytest.raises(InputError, match=r"cannot fetch hello 1\.0-1"):
        offline.fetch([made.file])
    assert ours.index().candidates("hello") == [known]
    ours.fetch([made.file])
    assert offline.index().candidates("hello") == [known]
    with offline.open(made.file) as file:
        assert file.read() == made.data
    spoil()
    monkeypatch.setattr(BlobStore, "has_whole", BlobStore.has)  # without a look at it, nothing would get better
    for _ in range(2):
        with pytest.raises(InputError):
            ours.index()


def test_offline_without_a_cache_says_so(mirror: Mirror, tmp_path: Path) -> None:
    made = make("hello")
    mirror.publish(made)
    offline = archive(mirror, tmp_path / "cache", offline=True)
    with pytest.raises(InputError, match="cannot read the index of bookworm"):
        offline.index()
    with pytest.raises(InputError, match=r"cannot fetch hello 1\.0-1"):
        offline.fetch([made.file])
    with pytest.raises(InputError, match="not in the cache"), offline.open(made.file):
        pass


def release(mirror: Mirror) -> Path:
    return mirror.root / "dists/bookworm/InRelease"


def packages(mirror: Mirror) -> Path:
    return mirror.root / "dists/bookworm/main/binary-amd64/Packages.xz"


def tamper(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda m: tamper(release(m)), "signature does not hold"),
        (lambda m: release(m).write_bytes(release(m).read_bytes()[:200]), "signature does not hold"),
        (lambda m: release(m).write_text("Codename: bookworm\n"), "signature does not hold"),
        (
            lambda m: release(m).write_bytes(release(m).read_bytes().replace(b"Origin: Debian", b"Origin: Evilry")),
            "signature does not hold",
        ),
        (lambda m: release(m).unlink(), "does not exist"),
        (lambda m: tamper(packages(m)), "SHA-256 is another"),
        (lambda m: packages(m).write_bytes(packages(m).read_bytes()[:-9]), "bytes came"),
        (lambda m: packages(m).write_bytes(packages(m).read_bytes() + b"more"), "more than"),
        (lambda m: m.index("trixie", b"") or release(m).write_bytes((m.root / "dists/trixie/InRelease").read_bytes()), "sends trixie"),
    ],
    ids=["changed", "cut", "unsigned", "edited", "gone", "index changed", "index cut", "index longer", "another suite"],
)
def test_what_is_not_as_signed_is_refused(mirror: Mirror, tmp_path: Path, harm: Callable[[Mirror], object], why: str) -> None:
    mirror.publish(make("hello"))
    harm(mirror)
    with pytest.raises(EngineError, match="cannot read the index of bookworm") as caught:
        archive(mirror, tmp_path / "cache").index()
    assert why in caught.value.why
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not kept or all("InRelease" in path.name for path in kept)


def test_another_key_is_no_signature(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(make("hello"))
    keyring = mirror.keyring.read_bytes()
    mirror.key = OTHER_KEY
    mirror.publish()
    mirror.root.joinpath("honest.pgp").write_bytes(keyring)
    settings = Settings(mirror=mirror.root.as_uri(), keyring=mirror.root / "honest.pgp")
    with pytest.raises(EngineError, match="cannot read the index") as caught:
        Archive("debian 12", "amd64", tmp_path, settings).index()
    assert "signature does not hold" in caught.value.why and "--apt-keyring" in caught.value.hint
    with pytest.raises(EngineError):  # nor is any key of ours one of Debian's
        Archive("debian 12", "amd64", tmp_path, Settings(mirror=mirror.root.as_uri())).index()


def test_the_keys_that_are_shipped_can_be_read() -> None:
    for vendor, count in (("debian", 9), ("ubuntu", 1)):
        assert shipped(vendor).count(b"BEGIN PGP PUBLIC KEY BLOCK") == count
        with pytest.raises(EngineError, match="x"):
            verified(b"Codename: bookworm\n", shipped(vendor), what="x")
    with pytest.raises(EngineError, match="x") as caught:
        verified(b"", b"no keys", what="x")
    assert "no OpenPGP certificates" in caught.value.why


def test_other_bytes_for_a_deb_are_refused(mirror: Mirror, tmp_path: Path) -> None:
    made, gone = make("hello"), make("gone")
    mirror.publish(made, gone)
    tamper(mirror.root / made.file.path)
    (mirror.root / gone.file.path).unlink()
    ours = archive(mirror, tmp_path / "cache")
    ours.index()
    with pytest.raises(EngineError, match=r"cannot fetch hello 1\.0-1") as caught:
        ours.fetch([made.file])
    assert "SHA-256 is another" in caught.value.why
    with pytest.raises(EngineError, match="cannot fetch gone") as caught:
        ours.fetch([gone.file])
    assert "does not have it any more" in caught.value.why and "--vendor" in caught.value.hint
    assert not (tmp_path / "cache/blobs/sha256" / made.file.sha256).exists()


def test_what_breaks_off_is_tried_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(make("hello"))
    seen: list[str] = []

    def shaky(request: http.server.SimpleHTTPRequestHandler) -> bool:
        seen.append(request.path)
        if seen.count(request.path) == 1:
            request.send_error(503)
            return True
        if seen.count(request.path) == 2:
            request.send_response(200)
            request.send_header("Content-Length", "100000")
            request.end_headers()
            request.wfile.write(b"x")
            return True
        return False

    with served(mirror.root.parent, shaky) as url:
        index = archive(mirror, tmp_path / "cache", url=f"{url}/mirror").index()
    assert index.candidates("hello") and max(map(seen.count, seen)) == 3


@pytest.mark.parametrize(("status", "tries"), [(500, 3), (403, 1), (429, 3)])
def test_a_mirror_that_refuses_is_named(mirror: Mirror, tmp_path: Path, status: int, tries: int) -> None:
    mirror.publish()
    count = []

    def refuse(request: http.server.SimpleHTTPRequestHandler) -> bool:
        count.append(1)
        request.send_error(status)
        return True

    with served(mirror.root.parent, refuse) as url, pytest.raises(EngineError) as caught:
        archive(mirror, tmp_path / "cache", url=f"http://user:secret@{url.removeprefix('http://')}/mirror").index()
    assert f"answers {status}" in caught.value.why and "secret" not in caught.value.why and len(count) == tries


@pytest.mark.parametrize(
    ("status", "header", "value"),
    [
        (302, "Location", "https://[x/"),
        (302, "Location", "https://127.0.0.1:99999/"),
        (200, "Transfer-Encoding", "chunked"),
    ],
)
def test_a_mirror_that_answers_nonsense_is_named(mirror: Mirror, tmp_path: Path, status: int, header: str, value: str) -> None:
    mirror.publish()
    count = []

    def odd(request: http.server.SimpleHTTPRequestHandler) -> bool:
        count.append(1)
        request.protocol_version = "HTTP/1.1"
        request.send_response(status)
        request.send_header(header, value)
        request.end_headers()
        request.wfile.write(b"-5\r\nx\r\n0\r\n\r\n")
        return True

    with served(mirror.root.parent, odd) as url, pytest.raises(EngineError) as caught:
        archive(mirror, tmp_path / "cache", url=f"{url}/mirror").index()
    assert caught.value.why.startswith(f"{url}/mirror/") and len(count) == 1


def test_a_mirror_is_followed_by_rule(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish()
    count = []

    def leading(request: http.server.SimpleHTTPRequestHandler) -> bool:
        count.append(1)
        request.send_response(302)
        request.send_header("Location", request.path)
        request.end_headers()
        return True

    with served(mirror.root.parent, leading) as url, pytest.raises(EngineError) as caught:
        archive(mirror, tmp_path / "cache", url=f"{url}/mirror").index()
    assert "leads from one place to another without end" in caught.value.why and len(count) == redirects.MAX_STEPS + 1


def test_an_index_that_its_signed_description_names_and_that_is_not_there(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish()
    (mirror.root / "dists/bookworm/main/binary-amd64/Packages.xz").unlink()
    with pytest.raises(EngineError, match="cannot read the index of bookworm") as caught:
        archive(mirror, tmp_path / "cache").index()
    assert "does not exist" in caught.value.why


def test_nobody_there(mirror: Mirror, tmp_path: Path) -> None:
    with served(tmp_path) as url:
        pass
    with pytest.raises(EngineError) as caught:
        archive(mirror, tmp_path / "cache", url=url).index()
    assert "--apt-mirror" in caught.value.hint


def test_dates_are_looked_at(mirror: Mirror, tmp_path: Path) -> None:
    mirror.release = {"Valid-Until": "Sat, 11 Jul 2020 10:16:37 UTC", "Date": "Sat, 11 Jul 2120 10:16:37 UTC"}
    mirror.publish(make("hello"))
    said = Noted()
    assert archive(mirror, tmp_path / "cache", progress=said).index().candidates("hello")
    assert "the index of bookworm was valid until 2020-07-11: the mirror may lack newer updates" in said.warnings
    assert any("is the clock right?" in text for text in said.warnings)
    silent = Noted()
    archive(mirror, tmp_path / "cache", offline=True, progress=silent).index()
    assert not any("valid until" in text for text in silent.warnings)


def test_a_missing_suite_of_updates_is_a_warning_and_one_of_security_is_not(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(make("hello"))
    (mirror.root / "dists/bookworm-updates/InRelease").unlink()
    said = Noted()
    archive(mirror, tmp_path / "cache", progress=said).index()
    assert any("has no bookworm-updates" in text for text in said.warnings)
    (mirror.root.with_name("mirror-security") / "dists/bookworm-security/InRelease").unlink()
    with pytest.raises(EngineError, match="bookworm-security") as caught:
        archive(mirror, tmp_path / "cache").index()
    assert "URL-OF-SECURITY-UPDATES" in caught.value.hint


def test_sources_of_the_host(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(
        "# a comment\nTypes: deb deb-src\nURIs: http://mirror.example.com/debian/\nSuites: bookworm bookworm-updates\n"
        "# inside\nComponents: main contrib\nSigned-By:\n -----BEGIN\n .\n\nTypes: deb\nEnabled: no\nURIs: http://off.example.com\n"
        "Suites: bookworm-security\nComponents: main\n"
    )
    (parts / "old.list").write_text(
        "# deb http://comment.example.com bookworm-security main\ndeb-src http://src.example.com bookworm-security main\n"
        "deb [arch=amd64 signed-by=/x] http://security.example.com/debian-security bookworm-security main # why\n"
        "deb mirror+file:/x bookworm main\ndeb http://other.example.com focal main\n"
    )
    (parts / "broken.sources").write_text("no field\n")
    (parts / "off.sources.disabled").write_text("Types: deb\nURIs: http://no.example.com\nSuites: bookworm\nComponents: main\n")
    found = sources(find("debian:bookworm"), mirror=None, etc_apt=tmp_path)
    assert [(source.suite, source.url, source.components, source.archive) for source in found] == [
        ("bookworm", "http://mirror.example.com/debian", ("main", "contrib"), "main"),
        ("bookworm-updates", "http://mirror.example.com/debian", ("main", "contrib"), "main"),
        ("bookworm-security", "http://security.example.com/debian-security", ("main",), "security"),
    ]
    with pytest.raises(PlanError, match="no mirror of debian 13") as caught:
        sources(find("debian:trixie"), mirror=None, etc_apt=tmp_path)
    assert "ENVSNAP_APT_MIRROR" in caught.value.hint


def test_sources_of_a_setting() -> None:
    debian, ubuntu = find("debian 12"), find("ubuntu:noble")
    assert {source.url for source in sources(debian, mirror="https://m.example.com/debian/")} == {
        "https://m.example.com/debian", "https://m.example.com/debian-security"
    }  # fmt: skip
    assert {source.url for source in sources(ubuntu, mirror="https://m.example.com/ubuntu")} == {"https://m.example.com/ubuntu"}
    two = sources(debian, mirror="https://m.example.com/d, file:///srv/security")
    assert [source.url for source in two] == ["https://m.example.com/d"] * 2 + ["file:///srv/security"]
    for wrong in ("", "m.example.com", "https://a,https://b,https://c", "ftp://m.example.com"):
        with pytest.raises(UsageError):
            sources(debian, mirror=wrong)


def test_what_is_no_mirror_is_not_repeated() -> None:
    """A mistyped address may hold a password."""
    for wrong in (
        "htps://user:hunter2@m.example.com/d",
        "https://user:hunter2@[m.example.com",
        "https://m.example.com/d,https://user:hunter2@",
    ):
        with pytest.raises(UsageError) as caught:
            sources(find("debian 12"), mirror=wrong)
        assert "hunter2" not in f"{caught.value.what}{caught.value.why}{caught.value.hint}"


def test_distributions_that_are_not_known() -> None:
    assert find("debian:12").codename == "bookworm" and find("ubuntu 22.04").codename == "jammy"
    for name in ("debian 10", "alpine 3.20", "debian", ""):
        with pytest.raises(EnvsnapError, match="not known"):
            find(name)


INDEX = b"""Package: a
Version: 2:1.0-1
Architecture: amd64
Depends: b (>= 1),
 c | d
Description: what it is for
 Package: not one
Provides: virtual (= 1.0)
Filename: pool/a.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000000
Tag: role::program

Package: b
Version: 1
Architecture: all
Essential: yes
Priority: required
Filename: pool/b.deb
Size: 2
SHA256: 1111111111111111111111111111111111111111111111111111111111111111
"""


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize(("ending", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_an_index_is_read_in_pieces_and_without_what_is_not_needed(
    ending: str, compress: Callable[[bytes], bytes], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE", piece)
    text = needed(compress(INDEX), ending, "what")
    assert b"what it is for" not in text and b"Tag" not in text and b"not one" not in text
    found, whole = Index([(text, "main")]), Index([(INDEX, "main")])
    assert [found.candidates(name) for name in "ab"] == [whole.candidates(name) for name in "ab"]
    assert [str(group) for group in found.candidates("a")[0].depends] == [str(group) for group in whole.candidates("a")[0].depends]
    assert [package.name for package in found.providers("virtual")] == ["a"]
    assert found.essential() == ["b"]


@pytest.mark.parametrize(("ending", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_an_index_beyond_the_limit_is_refused(ending: str, compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE", 4096)
    monkeypatch.setattr(module, "_INDEX_LIMIT", 100_000)
    with pytest.raises(InputError, match="cannot read") as caught:
        needed(compress(bytes(1_000_000)), ending, "cannot read the index")
    assert "more than 100000 bytes" in caught.value.why
    with pytest.raises(InputError, match="cannot read"):
        needed(b"no such thing", ending, "cannot read the index")
