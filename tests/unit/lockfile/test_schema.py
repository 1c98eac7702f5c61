"""The committed JSON Schema is the model's, accepts what we write and refuses what we refuse."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

import envsnap.lockfile
from envsnap.lockfile.schema import json_schema, schema_text
from tests import samples

COMMITTED = Path(envsnap.lockfile.__file__).with_name("lock.schema.json")
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def plain(device: str = "cpu") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(msgspec.json.encode(samples.lock(device=device)))
    return document


def test_the_committed_schema_is_the_generated_one() -> None:
    regenerate = (
        "python -c 'from envsnap.lockfile import schema; print(schema.schema_text(), end=\"\")' > envsnap/lockfile/lock.schema.json"
    )
    assert COMMITTED.read_text(encoding="utf-8") == schema_text(), f"the model changed; regenerate with: {regenerate}"


def test_it_is_a_schema_without_python_regular_expressions() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert r"\Z" not in schema_text()
    assert "$id" not in schema_text()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_it_accepts_the_samples(device: str) -> None:
    VALIDATOR.validate(plain(device))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lock: lock.update(envsnap=2),
        lambda lock: lock.update(pakages=[]),
        lambda lock: lock.pop("python"),
        lambda lock: lock.update(digest="sha256:00"),
        lambda lock: lock["packages"][0].update(sha256="a" * 63),
        lambda lock: lock["packages"][0].update(origin={"kind": "web"}),
        lambda lock: lock["packages"][0].update(provenance="trust me"),
        lambda lock: lock["env"].update({"A B": "x"}),
        lambda lock: lock["env"].update(OMP_NUM_THREADS=2),
        lambda lock: lock["source"]["untracked"][0].update(path="../x"),
        lambda lock: lock["source"]["untracked"][0].update(path="/x"),
        lambda lock: lock["packages"][0].update(version="1 ; x"),
    ],
    ids=lambda spoil: "",
)
def test_it_refuses_broken_ones(spoil: Callable[[Any], object]) -> None:
    document = copy.deepcopy(plain())
    spoil(document)
    assert not VALIDATOR.is_valid(document)
