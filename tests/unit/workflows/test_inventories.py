"""Where a base's inventory comes from: what is remembered, the engine that has it, its registry; and when nobody is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from envsnap.engines.interface import Engine, EngineImage
from envsnap.errors import EngineError
from envsnap.inventory.remembered import remember
from envsnap.model.base import Base, BaseInventory, ImageConfig
from envsnap.oci.documents import OCI_LAYER, OCI_MANIFEST, Config, Descriptor, Manifest, canonical, digest_of, read_config
from envsnap.oci.image import BaseImage
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.workflows import inventories
from envsnap.workflows.unknown import Unknown
from tests import samples
from tests.unit.inventory.conftest import gzipped, layer, pieces
from tests.unit.inventory.test_read import system

LAYERS = [layer(*system()[:9]), layer(*system()[9:])]
REFERENCE = "registry.example/base:1"


def config_of(*tars: bytes) -> Config:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin", "ODD"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
    }
    return read_config(canonical(document), what="test")


def image(config: Config | None = None) -> BaseImage:
    config = config or config_of(*LAYERS)
    layers = tuple(Descriptor(media_type=OCI_LAYER, digest=digest_of(gzipped(tar)), size=len(gzipped(tar))) for tar in LAYERS)
    described = Descriptor(media_type="", digest=digest_of(config.raw), size=len(config.raw))
    return BaseImage(
        config=config, manifest=Manifest(raw=b"{}", media_type=OCI_MANIFEST, config=described, layers=layers), reference=REFERENCE
    )


class FakeRegistry:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def open_blob(self, reference: str, descriptor: Descriptor) -> Iterator[bytes]:
        self.asked.append(reference)
        return pieces(next(data for data in map(gzipped, LAYERS) if digest_of(data) == descriptor.digest))


class FakeEngine:
    def __init__(self, config_digest: str) -> None:
        self.asked: list[str] = []
        self._config_digest = config_digest

    def image(self, reference: str) -> EngineImage | None:
        if not reference.startswith((REFERENCE, "sha256:")):
            return None
        return EngineImage(
            image_id=self._config_digest,
            config_digest=self._config_digest,
            repo_digests=(),
            tags=(REFERENCE,),
            size_bytes=1,
            layers=2,
            config=ImageConfig(architecture="amd64", env={"PATH": "/usr/bin"}),
        )

    @contextmanager
    def files(self, reference: str) -> Iterator[Iterator[bytes]]:
        self.asked.append(reference)
        yield pieces(layer(*system()))

    def inventory(self, reference: str) -> BaseInventory:
        self.asked.append(f"shell in {reference}")
        return BaseInventory(distribution="debian 12", python="3.11.2")


@dataclass
class Sources:
    cache: Path
    fake_engine: FakeEngine | None = None
    fake_registry: FakeRegistry = field(default_factory=FakeRegistry)
    fetch: bool = True
    offline: bool = False

    @property
    def engine(self) -> Engine | None:
        return cast("Engine | None", self.fake_engine)

    @property
    def registry(self) -> Registry:
        return cast("Registry", self.fake_registry)


def base(*, in_engine: bool = False) -> Base:
    return Base(reference=REFERENCE, family="other", in_engine=in_engine)


def test_a_registry_is_read_once(tmp_path: Path) -> None:
    sources = Sources(tmp_path)
    found = inventories.complete(base(), image(), sources, SILENT)
    assert isinstance(found, BaseInventory)
    assert (found.complete, found.python, found.python_path) == (True, "3.11.2", "/usr/bin/python3")
    assert inventories.complete(base(), image(), Sources(tmp_path, fetch=False), SILENT) == found
    assert inventories.complete(base(), image(), sources, SILENT) == found
    assert sources.fake_registry.asked == [REFERENCE, REFERENCE]


def test_an_engine_that_has_the_base_comes_first_and_says_the_same(tmp_path: Path) -> None:
    digest = image().config.digest
    sources = Sources(tmp_path / "engine", FakeEngine(digest))
    found = inventories.complete(base(in_engine=True), image(), sources, SILENT)
    assert found == inventories.complete(base(), image(), Sources(tmp_path / "registry"), SILENT)
    assert (sources.fake_registry.asked, inventories.recall(digest, tmp_path / "engine")) == ([], found)


def test_an_engine_that_has_another_image_under_that_name_is_not_asked(tmp_path: Path) -> None:
    sources = Sources(tmp_path, FakeEngine(f"sha256:{'0' * 64}"))
    assert isinstance(inventories.complete(base(in_engine=True), image(), sources, SILENT), BaseInventory)
    assert sources.fake_engine is not None
    assert (sources.fake_engine.asked, len(sources.fake_registry.asked)) == ([], 2)


@pytest.mark.parametrize(("fetch", "offline"), [(False, False), (True, True)])
def test_what_was_never_read_stays_unknown_where_nobody_may_be_asked(tmp_path: Path, fetch: bool, offline: bool) -> None:
    sources = Sources(tmp_path, fetch=fetch, offline=offline)
    found = inventories.complete(base(), image(), sources, SILENT)
    assert isinstance(found, Unknown)
    assert "never read" in found.because
    assert found.hint
    assert sources.fake_registry.asked == []


def test_what_a_shell_saw_is_enough_for_a_plan_and_not_for_layers(tmp_path: Path) -> None:
    engine = FakeEngine(image().config.digest)
    there = engine.image(REFERENCE)
    assert there is not None
    for _ in range(2):
        seen = inventories.enough(REFERENCE, there, engine=cast("Any", engine), cache=tmp_path)
        assert (seen.python, seen.complete) == ("3.11.2", False)
    assert engine.asked == [f"shell in {REFERENCE}"]
    read = inventories.complete(base(in_engine=True), image(), Sources(tmp_path, engine), SILENT)
    assert isinstance(read, BaseInventory)
    assert read.complete
    assert inventories.enough(REFERENCE, there, engine=cast("Any", engine), cache=tmp_path) == read


def test_a_manifest_that_does_not_belong_to_its_config_is_refused(tmp_path: Path) -> None:
    for config in (config_of(LAYERS[0]), config_of(*reversed(LAYERS))):
        with pytest.raises(EngineError, match="cannot read what is in"):
            inventories.complete(base(), image(config), Sources(tmp_path), SILENT)
        assert inventories.recall(config.digest, tmp_path) is None


def test_an_engine_without_the_image_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot read what is in other"):
        inventories.of_engine("other:1", engine=cast("Any", FakeEngine("")), cache=tmp_path, progress=SILENT)


def test_what_is_remembered_under_another_config_is_another_image(tmp_path: Path) -> None:
    remember(BaseInventory(distribution="x", complete=True), config=f"sha256:{'1' * 64}", reference=REFERENCE, cache=tmp_path)
    assert isinstance(inventories.complete(base(), image(), Sources(tmp_path, fetch=False), SILENT), Unknown)


def test_what_the_collector_finds_in_an_image_of_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = "/usr/local/lib/python3.12/dist-packages"
    facts = samples.facts(distributions=(samples.distribution("six", "1.0"),), unowned=(f"{site}/cv2", f"{site}/a\nb"))
    monkeypatch.setattr("envsnap.workflows.inventories.interpreter.collect", lambda *_, **__: facts)
    config = samples.digest("config")
    remember(BaseInventory(distribution="ubuntu 24.04"), config=config, reference=REFERENCE, cache=tmp_path)
    engine: Any = FakeEngine(config)
    engine.target = lambda *_, **__: None
    image = engine.image(REFERENCE)
    found = inventories.with_packages(image, engine=engine, cache=tmp_path, progress=SILENT)
    assert ([one.name for one in found.packages], found.unowned) == (["six"], (f"{site[1:]}/cv2",))
    monkeypatch.setattr("envsnap.workflows.inventories.interpreter.collect", lambda *_, **__: pytest.fail("it was looked into before"))
    assert inventories.with_packages(image, engine=engine, cache=tmp_path, progress=SILENT) == found
