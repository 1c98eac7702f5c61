"""Where envsnap keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """ENVSNAP_CACHE, else `envsnap` below XDG_CACHE_HOME or ~/.cache."""
    if os.environ.get("ENVSNAP_CACHE"):
        return Path(os.environ["ENVSNAP_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "envsnap"
