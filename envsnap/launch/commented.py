"""YAML with comments: the shape is ours, each scalar is PyYAML's, so that no value becomes anything but a value."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import yaml

Scalar: TypeAlias = "str | int | bool"
Node: TypeAlias = "Scalar | Mapping[str, Node] | tuple[Node, ...] | Commented"
_PLAIN = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Commented:
    """A value of a mapping, with lines to say before it."""

    comment: tuple[str, ...]
    value: Node


def dump(node: Node) -> str:
    """Raises ValueError: a comment would not be one."""
    return "".join(f"{line}\n" for line in _lines(node, ""))


def comment(lines: tuple[str, ...], indent: str = "") -> Iterator[str]:
    for line in lines:
        if not line.isprintable():
            raise ValueError(f"no line of a comment: {line!r}")
        yield f"{indent}# {line}".rstrip()


def _lines(node: Node, indent: str) -> Iterator[str]:
    if not _holds(node):
        yield f"{indent}{_inline(node)}"
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from comment(value.comment, indent) if isinstance(value, Commented) else ()
            yield from _entry(f"{indent}{scalar(key)}:", value.value if isinstance(value, Commented) else value, indent)
    elif isinstance(node, tuple):
        for value in node:
            first, *rest = _lines(value, f"{indent}  ")
            yield f"{indent}- {first.removeprefix(f'{indent}  ')}"
            yield from rest


def _entry(head: str, value: Node, indent: str) -> Iterator[str]:
    if _holds(value):
        yield head
        yield from _lines(value, f"{indent}  ")
    else:
        yield f"{head} {_inline(value)}"


def _holds(node: Node) -> bool:
    return isinstance(node, Mapping | tuple) and bool(node)


def _inline(node: Node) -> str:
    if isinstance(node, Mapping):
        return "{}"
    if isinstance(node, tuple):
        return "[]"
    assert not isinstance(node, Commented)
    return scalar(node)


def scalar(value: Scalar) -> str:
    """On one line: what is not plain ASCII is escaped between double quotes, what a reader may take for another type is quoted, too."""
    style = '"' if isinstance(value, str) and not (_PLAIN.fullmatch(value) and _same_in_both(value)) else None
    text: str = yaml.safe_dump([value], default_flow_style=True, default_style=style, width=sys.maxsize, allow_unicode=False)
    return text.strip()[1:-1]


def _same_in_both(value: str) -> bool:
    """Whether it is plainly a text: PyYAML reads YAML 1.1, and Go's readers know numbers that it does not ("1e3", "0o17")."""
    return not re.match(r"[-+.]?\d", value)
