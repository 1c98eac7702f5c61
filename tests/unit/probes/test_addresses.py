"""Where an index says that a wheel lies: that very file, at an address that others may have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envsnap.model.plan import PinnedWheel
from envsnap.probes.addresses import addresses
from envsnap.probes.index import PipConfig
from envsnap.probes.pages import index_label
from envsnap.progress import SILENT
from tests import samples
from tests.fakes.index_server import IndexServer, entry, serving

FILE = "demo-1.0-py3-none-any.whl"
SHA256 = samples.hex64("demo")


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with serving() as index:
        yield index


@pytest.fixture
def second() -> Iterator[IndexServer]:
    with serving() as index:
        yield index


def ask(tmp_path: Path, *urls: str, index: str | None = None, offline: bool = False, **config: Any) -> str:
    """The address; else why none is known."""
    first, *others = urls
    found = addresses(
        [PinnedWheel(name="demo", version="1.0", file=FILE, sha256=SHA256, index=index)],
        PipConfig(index_url=first, extra_index_urls=tuple(others), **config),
        offline=offline,
        cache=tmp_path,
        ca_bundle=None,
        progress=SILENT,
    )["demo"]
    return found if isinstance(found, str) else str(found[1].url)


def test_it_is_that_very_file(server: IndexServer, tmp_path: Path) -> None:
    server.json("demo", entry(FILE, sha256=samples.hex64("another build")), entry("demo-1.0-1-py3-none-any.whl", sha256=SHA256))
    assert "no index that pip is configured to ask lists it" in ask(tmp_path, server.url)
    server.json("demo", entry("demo-1.0-cp311-none-any.whl", sha256=SHA256), entry(FILE, sha256=SHA256))
    assert ask(tmp_path, server.url) == server.url.replace("/simple/", f"/files/{FILE}")
    assert not [path for path, _ in server.asked if "/files/" in path]  # of which nothing is fetched


def test_the_lock_s_own_index_comes_first(server: IndexServer, second: IndexServer, tmp_path: Path) -> None:
    for one in (server, second):
        one.json("demo", entry(FILE, sha256=SHA256))
    assert ask(tmp_path, server.url, second.url).startswith(server.url[:-8])
    assert ask(tmp_path, server.url, second.url, index=index_label(second.url)).startswith(second.url[:-8])


def test_offline_an_earlier_answer_must_do(server: IndexServer, tmp_path: Path) -> None:
    server.json("demo", entry(FILE, sha256=SHA256))
    assert "offline, and no earlier answer" in ask(tmp_path, server.url, offline=True)
    known = ask(tmp_path, server.url)
    asked = len(server.asked)
    assert ask(tmp_path, server.url, offline=True) == known and len(server.asked) == asked


@pytest.mark.parametrize("token", ["dGhpc2lzYXRva2Vu7", "0b8fd21a-7d0c-4f9e-a1d4-3f2c1d90a4b7"])
def test_an_index_whose_address_may_be_a_secret_is_not_written(token: str, server: IndexServer, tmp_path: Path) -> None:
    url = server.url.replace("/simple/", f"/{token}/simple/")
    server.pages[f"/{token}/simple/demo/"] = (200, "application/vnd.pypi.simple.v1+json", b"")
    found = ask(tmp_path, url)
    assert "may be a secret itself" in found and token not in found and not server.asked


@pytest.mark.parametrize("name", ["pypi-remote-2024-q4", "whl/cu130", "pytorch2024", "artifactoryvirtual"])
def test_an_ordinary_name_is_no_token(name: str, server: IndexServer, tmp_path: Path) -> None:
    server.json("demo", entry(FILE, sha256=SHA256))
    server.pages[f"/{name}/simple/demo/"] = server.pages["/simple/demo/"]
    assert ask(tmp_path, server.url.replace("/simple/", f"/{name}/simple/")).startswith("http://")


def test_a_folder_of_this_machine_is_no_address(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/index.html").write_text(f'<a href="{FILE}#sha256={SHA256}">{FILE}</a>')
    assert "lists it at an address that may be written" in ask(tmp_path, tmp_path.as_uri())
