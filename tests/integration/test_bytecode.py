"""Byte code by a real base's own interpreter: the same as by any other of its version, and used in the image."""

from __future__ import annotations

import ensurepip
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.bytecode import Command, Compiler, Interpreter, find_interpreter, on_this_host, sources_of
from envsnap.engines.container import follow, new_container
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import BuildInputs
from envsnap.inventory import interpreter
from envsnap.layers.wheel import write_wheel
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import BaseInventory
from envsnap.model.layers import Layout, PlannedWheel
from envsnap.oci.image import BaseImage
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.workflows import inventories

pytestmark = pytest.mark.engine
MACHINE = os.uname().machine
PLATFORM = "linux/amd64" if MACHINE == "x86_64" else "linux/arm64"
LAYOUT = Layout(python="3.11")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def base(debian_base: str, cache: Path) -> BaseInventory:
    registry = Registry(os.environ)
    manifest, config = registry.image(debian_base, machine=MACHINE)
    try:
        image = BaseImage(config=config, manifest=manifest, reference=debian_base)
        return inventories.of_registry(image, registry=registry, cache=cache, progress=SILENT)
    finally:
        registry.close()


@pytest.fixture(scope="module")
def own(base: BaseInventory, cache: Path) -> Command:
    """The base's interpreter, on this host."""
    assert base.interpreter is not None
    made = interpreter.unpack(BlobStore(cache / "blobs"), base.interpreter, cache / "interpreter")
    return Command(argv=made.argv, env=made.env)


def pip_wheel() -> tuple[PlannedWheel, Path]:
    (path,) = Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return PlannedWheel(name="pip", version="1", file=path.name, sha256=sha256, size_bytes=len(data), source_bytes=1), path


def written(place: Path, write: Callable[[LayerWriter], object]) -> str:
    """The digest of a layer."""
    with place.open("wb") as file:
        writer = LayerWriter(file.write)
        write(writer)
        writer.finish()
    return hashlib.sha256(place.read_bytes()).hexdigest()


def made_by(candidates: Iterable[Command], version: str, place: Path, workers: int) -> str:
    found = find_interpreter(version, candidates)
    if not isinstance(found, Interpreter):
        pytest.skip(found.reason)
    wheel, path = pip_wheel()
    with Compiler(version, lambda: found, place.parent / f"cache-{place.name}", workers=workers) as compiler:
        return written(place, lambda writer: compiler.write_layer([sources_of(wheel, path, LAYOUT)], LAYOUT, writer))


def test_the_bases_own_interpreter_and_the_hosts_write_the_same(base: BaseInventory, own: Command, tmp_path: Path) -> None:
    assert base.python is not None
    theirs = made_by([own], base.python, tmp_path / "a", 2)
    assert made_by(on_this_host(base.python, os.environ), base.python, tmp_path / "b", 1) == theirs


def test_python_in_the_image_uses_it(engine: DockerEngine, debian_base: str, base: BaseInventory, own: Command, tmp_path: Path) -> None:
    assert base.python is not None
    context = tmp_path / "context"
    context.mkdir()
    made_by([own], base.python, context / "pyc.tar.gz", 2)
    wheel, path = pip_wheel()
    with path.open("rb") as file:
        written(context / "wheel.tar.gz", lambda writer: write_wheel(file, writer, LAYOUT, file=wheel.file, sha256=wheel.sha256))
    (context / "Dockerfile").write_text(f"FROM {debian_base}\nADD wheel.tar.gz /\nADD pyc.tar.gz /\n")
    name = f"envsnap-test/bytecode:{os.getpid()}"
    engine.build(context, BuildInputs(tags=[name], secrets={}, platform=PLATFORM), SILENT)
    try:
        command = f"PYTHONPATH=/{LAYOUT.site} python3 -B -v -c 'import pip._internal.cli.main_parser' 2>&1 | grep /{LAYOUT.site}/pip/"
        with new_container(engine._client, name, [command], entrypoint=["sh", "-c"]) as container:
            said = follow(engine._client, container)[0]
    finally:
        engine._client.remove_image(name, force=True)
    assert len(re.findall(r"^# code object from '/.*\.pyc'$", said, re.MULTILINE)) > 20
    assert not re.findall(r"^# code object from /.*\.py$", said, re.MULTILINE)  # compiled there
