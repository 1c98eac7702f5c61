"""What push, pull, save and load have in common."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from envsnap.cli.cache import cache_directory

if TYPE_CHECKING:
    from envsnap.workflows.transfer import Places


@contextmanager
def places() -> Iterator[Places]:
    """The engine, registries and cache of whoever called."""
    from envsnap.engines.docker import DockerEngine
    from envsnap.registry.client import Registry
    from envsnap.workflows.transfer import Places

    engine, registry = DockerEngine(os.environ), Registry(os.environ)
    try:
        yield Places(engine=engine, registry=registry, cache=cache_directory(), machine=platform.machine())
    finally:
        engine.close()
        registry.close()
