"""The JSON Schema of a lock, generated from the model; `lock.schema.json` beside this module is its committed form.

It says what types can say. Order, uniqueness, provenance and digests are `validate`'s and `digest`'s.
"""

from __future__ import annotations

import json
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
        return {
            key: inner.replace(r"\Z", "$") if key == "pattern" and isinstance(inner, str) else _portable(inner)
            for key, inner in value.items()
        }
    return [_portable(inner) for inner in value] if isinstance(value, list) else value
