"""Which image an environment lives in: NVIDIA's, by the label that all that is built on it has too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from envsnap import catalog
from envsnap.engines.interface import EngineImage
from envsnap.model.base import BaseInventory, ImageConfig, InstalledDistribution
from envsnap.progress import Silent
from envsnap.workflows import home, inventories
from tests import samples

PACKAGES = (InstalledDistribution(name="torch", version="2.7.0a0+7c8ec84dab.nv25.3", site="usr/lib/python3.12/dist-packages"),)


def image(
    name: str, *layers: str, tags: tuple[str, ...] = (), digests: tuple[str, ...] = (), build: str | None = "148941828"
) -> EngineImage:
    return EngineImage(
        image_id=samples.digest(name),
        config_digest=samples.digest(name),
        repo_digests=digests,
        tags=tags,
        size_bytes=1,
        layers=len(layers),
        config=ImageConfig(architecture="amd64", labels={home.BUILD: build} if build else {}, env={"NVIDIA_PYTORCH_VERSION": "25.03"}),
        diff_ids=layers,
    )


NGC = image(
    "ngc", "a", "b", tags=("x.example.com/nvidia/pytorch:25.03-py3",), digests=(f"x.example.com/nvidia/pytorch@{samples.digest('m')}",)
)
DERIVED = image("derived", "a", "b", "c", tags=("team/train:1",))
OTHER = image("other", "a", "z", tags=("team/other:1",))


class Engine:
    """An engine that has some images of one build."""

    def __init__(self, *images: EngineImage) -> None:
        self.images = images

    def labelled(self, label: str, value: str) -> dict[str, tuple[str, ...]]:
        return {one.image_id: one.diff_ids for one in self.images if one.config.labels.get(label) == value}

    def image(self, reference: str) -> EngineImage | None:
        return next((one for one in self.images if one.image_id == reference), None)


class Said(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def found(
    monkeypatch: pytest.MonkeyPatch, of: EngineImage | None, *there: EngineImage, said: Said | None = None
) -> tuple[home.Home | None, list[str]]:
    asked: list[str] = []

    def with_packages(image: EngineImage, **_: Any) -> BaseInventory:
        asked.append(image.image_id)
        return BaseInventory(distribution="ubuntu 24.04", packages=PACKAGES)

    monkeypatch.setattr(inventories, "with_packages", with_packages)
    engine: Any = Engine(*there)
    return home.find(of, engine=engine, catalog=catalog.load(), cache=Path(), progress=said or Silent()), asked


def test_what_was_built_on_it_lives_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lived_in, asked = found(monkeypatch, DERIVED, DERIVED, OTHER, NGC)
    assert lived_in is not None and asked == [NGC.image_id]
    assert (lived_in.reference, lived_in.packages) == (f"x.example.com/nvidia/pytorch:25.03-py3@{samples.digest('m')}", PACKAGES)


def test_where_the_engine_has_it_no_more_the_derived_image_is_all_there_is_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    lived_in, _ = found(monkeypatch, DERIVED, DERIVED, OTHER, said=(said := Said()))
    assert lived_in is not None and lived_in.reference == "team/train:1"
    (warning,) = said.warnings
    assert warning.startswith("team/train:1 says that it is NVIDIA's pytorch 25.03.")
    assert "docker pull nvcr.io/nvidia/pytorch:25.03-py3," in warning


@pytest.mark.parametrize("which", ["built on it", "NVIDIA's", "a copy", "of no release that is known"])
def test_of_nothing_else_that_is_said(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = image("named", "a", "b", digests=(f"nvcr.io/nvidia/pytorch@{samples.digest('m')}",))
    unknown = replace(DERIVED, config=msgspec.structs.replace(DERIVED.config, env={"NVIDIA_PYTORCH_VERSION": "99.01"}))
    cases = {"built on it": (DERIVED, NGC), "NVIDIA's": (by_name,), "a copy": (NGC,), "of no release that is known": (unknown,)}
    found(monkeypatch, cases[which][0], *cases[which], said=(said := Said()))
    assert said.warnings == []


def test_a_digest_goes_before_a_name_that_no_registry_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    pulled = image("pulled", "a", tags=("ngc:latest",), digests=(f"x.example.com/p@{samples.digest('m')}",))
    lived_in, _ = found(monkeypatch, pulled, pulled)
    assert lived_in is not None and lived_in.reference == f"x.example.com/p@{samples.digest('m')}"


def test_any_other_image_is_nobody_s_home(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, image("plain", "a", build=None), NGC)[0] is None
    assert found(monkeypatch, None, NGC) == (None, [])
