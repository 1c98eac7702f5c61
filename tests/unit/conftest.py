"""Unit tests cannot reach the world: no address but loopback, no engine, no settings or cache of whoever runs them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def closed_world(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    connect = socket.socket.connect

    def only_loopback(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a unit test tried to reach {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", only_loopback)
    nowhere: Path = tmp_path_factory.mktemp("nowhere")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{nowhere}/no-engine.sock")
    monkeypatch.setenv("ENVSNAP_CACHE", str(nowhere / "cache"))
