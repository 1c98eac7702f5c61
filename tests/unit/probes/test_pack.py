"""Wheels that the guest script makes, taken into the blob store."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from envsnap.errors import TargetError
from envsnap.model.facts import Distribution
from envsnap.probes import interpreter, pack
from envsnap.probes.local import LocalPython
from envsnap.progress import SILENT
from envsnap.storage import BlobStore
from envsnap.target import GuestResult, Target
from tests.fakes import wheels

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this interpreter has no pip")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> LocalPython:
    directory = tmp_path_factory.mktemp("pack")
    environment = wheels.make_environment(directory / "env")
    wheels.install(environment, wheels.write_wheel(directory / wheels.DEMO_FILE, wheels.DEMO))
    return LocalPython(environment / "bin/python")


@pytest.fixture(scope="module")
def demo(python: LocalPython) -> Distribution:
    facts = interpreter.collect(python, torch=False, imports=False, integrity=True, progress=SILENT)
    return next(found for found in facts.distributions if found.name == "demo-pkg")


@dataclass(frozen=True)
class Meddler:
    """Changes what the script wrote before the host sees it."""

    inner: Target
    description: str = "a meddler"

    def run_guest(self, *words: Any, outputs: Path, **options: Any) -> GuestResult:
        result = self.inner.run_guest(*words, outputs=outputs, **options)
        with (outputs / "0.whl").open("ab") as file:
            file.write(b"more")
        return result


def test_a_package_becomes_a_blob(python: LocalPython, demo: Distribution, tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    packed = pack.pack(python, [(demo, "installed")], blobs, SILENT)["demo-pkg"]
    assert isinstance(packed, pack.PackedWheel)
    assert (packed.file, packed.files) == (wheels.DEMO_FILE, demo.files)
    assert blobs.read(packed.blob)[:2] == b"PK"
    assert [path.name for path in (tmp_path / "blobs/sha256").iterdir()] == [packed.blob.removeprefix("sha256:")]


def test_a_refusal_is_one_sentence(python: LocalPython, demo: Distribution, tmp_path: Path) -> None:
    packed = pack.pack(python, [(demo, "working_tree"), (demo, "installed")], BlobStore(tmp_path), SILENT)
    assert list(packed) == ["demo-pkg"]
    assert pack.pack(python, [(demo, "working_tree")], BlobStore(tmp_path), SILENT) == {
        "demo-pkg": "it is installed in place, and none of its modules can be found"
    }


def test_a_wheel_that_changed_on_the_way_is_refused(python: LocalPython, demo: Distribution, tmp_path: Path) -> None:
    answer = pack.pack(Meddler(python), [(demo, "installed")], BlobStore(tmp_path), SILENT)
    assert answer == {"demo-pkg": "its wheel changed on its way from the target"}


def test_a_script_that_ends_early_is_an_error(demo: Distribution, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot pack"):
        pack.pack(LocalPython(Path("/bin/true")), [(demo, "installed")], BlobStore(tmp_path), SILENT)


def test_nothing_asked_is_nothing_run(tmp_path: Path) -> None:
    assert pack.pack(LocalPython(tmp_path / "gone"), [], BlobStore(tmp_path), SILENT) == {}
