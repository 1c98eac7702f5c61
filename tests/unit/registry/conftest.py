"""A registry in memory, and something unreliable in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from envsnap.registry.client import Registry
from envsnap.registry.patience import Patience
from tests.fakes import fault_proxy, registry
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.registry import FakeRegistry

FAST = Patience(
    attempts=4, first_attempts=2, pause_s=0.01, longest_wait_s=5, connect_s=2, read_s=2, commit_s=2, slow_s=0.3, slow_bytes_per_s=1000
)


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with registry.running() as running:
        yield running


@pytest.fixture
def proxy(server: FakeRegistry) -> Iterator[FaultProxy]:
    with fault_proxy.running(server.address) as running:
        yield running


@pytest.fixture
def client() -> Iterator[Registry]:
    client = Registry({"DOCKER_CONFIG": "/nonexistent"}, patience=FAST)
    yield client
    client.close()
