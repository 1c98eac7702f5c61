"""stand-in"""

from __future__ import annotations
from typing import Any


class ByteCode:
    def __init__(self, gathered: Any, sources: Any, progress: Any) -> None: ...
    def write(self, layer: Any, writer: Any) -> None:
        raise NotImplementedError
