"""The JSON Schema of a lock, generated from the model; `lock.schema.json` beside this module is its committed form.

It says what types can say. Order, uniqueness, provenance and digests are `validate`'s and `digest`'s.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from envsnap.model.lock import EnvLock


def json_schema() -> dict[str, Any]:
    r"""Draft 2020-12. `\Z`, which JSON Schema's regular expressions do not know, becomes `$`."""
    generated = msgspec.json.schema(EnvLock)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "envsnap lock, schema 1",
        **{key: _portable(value) for key, value in generated.items()},
    }


def schema_text() -> str:
    """The content of `lock.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _TEXTS[key](inner) if key in _TEXTS and isinstance(inner, str) else _portable(inner) for key, inner in value.items()}
    return [_portable(inner) for inner in value] if isinstance(value, list) else value


def _pattern(text: str) -> str:
    return text.replace(r"\Z", "$")


_TEXTS: Mapping[str, Callable[[str], str]] = {
    "pattern": _pattern,
    "description": inspect.cleandoc,  # since 3.13 the compiler takes the indentation of docstrings away
}
