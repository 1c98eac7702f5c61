"""What goes beside a base's own packages: never over one of their files, and built for its torch."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import msgspec
import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import InputError, PlanError
from envsnap.inventory.records import files_of_packages
from envsnap.inventory.remembered import recall, remember
from envsnap.layers.environment import write_removal
from envsnap.layers.writer import LayerWriter
from envsnap.model.abi import TorchLibraries
from envsnap.model.base import Base, BaseInventory, Directory, InstalledDistribution
from envsnap.model.layers import LayerPlan, Layout, RemovalLayer
from envsnap.model.plan import AnyStep, BasePackage, BuildPlan, ExtendBase, InstallWheels, PinnedWheel, RemovePackages
from envsnap.probes.index import PipConfig
from envsnap.probes.wheels import Wheels
from envsnap.progress import SILENT
from envsnap.workflows import assembled, beside_the_base
from tests import samples
from tests.fakes import wheels
from tests.unit.workflows.test_check import World
from tests.unit.workflows.test_shell import BASE

SITE = "usr/local/lib/python3.12/dist-packages"
LAYOUT = Layout(prefix="usr/local", python="3.12", packages="dist-packages", lib64="directory")
OURS = hashlib.sha256(wheels.DEMO["demo_pkg/__init__.py"].encode()).hexdigest()


class Ground:
    """A wheel in a cache, and the plan that puts it beside a base's packages."""

    def __init__(self, root: Path) -> None:
        self.cache = root / "cache"
        data = wheels.write_wheel(root / wheels.DEMO_FILE, wheels.DEMO).read_bytes()
        BlobStore(self.cache / "blobs").put(data)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.wheels = Wheels(
            BlobStore(self.cache / "blobs"), PipConfig, also=BlobStore(root / "beside"), cache=self.cache, offline=True, ca_bundle=None
        )

    def plan(self, *more: AnyStep) -> BuildPlan:
        extend = ExtendBase(python="python3", site=f"/{SITE}", prefix="/usr/local", kept=1, reason="r")
        wheel = PinnedWheel(name="demo-pkg", version="1.0", file=wheels.DEMO_FILE, sha256=self.sha256)
        return BuildPlan(
            lock_name="demo",
            lock_digest=samples.digest("lock"),
            base=Base(reference="b", family="ngc-pytorch"),
            base_reason="r",
            candidates=(),
            steps=(extend, *more, InstallWheels(wheels=(wheel,), reason="r")),
            labels={},
        )


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@pytest.mark.parametrize(
    ("path", "content", "apart"),
    [
        (f"{SITE}/demo_pkg/__init__.py", "0" * 64, False),
        (f"{SITE}/demo_pkg/__init__.py", OURS, True),
        (f"{SITE}/demo_pkg/other.py", "0" * 64, True),
        ("usr/local/bin/demo-shell", "0" * 64, False),
        ("usr/local/share/demo/readme.txt", "0" * 64, False),
        ("opt/share/demo/readme.txt", "0" * 64, True),
    ],
)
def test_a_file_of_the_base_is_not_written_over(ground: Ground, path: str, content: str, apart: bool) -> None:
    records = {"torch": {path: content}}
    if apart:
        beside_the_base.require_apart(ground.plan(), LAYOUT, records, ground.wheels, ground.cache)
        return
    with pytest.raises(PlanError) as caught:
        beside_the_base.require_apart(ground.plan(), LAYOUT, records, ground.wheels, ground.cache)
    assert "demo-pkg would change torch" in caught.value.what and "--allow-replace torch" in caught.value.hint
    gone = RemovePackages(packages=(BasePackage(name="torch", version="1"),), reason="r")
    beside_the_base.require_apart(ground.plan(gone), LAYOUT, records, ground.wheels, ground.cache)


@pytest.mark.parametrize(
    ("link", "gone", "found"),
    [
        ("usr/local/share", (), True),
        ("usr/local/share/demo", (), True),
        (f"{SITE}/demo_pkg", (), True),
        (f"{SITE}/demo_pkg", (f"{SITE}/demo_pkg",), False),  # it goes, before the wheel comes
        (f"{SITE}/demo_pkg/data", (f"{SITE}/demo_pkg",), False),
        ("usr/local/man", (), False),
        ("usr/local/man", ("usr/local/man/man1/f2py.1",), True),
        ("usr/lib64", (), False),
    ],
)
def test_no_layer_has_a_directory_where_the_base_has_a_link(ground: Ground, link: str, gone: tuple[str, ...], found: bool) -> None:
    removal = RemovalLayer(packages=(BasePackage(name="demo", version="1"),), paths=gone)
    layers, links = LayerPlan(layout=LAYOUT, layers=(removal,)), {link: "srv/there"}
    way = beside_the_base.link_in_the_way(ground.plan(), layers, links, ground.wheels, ground.cache)
    assert way == (link if found else None)


def test_a_wheel_without_extensions_is_built_for_any_torch(ground: Ground) -> None:
    beside_the_base.require_built_for(ground.plan(), TorchLibraries(sonames=frozenset(), symbols=frozenset()), ground.wheels)
    beside_the_base.require_built_for(ground.plan(), None, ground.wheels)


def test_whose_files_are_whose(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    record = b"six.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n../../../bin/six,,\nsix-1.dist-info/RECORD,,\n"
    six = InstalledDistribution(name="six", version="1", site=SITE, record=blobs.put(record))
    inventory = BaseInventory(distribution="", packages=(six, InstalledDistribution(name="egg", version="1", site=SITE)))
    assert files_of_packages(inventory, blobs) == {
        "six": {f"{SITE}/six.py": hashlib.sha256(b"").hexdigest(), "usr/local/bin/six": "", f"{SITE}/six-1.dist-info/RECORD": ""},
        "egg": {},
    }
    broken = InstalledDistribution(name="six", version="1", site=SITE, record=blobs.put(b"six.py,md5\n"))
    with pytest.raises(InputError, match="RECORD of the base's six"):
        files_of_packages(BaseInventory(distribution="", packages=(broken,)), blobs)


@pytest.mark.parametrize("which", ["RECORD", "torch"])
def test_what_the_cache_has_damaged_of_an_inventory_is_let_go(tmp_path: Path, which: str) -> None:
    """So that the next run reads the base anew."""
    world = World(tmp_path)
    store = BlobStore(world.cache / "blobs")
    digest = store.put(b"what was kept")
    if which == "RECORD":
        six = InstalledDistribution(name="six", version="1", site=SITE, record=digest)
        inventory = BaseInventory(distribution="debian 12", packages=(six,), complete=True)
    else:
        inventory = BaseInventory(distribution="debian 12", torch_libraries=digest, complete=True)
    remember(inventory, config=samples.digest("config"), reference="base", cache=world.cache)
    ground = assembled.Ground(machine="x86_64", base=BASE, base_inventory=inventory, system=None, shell=None, done=None)
    extend = ExtendBase(python="python3", site=f"/{SITE}", prefix="/usr/local", kept=1, reason="r")
    made = msgspec.structs.replace(world.made, steps=(extend,))
    store.path(digest).write_bytes(bytes(9))
    with pytest.raises(InputError, match="what the cache kept of the base's inventory was damaged") as caught:
        assembled.gather(ground, made, samples.lock(), world.lock_file, world.sources, SILENT)
    assert "run it again" in caught.value.hint
    assert recall(samples.digest("config"), world.cache) is None


def test_whiteouts_lie_in_directories_as_the_base_has_them() -> None:
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    layout = Layout(prefix="usr/local", python="3.12", packages="dist-packages", directories={"usr/local": Directory(mode=0o2775, gid=50)})
    write_removal((f"{SITE}/numpy", "usr/local/bin/f2py"), layout, writer)
    writer.finish()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as layer:
        found = {member.name: (member.mode, member.gid, member.isdir()) for member in layer}
    assert found["usr/local"] == (0o2775, 50, True) and found[SITE] == (0o755, 0, True)
    assert {name for name, (_, _, folder) in found.items() if not folder} == {f"{SITE}/.wh.numpy", "usr/local/bin/.wh.f2py"}
