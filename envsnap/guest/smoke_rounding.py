"""The negative control of a CPU: what a framework's convolutions are given is rounded to TF32's precision."""

from __future__ import annotations

from typing import Any, Callable

# TF32 keeps 10 bits of a float32's 23-bit fraction.
TF32_DROPPED_BITS = 23 - 10


def both_ways(base: Any, rounded: Callable[[Any], Any]) -> Any:
    """An operation that rounds what goes forward and the gradient that comes back.

    Args:
        base: of operations that know their own gradient: `torch.autograd.Function`, `paddle.autograd.PyLayer`.
    """

    class Round(base):  # type: ignore[misc]
        @staticmethod
        def forward(_: Any, tensor: Any) -> Any:
            return rounded(tensor)

        @staticmethod
        def backward(_: Any, gradient: Any) -> Any:
            return rounded(gradient)

    return Round
