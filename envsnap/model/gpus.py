"""GPUs as the catalogue knows them: architectures with what runs them, and products with what they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from envsnap.model.kinds import Value

Kind = Literal["data-center", "workstation", "geforce", "titan", "jetson"]

_MAKERS = frozenset({"nvidia", "tesla", "geforce"})  # words of NVML's names that the catalogue leaves out
_GEFORCE = "geforce"


class Architecture(Value, frozen=True, kw_only=True):
    """A row of the catalogue. None: not seen in any source.

    Attributes:
        compute_capability: those that the row speaks for, "8.6".
        first_cuda, last_cuda: toolkits that compile for it, from "11.8" to "12", which is every 12.x.
        last_branch: the last driver branch that runs it, "580".
        tegra: a system on a chip: machine code for it and for cards is not shared.
        source: key of `Gpus.sources`.
    """

    name: str
    compute_capability: tuple[str, ...]
    first_cuda: str | None = None
    last_cuda: str | None = None
    last_branch: str | None = None
    tegra: bool = False
    source: str


class Product(Value, frozen=True, kw_only=True):
    """A row of the catalogue. Attributes: name: without NVIDIA, Tesla and GeForce. kind: None where no source says it."""

    name: str
    compute_capability: str
    kind: Kind | None = None
    source: str


class ForwardKinds(Value, frozen=True, kw_only=True):
    """Which kinds of GPUs CUDA's forward compatibility is for, and which not. Of the others nobody said."""

    allowed: frozenset[Kind]
    refused: frozenset[Kind]
    source: str


class Gpus(Value, frozen=True, kw_only=True):
    """The tables of architectures and products."""

    sources: Mapping[str, str]
    forward: ForwardKinds
    architectures: tuple[Architecture, ...]
    products: tuple[Product, ...]

    def architecture(self, compute_capability: str) -> Architecture | None:
        return next((row for row in self.architectures if compute_capability in row.compute_capability), None)

    def product(self, name: str) -> Product | None:
        """The product of a name as NVML or a person says it ("NVIDIA A100-SXM4-80GB", "rtx 3090"): the row with most words of it."""
        words = _words(name)
        rows = [row for row in self.products if words[: len(_words(row.name))] == _words(row.name)]
        return max(rows, key=lambda row: len(_words(row.name)), default=None)

    def kind(self, name: str) -> Kind | None:
        """What a GPU is; None where neither the catalogue nor its name says it."""
        product = self.product(name)
        if product is not None:
            return product.kind
        return "geforce" if _GEFORCE in re.split(r"[\s-]+", name.lower()) else None


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\s-]+", name.lower()) if word and word not in _MAKERS]
