"""The whole run behaves as in a terminal, wherever it was started."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    # A shell starts what runs in its background with SIGINT ignored, and children inherit that through `exec`.
    signal.signal(signal.SIGINT, signal.default_int_handler)
