"""What is in a real base: from its registry's layers, from an engine's files, and as programs inside it say."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.engines.container import follow, new_container
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import BuildInputs
from envsnap.inventory import interpreter
from envsnap.inventory.remembered import blobs_of, export, load, recall
from envsnap.model.base import BaseInventory
from envsnap.oci.image import BaseImage
from envsnap.probes.interpreter import collect
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.workflows import inventories

pytestmark = pytest.mark.engine
MACHINE = os.uname().machine
PLATFORM = "linux/amd64" if MACHINE == "x86_64" else "linux/arm64"
# Layers that take away, replace and go through links; a virtual environment on PATH, with packages.
DOCKERFILE = """FROM {base}
RUN python3 -m venv --system-site-packages /opt/venv
ENV PATH=/opt/venv/bin:/usr/bin:/bin
RUN mkdir -p /srv/data/a /opt/old/sub && chmod 2770 /srv/data && chown 33:34 /srv/data && ln -s srv/data /data && chmod 700 /opt/old/sub
RUN rm -rf /usr/share/zoneinfo /opt/old && mkdir -p /opt/old && chmod 711 /opt/old && touch /opt/old/new
RUN rm -r /var/mail && ln -s /tmp /var/mail
RUN rm -r /opt/venv/lib/python3.11/site-packages/setuptools-*.dist-info && ln /usr/bin/python3.11 /opt/same && echo 1 >/data/a/x
"""


@pytest.fixture(scope="session")
def layered(engine: DockerEngine, debian_base: str, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of several layers, in the engine and in the registry."""
    context = tmp_path_factory.mktemp("layered")
    (context / "Dockerfile").write_text(DOCKERFILE.format(base=debian_base), encoding="utf-8")
    name = f"{registry}/envsnap-test/inventory:{os.getpid()}"
    engine.build(context, BuildInputs(tags=[name], secrets={}, platform=PLATFORM), SILENT)
    engine.push(name, SILENT)
    yield name
    engine._client.remove_image(name, force=True)


def from_registry(reference: str, cache: Path) -> BaseInventory:
    registry = Registry(os.environ)
    manifest, config = registry.image(reference, machine=MACHINE)
    try:
        image = BaseImage(config=config, manifest=manifest, reference=reference)
        return inventories.of_registry(image, registry=registry, cache=cache, progress=SILENT)
    finally:
        registry.close()


@pytest.fixture(scope="session")
def debian(debian_base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseInventory, Path]:
    """What the registry's layers of Debian hold, and the cache that keeps it."""
    cache = tmp_path_factory.mktemp("debian")
    return from_registry(debian_base, cache), cache


def said(engine: DockerEngine, reference: str, command: str) -> str:
    with new_container(engine._client, reference, [command], entrypoint=["sh", "-c"]) as container:
        return follow(engine._client, container)[0]


ASK = "import json, sys; print(json.dumps([list(sys.version_info), sys.implementation.cache_tag]))"


def test_registry_engine_and_the_programs_inside_agree(
    engine: DockerEngine, debian_base: str, debian: tuple[BaseInventory, Path], tmp_path: Path
) -> None:
    engine.pull(debian_base, SILENT)
    read, _ = debian
    assert read.complete
    assert inventories.of_engine(debian_base, engine=engine, cache=tmp_path / "engine", progress=SILENT) == read
    seen = engine.inventory(debian_base)
    assert (read.distribution, read.python, read.python_path, read.libc) == (seen.distribution, seen.python, seen.python_path, seen.libc)
    assert read.sonames == seen.sonames  # `ldconfig -p` of the image itself
    installed = said(engine, debian_base, "dpkg-query -W -f '${db:Status-Status} ${Package} ${Version} ${Architecture}\\n'")
    expected = sorted(line.removeprefix("installed ") for line in installed.splitlines() if line.startswith("installed "))
    assert sorted(f"{one.name} {one.version} {one.arch}" for one in read.system_packages) == expected
    odd = said(engine, debian_base, "find / -xdev -type d ! '(' -perm 0755 -user 0 -group 0 ')' -printf '%P %m %U %G\\n'")
    runtime = ("dev", "proc", "sys")
    told = {tuple(line.split()) for line in odd.splitlines() if line.split("/")[0].split()[0] not in runtime}
    assert {(path, f"{one.mode:o}", str(one.uid), str(one.gid)) for path, one in read.directories.items()} == told


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can read."""
    with tempfile.TemporaryDirectory(prefix="envsnap-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_the_interpreter_runs_here_as_anybody(
    engine: DockerEngine, debian_base: str, debian: tuple[BaseInventory, Path], place: Path
) -> None:
    read, cache = debian
    assert read.interpreter is not None
    made = interpreter.unpack(BlobStore(cache / "blobs"), read.interpreter, place / "interpreter")
    asked = [*made.argv, "-I", "-S", "-B", "-c", ASK + "; import zlib, ssl, sqlite3, ctypes, lzma, compileall"]
    anybody = {"user": 65534, "group": 65534, "extra_groups": ()} if os.getuid() == 0 else {}
    done = subprocess.run(asked, env=dict(made.env), capture_output=True, text=True, **anybody)  # type: ignore[call-overload]
    assert (done.returncode, done.stderr) == (0, "")
    there = json.loads(said(engine, debian_base, f"python3 -I -c '{ASK}'"))
    assert json.loads(done.stdout) == there
    assert made.version == read.python == ".".join(map(str, there[0][:3]))
    traced = [*made.argv, "-I", "-S", "-B", "-c", "import ssl, sqlite3, ctypes; print(open('/proc/self/maps').read())"]
    maps = subprocess.run(traced, env=dict(made.env), capture_output=True, text=True, check=True).stdout
    mapped = {line.split()[5] for line in maps.splitlines() if len(line.split()) > 5 and line.split()[5].startswith("/")}
    assert {path for path in mapped if not path.startswith(str(place))} == set()


def test_layers_that_take_away_and_a_virtual_environment(engine: DockerEngine, layered: str, tmp_path: Path) -> None:
    read = from_registry(layered, tmp_path / "registry")
    assert inventories.of_engine(layered, engine=engine, cache=tmp_path / "engine", progress=SILENT) == read
    assert read.python_path == "/opt/venv/bin/python3"
    assert (read.directories["srv/data"].mode, read.directories["srv/data"].uid, read.directories["srv/data"].gid) == (0o2770, 33, 34)
    assert (read.directories["opt/old"].mode, "opt/old/sub" in read.directories) == (0o711, False)
    assert (read.links["data"], read.links["var/mail"]) == ("srv/data", "tmp")
    facts = collect(engine.target(layered), framework=False, imports=False, integrity=False, progress=SILENT)
    assert {(one.name, one.version, one.files) for one in read.packages} == {
        (one.name, one.version, one.files) for one in facts.distributions
    }
    assert "pip" in {one.name for one in read.packages if one.files is not None}
    assert "setuptools" not in {one.name for one in read.packages}
    assert facts.interpreter.version == read.python


def test_what_was_read_travels(debian_base: str, debian: tuple[BaseInventory, Path], tmp_path: Path) -> None:
    read, cache = debian
    registry = Registry(os.environ)
    config = registry.resolve(debian_base, machine=MACHINE).config_digest
    registry.close()
    known = recall(config, cache)
    assert known is not None
    export(known, cache, tmp_path / "debian.inventory")
    assert load(tmp_path / "debian.inventory", tmp_path / "there").inventory == read
    assert inventories.recall(config, tmp_path / "there") == read
    assert all(BlobStore(tmp_path / "there/blobs").read(digest) for digest in blobs_of(read))
