"""Packages of a distribution that the cache has, and what a power cut leaves of them: none of it is refused for ever."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from envsnap.blobs import BlobStore
from envsnap.debian import transfer
from envsnap.debian.archive import Settings
from envsnap.errors import InputError
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import Base, BaseInventory
from envsnap.model.layers import SystemLayer
from envsnap.model.plan import AptInstall
from envsnap.progress import SILENT
from envsnap.workflows import inventories, local
from envsnap.workflows.system import Packages
from tests.unit.debian.conftest import Mirror
from tests.unit.debian.test_base import DEBS
from tests.unit.debian.test_layer import HELLO, INVENTORY, STATUS
from tests.unit.plan.test_layers import made_plan

MACHINE = "x86_64"
BASE = Base(reference="debian:bookworm", family="debian")
Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {"cut": lambda data: data[:-1], "empty": lambda data: b"", "zeros": lambda data: bytes(len(data))}
damages = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


class World:
    """A mirror, and a cache. Attributes: beside: what is kept beside the lock."""

    def __init__(self, root: Path) -> None:
        self.mirror, self.cache, self.directory = Mirror(root / "mirror"), root / "cache", root / "images"
        self.store, self.beside = BlobStore(self.cache / "blobs"), BlobStore(root / "beside")
        self.mirror.publish(HELLO, *DEBS)
        self.inventory = replace(INVENTORY, dpkg_status=self.store.put(STATUS.encode()))

    def packages(self, *, fetch: bool = True, offline: bool = False) -> Packages:
        settings = Settings(mirror=self.mirror.root.as_uri(), keyring=self.mirror.keyring, offline=offline)
        return Packages(settings, self.cache, fetch=fetch, refresh=False, progress=SILENT, vendored=self.beside)

    def layer(self, inventory: BaseInventory | None = None, *, offline: bool = False) -> bytes:
        """A layer of one package."""
        writer = LayerWriter((out := io.BytesIO()).write)
        layer = SystemLayer(packages=(HELLO.file,), onto=f"sha256:{'0' * 64}")
        self.packages(offline=offline).write(layer, inventory or self.inventory, MACHINE, writer)
        writer.finish()
        return out.getvalue()

    def base(self, *, fetch: bool = True) -> Base:
        return self.packages(fetch=fetch).base(BASE, MACHINE, self.directory)

    def layer_of_base(self) -> str:
        (name,) = local.everything(self.cache)
        found = local.find(name.name, self.cache)
        assert found is not None
        return found.layers[0].digest

    def spoil(self, digest: str, damage: Damage) -> None:
        path = self.store.path(digest)
        path.write_bytes(damage(path.read_bytes()))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(transfer.persistently, "__defaults__", ((0, 0),))
    return World(tmp_path)


@damages
def test_a_package_that_is_damaged_is_fetched_again(world: World, damage: Damage) -> None:
    whole = world.layer()
    world.spoil(HELLO.file.digest, damage)
    assert world.layer() == whole
    world.spoil(HELLO.file.digest, damage)
    with pytest.raises(InputError, match=r"cannot fetch hello 1\.0-1") as caught:
        world.layer(offline=True)
    assert "network" in caught.value.hint
    assert world.layer() == whole


def test_without_a_look_at_it_it_would_be_refused_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.layer()
    world.spoil(HELLO.file.digest, DAMAGES["zeros"])
    monkeypatch.setattr(BlobStore, "has_whole", BlobStore.has)
    for _ in range(2):
        with pytest.raises(InputError, match=r"refused hello 1\.0-1"):
            world.layer()


def test_a_package_that_is_damaged_is_taken_from_beside_the_lock(world: World) -> None:
    whole = world.layer()
    world.beside.put(HELLO.data)
    world.spoil(HELLO.file.digest, DAMAGES["zeros"])
    assert world.layer(offline=True) == whole


@damages
def test_a_base_whose_layer_is_cut_off_is_made_again(world: World, damage: Damage) -> None:
    made = world.base()
    digest = world.layer_of_base()
    whole = world.store.read(digest)
    world.spoil(digest, damage)
    if damage is DAMAGES["zeros"]:  # found out by whoever takes its bytes
        place = world.cache / "inventories"
        for path in place.iterdir():
            path.unlink()
        with pytest.raises(InputError, match="what the cache kept of debian:bookworm was damaged") as caught:
            world.base()
        assert "run it again" in caught.value.hint
    assert world.base() == made
    assert world.store.read(digest) == whole


def test_a_base_is_not_made_of_packages_that_are_damaged(world: World) -> None:
    """Where nothing is fetched it is as if they were not there."""
    made = world.base()
    world.store.path(world.layer_of_base()).unlink()
    assert world.base(fetch=False) == made
    world.store.path(world.layer_of_base()).unlink()
    world.spoil(DEBS[0].file.digest, DAMAGES["zeros"])
    assert "never made from its packages" in world.base(fetch=False).unknown_because
    assert world.base() == made


@pytest.mark.parametrize("field", ["dpkg_status", "loader_cache"])
@damages
def test_an_inventory_that_is_damaged_is_read_anew(world: World, damage: Damage, field: str) -> None:
    made = world.base()
    (path,) = (world.cache / "inventories").iterdir()
    config = f"sha256:{path.stem}"
    known = inventories.recall(config, world.cache)
    assert known is not None
    inventory, digest = replace(known, distribution="debian 12"), getattr(known, field)
    whole = world.layer(inventory)
    world.spoil(digest, damage)
    with pytest.raises(InputError, match="what the cache kept of the base's inventory was damaged") as caught:
        world.layer(inventory)
    assert "run it again" in caught.value.hint
    assert inventories.recall(config, world.cache) is None
    assert world.base() == made
    assert world.layer(inventory) == whole


def test_what_is_not_let_go_is_refused_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.spoil(str(world.inventory.dpkg_status), DAMAGES["zeros"])
    monkeypatch.setattr(BlobStore, "drop_damaged", lambda *_: False)
    for _ in range(2):
        with pytest.raises(InputError, match="was changed"):
            world.layer()
    assert world.store.has(str(world.inventory.dpkg_status))


def test_a_base_whose_database_is_damaged_is_not_resolved_upon(world: World) -> None:
    plan = replace(made_plan(), steps=(AptInstall(reason="", packages=("hello",)),))
    world.spoil(str(world.inventory.dpkg_status), DAMAGES["zeros"])
    with pytest.raises(InputError, match="what the cache kept of the base's inventory was damaged"):
        world.packages().resolve(plan, world.inventory, MACHINE, world.directory)
    assert not world.store.has(str(world.inventory.dpkg_status))
