"""The alternatives that maintainer scripts ask for (update-alternatives(1)), as links and dpkg's records of them."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

ADMIN = "var/lib/dpkg/alternatives"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One `--install`. Attributes: slaves: (name, link, path) each; all paths absolute."""

    name: str
    link: str
    path: str
    priority: int
    slaves: tuple[tuple[str, str, str], ...] = ()


def asked_for(script: str) -> Iterator[Choice]:
    """The alternatives that a script installs with plain words; those that it computes are passed over."""
    for line in script.replace("\\\n", " ").splitlines():
        _, called, rest = line.partition("update-alternatives ")
        if called and "--install" in rest and "$" not in rest:
            try:
                words = shlex.split(rest.partition("|")[0].partition(";")[0], comments=True)
            except ValueError:  # a quotation that goes on in the next line
                continue
            choice = _choice([word for word in words if word not in ("--quiet", "--force")])
            if choice is not None:
                yield choice


def _choice(words: list[str]) -> Choice | None:
    if words[:1] != ["--install"] or len(words) < 5 or not words[4].isdecimal():
        return None
    slaves: list[tuple[str, str, str]] = []
    rest = words[5:]
    while rest[:1] == ["--slave"] and len(rest) >= 4:
        slaves.append((rest[2], rest[1], rest[3]))
        rest = rest[4:]
    return Choice(name=words[2], link=words[1], path=words[3], priority=int(words[4]), slaves=tuple(slaves))


def links(choices: Iterable[Choice], present: Collection[str]) -> Iterator[tuple[str, str]]:
    """(path, target) of each link of the best choices, whose targets are there. Args: present: paths without the leading "/"."""
    for name, best in sorted(_best(choices, present).items()):
        pairs = [(name, best.link, best.path), *best.slaves]
        for one, link, path in pairs:
            if path.lstrip("/") in present:
                yield link.lstrip("/"), f"/etc/alternatives/{one}"
                yield f"etc/alternatives/{one}", path


def records(choices: Iterable[Choice], present: Collection[str]) -> Iterator[tuple[str, str]]:
    """(path, text) of dpkg's record of each alternative."""
    known = list(choices)
    for name, best in sorted(_best(known, present).items()):
        slaves = sorted({(one, link) for choice in known if choice.name == name for one, link, _ in choice.slaves})
        lines = ["auto", best.link, *(word for slave in slaves for word in slave), ""]
        for choice in sorted((choice for choice in known if choice.name == name), key=lambda choice: choice.path):
            if choice.path.lstrip("/") in present:
                own = {one: path for one, _, path in choice.slaves}
                lines += [choice.path, str(choice.priority), *(own.get(one, "") for one, _ in slaves)]
        yield f"{ADMIN}/{name}", "\n".join([*lines, "", ""])


def _best(choices: Iterable[Choice], present: Collection[str]) -> dict[str, Choice]:
    best: dict[str, Choice] = {}
    for choice in sorted(choices, key=lambda choice: (-choice.priority, choice.path)):
        if choice.path.lstrip("/") in present:
            best.setdefault(choice.name, choice)
    return best
