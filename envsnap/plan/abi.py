"""Whether compiled extensions and a torch belong together, by the symbols that the ones need and the other has.

torch keeps no stable C++ interface: an extension that was built for another release does not load ("undefined symbol:
_ZN3c10…"), and no version number says so. What is found missing here is missing; what is not may still differ in what it means, since a
symbol's name holds the types of its arguments and not what is in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envsnap.model.abi import SONAME, Missing, SharedObject, TorchLibraries, is_of_torch


def missing_symbols(package: Sequence[SharedObject], torch: TorchLibraries) -> tuple[Missing, ...]:
    """What the shared objects of one package ask for that neither torch nor the package itself has; in their order.

    Args:
        package: all of its shared objects: they may define things for each other.
    """
    return tuple(_missing(package, torch))


def described(missing: Missing, most: int = 1) -> str:
    """A clause: "torchvision/_C.so needs _ZN2at… and 4 other symbols that torch has not". Args: most: symbols shown; they are long."""
    library = f"needs {', '.join(missing.sonames)}, which torch has not" if missing.sonames else ""
    shown, more = ", ".join(missing.symbols[:most]), len(missing.symbols) - most
    others = f" and {more} other symbol{'s' if more > 1 else ''}" if more > 0 else ""
    symbols = f"needs {shown}{others} that torch has not" if missing.symbols else ""
    return f"{missing.path} {', and '.join(filter(None, (library, symbols)))}"


def _missing(package: Sequence[SharedObject], torch: TorchLibraries) -> Iterator[Missing]:
    defined = torch.symbols.union(*(one.defined for one in package))
    there = torch.sonames | {one.name for one in package}
    for one in package:
        sonames = sorted({soname for soname in one.needed if SONAME.match(soname)} - there)
        symbols = sorted(symbol for symbol in one.undefined - defined if is_of_torch(symbol))
        if sonames or symbols:
            yield Missing(path=one.path, sonames=tuple(sonames), symbols=tuple(symbols))
