"""The Docker engine for real: it builds, fails, is interrupted, runs guest scripts, pushes and pulls."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from docker.errors import DockerException

from envsnap import archive, target
from envsnap.engines import container
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import BuildInputs, Pushed
from envsnap.errors import EngineError, TargetError, UsageError
from envsnap.oci.reference import require_tag
from envsnap.progress import SILENT
from envsnap.registry.client import Registry

pytestmark = [pytest.mark.engine, pytest.mark.alone]
PLATFORM = "linux/amd64" if os.uname().machine == "x86_64" else "linux/arm64"
Build = Callable[..., str]


def containers(engine: DockerEngine) -> set[str]:
    """Guest containers in any state."""
    return {entry["Id"] for entry in engine._client.containers(all=True, filters={"label": container.LABEL})}


def images(engine: DockerEngine) -> set[str]:
    return {entry["Id"] for entry in engine._client.images()}


def holds(engine: DockerEngine, image_id: str, wanted: bytes) -> bool:
    """Whether any file of any layer, or the config, has these bytes; a containerd store saves its layers compressed."""
    with tarfile.open(mode="r|", fileobj=archive.as_file(engine._client.get_image(image_id))) as members:
        for member in members:
            content = members.extractfile(member)
            data = content.read() if content is not None else b""
            if wanted in (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data):
                return True
    return False


def context_of(directory: Path, dockerfile: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    return directory


@pytest.fixture
def names(engine: DockerEngine, registry: str, request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """Names for a test's images; what has one of them is removed afterwards."""
    given: list[str] = []

    def name(word: str) -> str:
        given.append(f"{registry}/envsnap-test/{word}:{os.getpid()}")
        return given[-1]

    yield name
    for reference in given:
        with suppress(DockerException):
            engine._client.remove_image(reference, force=True)


@pytest.fixture(scope="session")
def python_image(engine: DockerEngine, debian_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small image with `python` on PATH and an entrypoint that sets a variable."""
    dockerfile = f"""FROM {debian_base}
RUN ln -s python3 /usr/bin/python
RUN printf '#!/bin/sh\\nexport FROM_ENTRYPOINT=yes\\necho a banner\\nexec "$@"\\n' > /entry && chmod 755 /entry
ENTRYPOINT ["/entry"]
"""
    name = f"envsnap-test/python:{os.getpid()}"
    engine.build(context_of(tmp_path_factory.mktemp("python"), dockerfile), BuildInputs(tags=[name], secrets={}, platform=PLATFORM), SILENT)
    yield name
    engine._client.remove_image(name, force=True)


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a program in the place of the guest scripts."""
    directory = tmp_path / "guest"
    directory.mkdir()
    monkeypatch.setattr(target, "GUEST_DIRECTORY", directory)

    def put(code: str) -> None:
        (directory / "__main__.py").write_text(code, encoding="utf-8")

    return put


def test_the_engine_says_what_it_can(engine: DockerEngine) -> None:
    found = {ability.name: ability.state for ability in engine.abilities()}
    assert next(iter(found)) == "engine"
    assert (found["engine"], found["BuildKit"]) == ("ok", "ok")


def test_looking_up_pulling_and_looking_inside(engine: DockerEngine, debian_base: str) -> None:
    pulled = engine.pull(debian_base, SILENT)
    assert engine.image(debian_base) == pulled
    assert engine.image("envsnap-test/never-built:1") is None
    resolved = Registry(os.environ).resolve(debian_base, machine=os.uname().machine)
    assert f"{debian_base.rpartition(':')[0]}@{resolved.digest}" in pulled.repo_digests
    assert resolved.config_digest == pulled.config_digest
    assert dict(resolved.config.env) == dict(pulled.config.env)
    before = containers(engine)
    inventory = engine.inventory(debian_base)
    assert inventory.distribution == "debian 12"
    assert inventory.python_path == "/usr/bin/python3"
    assert (inventory.python or "").startswith("3.11.")
    assert inventory.libc == "glibc 2.36"
    assert {"libc.so.6", "libz.so.1"} <= inventory.sonames
    assert "libGL.so.1" not in inventory.sonames
    assert containers(engine) == before


@pytest.mark.parametrize(("path", "why"), [("envsnap-test/never-pushed:1", "not found"), ("../x:1", "invalid reference format")])
def test_what_cannot_be_pulled(engine: DockerEngine, registry: str, path: str, why: str) -> None:
    with pytest.raises(EngineError) as caught:
        engine.pull(f"{registry}/{path}", SILENT)
    assert why in caught.value.why


def test_a_registry_that_is_not_there(engine: DockerEngine) -> None:
    with pytest.raises(EngineError) as caught:
        engine.pull("localhost:1/x:1", SILENT)
    assert "network" in caught.value.hint


def test_a_build_gets_its_names_and_keeps_no_secret(
    engine: DockerEngine, debian_base: str, tmp_path: Path, names: Callable[[str], str]
) -> None:
    secret = tmp_path / "pip.conf"
    secret.write_text("planted-" + os.urandom(16).hex(), encoding="utf-8")
    context = context_of(tmp_path / "c", f"FROM {debian_base}\nRUN --mount=type=secret,id=pip cp /run/secrets/pip /dev/null\nENV A=b\n")
    tags = [names("one"), names("two")]
    image = engine.build(context, BuildInputs(tags=tags, secrets={"pip": secret}, platform=PLATFORM), SILENT)
    assert sorted(image.tags) == sorted(tags)
    assert image.config.env["A"] == "b"
    assert image == engine.image(tags[1])
    planted = secret.read_bytes()
    assert not holds(engine, image.image_id, planted)
    assert planted.decode() not in json.dumps(engine._client.history(image.image_id))  # type: ignore[no-untyped-call]


def test_the_search_for_a_secret_would_find_one(
    engine: DockerEngine, debian_base: str, tmp_path: Path, names: Callable[[str], str]
) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "leak").write_bytes(b"planted-0123456789abcdef")
    context = context_of(tmp_path / "c", f"FROM {debian_base}\nCOPY leak /\n")
    image = engine.build(context, BuildInputs(tags=[names("leak")], secrets={}, platform=PLATFORM), SILENT)
    assert holds(engine, image.image_id, b"planted-0123456789abcdef")


def test_a_failing_step_is_named_with_its_own_words_and_leaves_nothing(
    engine: DockerEngine, debian_base: str, tmp_path: Path, names: Callable[[str], str]
) -> None:
    before, tag = images(engine), names("failing")
    token = "ghp_" + "a" * 36
    context = context_of(tmp_path / "c", f"FROM {debian_base}\nRUN true\nRUN echo the reason {token}; exit 3\n")
    with pytest.raises(EngineError) as caught:
        engine.build(context, BuildInputs(tags=[tag], secrets={}, platform=PLATFORM), SILENT)
    error = caught.value
    assert error.what.startswith("the build failed at step RUN echo the reason")
    assert error.why.startswith("the reason")
    assert "exit code: 3" in error.log
    assert "#5" in error.log
    assert token not in repr(vars(error))
    assert engine.image(tag) is None
    assert images(engine) == before


@pytest.mark.parametrize(
    ("dockerfile", "why"),
    [("FROM {registry}/envsnap-test/none:1\n", "not found"), ("FROM {base}\nRUUN true\n", "unknown instruction"), ("", "empty")],
)
def test_a_build_that_cannot_begin(
    engine: DockerEngine, registry: str, debian_base: str, tmp_path: Path, dockerfile: str, why: str
) -> None:
    context = context_of(tmp_path / "c", dockerfile.format(registry=registry, base=debian_base))
    with pytest.raises(EngineError) as caught:
        engine.build(context, BuildInputs(tags=["envsnap-test/x:1"], secrets={}, platform=PLATFORM), SILENT)
    assert why in caught.value.why


INTERRUPTED = """
import os, sys
from contextlib import contextmanager
from pathlib import Path
from envsnap import target
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import BuildInputs
from envsnap.progress import Silent

class Task:
    def advance(self, amount): pass
    def total(self, amount): pass
    def status(self, text): print(text, flush=True)

class Loud(Silent):
    @contextmanager
    def task(self, title, **_): yield Task()

engine = DockerEngine(os.environ)
where, name, what = sys.argv[1:]
try:
    if what == "build":
        engine.build(Path(where), BuildInputs(tags=[name], secrets={}, platform="PLATFORM"), Loud())
    else:
        target.GUEST_DIRECTORY = Path(where)
        (Path(where) / "out").mkdir()
        engine.target(name).run_guest("collect", [], outputs=Path(where) / "out", on_line=lambda _, line: print(line, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
""".replace("PLATFORM", PLATFORM)


def interrupt(where: Path, name: str, what: str, scratch: Path) -> float:
    """Run INTERRUPTED, send it SIGINT in the middle, expect it to leave; returns the seconds that leaving took."""
    scratch.mkdir()
    env = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED, where, name, what], env=env, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert any("in the middle" in line for line in child.stdout if not line.startswith("["))
        begun = time.monotonic()
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        assert child.wait(30) == 130
    return time.monotonic() - begun


def running_with(word: str) -> list[str]:
    """Command lines of processes of this machine that hold a word."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(place.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return [line for line in found if word in line]


def test_an_interrupted_build_leaves_nothing(engine: DockerEngine, debian_base: str, tmp_path: Path, names: Callable[[str], str]) -> None:
    marker, tag = f"sleep 61.{os.getpid()}", names("interrupted")
    before = images(engine), {entry["Id"] for entry in engine._client.containers(all=True)}
    context = context_of(tmp_path / "c", f"FROM {debian_base}\nRUN echo in the middle && {marker}\n")
    seconds = interrupt(context, tag, "build", tmp_path / "scratch")
    assert seconds < 15
    assert engine.image(tag) is None
    assert (images(engine), {entry["Id"] for entry in engine._client.containers(all=True)}) == before
    assert list((tmp_path / "scratch").iterdir()) == []
    deadline = time.monotonic() + 10
    while running_with(marker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert running_with(marker) == []
    assert running_with(str(context)) == []


def test_an_interrupted_guest_leaves_no_container(engine: DockerEngine, python_image: str, tmp_path: Path) -> None:
    before = containers(engine)
    where = tmp_path / "guest"
    where.mkdir()
    (where / "__main__.py").write_text("import time; print('in the middle', flush=True); time.sleep(60)", encoding="utf-8")
    assert interrupt(where, python_image, "guest", tmp_path / "scratch") < 15
    assert containers(engine) == before
    assert list((tmp_path / "scratch").iterdir()) == []


REPORT = """
import json, os, socket, sys
out, kit = sys.argv[2:4]
try:
    socket.create_connection(("192.0.2.1", 9), timeout=1)
    network = "yes"
except OSError as error:
    network = "no"
os.mkdir(out + "/sub")
report = {
    "uid": os.getuid(), "given": os.environ.get("GIVEN"), "entrypoint": os.environ.get("FROM_ENTRYPOINT"), "network": network,
    "kit": sorted(os.listdir(kit)), "size": os.path.getsize(kit + "/large"), "bytecode": sys.dont_write_bytecode,
    "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
}
with open(out + "/sub/report.json", "w") as file:
    json.dump(report, file)
print("to stdout", flush=True)
print("to stderr", file=sys.stderr, flush=True)
sys.exit(4)
"""


@pytest.mark.parametrize("user", [None, "1000:1000"])
def test_a_guest_reads_its_inputs_and_its_outputs_come_back(
    engine: DockerEngine, python_image: str, tmp_path: Path, guest: Callable[[str], None], user: str | None
) -> None:
    guest(REPORT)
    kit, outputs = tmp_path / "kit", tmp_path / "out"
    (kit / "package").mkdir(parents=True, mode=0o700)
    with (kit / "large").open("wb") as file:
        file.truncate(200 << 20)
    outputs.mkdir()
    before, lines = containers(engine), list[tuple[str, str]]()
    target = engine.target(python_image, user=user)
    result = target.run_guest(
        "collect", ["{out}", "{kit}"], outputs=outputs, inputs={"kit": kit}, env={"GIVEN": "1"}, on_line=lambda *line: lines.append(line)
    )
    assert (result.returncode, result.timed_out, result.outputs) == (4, False, outputs)
    assert {("stdout", "a banner"), ("stdout", "to stdout"), ("stderr", "to stderr")} == set(lines)
    assert set(result.log.splitlines()) == {"a banner", "to stdout", "to stderr"}
    assert json.loads((outputs / "sub/report.json").read_bytes()) == {
        "uid": 1000 if user else 0,
        "given": "1",
        "entrypoint": "yes",
        "network": "no",
        "kit": ["large", "package"],
        "size": 200 << 20,
        "shm": 1 << 30,
        "bytecode": True,
    }
    assert target.description == f"image {python_image}"
    assert containers(engine) == before


def test_the_time_limit_ends_a_guest_and_keeps_what_it_wrote(
    engine: DockerEngine, python_image: str, tmp_path: Path, guest: Callable[[str], None]
) -> None:
    guest("import sys, time; open(sys.argv[2] + '/begun', 'w').close(); time.sleep(60)")
    before, begun = containers(engine), time.monotonic()
    result = engine.target(python_image).run_guest("collect", ["{out}"], outputs=tmp_path / "guest", timeout_s=2)
    assert result.timed_out
    assert time.monotonic() - begun < 20
    assert (tmp_path / "guest/begun").exists()
    assert containers(engine) == before


def test_a_guest_cannot_write_outside_its_outputs(
    engine: DockerEngine, python_image: str, tmp_path: Path, guest: Callable[[str], None]
) -> None:
    guest("import os, sys; os.symlink('/etc', sys.argv[2] + '/link')")
    before, outputs = containers(engine), tmp_path / "out"
    outputs.mkdir()
    with pytest.raises(TargetError, match="refused"):
        engine.target(python_image).run_guest("collect", ["{out}"], outputs=outputs)
    assert list(outputs.iterdir()) == []
    assert containers(engine) == before


def test_outputs_that_are_refused_half_way_do_not_hold_the_container(
    engine: DockerEngine, python_image: str, tmp_path: Path, guest: Callable[[str], None]
) -> None:
    guest("import os, sys; os.chdir(sys.argv[2]); os.symlink('/etc', 'a'); open('b', 'wb').write(os.urandom(64 << 20))")
    before, outputs, begun = containers(engine), tmp_path / "out", time.monotonic()
    outputs.mkdir()
    with pytest.raises(TargetError, match="refused"):
        engine.target(python_image).run_guest("collect", ["{out}"], outputs=outputs)
    assert time.monotonic() - begun < 20
    assert containers(engine) == before


def test_an_image_without_python(engine: DockerEngine, debian_base: str, tmp_path: Path, guest: Callable[[str], None]) -> None:
    guest("")
    engine.pull(debian_base, SILENT)
    before = containers(engine)
    with pytest.raises(TargetError, match="cannot run python in image"):
        engine.target(debian_base).run_guest("collect", [], outputs=tmp_path)
    assert containers(engine) == before


def test_a_file_of_an_image_without_running_it(engine: DockerEngine, python_image: str) -> None:
    before = containers(engine)
    assert (engine.read_file(python_image, "/entry") or b"").startswith(b"#!/bin/sh")
    assert engine.read_file(python_image, "/no/such/file") is None
    assert engine.read_file(python_image, "/etc") is None
    assert engine.read_file(python_image, "/usr/bin/python") is None  # a link, which could name anything
    with pytest.raises(TargetError, match="the engine has no image"):
        engine.read_file("envsnap-test/never-built:1", "/entry")
    assert containers(engine) == before


def test_an_image_that_is_not_there(engine: DockerEngine) -> None:
    with pytest.raises(TargetError, match="the engine has no image"):
        engine.target("envsnap-test/never-built:1")


def test_gpus_that_the_engine_cannot_give(engine: DockerEngine, python_image: str) -> None:
    if next(ability for ability in engine.abilities() if ability.name == "GPUs in containers").state == "ok":
        pytest.skip("this engine has GPUs")
    before = containers(engine)
    for asked in ("all", "2", "device=0"):
        with pytest.raises(TargetError) as caught:
            engine.target(python_image, gpus=asked)
        assert caught.value.exit_code == 3
        assert "nvidia-ctk" in caught.value.hint
    assert containers(engine) == before


def test_what_is_pushed_is_what_the_registry_has(engine: DockerEngine, python_image: str, names: Callable[[str], str]) -> None:
    image, name = engine.image(python_image), names("pushed")
    assert image is not None
    engine.tag(image.image_id, name)
    pushed = engine.push(name, SILENT)
    found = Registry(os.environ).resolve(name, machine=os.uname().machine)
    assert found.digest == pushed.digest
    assert found.config_digest == image.config_digest
    assert found.layers == image.layers
    engine._client.remove_image(name)
    by_digest = f"{name.rpartition(':')[0]}@{pushed.digest}"
    assert engine.pull(by_digest, SILENT).config_digest == image.config_digest
    engine._client.remove_image(by_digest)


def test_a_push_uploads_what_the_registry_does_not_have(
    engine: DockerEngine, debian_base: str, tmp_path: Path, names: Callable[[str], str]
) -> None:
    context, tags, size = tmp_path / "c", [names("fresh"), names("again")], 3 << 20
    context_of(context, f"FROM {debian_base}\nCOPY data /\n")
    (context / "data").write_bytes(os.urandom(size))
    engine.build(context, BuildInputs(tags=tags, secrets={}, platform=PLATFORM), SILENT)
    first = engine.push(tags[0], SILENT)
    assert size <= first.uploaded_bytes < size + (64 << 10)
    assert engine.push(tags[0], SILENT) == Pushed(digest=first.digest, uploaded_bytes=0)
    assert engine.push(tags[1], SILENT) == Pushed(digest=first.digest, uploaded_bytes=0)  # taken from the other repository


def test_an_image_without_the_labels_asked_for_gets_no_name(
    engine: DockerEngine, debian_base: str, tmp_path: Path, names: Callable[[str], str]
) -> None:
    context, tag = context_of(tmp_path / "c", f"FROM {debian_base}\nLABEL example.lock=1\n"), names("labelled")
    with pytest.raises(EngineError) as caught:
        engine.build(context, BuildInputs(tags=[tag], secrets={}, platform=PLATFORM, labels={"example.lock": "2"}), SILENT)
    assert caught.value.why == "its label example.lock is 1, expected 2"
    assert engine.image(tag) is None
    engine.build(context, BuildInputs(tags=[tag], secrets={}, platform=PLATFORM, labels={"example.lock": "1"}), SILENT)
    assert engine.image(tag) is not None


@pytest.mark.parametrize(
    "name",
    [
        "a:1",
        "a/" + "f" * 64,
        "example.com/a__b:1",
        "[::1]:5000/a",
        "f" * 64,
        "sha256:" + "f" * 64,
        "-example.com/a",
        "a___b",
        "a:-1",
        "A b",
    ],
)
def test_the_engine_agrees_on_what_an_image_can_be_called(engine: DockerEngine, python_image: str, name: str) -> None:
    image = engine.image(python_image)
    assert image is not None
    try:
        require_tag(name)
    except UsageError:
        with pytest.raises(EngineError, match="cannot tag"):
            engine.tag(image.image_id, name)
    else:
        engine.tag(image.image_id, name)
        engine._client.remove_image(name)


def test_a_push_to_nowhere(engine: DockerEngine, python_image: str) -> None:
    image = engine.image(python_image)
    assert image is not None
    engine.tag(image.image_id, "localhost:1/envsnap-test/x:1")
    try:
        with pytest.raises(EngineError, match="cannot push"):
            engine.push("localhost:1/envsnap-test/x:1", SILENT)
    finally:
        engine._client.remove_image("localhost:1/envsnap-test/x:1")
