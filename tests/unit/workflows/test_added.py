"""What a plan puts on a base, by what is known of its files; what is not known is never counted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from envsnap.blobs import BlobStore
from envsnap.model.base import Base, BaseInventory
from envsnap.model.debian import DebFile, SystemPlan
from envsnap.model.layers import SystemPins
from envsnap.model.plan import (
    AnyStep,
    AptInstall,
    CarryInterpreter,
    CopySource,
    InstallPacked,
    InstallWheels,
    MakeCondaEnvironment,
    PackedInstall,
    PinnedWheel,
)
from envsnap.probes.wheel_ends import WheelEnds
from envsnap.probes.wheel_record import WheelEnd
from envsnap.workflows import system, wheel_facts
from envsnap.workflows.added import Added, added
from tests import samples

DPKG = samples.digest("status")
BASE = Base(reference="x", family="other", inventory=BaseInventory(distribution="debian 12", dpkg_status=DPKG))
LIBGL = AptInstall(packages=("libgl1",), reason="")


class World:
    def __init__(self, place: Path) -> None:
        self.cache, self.images, self.blobs = place / "cache", place / "images", BlobStore(place / "blobs")

    def added(self, *steps: AnyStep, base: Base = BASE) -> Added:
        return added(steps, base, blobs=self.blobs, directory=self.images, cache=self.cache)

    def resolve(self, *sizes: int) -> None:
        files = tuple(
            DebFile(name=f"p{size}", version="1", arch="amd64", path=f"pool/p{size}.deb", sha256=samples.hex64("p"), size_bytes=size)
            for size in sizes
        )
        plan = SystemPlan(distribution="debian 12", arch="amd64", packages=files)
        system.keep(self.images, SystemPins(wanted=LIBGL.packages, onto=DPKG, plan=plan))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def wheels(*names: str) -> InstallWheels:
    made = tuple(PinnedWheel(name=name, version="1", file=f"{name}-1-py3-none-any.whl", sha256=samples.hex64(name)) for name in names)
    return InstallWheels(wheels=made, compile=False, reason="")


def packed(digest: str) -> InstallPacked:
    return InstallPacked(packages=(PackedInstall(name="own", version="1", file="own-1-py3-none-any.whl", blob=digest),), reason="")


def test_a_wheel_s_size_is_what_was_counted_or_said_of_it(world: World) -> None:
    wheel_facts.remember(samples.hex64("seen"), (1000, 10), world.cache)
    WheelEnds(world.cache).keep(samples.hex64("said"), WheelEnd(size_bytes=200, directory=b"", stem="said-1", record=b""))
    assert world.added(wheels("seen", "said")) == Added(bytes=1200)


def test_byte_code_is_not_counted_and_that_is_said(world: World) -> None:
    """It is made when the image is; an image that is foretold has it in its sum."""
    wheel_facts.remember(samples.hex64("seen"), (1000, 10), world.cache)
    compiled = msgspec.structs.replace(wheels("seen"), compile=True)
    assert world.added(compiled) == Added(bytes=1000, without=("byte code",))


def test_one_that_was_never_seen_makes_the_sum_unknown(world: World) -> None:
    wheel_facts.remember(samples.hex64("seen"), (1000, 10), world.cache)
    assert world.added(wheels("seen", "other")) == Added(bytes=None, without=("1 of 2 wheels were never seen here",))


def test_what_was_packed_and_an_interpreter_are_counted_as_they_are_kept(world: World) -> None:
    own, tree = world.blobs.put(b"w" * 30), world.blobs.put(b"t" * 500)
    carried = CarryInterpreter(tree=tree, program="/opt/envsnap/python/bin/python3.11", reason="")
    assert world.added(packed(own), carried).bytes == 530
    assert world.added(packed(own), CarryInterpreter(tree=samples.digest("lost"), program="/p", reason="")).bytes is None
    assert world.added(MakeCondaEnvironment(tree=tree, reason="")).bytes == 500


def test_what_conda_fetches_is_not_known(world: World) -> None:
    found = world.added(MakeCondaEnvironment(explicit=("https://x/y.conda#0",), reason=""))
    assert found.bytes is None and "conda's packages (1)" in found.without[0]


def test_the_distribution_s_packages_count_where_they_were_looked_up_for_this_base(world: World) -> None:
    own = packed(world.blobs.put(b"w" * 30))
    assert world.added(own, LIBGL) == Added(bytes=30, without=("the distribution's packages, which were not looked up",))
    world.resolve(70, 5)
    assert world.added(own, LIBGL) == Added(bytes=105)
    other = msgspec.structs.replace(BASE, inventory=BaseInventory(distribution="debian 12", dpkg_status=samples.digest("another")))
    assert world.added(own, LIBGL, base=other).bytes == 30
    assert world.added(own, LIBGL, base=msgspec.structs.replace(BASE, inventory=None)).bytes == 30


def test_of_the_project_s_files_it_is_said_that_they_are_not_counted(world: World) -> None:
    assert world.added(CopySource(path="/workspace/x", reason="")) == Added(bytes=0, without=("the project's files",))
