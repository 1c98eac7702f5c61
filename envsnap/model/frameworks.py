"""The frameworks that train, by the name that imports each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

Framework = Literal["torch", "tensorflow", "paddle"]
"""In order: of several in one environment the first is the one that is asked and trained with."""

TITLES: Mapping[Framework, str] = {"torch": "torch", "tensorflow": "TensorFlow", "paddle": "PaddlePaddle"}
DISTRIBUTIONS: Mapping[Framework, frozenset[str]] = {
    "torch": frozenset({"torch"}),
    "tensorflow": frozenset(
        {"tensorflow", "tensorflow-cpu", "tensorflow-gpu", "intel-tensorflow", "nvidia-tensorflow", "tf-nightly", "tf-nightly-cpu"}
    ),
    "paddle": frozenset({"paddlepaddle", "paddlepaddle-gpu"}),
}
"""Names of the distributions that bring each."""


def frameworks_of(installed: Collection[str]) -> list[Framework]:
    """Those that are among these distributions, in order."""
    return [framework for framework, names in DISTRIBUTIONS.items() if not names.isdisjoint(installed)]
