"""docs/lockfile-format.md is true: its example is a lock, and its worked digests are those that the code makes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from envsnap.guest import record
from envsnap.lockfile import dumps, loads
from envsnap.lockfile.validate import ORIGINS
from envsnap.model.lock import EnvLock
from envsnap.probes import tree

PAGE = (Path(__file__).parents[3] / "docs" / "lockfile-format.md").read_text(encoding="utf-8")


def block(language: str, name: str) -> str:
    (found,) = re.findall(rf"^```{language} {name}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def stated(after: str) -> str:
    """The digest that the page gives below a block."""
    (found,) = re.findall(rf"```\w+ {after}\n.*?```\n\nhas `files: (sha256:[0-9a-f]{{64}})`", PAGE, re.DOTALL)
    return str(found)


def test_the_example_is_a_lock_in_canonical_form() -> None:
    text = block("yaml", "lock").encode()
    assert dumps(loads(text)) == text


def test_the_worked_example_computes_the_digests_of_the_example() -> None:
    lock = loads(block("yaml", "lock").encode())
    names: dict[str, Any] = {"text": block("yaml", "lock")}
    exec(block("python", "digests"), names)
    assert names["digest"] == lock.digest
    assert names["observed_digest"] == lock.observed.digest


def test_the_worked_example_computes_the_digests_of_a_lock_with_a_reference() -> None:
    from tests import samples

    lock = samples.lock(device="cuda")
    names: dict[str, Any] = {"text": dumps(lock).decode()}
    exec(block("python", "digests"), names)
    assert (names["digest"], names["observed_digest"]) == (lock.digest, lock.observed.digest)


def test_the_canonical_record_is_the_collector_s() -> None:
    entries, _ = record.read_record(block("csv", "record"), "/env/lib/python3.11/site-packages", "/env")
    assert record.canonical_digest(record.payload(entries, "six-1.17.0.dist-info")) == stated("record")


def test_the_manifest_is_the_source_probe_s() -> None:
    assert tree.manifest_digest([tuple(line) for line in json.loads(block("json", "manifest"))]) == stated("manifest")


def fields(kind: Any, seen: set[str]) -> set[str]:
    for info in msgspec.inspect.multi_type_info([kind]) if not isinstance(kind, msgspec.inspect.Type) else [kind]:
        if isinstance(info, msgspec.inspect.StructType):
            for field in info.fields:
                seen.add(field.encode_name)
                fields(field.type, seen)
        elif isinstance(info, msgspec.inspect.UnionType):
            for member in info.types:
                fields(member, seen)
        elif isinstance(info, msgspec.inspect.VarTupleType):
            fields(info.item_type, seen)
    return seen


@pytest.mark.parametrize("key", sorted(fields(EnvLock, set())))
def test_every_key_is_described(key: str) -> None:
    assert re.search(rf"`(?:[^`]*[^\w`])?{key}(?:[^\w`][^`]*)?`", PAGE), f"docs/lockfile-format.md does not describe {key}"


def test_every_provenance_is_described() -> None:
    for provenance in (*ORIGINS, "rebuilt", "unproven"):
        assert f"`{provenance}`" in PAGE
