"""Debian's own archive: a base and a layer of real packages, held against what dpkg makes of the same files.

The mirror is the host's own (its apt configuration); without one of Debian 12 these tests are skipped.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.debian import base, layer, system
from envsnap.debian.archive import Archive, Settings
from envsnap.debian.base import MinimalBase
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import BuildInputs
from envsnap.errors import EnvsnapError
from envsnap.inventory.read import LayerSource, read_inventory
from envsnap.layers.reader import inflated
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import BaseInventory, ImageConfig
from envsnap.model.debian import SystemPlan
from envsnap.progress import SILENT

pytestmark = pytest.mark.engine
ARCH = "amd64" if os.uname().machine == "x86_64" else "arm64"
# What OpenCV, matplotlib and their like need of a system.
WANTED = ("libgl1", "libglib2.0-0", "libsm6", "libxext6", "libfribidi0", "libpcre2-8-0", "libice6", "libstdc++6", "libx11-6", "libxcb1")
SMALL = (
    "libglib2.0-0",
    "libsm6",
    "libxext6",
    "libsensors5",
    "libreadline8",
    "libnuma1",
)  # links, conffiles, scripts, triggers; not all of LLVM
LIBRARIES = ("libGL.so.1", "libgthread-2.0.so.0", "libSM.so.6", "libXext.so.6", "libfribidi.so.0", "libstdc++.so.6")
LOADS = "; ".join(f"ctypes.CDLL('{name}')" for name in LIBRARIES)
SAME_CACHE = "ldconfig -p >/tmp/a && ldconfig && ldconfig -p | grep -v 'Cache generated' >/tmp/b && diff /tmp/a /tmp/b"
PYTHON = """
import bz2, ctypes.util, curses, hashlib, lzma, multiprocessing, os, pwd, readline, sqlite3, ssl, sys, uuid, venv, zoneinfo
assert len(ssl.create_default_context().get_ca_certs()) > 100 and zoneinfo.ZoneInfo("Europe/Berlin")
assert ctypes.util.find_library("c") == "libc.so.6" and pwd.getpwuid(65534).pw_name == "nobody"
assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
print(sys.executable, sys.version.split()[0])
"""


@dataclass(frozen=True)
class Real:
    """Attributes: name: of the base in the engine."""

    archive: Archive
    blobs: BlobStore
    plan: SystemPlan
    base: MinimalBase
    name: str
    inventory: BaseInventory


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    cache = tmp_path_factory.mktemp("debian-archive")
    archive = Archive("debian:bookworm", ARCH, cache, Settings())
    try:
        archive.index()
    except EnvsnapError as error:
        pytest.skip(f"{error.what}: {error.why}")
    return archive


@pytest.fixture(scope="session")
def real(engine: DockerEngine, archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    blobs = archive.store
    plan = base.resolve_now(archive)
    archive.fetch(plan.packages)
    made = base.build(plan, archive.open, blobs)
    name = f"envsnap-test/minimal:{os.getpid()}"
    place = tmp_path_factory.mktemp("minimal") / "image.tar"
    diff_id = made.layer.diff_id.removeprefix("sha256:")
    with tarfile.open(place, "w") as out:
        add(out, "config.json", made.image.config.raw)
        add(out, f"{diff_id}.tar", b"".join(uncompressed(blobs, made.layer.digest)))
        add(out, "manifest.json", json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": [f"{diff_id}.tar"]}]).encode())
    subprocess.run(["docker", "load", "-q", "-i", place], check=True, capture_output=True)
    place.unlink()
    inventory = read(blobs, made.layer.digest, made.layer.diff_id, tmp_path_factory.mktemp("scratch"))
    yield Real(archive=archive, blobs=blobs, plan=plan, base=made, name=name, inventory=inventory)
    engine._client.remove_image(name, force=True)


def add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    out.addfile(info, io.BytesIO(data))


def uncompressed(blobs: BlobStore, digest: str) -> Iterator[bytes]:
    with blobs.path(digest).open("rb") as file:
        yield from inflated(iter(lambda: file.read(1 << 20), b""), what=digest)


def read(blobs: BlobStore, digest: str, diff_id: str | None, scratch: Path) -> BaseInventory:
    source = LayerSource(name=digest, diff_id=diff_id, open=lambda: uncompressed(blobs, digest))
    config = ImageConfig(architecture=ARCH, env={"PATH": base.PATH})
    return read_inventory("test", [source], config, blobs=blobs, scratch=scratch, progress=SILENT)


def run(image: str, *command: str) -> str:
    done = subprocess.run(["docker", "run", "--rm", image, *command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_the_base_is_debian_and_runs_python(real: Real) -> None:
    assert run(real.name, "python3", "-c", PYTHON).split() == ["/usr/bin/python3", "3.11.2"]
    assert run(real.name, "sh", "-c", "dpkg --audit && dpkg -V && awk 'BEGIN{print 1}' && perl -e 'print 2'") == "1\n2"
    listed = run(real.name, "dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n")
    assert listed.splitlines() == [f"{file.name} {file.version} installed" for file in real.plan.packages]
    assert run(real.name, "sh", "-c", "id -un && su nobody -s /bin/sh -c 'id -un' && echo $PATH").split() == [
        "root",
        "nobody",
        base.PATH,
    ]
    assert run(real.name, "sh", "-c", SAME_CACHE) == ""


def test_its_inventory_is_what_it_is_made_of(real: Real) -> None:
    known = real.inventory
    assert (known.distribution, known.python, known.python_path, known.libc) == ("debian 12", "3.11.2", "/usr/bin/python3", "glibc 2.36")
    assert [(one.name, one.version) for one in known.system_packages] == [(one.name, one.version) for one in real.plan.packages]
    assert known.links["lib"] == "usr/lib" and known.interpreter is not None


def test_it_is_the_same_from_the_cache_alone(real: Real) -> None:
    offline = Archive("debian 12", ARCH, real.blobs.root.parent, Settings(offline=True))
    assert base.resolve_now(offline) == real.plan
    assert base.build(real.plan, offline.open, real.blobs) == real.base


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="no bubblewrap")
def test_it_runs_without_an_engine(real: Real, tmp_path: Path) -> None:
    subprocess.run(["tar", "-x", "-C", tmp_path], input=b"".join(uncompressed(real.blobs, real.base.layer.digest)), check=True)
    inside = ["bwrap", "--bind", str(tmp_path), "/", "--dev", "/dev", "--proc", "/proc", "--clearenv", "--setenv", "PATH", base.PATH]
    done = subprocess.run([*inside, "python3", "-c", PYTHON], capture_output=True, text=True)
    if "bwrap: " in done.stderr:
        pytest.skip(done.stderr)
    assert (done.stdout.split(), done.stderr) == (["/usr/bin/python3", "3.11.2"], "")


def on_top(real: Real, inventory: BaseInventory, plan: SystemPlan) -> str:
    with real.blobs.writer(durable=False) as blob:
        writer = LayerWriter(blob.write)
        layer.write(plan.packages, real.archive.open, inventory, real.blobs, writer, arch=ARCH)
        writer.finish()
    return blob.digest


def built(engine: DockerEngine, context: Path, dockerfile: str, name: str) -> str:
    (context / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    platform = f"linux/{ARCH}"
    engine.build(context, BuildInputs(tags=[name], secrets={}, platform=platform), SILENT)
    return name


def wanted(real: Real, inventory: BaseInventory, names: tuple[str, ...] = WANTED) -> SystemPlan:
    assert inventory.dpkg_status is not None
    plan = system.plan(real.archive, names, (), real.blobs.read(inventory.dpkg_status))
    assert plan.needs_shell == ()
    return plan


def test_packages_on_top_of_it(engine: DockerEngine, real: Real, tmp_path: Path) -> None:
    digest = on_top(real, real.inventory, wanted(real, real.inventory))
    (tmp_path / "layer.tar").write_bytes(b"".join(uncompressed(real.blobs, digest)))
    name = built(engine, tmp_path, f"FROM {real.name}\nADD layer.tar /\n", f"envsnap-test/minimal-top:{os.getpid()}")
    try:
        assert run(name, "python3", "-c", f"import ctypes; {LOADS}") == ""
        assert run(name, "sh", "-c", f"dpkg --audit && dpkg -V && {SAME_CACHE}") == ""
        assert run(name, "python3", "-c", "import ctypes.util; print(ctypes.util.find_library('GL'))") == "libGL.so.1"
    finally:
        engine._client.remove_image(name, force=True)


# What an update of the clock, a log or a container makes of files, and what only an init reads.
NOT_COMPARED = (
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/ld.so.cache",
    "etc/rcS.d",
    "tmp",
    "var/cache/ldconfig",
    "var/log",
    "var/lib/dpkg/triggers",
)
SKIPPED = "'(' -path ./proc -o -path ./sys -o -path ./dev ')' -prune"
LISTING = (
    f"cd / && find . -xdev {SKIPPED} -o -printf '%P|%y|%m|%U|%G|%l\\n' | LC_ALL=C sort;"
    f"find . -xdev {SKIPPED} -o -type f ! -name '*-old' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum"
)


def test_a_layer_is_what_dpkg_would_have_made(engine: DockerEngine, debian_base: str, real: Real, tmp_path: Path) -> None:
    saved = tmp_path / "base.tar"
    subprocess.run(["docker", "pull", "-q", debian_base], check=True, capture_output=True)
    container = subprocess.run(["docker", "create", debian_base], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["docker", "export", "-o", saved, container], check=True)
    subprocess.run(["docker", "rm", container], check=True, capture_output=True)
    inventory = read(real.blobs, real.blobs.take(saved), None, tmp_path)
    plan = wanted(real, inventory, SMALL)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    (theirs / "debs").mkdir(parents=True)
    ours.mkdir()
    (ours / "layer.tar").write_bytes(b"".join(uncompressed(real.blobs, on_top(real, inventory, plan))))
    for file in plan.packages:
        os.link(real.blobs.path(file.digest), theirs / "debs" / f"{file.name}.deb")
    names = [
        built(engine, ours, f"FROM {debian_base}\nADD layer.tar /\n", f"envsnap-test/ours:{os.getpid()}"),
        built(
            engine,
            theirs,
            f"FROM {debian_base}\nCOPY debs /debs\nRUN dpkg -i /debs/*.deb && rm -r /debs\n",
            f"envsnap-test/theirs:{os.getpid()}",
        ),
    ]
    try:
        trees = [run(name, "sh", "-c", LISTING).splitlines() for name in names]
        left, right = ({line for line in tree if not line.split("  ./")[-1].startswith(NOT_COMPARED)} for tree in trees)
        assert left ^ right == set() and len(left) > 10_000
        assert run(names[0], "sh", "-c", "dpkg --audit && apt-get -qq check") == ""
    finally:
        for name in names:
            engine._client.remove_image(name, force=True)
