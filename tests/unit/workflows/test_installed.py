"""The image that is told from installed files is the one that is made of the wheels; and when somebody was wrong, the build says so."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from envsnap import lockfile
from envsnap.errors import EngineError, InputError
from envsnap.model.base import Base, BaseInventory
from envsnap.model.image import Foretold
from envsnap.model.lock import EnvLock
from envsnap.model.plan import BuildPlan, InstallWheels, MakeEnvironment, PinnedWheel
from envsnap.oci.image import Image, Layer, scratch
from envsnap.probes.index import Found, PipConfig, Wanted, find_wheels
from envsnap.probes.wheel_ends import WheelEnds
from envsnap.probes.wheel_record import installed_files, read_end
from envsnap.probes.wheels import Wheels
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.workflows import assembled, foretelling, installed, wheel_facts
from envsnap.workflows.assembled import Gathered, Sources
from envsnap.workflows.plan import PlanRequest, write_context
from envsnap.workflows.system import Packages
from tests import samples
from tests.fakes import wheels

VERSION = platform.python_version()
MINOR = ".".join(VERSION.split(".")[:2])
REQUEST = PlanRequest(no_source=True)
INVENTORY = BaseInventory(distribution="debian 12", python=VERSION, python_path="/usr/bin/python3")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the demo wheel in it."""
    place = tmp_path_factory.mktemp("environment")
    found = wheels.make_environment(place / "env")
    wheels.install(found, wheels.write_wheel(place / wheels.DEMO_FILE, wheels.DEMO))
    return found


class Ground:
    """A capture of the environment: its lock, and a cache with what was read of the wheel, which itself is elsewhere."""

    def __init__(self, root: Path, environment: Path) -> None:
        self.environment, self.cache, self.lock_file = environment, root / "cache", root / "demo.yaml"
        (root / "links").mkdir()
        self.file = wheels.write_wheel(root / "links" / wheels.DEMO_FILE, wheels.DEMO)
        with self.file.open("rb") as file:
            files = installed_files(file, MINOR)
        wanted = Wanted(name="demo-pkg", version="1.0", tags=("py2-none-any", "py3-none-any"), files=files)
        config = PipConfig(no_index=True, find_links=(str(root / "links"),))
        answer = find_wheels([wanted], config, offline=False, cache=self.cache, python=MINOR)["demo-pkg"]
        assert isinstance(answer, Found)
        self.sha256 = answer.sha256
        package = replace(samples.index_package("demo-pkg", "1.0"), file=wheels.DEMO_FILE, sha256=self.sha256, files=files)
        lock = samples.lock()
        python = replace(lock.python, version=VERSION)
        capture = replace(lock.capture, host=platform.node(), target=f"python {environment}/bin/python")
        self.lock: EnvLock = replace(lock, python=python, packages=(package,), source=None, capture=capture)
        self.lock_file.write_bytes(lockfile.dumps(self.lock))
        pinned = PinnedWheel(name="demo-pkg", version="1.0", file=wheels.DEMO_FILE, sha256=self.sha256)
        self.plan = BuildPlan(
            lock_name=self.lock.name,
            lock_digest=self.lock.digest,
            base=Base(reference="localhost:5000/debian:bookworm", family="other", digest=samples.digest("base")),
            base_reason="",
            candidates=(),
            steps=(MakeEnvironment(reason="", python="python3"), InstallWheels(reason="", wheels=(pinned,))),
            labels={},
        )
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.sources = Sources(
            registry=cast("Registry", None),
            engine=None,
            env={"HOME": str(root), "PATH": path},
            cache=self.cache,
            packages=cast("Packages", None),
            fetch=False,
        )

    def gathered(self) -> Gathered:
        """From wheels where they are at hand, else from what was said of them."""
        below = assembled.Ground(machine="x86_64", base=scratch("amd64"), base_inventory=INVENTORY, system=None)
        found = assembled.gather(below, self.plan, self.lock, self.lock_file, self.sources, SILENT, ends=WheelEnds(self.cache))
        assert isinstance(found, Gathered)
        return found

    def told(self, prefix: Path | None = None) -> Foretold:
        gathered = self.gathered()
        told = installed.tell(
            gathered, self.plan, self.lock, self.lock_file, REQUEST, self.sources, SILENT, prefix=prefix or self.environment
        )
        if told.config_digest is not None:
            foretelling.keep(gathered.prepared, told.config_digest, "installed files", self.cache)
        return told

    def built(self, gathered: Gathered | None = None) -> Image:
        self.sources.store.put(self.file.read_bytes())
        context = write_context(
            self.lock, self.lock_file, self.plan, REQUEST, cache=self.cache, progress=SILENT, directory=self.cache / "context"
        )

        def nobody(layer: Layer, *, made: bool) -> None:
            pass

        return assembled.assemble(
            gathered or self.gathered(),
            context.directory,
            self.lock_file,
            self.sources,
            wanted=lambda _: "no",
            on_layer=nobody,
            progress=SILENT,
        )


@pytest.fixture
def ground(tmp_path: Path, environment: Path) -> Ground:
    return Ground(tmp_path, environment)


def test_what_is_told_from_installed_files_is_what_is_built(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    told = ground.told()
    assert told.config_digest is not None and told.told_from == "installed files"
    assert told.manifest_digest is None and "compressed layers" in told.unknown_because
    assert not ground.sources.store.has(f"sha256:{ground.sha256}")  # no wheel, and no layer
    assert not (ground.cache / "layers").exists()

    def no_files(*_: object) -> None:
        raise AssertionError("installed files were read again")

    monkeypatch.setattr(installed, "write_members", no_files)
    assert ground.told() == told
    assert ground.built().config.digest == told.config_digest


def test_the_lock_names_the_environment_and_its_host(ground: Ground) -> None:
    assert installed.captured_here(ground.lock) == ground.environment
    assert installed.prefix_of(ground.environment / "bin/python") == ground.environment
    elsewhere = replace(ground.lock, capture=replace(ground.lock.capture, host="another.example.com"))
    in_a_container = replace(ground.lock, capture=replace(ground.lock.capture, target="container yolo"))
    assert installed.captured_here(elsewhere) is None and installed.captured_here(in_a_container) is None


def test_an_environment_of_somebody_else_is_not_looked_at(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", forbidden)  # as below a home that its owner alone may enter
    assert installed.captured_here(ground.lock) is None
    with pytest.raises(InputError) as refused:
        installed.prefix_of(ground.environment)
    assert (refused.value.why, str(ground.environment) in refused.value.what) == ("Permission denied", True)


def copied(ground: Ground, place: Path) -> Path:
    shutil.copytree(ground.environment, place, symlinks=True)
    return place


def edited(prefix: Path) -> None:
    (wheels.site_of(prefix) / "demo_module.py").write_text("def main():\n    print('niam')\n")


def gone(prefix: Path) -> None:
    (wheels.site_of(prefix) / "demo_pkg/__init__.py").unlink()


def a_pipe(prefix: Path) -> None:
    gone(prefix)
    os.mkfifo(wheels.site_of(prefix) / "demo_pkg/__init__.py")


def not_installed(prefix: Path) -> None:
    (wheels.site_of(prefix) / "demo_pkg-1.0.dist-info").rename(prefix / "away")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edited, "demo-pkg 1.0: demo_module.py is not as it was installed"),
        (gone, "cannot be read: No such file or directory"),
        (a_pipe, "demo_pkg/__init__.py is no file"),
        (not_installed, "demo-pkg is not installed in "),
    ],
)
def test_files_that_are_not_the_locks_tell_nothing(ground: Ground, tmp_path: Path, change: Callable[[Path], None], said: str) -> None:
    prefix = copied(ground, tmp_path / "other")
    change(prefix)
    told = ground.told(prefix)
    assert told.config_digest is None and told.told_from == ""
    assert said in told.unknown_because
    assert told.hint
    assert ground.told().config_digest is not None


def test_what_the_lock_says_of_the_files_has_the_last_word(ground: Ground) -> None:
    """An index that describes the wheel as somebody's edited environment has it does not get through."""
    other = replace(ground.lock.packages[0], files=samples.digest("other files"))
    ground.lock = replace(ground.lock, packages=(other,))
    assert "other files than the lock says" in ground.told().unknown_because


def test_what_was_never_read_of_a_wheel_stays_unknown(ground: Ground) -> None:
    gathered = ground.gathered()
    WheelEnds(ground.cache).forget(ground.sha256)
    told = installed.tell(gathered, ground.plan, ground.lock, ground.lock_file, REQUEST, ground.sources, SILENT, prefix=ground.environment)
    assert "was not read at a capture" in told.unknown_because


def test_a_wheel_that_was_described_wrongly_fails_the_build_once_and_changes_no_image(ground: Ground, tmp_path: Path) -> None:
    """Same files in another order: nothing that a lock says is violated, and yet it is another layer."""
    backwards = wheels.write_wheel(tmp_path / wheels.DEMO_FILE, dict(reversed(wheels.DEMO.items())))
    with backwards.open("rb") as file:
        WheelEnds(ground.cache).keep(ground.sha256, read_end(file))
    told = ground.told()
    assert told.config_digest is not None
    with pytest.raises(EngineError, match="not the one that was foretold from the installed files") as failed:
        ground.built()
    assert "demo-pkg 1.0" in (failed.value.why or "")
    right = ground.built()
    assert right.config.digest != told.config_digest
    assert WheelEnds(ground.cache).find(ground.sha256) is None


def test_an_image_that_was_told_from_its_layers_is_held_to_it_too(ground: Ground) -> None:
    foretelling.keep(ground.gathered().prepared, samples.digest("another"), "layers", ground.cache)
    with pytest.raises(EngineError, match=r"not the one that was foretold\Z") as failed:
        ground.built()
    assert failed.value.hint == "a fault of envsnap's: please report it"


def test_an_images_identity_hangs_on_nothing_that_only_a_wheel_can_say(ground: Ground, tmp_path: Path) -> None:
    said = ground.gathered().prepared
    other = wheels.write_wheel(tmp_path / wheels.DEMO_FILE, {**wheels.DEMO, "demo_pkg/more.py": "x = 1\n" * 1000})
    with other.open("rb") as file:
        WheelEnds(ground.cache).keep(ground.sha256, read_end(file))
    assert ground.gathered().prepared.layers != said.layers
    assert ground.gathered().prepared.identity == said.identity
    ground.plan = replace(ground.plan, workdir="/elsewhere")
    assert ground.gathered().prepared.identity != said.identity


def test_without_an_interpreter_the_way_to_one_is_told(ground: Ground, tmp_path: Path) -> None:
    ground.sources = dataclasses.replace(ground.sources, env={"HOME": str(tmp_path), "PATH": str(tmp_path)})
    told = ground.told()
    assert told.config_digest is None
    assert "byte code of Python" in told.unknown_because
    assert "pyc" in told.hint


def test_a_wheel_is_hashed_once_where_a_layer_is_made_of_it(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wheels, "checked", lambda *_: pytest.fail("it is hashed by whoever makes the layer"))
    ground.built()
    assert (ground.cache / "wheels" / f"{ground.sha256}.json").is_file()
    assert wheel_facts.unhashed([ground.sha256], ground.gathered().wheels, ground.cache) == {}


def test_nothing_is_read_of_a_damaged_wheel_whose_layer_is_remembered(ground: Ground) -> None:
    ground.built()
    right = ground.gathered().prepared.layers
    (ground.cache / "wheels" / f"{ground.sha256}.json").unlink()
    path = ground.sources.store.path(f"sha256:{ground.sha256}")
    path.write_bytes(path.read_bytes().replace(b"demo_module.py", b"demo_module.pz"))
    assert ground.gathered().prepared.layers == right
    assert not path.exists()


def test_of_a_damaged_wheel_no_layer_is_made_and_nothing_is_remembered(ground: Ground) -> None:
    damaged = ground.file.read_bytes().replace(b"demo_module.py", b"demo_module.pz")
    ground.sources.store.put(ground.file.read_bytes())
    ground.sources.store.path(f"sha256:{ground.sha256}").write_bytes(damaged)
    ground.file.write_bytes(b"")
    with pytest.raises(InputError):
        ground.built()
    assert not list((ground.cache / "wheels").glob("*.json"))


def test_what_was_read_of_a_damaged_wheel_makes_no_image_though_it_was_mended_since(ground: Ground) -> None:
    path = ground.sources.store.path(ground.sources.store.put(ground.file.read_bytes()))
    path.write_bytes(ground.file.read_bytes().replace(b"demo_module.py", b"demo_module.pz"))
    with pytest.raises(InputError, match="was damaged when the image was laid out"):
        ground.built(ground.gathered())  # mends it first, as another process may
    assert (ground.cache / "wheels" / f"{ground.sha256}.json").is_file()  # the truth
    ground.built()
