"""Which certificates a package index is believed by: pip's own rule, with the real pip's configuration and an index behind TLS."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path

import pytest
from msgspec.structs import replace

from envsnap.blobs import BlobStore
from envsnap.errors import InputError
from envsnap.guest.pip_config import pip_config as guest_pip_config
from envsnap.guest.text import Problems
from envsnap.lockfile import Unfound, WheelAnswer
from envsnap.model.facts import CollectedFacts, Distribution
from envsnap.model.plan import PinnedWheel
from envsnap.probes import interpreter
from envsnap.probes.local import LocalPython
from envsnap.probes.wheels import Wheels, pip_config
from envsnap.progress import SILENT
from envsnap.workflows.capture import origins
from tests.fakes import tls, wheels
from tests.fakes.index_server import IndexServer, entry, serving


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tls.make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate: Path) -> Iterator[IndexServer]:
    with serving(tls=tls.of_server(certificate)) as running:
        yield running


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No word of certificates or proxies from whoever runs the tests."""
    for name in ("PIP_CERT", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def configured(
    place: Path, server: IndexServer, monkeypatch: pytest.MonkeyPatch, *, section: str = "global", cert: str | Path = ""
) -> Path:
    """A pip.conf that counts after what this machine has, and says where the index is and whom to trust."""
    parser = ConfigParser()
    parser["global"] = {"index-url": server.url, "extra-index-url": "", "find-links": "", "cert": ""}
    parser.read_dict({section: {"cert": str(cert)}})
    conf = place / "pip.conf"
    with conf.open("w") as file:
        parser.write(file)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(conf))
    return conf


def captured(server: IndexServer, place: Path, facts: CollectedFacts | None = None, *, offline: bool = False) -> WheelAnswer | Unfound:
    """What `capture` finds out of the demo package in an environment whose pip is configured as this one is now."""
    data = wheels.write_wheel(place / wheels.DEMO_FILE, wheels.DEMO).read_bytes()
    server.json("demo-pkg", entry(wheels.DEMO_FILE, sha256=server.wheel(wheels.DEMO_FILE, data)))
    demo = Distribution(name="demo-pkg", version="1.0", metadata_dir="", location="/x", tags=("py2-none-any", "py3-none-any"))
    known = facts or replace(collected(), pip_config=guest_pip_config(Problems()))
    return origins([demo], known, offline=offline, cache=place / "cache", progress=SILENT)["demo-pkg"]


@cache
def collected() -> CollectedFacts:
    return collect()


def collect() -> CollectedFacts:
    here = LocalPython(Path(sys.executable))
    return interpreter.collect(here, framework=False, imports=False, integrity=False, progress=SILENT)


def test_without_a_word_of_it_nothing_is_proven_and_the_way_out_is_named(
    server: IndexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(tmp_path, server, monkeypatch)
    answer = captured(server, tmp_path)
    assert isinstance(answer, Unfound) and not answer.everyone_asked
    assert "a certificate that is not trusted (pip's setting `cert` or REQUESTS_CA_BUNDLE" in answer.reason
    assert not server.asked


@pytest.mark.parametrize("section", ["global", "install"])
def test_the_cert_of_a_pip_conf(
    section: str, server: IndexServer, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(tmp_path, server, monkeypatch, section=section, cert=certificate)
    assert isinstance(captured(server, tmp_path), WheelAnswer)


def test_pip_cert_comes_before_the_file(server: IndexServer, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(tmp_path, server, monkeypatch, cert="/nonexistent/ca.pem")
    monkeypatch.setenv("PIP_CERT", str(certificate))
    assert isinstance(captured(server, tmp_path), WheelAnswer)


def test_as_with_pip_the_environment_comes_before_its_cert(
    server: IndexServer, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    stranger = tls.make_certificate(other)
    configured(tmp_path, server, monkeypatch, cert=certificate)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stranger))
    answer = captured(server, tmp_path)
    assert isinstance(answer, Unfound) and "not trusted" in answer.reason
    configured(tmp_path, server, monkeypatch, cert=stranger)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert isinstance(captured(server, tmp_path), WheelAnswer)


def test_certificates_of_another_machine_come_with_what_is_read_of_it(
    server: IndexServer, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a container: the path is there, and not here."""
    there = tmp_path / "there.pem"
    there.write_bytes(certificate.read_bytes())
    configured(tmp_path, server, monkeypatch, cert=there)
    facts = collect()
    there.unlink()
    assert isinstance(captured(server, tmp_path, facts), WheelAnswer)


@pytest.mark.parametrize("variable", ["PIP_CERT", "REQUESTS_CA_BUNDLE"])
def test_a_file_that_is_not_there_is_an_error_that_names_it(
    variable: str, server: IndexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(tmp_path, server, monkeypatch)
    monkeypatch.setenv(variable, str(tmp_path / "gone.pem"))
    with pytest.raises(InputError, match="the certificates to trust are not there") as caught:
        captured(server, tmp_path)
    assert str(tmp_path / "gone.pem") in caught.value.why and "`cert`" in caught.value.hint
    assert isinstance(captured(server, tmp_path, offline=True), Unfound)  # nobody is asked, and nobody need be trusted


def test_a_build_fetches_by_the_configuration_of_the_pip_here(
    server: IndexServer, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = wheels.write_wheel(tmp_path / wheels.DEMO_FILE, wheels.DEMO).read_bytes()
    sha256 = server.wheel(wheels.DEMO_FILE, data)
    server.json("demo-pkg", entry(wheels.DEMO_FILE, sha256=sha256))
    wanted = PinnedWheel(name="demo-pkg", version="1.0", file=wheels.DEMO_FILE, sha256=sha256)

    def fetched(conf: Path, kept: Path, ca_bundle: Path | None = None) -> bytes:
        store, beside = BlobStore(kept / "blobs"), BlobStore(kept / "beside")
        made = Wheels(
            store, lambda: pip_config(sys.executable, conf, os.environ), also=beside, cache=kept, offline=False, ca_bundle=ca_bundle
        )
        made.fetch([wanted], SILENT)
        path = made.path(sha256)
        return path.read_bytes() if path is not None else b""

    assert fetched(configured(tmp_path, server, monkeypatch, cert=certificate), tmp_path / "1") == data
    wrong = configured(tmp_path, server, monkeypatch, cert="/nonexistent/ca.pem")
    with pytest.raises(InputError) as caught:
        fetched(wrong, tmp_path / "2")
    assert "/nonexistent/ca.pem" in caught.value.why
    assert fetched(wrong, tmp_path / "3", ca_bundle=certificate) == data  # --ca-bundle comes before all of them
