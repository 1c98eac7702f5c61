"""What `--gpus` means, wherever it is typed."""

from __future__ import annotations

import re

from envsnap.errors import UsageError
from envsnap.model.kinds import Value

_DEVICE = r"(?:\d+(?::\d+)?|(?:GPU|MIG)-[A-Za-z0-9-]+)"
"""An index, "0:1" for a part of a GPU by two, or a UUID: what NVIDIA's runtime takes."""


class GpuRequest(Value, frozen=True, kw_only=True):
    """Attributes: count: how many, -1 for all, 0 where `devices` names them by index or UUID."""

    count: int = 0
    devices: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As docker's `--gpus` has it."""
        return f"device={','.join(self.devices)}" if self.devices else "all" if self.count < 0 else str(self.count)


def parse_gpus(text: str) -> GpuRequest | None:
    """Read docker's `--gpus`: "all", a count, or "device=0,2"; None for "none".

    Raises:
        UsageError: it is none of these.
    """
    if text == "none":
        return None
    if text == "all":
        return GpuRequest(count=-1)
    if re.fullmatch(r"[1-9]\d{0,2}", text):
        return GpuRequest(count=int(text))
    if match := re.fullmatch(rf"device=({_DEVICE}(?:,{_DEVICE})*)", text):
        return GpuRequest(devices=tuple(match[1].split(",")))
    raise UsageError(f"--gpus {text}: not understood", hint="all, none, a count such as 2, or device=0,2 with indexes or UUIDs")
