"""Which framework the smoke-train is of, and when there is none; nothing is trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from envsnap.blobs import BlobStore
from envsnap.model.frameworks import Framework
from envsnap.progress import SILENT
from envsnap.smoke import kit
from envsnap.workflows import reference
from tests import samples


def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *installed: str) -> tuple[list[Framework], str]:
    """The frameworks that a kit was looked for, and why there is no reference."""
    looked: list[Framework] = []

    def resolve(_: Any, framework: Framework, *__: Any, offline: bool) -> kit.NoKit:
        looked.append(framework)
        return kit.NoKit(reason="no kit here")

    monkeypatch.setattr(kit, "resolve", resolve)
    facts = samples.facts(distributions=tuple(samples.distribution(name, "1") for name in installed))
    target: Any = None
    made = reference.make(target, None, facts, seed=0, offline=False, blobs=BlobStore(tmp_path), cache=tmp_path, progress=SILENT)
    assert made.reference is None and made.problem is not None and made.problem.where == "smoke"
    return looked, made.problem.what


@pytest.mark.parametrize(
    ("installed", "framework"),
    [
        (("torch", "torchvision"), "torch"),
        (("tensorflow",), "tensorflow"),
        (("tensorflow-cpu", "keras"), "tensorflow"),
        (("paddlepaddle-gpu",), "paddle"),
        (("paddlepaddle", "tensorflow", "torch", "torchvision"), "torch"),
        (("paddlepaddle", "tf-nightly"), "tensorflow"),
    ],
)
def test_the_first_framework_that_is_installed_trains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: tuple[str, ...], framework: Framework
) -> None:
    assert asked(monkeypatch, tmp_path, *installed) == ([framework], "no kit here")


@pytest.mark.parametrize(
    ("installed", "missing"), [((), "no torch, TensorFlow, PaddlePaddle here"), (("torch",), "torchvision not installed")]
)
def test_without_what_it_takes_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: tuple[str, ...], missing: str
) -> None:
    looked, why = asked(monkeypatch, tmp_path, *installed)
    assert not looked and why == f"{missing}: only what is installed can be judged later, not what it computes"
