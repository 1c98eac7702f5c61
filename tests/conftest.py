"""The whole run behaves as in a terminal, wherever it was started."""

from __future__ import annotations

import os
import signal

from hypothesis import settings


def pytest_configure() -> None:
    # A shell starts what runs in its background with SIGINT ignored, and children inherit that through `exec`.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Locally the properties look somewhere new each time; a change is not refused for what it did not touch. How long an example takes
# says how busy the machine is.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")
