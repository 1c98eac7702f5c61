"""What an image costs, assembled and made by other tools from the same wheels, in one run: `nox -s bench -- images LOCK --base REF`.

All start alike: wheels on this disk and read just now, one base that has the system's libraries, a registry on loopback that has the
base and nothing else. BuildKit has the wheels, too, before the clock starts. Runs of different tools take turns.

first       build and push, without byte code and with the reading of the distribution's index, whose outcome is kept beside the lock
pyc-cold    build and push, an empty cache but for wheels, packages and the base's inventory
pyc-warm    the same; byte code of the wheels is kept from an earlier image
no-pyc      the same without byte code
changed     one small package changed (--change), after pyc-cold: seconds and bytes
unchanged   nothing changed
floor       CPU time that a cold build cannot avoid: inflate once, SHA-256 of what comes out once and of what goes in twice; on all cores
            at once as a build is, since two that share a core's units take longer than one
proven      the same, and what comes out hashed a second time, file by file: that is what holds it against RECORD
bare        CPU time of no more than writing such blobs and sending them, by the kernel, to the registry; and the registry's own for them
least       proven (isal) and bare at once, neither waiting for the other: no build can have done these in less time on these cores
least-pyc   the same, and every module compiled and marshalled, read from files
size        layers against gzip -6 of the same tars
pip         BuildKit, `RUN pip install --no-index --no-deps`, docker push
uv          BuildKit on the containerd store, `RUN uv pip install`, zstd layers, pushed by BuildKit
buildah     the same pip install by `buildah run`, committed and pushed
imports     seconds of importing --imports in the image of pyc-cold and in that of pip, taking turns

Each says why it is left out where something is missing. Engines: DOCKER_HOST, and ENVSNAP_TEST_ENGINES for one with the containerd store.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import isal
from docker import APIClient
from docker.errors import DockerException
from isal import isal_zlib

from envsnap.cli.cache import cache_directory
from envsnap.layers.reader import inflated
from envsnap.model.lock import EnvLock
from envsnap.oci.documents import Descriptor, Manifest
from envsnap.registry.client import Registry
from envsnap.workflows import places

ROOT = Path(__file__).resolve().parent.parent
OURS = {"first": ("--no-pyc",), "pyc-cold": ("--pyc",), "pyc-warm": ("--pyc",), "no-pyc": ("--no-pyc",)}
NAMES = (*OURS, "changed", "unchanged", "floor", "proven", "bare", "least", "least-pyc", "size", "pip", "uv", "buildah", "imports")
PLACE = "/opt/env"  # of the environment that the other tools make
UNCHANGED_RUNS = 5
IMPORT_RUNS = 25
PIECE = 1 << 18

# Runs envsnap, and writes what the process itself used and what its children did. VmHWM, since ru_maxrss knows of before the exec.
MEASURED = """
import atexit, json, resource, sys
from pathlib import Path
place = Path(sys.argv.pop(1))
def note():
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    cpu, children = own.ru_utime + own.ru_stime, others.ru_utime + others.ru_stime
    place.write_text(json.dumps({"cpu": cpu, "children": children, "rss": int(peak) << 10}))
atexit.register(note)
from envsnap.cli.main import main
main()
"""
# One process, one thread, nothing kept: it takes every so-manieth of the wheels, the largest first.
FLOOR = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bench_images import inflate_and_hash
wheels = sorted(Path(sys.argv[2]).iterdir(), key=lambda wheel: -wheel.stat().st_size)
inflate_and_hash(wheels[int(sys.argv[4])::int(sys.argv[5])], sys.argv[3], proven=sys.argv[6:] == ["proven"])
print(time.process_time())
"""
BARE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bench_images import write_and_send
print(*write_and_send(Path(sys.argv[2]), sys.argv[3], sys.argv[4].split(",")))
"""
COMPILED = """
import marshal, sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
for path in sorted(Path(sys.argv[1]).iterdir())[int(sys.argv[2])::int(sys.argv[3])]:
    try:
        marshal.dumps(compile(path.read_bytes(), path.name, "exec", dont_inherit=True))
    except (SyntaxError, ValueError):  # a template, or a test's
        pass
print(time.process_time())
"""
BARE_CONNECTIONS = 3  # at a time, as many as ours


class Missing(Exception):
    """A measurement that this machine cannot make. Its text says why."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run. Attributes: seconds: of wall time. more: other numbers of it, by name; load: of the machine when it began."""

    seconds: float
    more: Mapping[str, float] = field(default_factory=dict)
    load: float = 0.0


# The registry


class LoopbackRegistry:
    """A docker-registry of our own. Attributes: address: "localhost:PORT", the same after `fresh`."""

    def __init__(self, directory: Path) -> None:
        if shutil.which("docker-registry") is None:
            raise Missing("docker-registry is not installed")
        self._directory = directory
        self._server: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            self.address = f"localhost:{probe.getsockname()[1]}"
        directory.mkdir()
        self._data, self._kept = directory / "data", directory / "kept"
        self._data.mkdir()
        settings = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._data)}, "delete": {"enabled": True}},
            "http": {"addr": self.address, "relativeurls": True},
        }
        (directory / "settings.yml").write_text(json.dumps(settings))  # JSON is YAML
        self._start()

    def keep(self) -> None:
        """What is in it now is what `fresh` leaves in it."""
        shutil.copytree(self._data, self._kept, copy_function=os.link)

    def fresh(self) -> None:
        self.stop()
        shutil.rmtree(self._data)
        shutil.copytree(self._kept, self._data, copy_function=os.link)
        self._start()

    def cpu_seconds(self) -> float:
        """Used so far by the server."""
        assert self._server is not None
        fields = Path(f"/proc/{self._server.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
            self._server = None

    def _start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            self._server = subprocess.Popen(["docker-registry", "serve", self._directory / "settings.yml"], stdout=log, stderr=log)
        for _ in range(200):
            with suppress(OSError), urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5):
                return
            time.sleep(0.05)
        raise Missing(f"docker-registry does not start: {(self._directory / 'log').read_text()[-300:]}")


# What all of them start from


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Attributes:
    wheels: a folder of them, under their names. kept: a cache of wheels, packages and the base's inventory, without layers or byte code.
    base: what all images stand on.
    """

    scratch: Path
    lock_file: Path
    lock: EnvLock
    wheels: Path
    kept: Path
    base: str
    registry: LoopbackRegistry
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        return self.scratch / "project"

    def timed(self, name: str, work: Callable[[], Mapping[str, float]]) -> Sample:
        """One run of `work`, which returns more numbers of it; what earlier runs left to write is written before."""
        subprocess.run(["sync"], check=True)
        for wheel in self.wheels.iterdir():
            with wheel.open("rb") as file:
                while file.read(1 << 20):
                    pass
        load, registry = os.getloadavg()[0], self.registry.cpu_seconds()
        started = time.perf_counter()
        more = work()
        sample = Sample(seconds=time.perf_counter() - started, more={**more, "registry": self.registry.cpu_seconds() - registry}, load=load)
        self.samples.setdefault(name, []).append(sample)
        shown = "  ".join(f"{key} {value:,.2f}" if value < 1e4 else f"{key} {value / 1e6:,.1f} M" for key, value in sample.more.items())
        print(f"  {name:<10} {sample.seconds:8.2f} s   load {load:.1f}   {shown}", flush=True)
        return sample


def run(*words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """What a command prints. Raises RuntimeError: it failed; with its last words."""
    argv = [str(word) for word in words]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, env={**os.environ, **(env or {})})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv[:6])} … failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def envsnap(bench: Bench, cache: Path, *words: str | Path) -> tuple[str, dict[str, float]]:
    """Run the command line in a process of its own. Returns what it prints, and what it used."""
    numbers = bench.scratch / "numbers.json"
    env = {
        # As when it is installed: its modules are compiled once.
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHONDONTWRITE", "PYTHONPYCACHE"))},
        "ENVSNAP_CACHE": str(cache),
        "PYTHONPATH": str(ROOT),
    }
    argv = [sys.executable, "-c", MEASURED, str(numbers), *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=bench.project, env=env)
    if done.returncode != 0:
        raise RuntimeError(f"envsnap {words[0]} failed:\n{done.stderr[-3000:]}")
    return done.stdout, json.loads(numbers.read_bytes())


def build(bench: Bench, cache: Path, lock_file: Path, reference: str, *options: str) -> dict[str, float]:
    """`envsnap build --engine oci --push`, and what it used."""
    words = ("build", lock_file, "--engine", "oci", "--base", bench.base, "--no-source", "-t", reference, "--push", "--json", "-q")
    said, numbers = envsnap(bench, cache, *words, *options)
    return {**numbers, "uploaded": json.loads(said)["uploaded_bytes"]}


def copy_of(cache: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    return Path(shutil.copytree(cache, place, copy_function=os.link))


@contextmanager
def prepared(lock_file: Path, base: str, scratch: Path) -> Iterator[Bench]:
    """Everything in place. Raises Missing: without that nothing can be measured."""
    lock = places.read_lock(lock_file)
    (scratch / "project" / "lockfiles").mkdir(parents=True)
    (blobs := scratch / "kept" / "blobs" / "sha256").mkdir(parents=True)
    (wheels := scratch / "wheels").mkdir()
    for package in lock.packages:
        if package.file is None or package.sha256 is None:
            raise Missing(f"{package.name} is in no index: a lock of wheels that are published is what all tools can install")
        place(lock_file, package.sha256, wheels / package.file)
        place(lock_file, package.sha256, blobs / package.sha256)
    copied = Path(shutil.copy2(lock_file, scratch / "project" / "lockfiles" / lock_file.name))
    registry = LoopbackRegistry(scratch / "registry")
    try:
        source, target = base, f"{registry.address}/bench/base:1"
        copy_image(source, target, lock.python.interpreter.machine)
        bench = Bench(scratch=scratch, lock_file=copied, lock=lock, wheels=wheels, kept=scratch / "kept", base=target, registry=registry)
        add_libraries(bench)
        envsnap(bench, bench.kept, "bases", "inspect", bench.base, "--deep")
        registry.keep()
        yield bench
    finally:
        registry.stop()


def place(lock_file: Path, sha256: str, target: Path) -> None:
    """Have a wheel at `target`, without a copy where that can be."""
    for store in (cache_directory() / "blobs", places.blobs_of(lock_file).root):
        if (found := store / "sha256" / sha256).is_file():
            try:
                os.link(found, target)
            except OSError:
                shutil.copyfile(found, target)
            return
    raise Missing(f"{target.name} is not at hand: envsnap plan {lock_file} --fetch fetches the wheels")


def copy_image(source: str, target: str, machine: str) -> None:
    registry = Registry(os.environ)
    manifest, _ = registry.image(source, machine=machine)

    def read(blob: Descriptor, offset: int) -> Iterator[bytes]:
        for piece in registry.open_blob(source, blob):
            yield piece[offset:]
            offset = max(0, offset - len(piece))

    registry.push(target, manifest, read)


def add_libraries(bench: Bench) -> None:
    """Give the base what the packages load from outside the environment: no tool shall have to. Nothing where there is no engine."""
    said, _ = envsnap(bench, bench.kept, "bases", "inspect", bench.base, "--deep")
    said, _ = envsnap(bench, bench.kept, "plan", bench.lock_file, "--base", bench.base, "--no-source", "--json")
    packages = [name for step in json.loads(said)["steps"] if step["kind"] == "apt-install" for name in apt_packages(step)]
    if packages and os.environ.get("DOCKER_HOST"):
        text = f"FROM {bench.base}\nRUN apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}\n"
        run("docker", "build", "--tag", bench.base, dockerfile(bench, text))
        run("docker", "push", bench.base)
        run("docker", "rmi", "--no-prune", bench.base)


def apt_packages(step: Mapping[str, Any]) -> list[str]:
    return [name if isinstance(name, str) else name["name"] for name in step["packages"]]


def dockerfile(bench: Bench, text: str) -> Path:
    """The build's directory. There is one for all: BuildKit finds what it copied from here before by that name."""
    (folder := bench.scratch / "context").mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(text)
    return folder


# Ours


def cold(bench: Bench, name: str) -> Sample:
    """Build and push, nothing of it known. Its cache stays for what comes after it."""
    bench.registry.fresh()
    cache, compiled = bench.scratch / "cache", bench.scratch / "compiled"
    if name == "pyc-warm" and not compiled.is_dir():
        raise Missing("no byte code was made before: pyc-cold makes it")
    copy_of(compiled if name == "pyc-warm" else bench.kept, cache)
    if name == "first" and not (cache / "debian").is_dir():
        (cache / "debian").mkdir()
    sample = bench.timed(name, partial(build, bench, cache, bench.lock_file, f"{bench.registry.address}/ours:1", *OURS[name]))
    if name == "first":
        keep_packages(cache, bench.kept)
    if name == "pyc-cold" and not compiled.is_dir():
        without_layers(cache, compiled)
    return sample


def keep_packages(cache: Path, kept: Path) -> None:
    """The distribution's packages are at hand for what follows, as the wheels are."""
    shutil.copytree(cache / "debian", kept / "debian", copy_function=os.link, dirs_exist_ok=True)
    for path in (cache / "blobs" / "sha256").iterdir():
        with path.open("rb") as file:
            if file.read(7) == b"!<arch>":
                os.link(path, kept / "blobs" / "sha256" / path.name)


def without_layers(cache: Path, place: Path) -> None:
    """A copy of a cache in which no layer was ever made, and all else is known."""
    copy_of(cache, place)
    shutil.rmtree(place / "layers")
    for path in (place / "blobs" / "sha256").iterdir():
        with path.open("rb") as file:
            is_layer = file.read(2) == b"\x1f\x8b"
        if is_layer:
            path.unlink()


def unchanged(bench: Bench) -> None:
    cache, reference = bench.scratch / "cache", f"{bench.registry.address}/ours:1"
    build(bench, cache, bench.lock_file, reference)
    for _ in range(UNCHANGED_RUNS):
        bench.timed("unchanged", partial(build, bench, cache, bench.lock_file, reference))


def changed(bench: Bench, changes: Sequence[str]) -> None:
    """Each change is one of the lock, on top of whatever image was built last; its wheel is at hand."""
    if not changes:
        raise Missing("--change NAME==VERSION names none")
    cache = bench.scratch / "cache"
    for number, change in enumerate(changes):
        folder = bench.scratch / "changed"
        run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, change)
        (wheel,) = folder.iterdir()
        wheel.rename(cache / "blobs" / "sha256" / hashlib.sha256(wheel.read_bytes()).hexdigest())
        lock_file = bench.project / "lockfiles" / f"changed-{number}.yaml"
        envsnap(bench, cache, "relock", bench.lock_file, change, "-o", lock_file, "--allow-conflict")
        before = manifest_of(f"{bench.registry.address}/ours:{number + 1}")
        reference = f"{bench.registry.address}/ours:{number + 2}"

        def work(lock_file: Path = lock_file, reference: str = reference) -> Mapping[str, float]:
            return build(bench, cache, lock_file, reference)

        sample = bench.timed("changed", work)
        known = {layer.digest for layer in before.layers}
        new = [layer.size for layer in manifest_of(reference).layers if layer.digest not in known]
        group = sum(sorted(new)[-2:])  # the group's wheels and their byte code; the lock's layer is smaller
        bench.samples["changed"][-1] = Sample(
            seconds=sample.seconds, load=sample.load, more={**sample.more, "group": group, "new": sum(new)}
        )
        print(f"             its group has {group:,} bytes, {len(new)} layers of {sum(new):,} bytes are new", flush=True)


def manifest_of(reference: str) -> Manifest:
    manifest = Registry(os.environ).manifest(reference)
    assert isinstance(manifest, Manifest)
    return manifest


# What cannot be less


def inflate_and_hash(wheels: Sequence[Path], engine: str, *, proven: bool = False) -> tuple[int, int]:
    """Read wheels; SHA-256 of the packed bytes twice, inflate once, SHA-256 of what comes out. Returns (packed, unpacked) bytes.

    Args:
        proven: each file that comes out is hashed for itself, too.
    """
    library: Any = isal_zlib if engine == "isal" else zlib
    packed = unpacked = 0
    for wheel in wheels:
        read, written, content = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        with wheel.open("rb") as file:
            for member in zipfile.ZipFile(file).infolist():
                file.seek(member.header_offset)
                lengths = struct.unpack("<HH", file.read(30)[26:])
                file.seek(sum(lengths), os.SEEK_CUR)
                stream, left, itself = library.decompressobj(-15), member.compress_size, hashlib.sha256()
                while left:
                    piece = file.read(min(left, PIECE))
                    left -= len(piece)
                    packed += len(piece)
                    read.update(piece)
                    written.update(piece)
                    while piece:
                        data = stream.decompress(piece, PIECE) if member.compress_type else piece
                        piece = stream.unconsumed_tail if member.compress_type else b""
                        unpacked += len(data)
                        content.update(data)
                        if proven:
                            itself.update(data)
    return packed, unpacked


def shared(script: str, *words: str | Path, after: Sequence[str] = (), program: str = sys.executable) -> float:
    """Run a script that does its share of some work, once for each core; CPU seconds that they print, all together."""
    count = os.cpu_count() or 1

    def share(number: int) -> float:
        return float(run(program, "-c", script, *words, str(number), str(count), *after, env={"PYTHONPATH": str(ROOT)}))

    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(share, range(count)))


def inflating(bench: Bench, engine: str, name: str) -> float:
    return shared(FLOOR, ROOT / "tests", bench.wheels, engine, after=(name,))


def floor(bench: Bench, name: str) -> None:
    for engine in ("isal", "zlib"):

        def work(engine: str = engine) -> Mapping[str, float]:
            return {"cpu": inflating(bench, engine, name)}

        bench.timed(f"{name} {engine}", work)


def write_and_send(store: Path, address: str, hashes: Sequence[str]) -> tuple[float, float]:
    """Write as many bytes as blobs of a store have, and have a registry take these blobs; CPU seconds of the one and of the other."""
    started, piece = time.process_time(), memoryview(b"x" * PIECE)
    with tempfile.TemporaryDirectory(dir=store) as folder:
        for sha256 in hashes:
            size = (store / sha256).stat().st_size
            with Path(folder, sha256).open("wb") as copy:
                for place in range(0, size, PIECE):
                    copy.write(piece[: size - place])
        written = time.process_time() - started
    started = time.process_time()

    def send(sha256: str) -> None:
        connection = HTTPConnection(address)
        connection.request("POST", "/v2/bare/blobs/uploads/", headers={"Content-Length": "0"})
        with connection.getresponse() as answer:
            place = answer.headers["Location"]
            answer.read()
        with (store / sha256).open("rb") as blob:
            connection.putrequest("PUT", f"{place}&digest=sha256:{sha256}")
            connection.putheader("Content-Length", str(os.fstat(blob.fileno()).st_size))
            connection.putheader("Content-Type", "application/octet-stream")
            connection.endheaders()
            connection.sock.sendfile(blob)
            with connection.getresponse() as answer:
                if answer.status != 201:
                    raise RuntimeError(f"the registry answers with {answer.status}")
        connection.close()

    with ThreadPoolExecutor(BARE_CONNECTIONS) as pool:
        list(pool.map(send, hashes))
    return written, time.process_time() - started


def sending(bench: Bench) -> Mapping[str, float]:
    store = bench.kept / "blobs" / "sha256"
    hashes = ",".join(package.sha256 for package in bench.lock.packages if package.sha256 is not None)
    said = run(sys.executable, "-c", BARE, ROOT / "tests", store, bench.registry.address, hashes, env={"PYTHONPATH": str(ROOT)})
    written, sent = map(float, said.split())
    return {"cpu": written + sent, "written": written, "sent": sent}


def bare(bench: Bench) -> None:
    bench.registry.fresh()
    bench.timed("bare", partial(sending, bench))


def least(bench: Bench, name: str) -> None:
    bench.registry.fresh()
    modules = sources(bench) if name == "least-pyc" else None
    minor = f"python{bench.lock.python.version.rpartition('.')[0]}"
    program = shutil.which(minor, path=os.defpath) or sys.executable  # the distribution's own, as the base has it: its builds are faster

    def work() -> Mapping[str, float]:
        with ThreadPoolExecutor() as pool:
            proven, sent = pool.submit(inflating, bench, "isal", "proven"), pool.submit(sending, bench)
            compiled = pool.submit(shared, COMPILED, modules, program=program) if modules is not None else None
            parts = {"proven": proven.result(), "sent": sent.result()["cpu"]}
            return {**parts, "compiled": compiled.result()} if compiled is not None else parts

    bench.timed(name, work)


def sources(bench: Bench) -> Path:
    """A folder of all Python files of the wheels."""
    folder = bench.scratch / "sources"
    if not folder.is_dir():
        folder.mkdir()
        for wheel in bench.wheels.iterdir():
            with zipfile.ZipFile(wheel) as archive:
                for number, member in enumerate(archive.infolist()):
                    if member.filename.endswith(".py"):
                        (folder / f"{wheel.name}-{number}.py").write_bytes(archive.read(member))
    return folder


def size(bench: Bench) -> None:
    """Counts bytes of the layers that the last image of ours put on the base, and of those of wheels alone; no time is taken."""
    manifest, config = Registry(os.environ).image(f"{bench.registry.address}/ours:1", machine=bench.lock.python.interpreter.machine)
    titles = [entry.get("created_by", "") for entry in config.document["history"] if not entry.get("empty_layer")]
    counted = {"all": [0, 0, 0], "wheels": [0, 0, 0]}
    for layer, title in zip(manifest.layers, titles, strict=True):
        if not title.startswith("envsnap: "):
            continue
        compressor = zlib.compressobj(6, zlib.DEFLATED, 31)
        tar = gzipped = 0
        with (bench.scratch / "cache" / "blobs" / "sha256" / layer.digest.removeprefix("sha256:")).open("rb") as file:
            for data in inflated(iter(partial(file.read, 1 << 20), b""), what=layer.digest):
                tar += len(data)
                gzipped += len(compressor.compress(data))
        gzipped += len(compressor.flush())
        for kind, counts in counted.items():
            if kind == "all" or re.match(r"envsnap: \S+ \d", title):
                counts[:] = [one + more for one, more in zip(counts, (layer.size, gzipped, tar), strict=True)]
    for kind, (ours, gzipped, tar) in counted.items():
        more = {"layers": ours, "gzip -6": gzipped, "tar": tar}
        bench.samples.setdefault("size", []).append(Sample(seconds=0.0, more=more))
        print(f"  size of {kind:<7} {ours:,} bytes, gzip -6 of the same tars {gzipped:,}: {ours / max(gzipped, 1):.3f}", flush=True)


# The others


class Engine:
    """A Docker engine that others may use, too: what is left on it is removed by what it is called, and nothing else is."""

    def __init__(self, host: str, bench: Bench) -> None:
        self._client = APIClient(base_url=host, version="auto", timeout=600)
        self._env = {"DOCKER_HOST": host}
        self._bench = bench
        self._mark = f"envsnap-bench-{os.getpid()}"
        self._images: set[str] = set()

    @property
    def has_containerd_store(self) -> bool:
        return "io.containerd.snapshotter.v1" in json.dumps(self._client.info()["DriverStatus"])

    @property
    def version(self) -> str:
        return str(self._client.version()["Version"])

    def docker(self, *words: str | Path) -> str:
        return run("docker", *words, env=self._env)

    def build(self, instruction: str, *options: str | Path, contexts: Mapping[str, Path] | None = None) -> None:
        """Build `RUN instruction` on the base; BuildKit has the wheels from an earlier time, see `have_wheels`."""
        text = f"FROM {self._bench.base}\nRUN --mount=type=bind,from={self._mark},target=/wheels {instruction} && : {self._mark}\n"
        named = [f"--build-context={name}={path}" for name, path in {self._mark: self._bench.wheels, **(contexts or {})}.items()]
        self.docker("buildx", "build", "--no-cache", "--provenance=false", *named, *options, dockerfile(self._bench, text))

    def have_wheels(self) -> None:
        """Have BuildKit copy the wheels, and the base, once: they are local then."""
        self.build("ls /wheels | wc -l")

    def remember(self, reference: str) -> None:
        self._images.add(reference)

    def clean(self) -> None:
        """Remove our images, what BuildKit keeps of our steps, and its copy of the wheels."""
        for reference in self._images:
            with suppress(DockerException):
                self._client.remove_image(reference, force=True)
        self._images.clear()
        with suppress(DockerException):
            for _ in range(4):  # what stands on another goes first
                for record in self._client.df()["BuildCache"] or ():
                    said = record.get("Description") or ""
                    if self._mark in said or self._bench.base in said:
                        one: Any = {"id": record["ID"]}  # a filter that the stubs do not know
                        self._client.prune_builds(filters=one, all=True)


PIP = (
    f"python3 -m venv {PLACE} && "
    f"{PLACE}/bin/pip install --quiet --no-index --no-deps --no-cache-dir --disable-pip-version-check /wheels/*.whl"
)


def by_pip(bench: Bench, engine: Engine) -> None:
    bench.registry.fresh()
    reference = f"{bench.registry.address}/pip:1"
    engine.have_wheels()
    engine.remember(reference)

    def work() -> Mapping[str, float]:
        started = time.perf_counter()
        engine.build(PIP, "--tag", reference, "--load")
        built = time.perf_counter()
        engine.docker("push", "--quiet", reference)
        return {"build": built - started, "push": time.perf_counter() - built}

    bench.timed("pip", work)


def by_uv(bench: Bench, engine: Engine, uv: Path) -> None:
    bench.registry.fresh()
    reference = f"{bench.registry.address}/uv:1"
    engine.have_wheels()
    engine.remember(reference)
    install = f"python3 -m venv --without-pip {PLACE} && /tool/uv pip install --quiet --python {PLACE}/bin/python --no-index --no-deps"
    step = f"--mount=type=bind,from=tool,target=/tool {install} --no-cache /wheels/*.whl"
    output = f"--output=type=image,name={reference},push=true,compression=zstd,oci-mediatypes=true"

    def work() -> Mapping[str, float]:
        engine.build(step, output, contexts={"tool": uv.parent})
        return {}

    bench.timed("uv", work)


def by_buildah(bench: Bench) -> None:
    if shutil.which("buildah") is None:
        raise Missing("buildah is not installed")
    bench.registry.fresh()
    store = bench.scratch / "buildah"
    buildah = ("buildah", "--root", store / "root", "--runroot", store / "run")
    reference = f"{bench.registry.address}/buildah:1"
    try:
        run(*buildah, "pull", "--quiet", "--tls-verify=false", bench.base)

        def work() -> Mapping[str, float]:
            started = time.perf_counter()
            container = run(*buildah, "from", "--quiet", "--tls-verify=false", bench.base).strip()
            run(*buildah, "run", "--isolation", "chroot", "--volume", f"{bench.wheels}:/wheels:ro", container, "--", "sh", "-c", PIP)
            run(*buildah, "commit", "--quiet", container, reference)
            built = time.perf_counter()
            run(*buildah, "push", "--quiet", "--tls-verify=false", reference)
            return {"build": built - started, "push": time.perf_counter() - built}

        bench.timed("buildah", work)
    finally:
        with suppress(RuntimeError):
            run(*buildah, "rm", "--all")
        with suppress(RuntimeError):
            run(*buildah, "rmi", "--all", "--force")
        shutil.rmtree(store, ignore_errors=True)


def imports(bench: Bench, engine: Engine, modules: str) -> None:
    """Import in fresh containers of both images; the first of each does not count."""
    ours = f"{bench.registry.address}/ours:1"
    theirs = f"{bench.registry.address}/pip:1"
    bench.registry.fresh()
    build(bench, bench.scratch / "cache", bench.lock_file, ours)
    engine.remember(ours)
    engine.docker("pull", "--quiet", ours)
    engine.remember(theirs)
    engine.have_wheels()
    engine.build(PIP, "--tag", theirs, "--load")
    program = f"import time; t = time.perf_counter(); import {modules}; print(time.perf_counter() - t)"
    for number in range(IMPORT_RUNS + 1):
        for name, image, python in (("ours", ours, "python"), ("pip", theirs, f"{PLACE}/bin/python")):
            said = engine.docker("run", "--rm", "--network=none", "--env=HOME=/tmp", image, python, "-c", program)
            seconds = float(said.split()[-1])
            if number:
                bench.samples.setdefault(f"imports {name}", []).append(Sample(seconds=seconds, load=os.getloadavg()[0]))
                print(f"  imports    {name:<6} {seconds:6.2f} s   load {os.getloadavg()[0]:.1f}", flush=True)


# All of it


def engines(bench: Bench) -> tuple[Engine | None, Engine | None]:
    """The engine that pip's image is built on, and one with the containerd store."""
    hosts = [host for host in (os.environ.get("DOCKER_HOST", ""), *os.environ.get("ENVSNAP_TEST_ENGINES", "").split()) if host]
    first = second = None
    for host in hosts:
        with suppress(DockerException):
            engine = Engine(host, bench)
            if engine.has_containerd_store:
                second = second or engine
            else:
                first = first or engine
    return first, second


def versions(found: Mapping[str, Engine | None]) -> str:
    said = [f"Python {sys.version.split()[0]}", f"isal {isal.__version__}", f"zlib {zlib.ZLIB_RUNTIME_VERSION}"]
    said += [f"Docker {engine.version} ({name})" for name, engine in found.items() if engine is not None]
    for program, words in (
        ("docker", ("buildx", "version")),
        ("uv", ("--version",)),
        ("buildah", ("--version",)),
        ("docker-registry", ("--version",)),
    ):
        with suppress(RuntimeError, OSError):
            said.append(" ".join(run(program, *words).split()[:3]))
    return ", ".join(said)


def report(bench: Bench) -> None:
    """Medians, and how many times as long the others take."""
    middle = {name: median(one.seconds for one in samples) for name, samples in bench.samples.items() if name != "size"}
    print(f"\n{'':<14}{'median':>10}{'runs':>6}{'pip':>9}{'uv':>9}{'buildah':>9}")
    for name, seconds in middle.items():
        against = [f"{middle[peer] / seconds:8.1f}×" if peer in middle else "" for peer in ("pip", "uv", "buildah")]
        if name in (*OURS, "changed", "unchanged"):
            print(f"{name:<14}{seconds:>8.2f} s{len(bench.samples[name]):>6}{against[0]:>9}{against[1]:>9}{against[2]:>9}")
        else:
            print(f"{name:<14}{seconds:>8.2f} s{len(bench.samples[name]):>6}")
    for name in OURS:
        for engine in ("isal", "zlib"):
            floors = [one.more["cpu"] for one in bench.samples.get(f"floor {engine}", ())]
            if name in bench.samples and floors:
                cpu = median(one.more["cpu"] for one in bench.samples[name])
                print(f"CPU of {name}: {cpu:.1f} s against a floor of {median(floors):.1f} s ({engine}): {cpu / median(floors):.2f}")
    for engine in ("isal", "zlib"):
        if f"proven {engine}" in bench.samples and {"bare", f"floor {engine}"} <= bench.samples.keys():
            floors, proven, sent = (
                [one.more["cpu"] for one in bench.samples[name]] for name in (f"floor {engine}", f"proven {engine}", "bare")
            )
            times = [(one + more) / floor for one, more, floor in zip(proven, sent, floors, strict=False)]
            print(f"CPU of the parts, one after the other ({engine}): {median(times):.2f} of the floor, {min(times):.2f}-{max(times):.2f}")
    for name, of in (("least", "no-pyc"), ("least-pyc", "pyc-cold")):
        if name in middle:
            goals = [f"{peer} takes {middle[peer] / middle[name]:.1f} times as long" for peer in ("pip", "uv") if peer in middle]
            print(f"the parts of {of} that no build can do without take {middle[name]:.1f} s: {', '.join(goals)}")
    everything = {name: [{"seconds": one.seconds, "load": one.load, **one.more} for one in them] for name, them in bench.samples.items()}
    print(json.dumps(everything))
    for name, why in bench.skipped.items():
        print(f"left out: {name}: {why}")


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="nox -s bench -- images", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lock", type=Path)
    parser.add_argument("--base", required=True, help="an image in a registry on loopback, with the lock's Python")
    parser.add_argument("--only", default=",".join(NAMES), help="names, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", default="", help="names of those that are run in the first round alone")
    parser.add_argument("--change", action="append", default=[], metavar="NAME==VERSION", help="may be given more than once: one run each")
    parser.add_argument("--imports", default="torch, ultralytics, wandb")
    parser.add_argument("--scratch", type=Path, help="where three times the image fit [default: the place for temporary files]")
    asked = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # what was made is removed all the same
    only, once = asked.only.split(","), asked.once.split(",")
    if unknown := set(only) - set(NAMES):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    try:
        measure(asked, only, once)
    except Missing as missing:
        sys.exit(f"nothing can be measured: {missing}")


def measure(asked: argparse.Namespace, only: Sequence[str], once: Sequence[str]) -> None:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="envsnap-bench-", dir=asked.scratch)))
        bench = stack.enter_context(prepared(asked.lock, asked.base, scratch))
        overlay, containerd = engines(bench)
        print(f"{os.cpu_count()} cores, {versions({'overlay2': overlay, 'containerd store': containerd})}")
        wheels = sum(wheel.stat().st_size for wheel in bench.wheels.iterdir())
        print(f"{len(bench.lock.packages)} packages, {wheels:,} bytes of wheels", flush=True)
        for engine in (overlay, containerd):
            if engine is not None:
                stack.callback(engine.clean)

        def attempt(name: str, work: Callable[[], object]) -> None:
            if name in only and name not in bench.skipped:
                try:
                    work()
                except Missing as missing:
                    bench.skipped[name] = str(missing)
                except RuntimeError as failed:
                    bench.skipped[name] = str(failed)
                    print(failed, flush=True)

        for number in range(asked.rounds):
            print(f"round {number + 1}", flush=True)
            chosen = [name for name in NAMES if number == 0 or name not in (*once, "first")]
            for name in OURS:
                if name in chosen:
                    attempt(name, partial(cold, bench, name))
            shutil.rmtree(bench.scratch / "cache", ignore_errors=True)  # the others need room
            for name, engine, work in (
                ("pip", overlay, lambda engine: by_pip(bench, engine)),
                ("uv", containerd, lambda engine: by_uv(bench, engine, the_uv())),
            ):
                if name in chosen and engine is not None:
                    attempt(name, partial(work, engine))
                    engine.clean()  # its wheels, too: the next one needs the room
                elif name in only and engine is None:
                    bench.skipped[name] = "no engine: DOCKER_HOST, and for the containerd store ENVSNAP_TEST_ENGINES"
            if "buildah" in chosen:
                attempt("buildah", partial(by_buildah, bench))
            for name in ("floor", "proven"):
                if name in chosen:
                    attempt(name, partial(floor, bench, name))
            if "bare" in chosen:
                attempt("bare", partial(bare, bench))
            for name in ("least", "least-pyc"):
                if name in chosen:
                    attempt(name, partial(least, bench, name))
        if {"changed", "unchanged", "size", "imports"} & set(only):
            bench.registry.fresh()
            cache = copy_of(bench.kept, bench.scratch / "cache")
            build(bench, cache, bench.lock_file, f"{bench.registry.address}/ours:1")
            attempt("unchanged", partial(unchanged, bench))
            attempt("changed", partial(changed, bench, asked.change))
            attempt("size", partial(size, bench))
            if overlay is not None:
                attempt("imports", partial(imports, bench, overlay, asked.imports))
        report(bench)


def the_uv() -> Path:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise Missing("uv is not installed (pip install uv)")
    return Path(found).resolve()


if __name__ == "__main__":
    main(sys.argv[1:])
