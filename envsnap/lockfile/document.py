"""YAML text to plain values and back: the narrow YAML of a lock, without anchors, tags, merge keys or repeated keys.

What is refused here is what lets two readers see two documents in one text, or lets a small text grow huge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from typing import Any, NoReturn

import yaml

from envsnap.errors import InputError

try:  # libyaml: about 20 times faster
    from yaml import CSafeLoader as _FastLoader
except ImportError:
    from yaml import SafeLoader as _FastLoader  # type: ignore[assignment]

MAX_BYTES = 64 * 1024 * 1024
"""A lock of 500 packages has about 200 kB; a longer text is not parsed."""
MAX_DEPTH = 32
"""The schema nests 7 deep; composing recurses, so depth is bounded before it starts."""

_BREAK = re.compile("[\n\r\x85\u2028\u2029]")


RESTORE = "restore the file from version control, or capture again"


class _Refused(yaml.MarkedYAMLError):
    """Well-formed YAML that a lock may not use."""


class _Loader(_FastLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                _refuse(f"the key {_shown(key)} is not text", key.start_mark)
            if key.value in seen:
                _refuse(f"the key {key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value = float(super().construct_yaml_float(node))
        if not math.isfinite(value):
            _refuse(f"{node.value} is not a finite number", node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


class _Dumper(yaml.SafeDumper):
    """Always the Python emitter, also where libyaml is there: the bytes are the lock's identity."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's hook
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        # Any other style folds line breaks, and turns NEL and its like into "\n" when it is read back.
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if _BREAK.search(data) else None)


_Dumper.add_representer(str, _Dumper.represent_text)


# YAML 1.2 readers take 1e3 and 0o7 for numbers, YAML 1.1 does not: as text they must be quoted for both.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?0o[0-7]+$"), list("-+0"))


def parse(data: bytes, place: str) -> Any:
    """The plain value of one YAML document.

    Raises:
        InputError: not UTF-8, too long, not YAML (with line and column), or YAML that a lock may not use.
    """
    if len(data) > MAX_BYTES:
        raise InputError(f"{place}: more than {MAX_BYTES:,} bytes, which none of these files has", hint="name the lock's own file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}", hint=RESTORE) from error
    if not text.strip():
        raise InputError(f"{place}: the file is empty", hint=RESTORE)
    try:
        _refuse_clever_yaml(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InputError(
            f"{place}: {where}{', '.join(filter(None, (error.context, error.problem)))}", why=cut_off(data), hint=RESTORE
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{place}: not YAML: {str(error).splitlines()[0]}", why=cut_off(data), hint=RESTORE) from error
    except ValueError as error:  # PyYAML's own: a number or date that cannot be one (0x, 2026-99-99)
        raise InputError(f"{place}: a value is not what it looks like: {error}", hint=RESTORE) from error


def render(document: Any, header: str) -> bytes:
    """Canonical bytes: block style, keys in the document's order, one line a scalar, Unicode kept."""
    body = yaml.dump(
        document, Dumper=_Dumper, default_flow_style=False, sort_keys=False, allow_unicode=True, width=float("inf"), line_break="\n"
    )
    return f"# {header}\n{body}".encode()


def cut_off(data: bytes) -> str:
    """The sentence for a text that does not end as every written lock does; "" for one that does."""
    return "" if data.endswith(b"\n") else "the file ends in the middle of a line: it looks cut off"


def _refuse_clever_yaml(text: str) -> None:
    """Walk the events, which needs no recursion and expands nothing, before any value is made."""
    depth = 0
    for event in yaml.parse(text, Loader=_FastLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            _refuse("anchors and aliases are not allowed", event.start_mark)
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag is not None:
            _refuse(f"the tag {event.tag!r} is not allowed", event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            _refuse(f"nested more than {MAX_DEPTH} deep", event.start_mark)


def _refuse(problem: str, mark: Any) -> NoReturn:
    raise _Refused(problem=problem, problem_mark=mark)


def _shown(key: yaml.Node) -> str:
    return repr(key.value) if isinstance(key, yaml.ScalarNode) else "(a list or mapping)"
