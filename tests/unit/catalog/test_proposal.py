"""A proposed change: which rows, which evidence, and a diff that applies."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from envsnap import catalog
from envsnap.catalog import rows
from envsnap.catalog.proposal import diff, proposed
from envsnap.model.base import Release, Statement

KNOWN = catalog.load()
ROW = KNOWN.named("nvcr.io/nvidia/pytorch:26.06-py3")[0]
SOURCE = f"image config of {ROW.reference}@sha256:{'a' * 64}"
DAY = "2026-11-29"
SAID = (
    Statement(field="release", value="26.06", by="NVIDIA_PYTORCH_VERSION", catalogued="26.06", standing="as catalogued"),
    Statement(field="ubuntu", value="24.04", by="org.opencontainers.image.version"),
    Statement(field="cudnn", value="9.23.1.1", by="CUDNN_VERSION", catalogued=ROW.cudnn, standing="contradicts"),
    Statement(field="nccl", value="2.30.4", by="NCCL_VERSION", catalogued="2.30.4", standing="as catalogued"),
    Statement(field="pull_bytes", value=9_800_000_000, by="manifest"),
)
CHANGED = proposed(ROW, SAID, source=SOURCE, day=DAY)


def test_what_fills_and_what_contradicts_is_taken_with_its_source_and_its_day() -> None:
    assert (CHANGED.ubuntu, CHANGED.cudnn, CHANGED.pull_bytes) == ("24.04", "9.23.1.1", 9_800_000_000)
    assert replace(CHANGED, ubuntu=None, cudnn=ROW.cudnn, pull_bytes=None, sources=ROW.sources, evidence=ROW.evidence) == ROW
    assert CHANGED.sources == (*ROW.sources, SOURCE)
    assert CHANGED.evidence_for("ubuntu") == CHANGED.evidence_for("pull_bytes") == f"{SOURCE}, {DAY}"
    before = ROW.evidence_for("cudnn")
    assert before is not None
    assert CHANGED.evidence_for("cudnn") == f"{SOURCE}, {DAY}; {ROW.cudnn} before ({before})"
    assert CHANGED.evidence_for("nccl") == before  # of the same group: what is said there of it stays


def test_what_is_as_catalogued_changes_nothing() -> None:
    assert proposed(ROW, SAID[:1], source=SOURCE, day=DAY) is ROW
    assert diff([ROW]) == ""
    again = tuple(replace(one, catalogued=one.value, standing="as catalogued") for one in SAID)
    assert proposed(CHANGED, again, source=SOURCE, day=DAY) is CHANGED


def test_a_row_is_not_renamed() -> None:
    other = Statement(field="release", value="26.07", by="NVIDIA_PYTORCH_VERSION", catalogued="26.06", standing="contradicts")
    assert proposed(ROW, [other], source=SOURCE, day=DAY) is ROW


def tree(place: Path) -> None:
    for family in rows.FAMILIES:
        file = place / rows.path(family)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rows.text(family), encoding="utf-8")


def applied(place: Path, patch: str, monkeypatch: pytest.MonkeyPatch) -> list[Release]:
    """The rows after git has applied a diff in a tree of the project's files."""
    tree(place)
    subprocess.run(["git", "apply", "-"], cwd=place, input=patch.encode(), check=True, env={"PATH": "/usr/bin:/bin", "HOME": str(place)})
    monkeypatch.setattr(rows, "text", lambda family: (place / rows.path(family)).read_text(encoding="utf-8"))
    return [row for family in rows.FAMILIES for row in rows.read(family)]


def test_the_diff_applies_and_gives_those_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = Release(family="tensorflow", reference="nvcr.io/nvidia/tensorflow:24.02-tf2-py3", release="24.02", as_of=DAY)
    patch = diff([CHANGED, new])
    assert patch.count("--- a/envsnap/catalog/data/ngc-") == 2
    after = applied(tmp_path, patch, monkeypatch)
    references = [row.reference for row in after]
    assert references.index(new.reference) + 1 == references.index("nvcr.io/nvidia/tensorflow:24.01-tf2-py3")
    assert [row for row in after if row != new] == [CHANGED if row.reference == ROW.reference else row for row in KNOWN.releases]


def test_a_diff_of_another_catalogue_does_not_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = diff([CHANGED])
    assert f'"{ROW.nccl}"' in patch
    with pytest.raises(subprocess.CalledProcessError):
        applied(tmp_path, patch.replace(f'"{ROW.nccl}"', '"1.0"'), monkeypatch)
