"""What compiled extensions need of torch, and what torch's libraries have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, TypeAlias

from msgspec import Meta

from envsnap.model.kinds import Soname, Value

Symbol: TypeAlias = Annotated[str, Meta(pattern=r"^[\x21-\x7e]+\Z", description="name of a dynamic symbol, mangled")]

SONAME = re.compile(r"lib(?:torch|c10|caffe2)(?:_[a-z0-9_]+)?\.so\Z")
# Itanium C++ ABI, 5.1: of the namespaces at, c10, torch and caffe2, their types and constants among them; and torch's C functions.
_OF_TORCH = re.compile(r"_Z(?:T[VTISCWH]|GV|GR)?N[rVKRO]*(?:2at|3c10|5torch|6caffe2)|(?:aoti_)?torch_|THP[A-Z_]")


class SharedObject(Value, frozen=True, kw_only=True):
    """A compiled extension, or a library beside one.

    Attributes:
        path: as people are told of it: in its wheel, or where it is installed.
        needed: sonames, in order.
        undefined, defined: symbols that it asks others for, and that others find in it.
    """

    path: str
    needed: tuple[str, ...] = ()
    undefined: frozenset[str] = frozenset()
    defined: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Of the file: what others name it by in `needed`."""
        return self.path.rpartition("/")[2]


class TorchLibraries(Value, frozen=True, kw_only=True):
    """libtorch and libc10 of one torch, together. Attributes: sonames: their file names; symbols: those of torch that they define."""

    sonames: frozenset[Soname]
    symbols: frozenset[Symbol]


class Missing(Value, frozen=True, kw_only=True):
    """What an extension asks of torch in vain. Attributes: path: of the extension; sonames, symbols: sorted."""

    path: str
    sonames: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()


def is_of_torch(symbol: str) -> bool:
    """Whether torch's own libraries are the ones to define it."""
    return _OF_TORCH.match(symbol) is not None


def torch_libraries(libraries: Iterable[SharedObject]) -> TorchLibraries:
    """Args: libraries: of one torch, in torch/lib; others among them are passed over."""
    own = [library for library in libraries if SONAME.match(library.name)]
    symbols = frozenset(symbol for library in own for symbol in library.defined if is_of_torch(symbol))
    return TorchLibraries(sonames=frozenset(library.name for library in own), symbols=symbols)
