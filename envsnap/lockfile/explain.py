"""msgspec's validation messages as plain sentences that name the place: `packages[12].sha256: 63 hex digits, not 64`.

msgspec says where ("$.packages[12].sha256") and which rule, but neither the value nor what would have been right. Both are
looked up here: the value in the document, the rule in the model.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import msgspec
import msgspec.inspect
from msgspec import Meta, ValidationError

from envsnap import redaction
from envsnap.model import kinds
from envsnap.model.lock import EnvLock

_Path = tuple[str | int, ...]
_MESSAGE = re.compile(r"(?P<rule>.*?)(?: - at (?P<of_key>`key` in )?`\$(?P<path>[^`]*)`)?", re.DOTALL)
_TOKEN = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]|\[(?P<any>\.\.\.)\]")
_TYPE_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "a mapping",
    "array": "a list",
    "null": "null",
    "date": "a date",
    "datetime": "a date",
}


def explain(error: ValidationError, document: Any, model: Any = EnvLock) -> str:
    """One sentence, "place: what is wrong there"; the place is left out for the document itself. `model`: what it was to be."""
    match = _MESSAGE.fullmatch(str(error))
    assert match is not None  # every part of the pattern is optional
    path = _path(match["path"] or "", document, match["rule"], key=match["of_key"] is not None)
    sentence = _sentence(match["rule"], path, document, model, of_key=match["of_key"] is not None)
    return f"{shown(path)}: {sentence}" if path else sentence


def misfit(value: Any, kind: Any) -> str:
    """Why a value is not of a kind that a lock may hold; "" when it is. Facts are foreign text, and only reading checks them."""
    plain = msgspec.to_builtins(value)
    try:
        msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        return explain(error, plain, kind)
    return ""


def shown(path: _Path) -> str:
    """("packages", 12, "sha256") as "packages[12].sha256"."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _sentence(rule: str, path: _Path, document: Any, model: Any, *, of_key: bool) -> str:
    value = path[-1] if of_key else _at(document, path)
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", rule, re.DOTALL):
        return _unknown_key(unknown[1], path, document, model)
    if missing := re.fullmatch(r"Object missing required field `(.*)`", rule):
        return f"the key {missing[1]!r} is missing"
    if pattern := re.fullmatch(r"Expected `str` matching regex (.*)", rule):
        return _not_matching(pattern[1], str(value))
    if length := re.fullmatch(r"Expected `str` of length <= (\d+)", rule):
        return f"{len(str(value))} characters; {length[1]} at most"
    if length := re.fullmatch(r"Expected `array` of length <= (\d+)", rule):
        return f"{len(_at(document, path))} entries; {length[1]} at most"
    if types := re.fullmatch(r"Expected `(.*)`, got `(.*)`", rule):
        return _wrong_type(types[1], types[2])
    if rule.startswith("Invalid "):
        return f"{_quoted(value)} is not one of {', '.join(_choices(path, document, model))}"
    return rule


def _unknown_key(key: str, path: _Path, document: Any, model: Any) -> str:
    known = [field.encode_name for field in getattr(_type_at(path, document, model), "fields", ())]
    near = difflib.get_close_matches(key, known, n=1)
    return f"unknown key {_quoted(key)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _wrong_type(expected: str, got: str) -> str:
    allowed = expected.split(" | ")
    words = " or ".join(_TYPE_WORDS.get(word, word) for word in allowed if (word, "float" in allowed) != ("int", True))
    quotes = " (put it in quotes)" if "str" in allowed and got in ("int", "float", "bool", "date", "datetime") else ""
    found = "a number with a fraction" if got == "float" else _TYPE_WORDS.get(got, got)
    return f"must be {words}, not {found}{quotes}"


def _hex64(value: str) -> str:
    if re.fullmatch(r"[0-9a-f]+", value):
        return f"{len(value)} hex digits, not 64"
    if re.fullmatch(r"[0-9a-fA-F]{64}", value):
        return "its hex digits must be lower case"
    return f"{_quoted(value)} is not 64 hex digits"


def _digest(value: str) -> str:
    if not value.startswith("sha256:"):
        return f"{_quoted(value)} does not begin with 'sha256:'"
    return _hex64(value.removeprefix("sha256:"))


def _no(noun: str) -> Callable[[str], str]:
    return lambda value: f"{_quoted(value)} is not {noun}"


def _pattern(alias: Any) -> str:
    return next(meta.pattern for meta in get_args(alias) if isinstance(meta, Meta) and meta.pattern)


_PATTERNS: Mapping[str, Callable[[str], str]] = {
    _pattern(kinds.Hex64): _hex64,
    _pattern(kinds.Digest): _digest,
    _pattern(kinds.Commit): _no("a full git object name (40 or 64 hex digits)"),
    _pattern(kinds.Architecture): _no("a GPU architecture (sm_90, compute_90)"),
    _pattern(kinds.LockName): _no("a lock's name (lower-case letters and digits, with single '.', '_' or '-' between them)"),
    _pattern(kinds.PackageName): _no("a normalised package name (lower-case letters and digits, with '-' between them)"),
    _pattern(kinds.Version): _no("a version"),
    _pattern(kinds.WheelFile): _no("the name of a wheel file"),
    _pattern(kinds.WheelTag): _no("the tag of a wheel (interpreter-ABI-platform)"),
    _pattern(kinds.SystemName): _no("the name of a system package"),
    _pattern(kinds.Soname): _no("the soname of a library"),
    _pattern(kinds.Variable): _no("the name of a variable"),
    _pattern(kinds.RelativePath): _no("a safe relative path (it may not be absolute, nor hold '.' or '..' parts or control characters)"),
}


def _not_matching(quoted_pattern: str, value: str) -> str:
    describe = next((describe for pattern, describe in _PATTERNS.items() if repr(pattern) == quoted_pattern), _no("in the form asked for"))
    return describe(value)


def _quoted(value: Any) -> str:
    text = redaction.text(str(value))
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _path(text: str, document: Any, rule: str, *, key: bool) -> _Path:
    """The path as keys and indexes. msgspec does not say which key of a mapping it means ("$.env[...]"): that is looked up."""
    path: _Path = ()
    for match in _TOKEN.finditer(text):
        if match["key"] is not None:
            path += (match["key"],)
        elif match["index"] is not None:
            path += (int(match["index"]),)
        else:
            path += (_culprit(_at(document, path), rule),)
    if key:
        path += (_culprit(dict.fromkeys(_at(document, path) or ()), rule, of_key=True),)
    return path


def _culprit(mapping: Any, rule: str, *, of_key: bool = False) -> str:
    """The first key that breaks the rule, or whose value does. Mappings of a lock hold scalars only."""
    entries = mapping.items() if isinstance(mapping, dict) else ()
    return next((str(name) for name, value in entries if _breaks(name if of_key else value, rule)), "...")


def _breaks(value: Any, rule: str) -> bool:
    if types := re.fullmatch(r"Expected `.*`, got `(.*)`", rule):
        return _type_name(value) == types[1]
    if pattern := re.fullmatch(r"Expected `str` matching regex (.*)", rule):
        known = next((p for p in _PATTERNS if repr(p) == pattern[1]), "")
        return isinstance(value, str) and re.search(known, value) is None
    if length := re.fullmatch(r"Expected `str` of length <= (\d+)", rule):
        return isinstance(value, str) and len(value) > int(length[1])
    return True


def _type_name(value: Any) -> str:
    return {"NoneType": "null", "dict": "object", "list": "array"}.get(type(value).__name__, type(value).__name__)


def _at(document: Any, path: _Path) -> Any:
    for part in path:
        if isinstance(part, int):
            document = document[part] if isinstance(document, list) and part < len(document) else None
        else:
            document = document.get(part) if isinstance(document, dict) else None
    return document


def _type_at(path: _Path, document: Any, model: Any) -> msgspec.inspect.Type:
    """The model's type at a place; of a union of origins, the one that the document names by `kind`."""
    found: msgspec.inspect.Type = msgspec.inspect.type_info(model)
    for depth, part in enumerate(path):
        found = next(iter(_children(found, part)), found)
        found = _variant(found, _at(document, path[: depth + 1]))
    return found


def _children(parent: msgspec.inspect.Type, part: str | int) -> Iterator[msgspec.inspect.Type]:
    if isinstance(parent, msgspec.inspect.StructType):
        yield from (field.type for field in parent.fields if field.encode_name == part)
    elif isinstance(parent, msgspec.inspect.VarTupleType):
        yield parent.item_type
    elif isinstance(parent, msgspec.inspect.DictType):
        yield parent.value_type


def _variant(found: msgspec.inspect.Type, value: Any) -> msgspec.inspect.Type:
    if not isinstance(found, msgspec.inspect.UnionType):
        return found
    structs = [member for member in found.types if isinstance(member, msgspec.inspect.StructType)]
    if len(structs) == 1:
        return structs[0]
    kind = value.get("kind") if isinstance(value, dict) else None
    return next((struct for struct in structs if struct.tag == kind), found)


def _choices(path: _Path, document: Any, model: Any) -> list[str]:
    parent = _type_at(path[:-1], document, model)
    if path[-1] == "kind" and isinstance(parent, msgspec.inspect.UnionType):
        return [str(member.tag) for member in parent.types if isinstance(member, msgspec.inspect.StructType)]
    literal = next(iter(_children(parent, path[-1])), parent)
    return [str(value) for value in literal.values] if isinstance(literal, msgspec.inspect.LiteralType) else []
