"""Reaching an engine, and each way of not reaching one: real sockets with nobody, the wrong one or the right one behind."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from envsnap.engines.connection import CANNOT_REACH, connect, remedy
from envsnap.engines.docker import DockerEngine
from envsnap.errors import EngineError

VERSION = {"Version": "26.1.5", "ApiVersion": "1.45", "MinAPIVersion": "1.24"}
INFO = {"Driver": "overlay2", "DriverStatus": [], "Architecture": "x86_64", "DockerRootDir": "/", "Runtimes": {"runc": {}, "nvidia": {}}}


@contextmanager
def engine_at(path: Path, answers: dict[str, tuple[int, Any]]) -> Iterator[dict[str, str]]:
    """An engine's API at a unix socket: path without version prefix -> status and document. Yields the variables that lead to it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.path.partition("?")[0]
            status, document = answers.get(
                "/" + wanted.split("/", 2)[2] if wanted.startswith("/v1.") else wanted, (404, {"message": "no such image"})
            )
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingMixIn, UnixStreamServer):
        daemon_threads = True

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield {"DOCKER_HOST": f"unix://{path}"}
        finally:
            server.shutdown()
            thread.join()


def unreachable(env: dict[str, str]) -> EngineError:
    with pytest.raises(EngineError) as caught:
        connect(env)
    assert caught.value.what == CANNOT_REACH
    assert caught.value.exit_code == 6
    return caught.value


def test_no_such_socket(tmp_path: Path) -> None:
    error = unreachable({"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"})
    assert error.why == f"{tmp_path}/docker.sock: no such file"
    assert "DOCKER_HOST" in error.hint


def test_a_socket_that_nobody_listens_at(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "docker.sock"))
        error = unreachable({"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"})
    assert "not running" in error.why
    assert "systemctl start docker" in error.hint


def test_a_socket_that_may_not_be_opened(as_nobody: Callable[[], Any]) -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening:
        path = Path(directory, "docker.sock")
        listening.bind(str(path))
        listening.listen()
        path.chmod(0)
        path.parent.chmod(0o755)
        with as_nobody():
            error = unreachable({"DOCKER_HOST": f"unix://{path}"})
    assert error.why.startswith(f"{path}: permission denied")
    assert "usermod -aG" in error.hint


@pytest.fixture
def as_nobody() -> Callable[[], Any]:
    @contextmanager
    def nobody() -> Iterator[None]:
        """As a user whom permissions hold back, which root is not."""
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return nobody


def test_a_port_that_nobody_listens_at() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = unreachable({"DOCKER_HOST": f"tcp://127.0.0.1:{taken.getsockname()[1]}"})
    assert "not running" in error.why


def test_credentials_in_an_address_are_not_repeated() -> None:
    error = unreachable({"DOCKER_HOST": "tcp://me:geheim@127.0.0.1:1"})
    assert "geheim" not in error.why + error.hint


def test_an_address_that_is_none() -> None:
    assert unreachable({"DOCKER_HOST": "nonsense://x"}).why


def test_ssh_has_a_way_out() -> None:
    assert "ssh -NL" in unreachable({"DOCKER_HOST": "ssh://me@example.com"}).hint


def test_a_context_that_does_not_exist() -> None:
    assert "context" in unreachable({"DOCKER_CONTEXT": "no-such-context"}).why


def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    assert unreachable({"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}).why


def test_something_that_is_no_engine(tmp_path: Path) -> None:
    with engine_at(tmp_path / "s", {}) as env:
        assert unreachable(env).why


def test_abilities_of_an_engine_that_answers(tmp_path: Path) -> None:
    with engine_at(tmp_path / "s", {"/version": (200, VERSION), "/info": (200, INFO)}) as env:
        engine = DockerEngine({**env, "PATH": str(tmp_path)})
        found = {ability.name: ability for ability in engine.abilities()}
        engine.close()
    assert found["engine"].found == "26.1.5 (API 1.45), overlay2, x86_64"
    assert (found["BuildKit"].state, found["BuildKit"].found) == ("missing", "no docker command on PATH")
    assert found["GPUs in containers"].state == "ok"
    assert found["engine's disk"].state in {"ok", "broken"}


def test_whether_it_is_there_starts_no_program(tmp_path: Path) -> None:
    """Each build and plan asks; looking for BuildKit would take longer than all else that a build does when nothing changed."""
    program, started = tmp_path / "docker", tmp_path / "started"
    program.write_text(f"#!/bin/sh\ntouch {started}\n", encoding="utf-8")
    program.chmod(0o755)
    with engine_at(tmp_path / "s", {"/version": (200, VERSION), "/_ping": (200, {})}) as env:
        engine = DockerEngine({**env, "PATH": f"{tmp_path}:{os.defpath}"})
        assert engine.is_there()
        engine.close()
    assert not DockerEngine({**env, "PATH": str(tmp_path)}).is_there()
    assert not started.exists()


def test_abilities_never_raise(tmp_path: Path) -> None:
    engine = DockerEngine({"DOCKER_HOST": f"unix://{tmp_path}/none", "PATH": str(tmp_path)})
    assert [(ability.name, ability.state) for ability in engine.abilities()] == [("engine", "missing"), ("BuildKit", "missing")]
    with pytest.raises(EngineError, match=CANNOT_REACH):
        engine.require()


@pytest.mark.parametrize(
    ("plugin", "client", "state", "found"),
    [
        ("echo github.com/docker/buildx v0.13.1 7884", "x", "ok", "buildx 0.13.1"),
        ("exit 1", "Docker version 20.10.24, build 297", "ok", "docker 20.10.24 with BuildKit built in"),
        ("exit 1", "Docker version 28.2.2, build e65", "missing", "docker 28.2.2 has no buildx plugin"),
        ("exit 1", "podman version 4.3.1", "missing", "the docker command on PATH is not Docker's"),
    ],
)
def test_which_command_line_can_build(tmp_path: Path, plugin: str, client: str, state: str, found: str) -> None:
    program = tmp_path / "docker"
    program.write_text(f'#!/bin/sh\nif [ "$1" = buildx ]; then {plugin}; else echo "{client}"; fi\n', encoding="utf-8")
    program.chmod(0o755)
    with engine_at(tmp_path / "s", {"/version": (200, VERSION), "/info": (200, INFO), "/_ping": (200, {})}) as env:
        engine = DockerEngine({**env, "PATH": str(tmp_path)})
        ability = next(ability for ability in engine.abilities() if ability.name == "BuildKit")
        if state == "ok":
            engine.require()
        else:
            with pytest.raises(EngineError, match="no BuildKit"):
                engine.require(build=True)
        engine.close()
    assert (ability.state, ability.found) == (state, found)


def test_an_image_that_is_not_there_and_an_engine_that_fails(tmp_path: Path) -> None:
    answers = {"/version": (200, VERSION), "/info": (200, INFO), "/images/broken/json": (500, {"message": "layer does not exist"})}
    with engine_at(tmp_path / "s", answers) as env:
        engine = DockerEngine(env)
        assert engine.image("absent") is None
        with pytest.raises(EngineError) as caught:
            engine.image("broken")
        engine.close()
    assert (caught.value.what, caught.value.why) == ("cannot look up broken", "layer does not exist")


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("write /var/lib/x: no space left on device", "docker system df"),
        ("pull access denied for x, repository does not exist or may require 'docker login'", "docker login"),
        ("manifest for x:1 not found: manifest unknown: manifest unknown", "name and the tag"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "CA"),
        ('Get "https://example.com/v2/": dial tcp: lookup example.com: no such host', "network"),
        ("something never seen", ""),
    ],
)
def test_well_known_words_have_their_remedy(said: str, hint: str) -> None:
    assert hint in remedy(said)
    assert bool(remedy(said)) is bool(hint)
