"""Whose interpreter is run for a base that is made here: what somebody imported under its digest does not count."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from envsnap.blobs import BlobStore
from envsnap.debian.archive import Settings
from envsnap.inventory.remembered import export, load, recall, remember
from envsnap.model.base import Base, BaseInventory
from envsnap.model.layers import LayerPlan, Layout, TreeLayer
from envsnap.oci.image import BaseImage, RunConfig
from envsnap.plan.shell import shell_steps
from envsnap.probes.wheels import Wheels
from envsnap.progress import SILENT
from envsnap.workflows import base_images
from envsnap.workflows.assembled import Gathered, Ground, is_trusted
from envsnap.workflows.prepare import Prepared
from envsnap.workflows.shell import Done
from envsnap.workflows.system import Packages
from tests.fakes import interpreters
from tests.unit.debian.conftest import Mirror
from tests.unit.debian.test_base import DEBS
from tests.unit.plan.test_layers import made_plan
from tests.unit.plan.test_shell import SCRIPTED, of_conda

EVIL = interpreters.that_runs("exit 1", "3.11.2")


class Here:
    """A machine that has the packages of debian:bookworm."""

    def __init__(self, mirror: Mirror, root: Path) -> None:
        self.root, self.cache = root, root / "cache"
        settings = Settings(mirror=mirror.root.as_uri(), keyring=mirror.keyring)
        self.packages = Packages(settings, self.cache, fetch=True, refresh=False, progress=SILENT)

    def base(self) -> tuple[Base, BaseImage]:
        """As a plan takes it."""
        known = self.packages.base(Base(reference="debian:bookworm", family="debian"), "x86_64", self.root / "images/demo")
        found = base_images.find(known, "x86_64", None, BlobStore(self.cache / "blobs"), self.cache)
        assert isinstance(found, BaseImage)
        return known, found

    def trusts(self, base: BaseImage, inventory: BaseInventory, **others: object) -> bool:
        layers = cast("tuple[TreeLayer, ...]", others.pop("layers", ()))
        ground = Ground(machine="x86_64", base=base, base_inventory=inventory, system=None, **others)  # type: ignore[arg-type]
        plan = LayerPlan(layout=Layout(python="3.11"), layers=layers)
        prepared = Prepared(identity="", base=base, layers=plan, change=RunConfig(env={}, labels={}, workdir="/"))
        return is_trusted(Gathered(ground=ground, prepared=prepared, wheels=cast("Wheels", None), pinned=()), self.cache)


@pytest.fixture
def here(mirror: Mirror, tmp_path: Path) -> Here:
    mirror.publish(*DEBS)
    return Here(mirror, tmp_path / "here")


def forged(here: Here, base: BaseImage, inventory: BaseInventory) -> BaseInventory:
    """What is known here once somebody's inventory of the base, with an interpreter of theirs, was imported."""
    there = here.root / "there"
    theirs = replace(inventory, interpreter=BlobStore(there / "blobs").put(EVIL))
    for digest in {inventory.dpkg_status, inventory.loader_cache} - {None}:
        BlobStore(there / "blobs").adopt(BlobStore(here.cache / "blobs"), str(digest))
    made = remember(theirs, config=base.config.digest, reference="debian:bookworm", cache=there)
    export(made, there, there / "shared.inventory")
    for note in (here.cache / "inventories").glob("*.json"):
        note.unlink()  # as on a machine that never made it
    assert load(there / "shared.inventory", here.cache).inventory == theirs
    return theirs


def test_the_interpreter_of_an_imported_inventory_is_never_trusted(here: Here) -> None:
    known, base = here.base()
    assert known.inventory is not None and here.trusts(base, known.inventory)
    theirs = forged(here, base, known.inventory)
    assert not here.trusts(base, theirs)
    assert not here.trusts(base, known.inventory)  # nor what only looks like it: nobody read that


def test_what_is_made_here_is_read_from_its_packages_and_not_imported(here: Here) -> None:
    known, base = here.base()
    assert known.inventory is not None
    theirs = forged(here, base, known.inventory)
    again, _ = here.base()
    assert again.inventory == known.inventory != theirs
    found = recall(base.config.digest, here.cache)
    assert found is not None and found.read_here and here.trusts(base, found.inventory)
    assert not here.trusts(base, theirs)
    load(here.root / "there/shared.inventory", here.cache)
    assert here.base()[0].inventory == known.inventory and here.trusts(base, known.inventory)


def test_an_imported_inventory_of_what_docker_made_on_it_is_not_trusted_either(here: Here) -> None:
    known, base = here.base()
    assert known.inventory is not None
    steps = shell_steps(made_plan(), SCRIPTED, base.config.digest)
    config = "sha256:" + "7" * 64
    done = Done(layers=(), inventory=replace(known.inventory, libc="glibc 9"), config=config)
    assert not here.trusts(base, known.inventory, shell=steps, done=done)
    remember(done.inventory, config=config, reference="debian:bookworm with more", cache=here.cache)
    assert here.trusts(base, known.inventory, shell=steps, done=done)


def test_of_a_registry_s_base_with_a_lock_s_interpreter_or_packages_of_conda_it_is_foreign(here: Here) -> None:
    known, base = here.base()
    assert known.inventory is not None
    elsewhere = BaseImage(config=base.config, manifest=base.manifest, reference="registry.example.com/debian:bookworm")
    assert not here.trusts(elsewhere, known.inventory)
    tree = TreeLayer(tree="sha256:" + "8" * 64, path="/opt/envsnap/python")
    assert not here.trusts(base, known.inventory, layers=(tree,))
    conda = shell_steps(of_conda(), None, base.config.digest)
    done = Done(layers=(), inventory=known.inventory, config=base.config.digest)
    assert not here.trusts(base, known.inventory, shell=conda, done=done)
