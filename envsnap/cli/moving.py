"""What push, pull, save and load have in common."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from envsnap.cli.cache import cache_directory

if TYPE_CHECKING:
    from envsnap.cli.registry_options import Registries
    from envsnap.workflows.transfer import Places


@contextmanager
def places(registries: Registries) -> Iterator[Places]:
    """The engine and cache of whoever called, and registries, asked as the options say."""
    from envsnap.engines.docker import DockerEngine
    from envsnap.workflows.transfer import Places

    engine, registry = DockerEngine(os.environ), registries.client()
    try:
        yield Places(engine=engine, registry=registry, cache=cache_directory(), machine=platform.machine())
    finally:
        engine.close()
        registry.close()
