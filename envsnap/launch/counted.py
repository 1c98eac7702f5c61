"""GPUs where a scheduler gives them: a number, and no more can be asked for."""

from __future__ import annotations

from envsnap.errors import UsageError
from envsnap.model.launch import Launch


def gpus(launch: Launch, *, scheduler: str, unit: str) -> int:
    """Args: scheduler: who says which ones. unit: what asks for them ("a pod").

    Raises:
        UsageError: all, or some by index.
    """
    assert launch.gpus is not None
    if launch.gpus.devices:
        raise UsageError(f"--gpus {launch.gpus}: {scheduler} says which ones", hint=f"--gpus {len(launch.gpus.devices)}")
    if launch.gpus.count < 0:
        raise UsageError(f"--gpus all: {unit} asks for a number of GPUs", hint="--gpus 8, for all of a node that has 8")
    return launch.gpus.count
