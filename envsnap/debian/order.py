"""In which turns dpkg takes packages that are all at hand: what a Pre-Depends names is set up before that package is even unpacked."""

from __future__ import annotations

from collections.abc import Sequence

from envsnap.debian.deb import Deb
from envsnap.debian.layer import OpenDeb
from envsnap.debian.relations import parse
from envsnap.model.debian import DebFile


def turns(packages: Sequence[DebFile], open_deb: OpenDeb) -> tuple[tuple[DebFile, ...], ...]:
    """Packages by turns, each of which is one `dpkg --install`: it unpacks all of a turn, and then sets them up in an order of its own.

    A package comes no earlier than what it depends on, and later than what it pre-depends on, as far as these are among `packages`.

    Raises:
        InputError: a .deb is missing, or not what its digest says.
    """
    depends: dict[str, set[str]] = {}
    before: dict[str, set[str]] = {}
    provided: dict[str, set[str]] = {}
    for file in packages:
        with open_deb(file) as opened:
            fields = Deb(opened, file).fields
        depends[file.name], before[file.name] = _names(fields.get("Depends", "")), _names(fields.get("Pre-Depends", ""))
        for name in {file.name, *_names(fields.get("Provides", ""))}:
            provided.setdefault(name, set()).add(file.name)
    turn = dict.fromkeys(depends, 0)
    for _ in packages:  # so often at most does one push another, but where Pre-Depends go in a circle: then dpkg says so
        for name in turn:
            earlier = [turn[one] for wanted in depends[name] for one in provided.get(wanted, ())]
            strictly = [turn[one] + 1 for wanted in before[name] for one in provided.get(wanted, ()) if one != name]
            turn[name] = max(turn[name], *earlier, *strictly) if earlier or strictly else turn[name]
    return tuple(tuple(file for file in packages if turn[file.name] == number) for number in sorted(set(turn.values())))


def _names(field: str) -> set[str]:
    return {relation.name for group in parse(field) for relation in group}
