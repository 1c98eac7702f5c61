"""Wheels that the guest script makes, taken into the blob store."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import TargetError
from envsnap.model.facts import CondaPackage, Distribution
from envsnap.probes import interpreter, pack
from envsnap.probes.local import LocalPython
from envsnap.progress import SILENT
from envsnap.target import GuestResult, Target
from tests import samples
from tests.fakes import wheels
from tests.fakes.secrets import PLANTED

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this interpreter has no pip")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> LocalPython:
    directory = tmp_path_factory.mktemp("pack")
    environment = wheels.make_environment(directory / "env")
    wheels.install(environment, wheels.write_wheel(directory / wheels.DEMO_FILE, wheels.DEMO))
    return LocalPython(environment / "bin/python")


@pytest.fixture(scope="module")
def demo(python: LocalPython) -> Distribution:
    facts = interpreter.collect(python, framework=False, imports=False, integrity=True, progress=SILENT)
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


# Secrets

TOKEN = PLANTED["GitHub Token"]


def packed_with(place: Path, files: dict[str, str | bytes], **changes: Any) -> pack.PackedWheel | str:
    """The demo package with other files, which the collector named."""
    environment = wheels.make_environment(place / "env")
    wheels.install(environment, wheels.write_wheel(place / wheels.DEMO_FILE, wheels.DEMO))
    site = wheels.site_of(environment)
    for path, content in files.items():
        (site / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    target = LocalPython(environment / "bin/python")
    facts = interpreter.collect(target, framework=False, imports=False, integrity=True, progress=SILENT)
    found = next(found for found in facts.distributions if found.name == "demo-pkg")
    packed = pack.pack(target, [(msgspec.structs.replace(found, **changes), "installed")], BlobStore(place / "blobs"), SILENT)["demo-pkg"]
    kept = [path for path in (place / "blobs").rglob("*") if path.is_file()]
    assert bool(kept) == isinstance(packed, pack.PackedWheel)
    return packed


@pytest.mark.parametrize("path", ["demo_module.py", "demo_pkg/added.py"])
def test_a_secret_that_was_written_into_a_package_keeps_it_out(tmp_path: Path, path: str) -> None:
    packed = packed_with(tmp_path, {path: f"def main(): ...\nkey = '{TOKEN}'\n"}, direct_url=None)
    assert isinstance(packed, str) and f"{path}, line 2: GitHub Token" in packed and TOKEN not in packed


def test_a_secret_far_into_a_large_file_keeps_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "_SEARCHED_BYTES", 1000)
    lies_across = b"x" * 985 + b"\n" + TOKEN.encode() + b"\n" + b"x" * 5000
    packed = packed_with(tmp_path, {"demo_pkg/added.txt": lies_across})
    assert isinstance(packed, str) and "demo_pkg/added.txt, GitHub Token" in packed


@pytest.mark.parametrize(("direct_url", "searched"), [(None, False), ({"url": "file:///home/me/demo", "dir_info": {}}, True)])
def test_what_no_index_gave_is_searched_as_a_whole(tmp_path: Path, direct_url: dict[str, Any] | None, searched: bool) -> None:
    wheel = tmp_path / "demo-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo/settings.py", f"key = '{TOKEN}'\n")
    found = samples.distribution("demo", "1", direct_url=direct_url)
    assert pack._secret_in(wheel, found, "installed") == ("demo/settings.py, line 1: GitHub Token" if searched else "")


def test_an_edited_script_is_searched(tmp_path: Path) -> None:
    wheel = tmp_path / "demo-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo-1.data/scripts/demo-run", f"#!python\nkey = '{TOKEN}'\n")
        archive.writestr("demo-1.data/data/share/demo.cfg", "")
    found = samples.distribution("demo", "1", modified=("prefix:bin/demo-run", "prefix:share/demo.cfg"))
    assert pack._secret_in(wheel, found, "installed") == "bin/demo-run, line 2: GitHub Token"


@dataclass(frozen=True)
class CondaGround:
    """Packs one text file as all that conda installed."""

    content: bytes
    description: str = "a place of conda"

    def run_guest(self, *_: Any, outputs: Path, **__: Any) -> GuestResult:
        with tarfile.open(outputs / "0.whl", "w") as archive:
            member = tarfile.TarInfo("etc/settings.ini")
            member.size = len(self.content)
            archive.addfile(member, io.BytesIO(self.content))
        digest = hashlib.sha256((outputs / "0.whl").read_bytes()).hexdigest()
        (outputs / "packed.json").write_text(json.dumps([{"sha256": digest, "conda": {"demo": "sha256:0"}}]))
        return GuestResult(returncode=0, outputs=outputs, log="")


@pytest.mark.parametrize(("modified", "kept"), [((), True), (("etc/settings.ini",), False), (("missing: etc/settings.ini",), True)])
def test_a_secret_in_an_edited_file_of_conda_is_not_kept(tmp_path: Path, modified: tuple[str, ...], kept: bool) -> None:
    secret = "ghp" + "_" + "a1B2" * 9
    ground = CondaGround(f"[x]\nkey = {secret}\n".encode())
    packages = [CondaPackage(name="demo", version="1", build="0", modified=modified)]
    answer = pack.pack_conda(ground, packages, "/opt/envsnap/env", BlobStore(tmp_path), SILENT)
    if kept:  # what its channel has is no secret of this host's
        assert isinstance(answer, pack.PackedConda)
    else:
        assert isinstance(answer, str) and "etc/settings.ini, line 2: GitHub Token" in answer and secret not in answer
        assert not any(path.is_file() for path in tmp_path.rglob("*"))


@dataclass(frozen=True)
class PythonGround:
    """Answers for an interpreter."""

    answer: dict[str, Any]
    description: str = "a place with an interpreter"

    def run_guest(self, script: str, *_: Any, outputs: Path, **given: Any) -> GuestResult:
        (wanted,) = json.loads(given["inputs"]["wanted"].read_text())
        assert (script, wanted["kind"], wanted["location"]) == ("pack", "python", "/opt/envsnap/python")
        (outputs / "0.whl").write_bytes(b"a tree")
        (outputs / "packed.json").write_text(json.dumps([self.answer]))
        return GuestResult(returncode=0, outputs=outputs, log="")


def test_an_interpreter_is_kept_with_what_it_needs(tmp_path: Path) -> None:
    blobs, answer = BlobStore(tmp_path), {"sha256": "0", "libc": "2.28", "sonames": ["libc.so.6", "libz.so.1"]}
    kept = pack.pack_python(PythonGround(answer), "/opt/envsnap/python", blobs, SILENT)
    assert isinstance(kept, pack.PackedPython)
    assert (blobs.read(kept.blob), kept.libc, kept.sonames) == (b"a tree", "2.28", ("libc.so.6", "libz.so.1"))


def test_why_an_interpreter_cannot_be_kept_is_told(tmp_path: Path) -> None:
    refused = {"refused": "it is the distribution's own"}
    assert pack.pack_python(PythonGround(refused), "/opt/envsnap/python", BlobStore(tmp_path), SILENT) == refused["refused"]
    assert not list(tmp_path.rglob("*"))
