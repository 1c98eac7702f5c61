"""Finding wheels on a real HTTP server on loopback, in file:// indexes and in find-links folders."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import socket
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from envsnap.guest import record
from envsnap.probes import index, pages, wheel_record
from envsnap.probes.index import Absent, Answer, Broken, Found, PipConfig, Wanted
from envsnap.probes.pages import index_label
from envsnap.probes.wheel_ends import WheelEnds
from envsnap.progress import SILENT, Silent
from tests.fakes import wheels
from tests.fakes.http_server import serving as answering
from tests.fakes.index_server import IndexServer, entry, link, serving

MANYLINUX = ("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux2014_x86_64")
NUMPY = Wanted(name="numpy", version="1.26.4", tags=MANYLINUX)
NUMPY_WHEEL = "numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
SIX = Wanted(name="six", version="1.16.0", tags=("py2-none-any", "py3-none-any"))
SIX_WHEEL = "six-1.16.0-py2.py3-none-any.whl"
A, B = "a" * 64, "b" * 64
SECRET = "hunter2"
TOKEN = "dGhpc2lzYXRva2Vu7"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with serving() as running:
        yield running


@pytest.fixture
def second() -> Iterator[IndexServer]:
    with serving() as running:
        yield running


class Listener(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def find(cache: Path, config: PipConfig, *wanted: Wanted, offline: bool = False, listener: Listener | None = None) -> list[Answer]:
    answers = index.find_wheels(wanted, config, offline=offline, cache=cache, progress=listener or SILENT)
    return [answers[each.name] for each in wanted]


# Whether its files are those that are installed


def wheel(tmp_path: Path, **changed: str) -> bytes:
    """The demo wheel, with other content where `changed` says so, and something large that no proof needs."""
    contents = {**wheels.DEMO, "demo_pkg/large.txt": "0123456789" * 50_000, **changed}
    return wheels.write_wheel(tmp_path / wheels.DEMO_FILE, contents).read_bytes()


def demo(installed: bytes) -> Wanted:
    files = wheel_record.installed_files(io.BytesIO(installed), "3.11")
    return Wanted(name="demo-pkg", version="1.0", tags=("py2-none-any", "py3-none-any"), files=files)


def test_the_wheel_whose_record_is_the_installed_one(server: IndexServer, tmp_path: Path) -> None:
    data = wheel(tmp_path)
    server.json("demo-pkg", entry(wheels.DEMO_FILE, sha256=server.wheel(wheels.DEMO_FILE, data)))
    config = PipConfig(index_url=server.url)
    (answer,) = find(tmp_path / "cache", config, demo(data))
    assert isinstance(answer, Found)
    assert answer.sha256 == hashlib.sha256(data).hexdigest()
    assert sum(server.sent) < len(data) / 2  # pieces of it
    asked = len(server.asked)
    (again,) = find(tmp_path / "cache", config, demo(data))
    assert again == answer
    assert [path for path, _ in server.asked[asked:]] == ["/simple/demo-pkg/"]
    (offline,) = find(tmp_path / "cache", config, demo(data), offline=True)
    assert offline == answer


def test_what_the_proof_read_of_a_wheel_is_kept(server: IndexServer, tmp_path: Path) -> None:
    """Its directory and RECORD, in no more pieces than the proof takes."""
    data = wheel(tmp_path, **{f"demo_pkg/part{number}.txt": "" for number in range(2000)})
    sha256 = server.wheel(wheels.DEMO_FILE, data)
    server.json("demo-pkg", entry(wheels.DEMO_FILE, sha256=sha256))
    config, ends = PipConfig(index_url=server.url), WheelEnds(tmp_path / "cache")
    assert isinstance(find(tmp_path / "cache", config, demo(data))[0], Found)
    assert len(server.sent) <= 4  # the page, the tail, the directory, RECORD
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start, record = archive.start_dir, archive.read("demo_pkg-1.0.dist-info/RECORD")
    assert len(data) - start > wheel_record.TAIL_BYTES
    kept = wheel_record.WheelEnd(size_bytes=len(data), directory=data[start:], stem="demo_pkg-1.0", record=record)
    assert ends.find(sha256) == kept
    assert ends.find(A) is None
    (place,) = (tmp_path / "cache/records").glob("*.end")
    assert place.stat().st_size < len(record) + len(kept.directory)
    place.write_bytes(place.read_bytes().replace(b"A", b"B", 1))
    assert ends.find(sha256) is None
    find(tmp_path / "cache", config, demo(data), offline=True)
    assert ends.find(sha256) is None
    find(tmp_path / "cache", config, demo(data))
    assert ends.find(sha256) == kept
    ends.forget(sha256)
    ends.forget(sha256)
    assert ends.find(sha256) is None


def test_a_file_of_that_name_with_other_bytes_is_not_that_package(server: IndexServer, second: IndexServer, tmp_path: Path) -> None:
    theirs, ours = wheel(tmp_path), wheel(tmp_path, **{"demo_module.py": "def main(): ...\n"})
    server.json("demo-pkg", entry(wheels.DEMO_FILE, sha256=server.wheel(wheels.DEMO_FILE, theirs)))
    (answer,) = find(tmp_path / "cache", PipConfig(index_url=server.url), demo(ours))
    assert isinstance(answer, Absent)
    assert f"what is installed is not {wheels.DEMO_FILE}" in answer.reason
    second.json("demo-pkg", entry(wheels.DEMO_FILE, sha256=second.wheel(wheels.DEMO_FILE, ours)))
    both = PipConfig(index_url=server.url, extra_index_urls=(second.url,))
    (answer,) = find(tmp_path / "cache", both, demo(ours))
    assert isinstance(answer, Found)
    assert answer.sha256 == hashlib.sha256(ours).hexdigest()


def test_a_server_without_ranges_sends_the_whole_and_is_held_to_its_hash(server: IndexServer, tmp_path: Path) -> None:
    data = wheel(tmp_path)
    server.ranges = False
    server.json("demo-pkg", entry(wheels.DEMO_FILE, sha256=server.wheel(wheels.DEMO_FILE, data)))
    (answer,) = find(tmp_path / "cache", PipConfig(index_url=server.url), demo(data))
    assert isinstance(answer, Found)
    server.json("demo-pkg", entry(wheels.DEMO_FILE, sha256=A))
    (answer,) = find(tmp_path / "other", PipConfig(index_url=server.url), demo(data))
    assert isinstance(answer, Broken)
    assert "other bytes" in answer.reason


def test_credentials_reach_the_file_and_no_disk(server: IndexServer, tmp_path: Path) -> None:
    data = wheel(tmp_path)
    server.login = f"me:{SECRET}"
    server.json("demo-pkg", entry(wheels.DEMO_FILE, sha256=server.wheel(wheels.DEMO_FILE, data)))
    (answer,) = find(tmp_path / "cache", PipConfig(index_url=server.with_login(server.login)), demo(data))
    assert isinstance(answer, Found)
    assert not any(SECRET.encode() in path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_a_page_that_says_how_long_it_holds_is_not_asked_for_again(server: IndexServer, tmp_path: Path) -> None:
    data = wheel(tmp_path)
    server.max_age = 600
    server.json("demo-pkg", entry(wheels.DEMO_FILE, sha256=server.wheel(wheels.DEMO_FILE, data)))
    config = PipConfig(index_url=server.url)
    first = find(tmp_path / "cache", config, demo(data))
    asked = len(server.asked)
    assert find(tmp_path / "cache", config, demo(data)) == first
    assert len(server.asked) == asked


@pytest.mark.parametrize("damage", [b"", b"PK", b"no wheel at all" * 9999])
def test_what_is_no_wheel_proves_nothing(server: IndexServer, tmp_path: Path, damage: bytes) -> None:
    server.json("demo-pkg", entry(wheels.DEMO_FILE, sha256=server.wheel(wheels.DEMO_FILE, damage)))
    (answer,) = find(tmp_path / "cache", PipConfig(index_url=server.url), demo(wheel(tmp_path)))
    assert not isinstance(answer, Found)


def test_what_a_wheel_installs_is_what_the_collector_finds(tmp_path: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this interpreter has no pip")
    environment = wheels.make_environment(tmp_path / "env")
    file = wheels.write_wheel(tmp_path / wheels.DEMO_FILE, wheels.DEMO)
    wheels.install(environment, file)
    site = wheels.site_of(environment)
    entries, _ = record.read_record((site / "demo_pkg-1.0.dist-info/RECORD").read_text(), str(site), str(environment))
    installed = record.canonical_digest(record.payload(entries, "demo_pkg-1.0.dist-info"))
    with file.open("rb") as opened:
        assert wheel_record.installed_files(opened, "3.11") == installed


@given(st.binary(max_size=4096))
def test_a_record_of_any_bytes_is_read_or_refused(record: bytes) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("x-1.dist-info/RECORD", record)
    with contextlib.suppress(wheel_record.Unreadable):
        assert wheel_record.installed_files(data, "3.11").startswith("sha256:")


# Which file


def test_html_and_json_say_the_same(server: IndexServer, second: IndexServer, tmp_path: Path) -> None:
    server.html("six", link("six-1.15.0-py2.py3-none-any.whl", sha256=B), link(SIX_WHEEL, sha256=A), link("six-1.16.0.tar.gz", sha256=B))
    second.json("six", entry("six-1.15.0-py2.py3-none-any.whl", sha256=B), entry(SIX_WHEEL, sha256=A, size=11053))

    (html,) = find(tmp_path, PipConfig(index_url=server.url), SIX)
    (json,) = find(tmp_path, PipConfig(index_url=second.url), SIX)
    assert html == Found(file=SIX_WHEEL, sha256=A, index=server.url.split("/")[2])
    assert json == Found(file=SIX_WHEEL, sha256=A, index=second.url.split("/")[2], size_bytes=11053)


def test_the_set_of_tags_decides(server: IndexServer, tmp_path: Path) -> None:
    server.html(
        "numpy",
        link("numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.whl", sha256=B),
        link("numpy-1.26.4-cp311-cp311-musllinux_1_1_x86_64.whl", sha256=B),
        link("numpy-1.26.4-cp310-cp310-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", sha256=B),
        link("numpy-1.26.4-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", sha256=B),
        link("numpy-1.26.4-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", sha256=A),
        link("numpy_stubs-1.26.4-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", sha256=B),
    )
    (found,) = find(tmp_path, PipConfig(index_url=server.url), NUMPY)
    assert isinstance(found, Found)
    assert found.file == "numpy-1.26.4-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
    assert found.sha256 == A


def test_a_wheel_that_was_only_renamed_has_to_prove_itself(server: IndexServer, tmp_path: Path) -> None:
    """Built for "linux", uploaded as "manylinux"."""
    inside = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: cp311-cp311-linux_x86_64\n"
    data = wheel(tmp_path, **{"demo_pkg-1.0.dist-info/WHEEL": inside})
    named = "demo_pkg-1.0-cp311-cp311-manylinux1_x86_64.whl"
    others = [f"demo_pkg-1.0-{tags}.whl" for tags in ("cp310-cp310-manylinux1_x86_64", "cp311-cp311-manylinux2014_aarch64")]
    sha256 = server.wheel(named, data)
    server.json("demo-pkg", *(entry(other, sha256=B) for other in others), entry(named, sha256=sha256))
    installed = Wanted(name="demo-pkg", version="1.0", tags=("cp311-cp311-linux_x86_64",), files=demo(data).files)
    config = PipConfig(index_url=server.url)
    (answer,) = find(tmp_path / "cache", config, installed)
    assert isinstance(answer, Found) and (answer.file, answer.sha256) == (named, sha256)
    (edited,) = find(tmp_path / "cache", config, Wanted(name="demo-pkg", version="1.0", tags=installed.tags, files=f"sha256:{A}"))
    assert isinstance(edited, Absent) and edited.reason.endswith("their files differ")
    (unproven,) = find(tmp_path / "cache", config, Wanted(name="demo-pkg", version="1.0", tags=installed.tags))
    assert isinstance(unproven, Absent) and unproven.reason.endswith("none with the installed one's tags")


def test_a_build_number_is_part_of_the_file(server: IndexServer, tmp_path: Path) -> None:
    built = "six-1.16.0-2a-py2.py3-none-any.whl"
    server.html("six", link(SIX_WHEEL, sha256=B), link(built, sha256=A))
    (found,) = find(tmp_path, PipConfig(index_url=server.url), Wanted(name="six", version="1.16.0", tags=SIX.tags, build="2a"))
    assert isinstance(found, Found) and found.file == built


def test_a_local_version_is_another_version(server: IndexServer, tmp_path: Path) -> None:
    server.html("torch", link("torch-2.12.1+cu130-cp311-cp311-linux_x86_64.whl", sha256=B))
    plain = Wanted(name="torch", version="2.12.1", tags=("cp311-cp311-linux_x86_64",))
    local = Wanted(name="torch", version="2.12.1+cu130", tags=("cp311-cp311-linux_x86_64",))
    assert isinstance(find(tmp_path, PipConfig(index_url=server.url), plain)[0], Absent)
    assert isinstance(find(tmp_path, PipConfig(index_url=server.url), local)[0], Found)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_yanked_file_is_found_and_said_to_be(server: IndexServer, tmp_path: Path, as_json: bool) -> None:
    if as_json:
        server.json("six", entry(SIX_WHEEL, sha256=A, yanked="broken"))
    else:
        server.html("six", link(SIX_WHEEL, sha256=A, attributes=' data-yanked=""'))
    (found,) = find(tmp_path, PipConfig(index_url=server.url), SIX)
    assert isinstance(found, Found) and found.yanked


def test_the_first_index_is_preferred(server: IndexServer, second: IndexServer, tmp_path: Path) -> None:
    server.html("six", link(SIX_WHEEL, sha256=A))
    second.html("six", link(SIX_WHEEL, sha256=B))
    second.html("numpy", link(NUMPY_WHEEL, sha256=B))
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / NUMPY_WHEEL).write_bytes(b"wheel")
    config = PipConfig(index_url=server.url, extra_index_urls=(second.url,), find_links=(str(tmp_path / "links"),))

    six, numpy = find(tmp_path / "cache", config, SIX, NUMPY)
    assert isinstance(six, Found) and six.sha256 == A
    assert isinstance(numpy, Found) and numpy.index == index_label(second.url)


# Which not


def test_what_nobody_has_is_absent_and_says_why(server: IndexServer, tmp_path: Path) -> None:
    server.html("numpy", link("numpy-1.26.4-cp311-cp311-win_amd64.whl", sha256=A))
    server.html("six", link("six-1.15.0-py2.py3-none-any.whl", sha256=A))
    odd = Wanted(name="six2", version="not a version", tags=("py3-none-any",))
    untagged = Wanted(name="six3", version="1.0", tags=())
    server.html("six2", link("six2-1.0-py3-none-any.whl", sha256=A))
    server.html("six3", link("six3-1.0-py3-none-any.whl", sha256=A))
    host = index_label(server.url)

    numpy, six, gone, *others = find(
        tmp_path, PipConfig(index_url=server.url), NUMPY, SIX, Wanted(name="gone", version="1", tags=("py3-none-any",)), odd, untagged
    )
    assert numpy == Absent(reason=f"{host} has wheels of numpy 1.26.4, none with the installed one's tags")
    assert six == Absent(reason=f"{host} has no wheel of six 1.16.0")
    assert gone == Absent(reason=f"{host} has no project gone")
    assert all(isinstance(other, Absent) for other in others)


@pytest.mark.parametrize("published", ["", "xyz", "md5"])
def test_a_file_without_a_sha256_is_absent(server: IndexServer, tmp_path: Path, published: str) -> None:
    if published == "md5":
        server.json("six", {**entry(SIX_WHEEL), "hashes": {"md5": "0" * 32}})
    else:
        server.html("six", link(SIX_WHEEL, sha256=published))
    (answer,) = find(tmp_path, PipConfig(index_url=server.url), SIX)
    assert isinstance(answer, Absent) and answer.reason.endswith(f"publishes no sha256 for {SIX_WHEEL}")


def test_no_index_asks_none(server: IndexServer, tmp_path: Path) -> None:
    assert find(tmp_path, PipConfig(index_url=server.url, no_index=True), SIX) == [Absent(reason="pip is configured to ask no index")]
    assert server.asked == []


# Who cannot be asked


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ((403, "text/plain", b""), "wants other credentials (403)"),
        ((500, "text/plain", b"oops"), "answers 500"),
        ((200, "text/html", b"<html><body>Please log in</body></html>"), "answers a page that lists no file of six"),
        ((200, "application/vnd.pypi.simple.v1+json", b"{broken"), "answers what is no index page"),
        ((200, "application/vnd.pypi.simple.v1+json", b'{"files": 3}'), "answers what is no index page"),
        (
            (200, "application/vnd.pypi.simple.v1+json", b'{"meta":{"api-version":"9.0"},"name":"six","files":[]}'),
            "answers what is no index page",
        ),
        ((200, "application/vnd.pypi.simple.v1+json", b"[" * 100000), "answers what is no index page"),
        ((200, "application/zip", b"PK"), "answers with content of type 'application/zip'"),
        ((200, "text/html", b"x" * 5000), "answers more than 0 MiB"),
    ],
)
def test_an_index_that_cannot_answer_is_broken(
    server: IndexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: tuple[int, str, bytes], said: str
) -> None:
    if page[2].startswith(b"xxx"):
        monkeypatch.setattr(pages, "PAGE_LIMIT_BYTES", 4000)
    server.pages["/simple/six/"] = page
    (answer,) = find(tmp_path, PipConfig(index_url=server.with_login(f"me:{SECRET}")), SIX)
    assert isinstance(answer, Broken)
    assert said in answer.reason
    assert SECRET not in answer.reason


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (302, {"Location": "https://[x/"}),
        (302, {"Location": "https://127.0.0.1:99999/"}),
        (200, {"Transfer-Encoding": "chunked", "Content-Type": "text/html"}),
    ],
)
def test_an_index_that_answers_nonsense_is_broken(tmp_path: Path, status: int, headers: dict[str, str]) -> None:
    with answering(lambda _: (status, headers, b"-5\r\nx\r\n0\r\n\r\n")) as address:
        (answer,) = find(tmp_path, PipConfig(index_url=f"http://{address}/simple/"), SIX)
    assert isinstance(answer, Broken)


def test_an_index_that_asks_for_patience_gets_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waited.append)
    answers = iter(["3", "86400"])
    with answering(lambda _: (503, {"Retry-After": next(answers, "1")}, b"")) as address:
        (answer,) = find(tmp_path, PipConfig(index_url=f"http://{address}/simple/"), SIX)
    assert isinstance(answer, Broken) and "answers 503" in answer.reason
    assert waited == [3, pages.LONGEST_WAIT_S]


def test_an_index_is_followed_by_rule(tmp_path: Path) -> None:
    with answering(lambda request: (302, {"Location": request.path}, b"")) as address:
        (answer,) = find(tmp_path, PipConfig(index_url=f"http://{address}/simple/"), SIX)
    assert isinstance(answer, Broken) and "leads from one place to another without end" in answer.reason


@pytest.mark.parametrize("number", ["\xb2", "9" * 5000, "-1", ""])
def test_numbers_of_an_index_that_are_none(tmp_path: Path, number: str) -> None:
    data = wheel(tmp_path)
    page = link(wheels.DEMO_FILE, sha256=hashlib.sha256(data).hexdigest()).encode()
    asked: list[str] = []

    def odd(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        asked.append(request.path)
        if request.path.endswith(".whl"):
            return 206, {"Content-Range": f"bytes 0-{len(data) - 1}/{number}"}, data
        return 200, {"Content-Type": "text/html", "Cache-Control": "max-age=600", "Age": number}, page

    with answering(odd) as address:
        config = PipConfig(index_url=f"http://{address}/simple/")
        for _ in range(2):
            (answer,) = find(tmp_path / "cache", config, demo(data))
            assert isinstance(answer, Broken) and "answers 206 for" in answer.reason
    assert asked.count("/simple/demo-pkg/") == 2  # how long it holds is not known


def test_broken_beats_absent_and_found_beats_both(server: IndexServer, second: IndexServer, tmp_path: Path) -> None:
    server.pages["/simple/six/"] = (500, "text/plain", b"")
    config = PipConfig(index_url=server.url, extra_index_urls=(second.url,))
    assert isinstance(find(tmp_path, config, SIX)[0], Broken)
    second.html("six", link(SIX_WHEEL, sha256=A))
    assert isinstance(find(tmp_path, config, SIX)[0], Found)


def test_a_host_that_is_down_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_THREADS", 1)
    tries: list[str] = []
    get = pages.Pages._get

    def counted(self: pages.Pages, location: pages.Location, url: str, validators: dict[str, str]) -> requests.Response:
        tries.append(url)
        return get(self, location, url, validators)

    monkeypatch.setattr(pages.Pages, "_get", counted)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{reserved.getsockname()[1]}"
        answers = find(tmp_path, PipConfig(index_url=f"http://me:{SECRET}@{host}/simple"), SIX, NUMPY)
    assert answers == [Broken(reason=f"{host} cannot be reached")] * 2
    assert len(tries) == 1


# Credentials


def test_credentials_of_the_url_are_sent_and_kept_nowhere(server: IndexServer, tmp_path: Path) -> None:
    server.login = f"me:{SECRET}"
    server.etags = True
    server.html("six", link(SIX_WHEEL, sha256=A))
    (refused,) = find(tmp_path, PipConfig(index_url=server.url), SIX)
    (found,) = find(tmp_path, PipConfig(index_url=server.with_login(server.login)), SIX)

    assert isinstance(refused, Broken) and "(401)" in refused.reason
    assert isinstance(found, Found) and SECRET not in str(found)
    kept = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert kept
    assert not any(SECRET in file.name or SECRET.encode() in file.read_bytes() for file in kept)
    assert find(tmp_path, PipConfig(index_url=server.url), SIX, offline=True) == [found]


def test_netrc_is_heeded(server: IndexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.login = f"me:{SECRET}"
    server.html("six", link(SIX_WHEEL, sha256=A))
    assert isinstance(find(tmp_path / "cache", PipConfig(index_url=server.url), SIX)[0], Found)


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("https://me:pw@packages.example.com/simple/", "packages.example.com"),
        ("https://download.example.com/whl/cu130", "cu130@download.example.com"),
        ("https://example.com:8443/root/team/+simple/", "team@example.com:8443"),
        ("https://example.com/" + "k" * 48 + "/simple/", "example.com"),
        (f"https://example.com/{TOKEN}/simple/", "example.com"),
        (f"https://example.com/{TOKEN}/team/", "team@example.com"),
        (f"https://example.com/team/{TOKEN}/", "example.com"),
        (f"https://example.com/1x2y-{TOKEN}/", "example.com"),
        ("https://example.com/0b8fd21a-7d0c-4f9e-a1d4-3f2c1d90a4b7/simple/", "example.com"),
        ("https://example.com/pypi-remote-2024-q4/simple", "pypi-remote-2024-q4@example.com"),
        ("https://example.com/whl/nightly/cu130", "cu130@example.com"),
        ("file:///srv/wheels/simple", "file"),
    ],
)
def test_labels_of_indexes(url: str, label: str) -> None:
    assert index_label(url) == label


def test_a_token_in_an_index_s_path_is_neither_kept_nor_said(server: IndexServer, tmp_path: Path) -> None:
    url = server.url.replace("/simple/", f"/{TOKEN}/simple/")
    server.pages[f"/{TOKEN}/simple/six/"] = (200, "text/html", link(SIX_WHEEL, sha256=A).encode())
    config = PipConfig(index_url=url, find_links=(url.replace("/simple/", "/wheels/"),))
    found, missing = find(tmp_path, config, SIX, NUMPY)
    assert isinstance(found, Found) and found.index == server.url.split("/")[2]  # as wherever this index is configured
    assert not isinstance(missing, Found) and "/****/wheels/" in missing.reason and TOKEN not in missing.reason


def test_the_default_index_has_no_label() -> None:
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    implicit, explicit = PipConfig(), PipConfig(index_url=PYPI_SIMPLE_ENDPOINT)
    assert [location.label for location in (*implicit.locations(), *explicit.locations())] == [None, None]


def test_pip_configuration_from_facts() -> None:
    facts = {"index_url": None, "extra_index_urls": ["https://example.com/a"], "find_links": ["/w"], "no_index": False}
    assert PipConfig.from_facts(facts) == PipConfig(extra_index_urls=("https://example.com/a",), find_links=("/w",))
    assert PipConfig.from_facts(None) == PipConfig()


# The cache


def test_answers_are_revalidated_and_serve_offline(server: IndexServer, tmp_path: Path) -> None:
    server.etags = True
    server.html("six", link(SIX_WHEEL, sha256=A))
    config = PipConfig(index_url=server.url)
    first = find(tmp_path, config, SIX)
    again = find(tmp_path, config, SIX)
    asked = len(server.asked)
    offline = find(tmp_path, config, SIX, offline=True)

    assert first == again == offline
    assert (len(server.asked), server.sent[1]) == (asked, 0)
    server.html("six", link(SIX_WHEEL, sha256=B))
    (changed,) = find(tmp_path, config, SIX)
    assert isinstance(changed, Found) and changed.sha256 == B


def test_without_validators_a_change_is_seen_all_the_same(server: IndexServer, tmp_path: Path) -> None:
    config = PipConfig(index_url=server.url)
    for sha256 in (A, A, B):
        server.html("six", link(SIX_WHEEL, sha256=sha256))
        (found,) = find(tmp_path, config, SIX)
        assert isinstance(found, Found) and found.sha256 == sha256


def test_offline_without_an_earlier_answer_is_broken(server: IndexServer, tmp_path: Path) -> None:
    (answer,) = find(tmp_path, PipConfig(index_url=server.url), SIX, offline=True)
    assert answer == Broken(reason=f"offline, and no earlier answer of {index_label(server.url)} is kept")
    assert server.asked == []


def test_a_damaged_cache_is_asked_anew(server: IndexServer, tmp_path: Path) -> None:
    server.html("six", link(SIX_WHEEL, sha256=A))
    find(tmp_path, PipConfig(index_url=server.url), SIX)
    for file in (tmp_path / "project-pages").iterdir():
        file.write_bytes(b"\0garbage")
    assert isinstance(find(tmp_path, PipConfig(index_url=server.url), SIX)[0], Found)


def test_one_request_for_a_package_and_index(server: IndexServer, tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(30)]
    for name in names:
        server.html(name, link(f"{name}-1.0-py3-none-any.whl", sha256=A))
    wanted = [Wanted(name=name, version="1.0", tags=("py3-none-any",)) for name in names]
    assert all(isinstance(answer, Found) for answer in find(tmp_path, PipConfig(index_url=server.url), *wanted))
    assert sorted(path for path, _ in server.asked) == sorted(f"/simple/{name}/" for name in names)


# Files and folders


def test_a_file_index_is_hashed_where_it_lies(tmp_path: Path) -> None:
    wheel = tmp_path / "files" / SIX_WHEEL
    page = tmp_path / "simple/six/index.html"
    wheel.parent.mkdir()
    page.parent.mkdir(parents=True)
    wheel.write_bytes(b"a wheel")
    page.write_text(link(SIX_WHEEL))
    sha256 = hashlib.sha256(b"a wheel").hexdigest()
    config = PipConfig(index_url=(tmp_path / "simple").as_uri())

    six, numpy = find(tmp_path / "cache", config, SIX, NUMPY)
    assert six == Found(file=SIX_WHEEL, sha256=sha256, index="file", size_bytes=7)
    assert isinstance(numpy, Absent)
    page.write_text(link(SIX_WHEEL, sha256=A))
    (lying,) = find(tmp_path / "cache", config, SIX)
    assert isinstance(lying, Broken) and "is not the file whose sha256" in lying.reason
    wheel.unlink()
    assert isinstance(find(tmp_path / "cache", config, SIX)[0], Broken)


def test_find_links_folders_and_pages(server: IndexServer, tmp_path: Path) -> None:
    (tmp_path / NUMPY_WHEEL).write_bytes(b"numpy")
    server.pages["/wheels.html"] = (200, "text/html", link(SIX_WHEEL, sha256=A).encode())
    config = PipConfig(no_index=True, find_links=(str(tmp_path), server.url.replace("/simple/", "/wheels.html")))

    six, numpy = find(tmp_path / "cache", config, SIX, NUMPY)
    assert six == Found(file=SIX_WHEEL, sha256=A, index="find-links")
    assert numpy == Found(file=NUMPY_WHEEL, sha256=hashlib.sha256(b"numpy").hexdigest(), index="find-links", size_bytes=5)
    assert len(server.asked) == 1


def test_a_local_place_that_does_not_exist_is_left_out_with_a_warning(server: IndexServer, tmp_path: Path) -> None:
    server.html("six", link(SIX_WHEEL, sha256=A))
    listener = Listener()
    config = PipConfig(index_url=server.url, extra_index_urls=((tmp_path / "gone").as_uri(),), find_links=(str(tmp_path / "lost"),))
    (found,) = find(tmp_path / "cache", config, SIX, listener=listener)
    assert isinstance(found, Found)
    assert [warning.endswith("does not exist") for warning in listener.warnings] == [True, True]
