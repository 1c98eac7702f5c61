"""The whole run behaves as in a terminal, wherever it was started."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings


def pytest_configure() -> None:
    # A shell starts what runs in its background with SIGINT ignored, and children inherit that through `exec`.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("ENVSNAP_TEST_LONG") != "1":
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip(reason="takes minutes: nox -s long"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their place. Their content may have a clock's time in it, and two test processes then have two sets of tests."""
    return argname if isinstance(val, bytes | bytearray) else None


# Locally the properties look somewhere new each time; a change is not refused for what it did not touch. How long an example takes
# says how busy the machine is.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")
