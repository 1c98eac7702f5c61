"""Images unpacked and run without an engine, with each runtime that is here, as root and as an ordinary user."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from envsnap import lockfile
from envsnap.engines.docker import DockerEngine
from envsnap.errors import EngineError, EnvsnapError, InputError, TargetError
from envsnap.layers.writer import LayerWriter
from envsnap.oci.documents import Descriptor, canonical, read_config
from envsnap.oci.image import BaseImage, Image, Layer, RunConfig, put_together, scratch
from envsnap.probes import interpreter
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.rootless import roots, runtime
from envsnap.rootless.runtime import Absent, Found
from envsnap.rootless.target import RootlessTarget
from envsnap.workflows import local, rootless, transfer, verify
from tests import samples
from tests.integration.conftest import unavailable

pytestmark = pytest.mark.engine  # it has the base

NOBODY = 65534
ROOT = Path(__file__).parents[2]

# What runs as the user in question: unpacks the image from its registry (the base is Debian with python3 alone) and collects in it.
PROGRAM = """
import json, os, sys
from pathlib import Path
import msgspec
from envsnap.errors import EnvsnapError
from envsnap.oci.image import BaseImage, Image
from envsnap.probes import interpreter
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.rootless import runtime
from envsnap.rootless.target import RootlessTarget
from envsnap.workflows import rootless, transfer

reference, cache, name, user = sys.argv[1:]
found = runtime.probe(name, os.environ)
if isinstance(found, runtime.Absent):
    print(json.dumps({"absent": found.reason}))
    sys.exit()
registry = Registry(os.environ)
manifest, config = registry.image(reference, machine="x86_64")
image = Image(config=config, manifest=manifest, base=BaseImage(config=config, manifest=manifest, reference=reference), layers=())
root = rootless.root_of(image, transfer.source_of(image, Path(cache), registry), cache=Path(cache), progress=SILENT)
target = RootlessTarget(root=root, runtime=found, name=reference, python="python3", user=user or None)
try:
    facts = interpreter.collect(target, framework=False, imports=True, integrity=True, progress=SILENT)
except EnvsnapError as error:
    sys.exit(f"{error.what}: {error.why}")
# Not ru_maxrss, which knows of the process that this one was before the exec.
peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(json.dumps({"facts": json.loads(msgspec.json.encode(facts)), "mib": int(peak) >> 10}))
"""

# Some hosts have both kinds of control groups, which crun refuses; where they are hidden it works.
HIDDEN = 'umount -l /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'


def command(uid: int, *words: str) -> list[str]:
    as_user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid != os.geteuid() else []
    hidden = ["unshare", "--mount", "sh", "-c", HIDDEN, "sh"] if os.geteuid() == 0 else []
    return [*hidden, *as_user, *words]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(home)}


@pytest.fixture(scope="module")
def homes() -> Iterator[dict[int, Path]]:
    """A directory for each user, which keeps what it unpacked; pytest's own are closed to others."""
    top = Path(tempfile.mkdtemp(prefix="eh-"))
    top.chmod(0o711)
    made = {}
    for uid in {os.geteuid(), NOBODY} if os.geteuid() == 0 else {os.geteuid()}:
        made[uid] = top / str(uid)
        made[uid].mkdir()
        os.chown(made[uid], uid, -1)
    yield made
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="module")
def registry_client() -> Iterator[Registry]:
    client = Registry(os.environ)
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(debian_base: str, registry_client: Registry) -> Image:
    manifest, config = registry_client.image(debian_base, machine="x86_64")
    return Image(config=config, manifest=manifest, base=BaseImage(config=config, manifest=manifest, reference=debian_base), layers=())


@pytest.fixture(scope="module")
def cache(homes: dict[int, Path]) -> Path:
    return homes[os.geteuid()] / "cache"


@pytest.fixture(scope="module")
def bubblewrap() -> Found:
    found = runtime.probe("bwrap", os.environ)
    if isinstance(found, Absent):
        unavailable(f"bubblewrap: {found.reason}", "ENVSNAP_REQUIRE_ENGINE")
    return found


@pytest.fixture
def target(image: Image, cache: Path, registry_client: Registry, bubblewrap: Found) -> RootlessTarget:
    root = rootless.root_of(image, transfer.source_of(image, cache, registry_client), cache=cache, progress=SILENT)
    return RootlessTarget(root=root, runtime=bubblewrap, name="base", python="python3")


@pytest.fixture(scope="module")
def docker_facts(engine: DockerEngine, debian_base: str) -> Any:
    if engine.image(debian_base) is None:
        engine.pull(debian_base, SILENT)
    target = engine.target(debian_base, python="python3")
    facts = interpreter.collect(target, framework=False, imports=True, integrity=True, progress=SILENT)
    return comparable(json.loads(msgspec.json.encode(facts)))


def comparable(facts: Any) -> Any:
    facts.pop("seconds", None)
    return {name: value for name, value in facts.items() if not name.endswith("seconds") and name != "timings"}


@pytest.mark.parametrize("who", ["root", "an ordinary user", "an ordinary user, the image's user another"])
@pytest.mark.parametrize("name", runtime.NAMES)
def test_the_same_facts_as_in_a_container(name: str, who: str, debian_base: str, homes: dict[int, Path], docker_facts: Any) -> None:
    uid = 0 if who == "root" else NOBODY if os.geteuid() == 0 else os.geteuid()
    if uid not in homes:
        pytest.skip("these tests do not run as root")
    home = homes[uid]
    words = [sys.executable, "-c", PROGRAM, debian_base, str(home / "cache"), name, "1000:1000" if "another" in who else ""]
    done = subprocess.run(command(uid, *words), capture_output=True, text=True, env=environment(home), cwd="/", timeout=600)
    if name == "podman" and "another" in who and done.returncode != 0 and "/etc/subuid" in done.stderr:
        pytest.skip("podman needs subordinate IDs for this")
    if name == "runc" and "another" in who and done.returncode != 0:
        assert "runc cannot run an image as user 1000" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    if "absent" in answer:
        pytest.skip(f"{name}: {answer['absent']}")
    assert comparable(answer["facts"]) == docker_facts
    assert answer["mib"] < 200
    assert not [path.name for path in home.iterdir() if path.name != "cache"]


def inside(target: RootlessTarget, tmp_path: Path, script: str, **more: Any) -> tuple[int, str]:
    """Run a shell as the image's entrypoint: it is handed the guest's command and leaves it alone."""
    document = {**target.root.config.document, "config": {**target.root.config.run, "Entrypoint": ["sh", "-c", script]}}
    root = dataclasses.replace(target.root, config=read_config(canonical(document), what="test"))
    out = tmp_path / "outputs"
    out.mkdir(exist_ok=True)
    result = dataclasses.replace(target, root=root).run_guest("collect", [], outputs=out, **more)
    return result.returncode, result.log


def test_what_the_image_lets_anybody_write_is_writable_and_nothing_else(target: RootlessTarget, tmp_path: Path) -> None:
    places = "/tmp /var/tmp /run /run/lock /root /dev/shm / /usr /etc /usr/bin"
    script = f"for d in {places}; do touch $d/new 2>/dev/null && echo $d; done; id -u"
    code, said = inside(target, tmp_path, script)
    assert (code, said.split()) == (0, ["/tmp", "/var/tmp", "/run", "/run/lock", "/root", "/dev/shm", "0"])
    assert not list(target.root.path.glob("**/new"))
    _, again = inside(target, tmp_path, "ls /tmp /var/tmp")
    assert "new" not in again


def test_there_is_no_way_out(target: RootlessTarget, tmp_path: Path) -> None:
    script = """
    ls /proc | grep -c '^[0-9]'; grep -c : /proc/net/dev; cat /proc/self/status | grep CapEff; hostname
    python3 -c 'import socket; print(socket.gethostbyname(socket.gethostname()))'
    chroot / true 2>/dev/null && echo chroot; mount -t tmpfs x /tmp 2>/dev/null && echo mount; true
    """
    _, said = inside(target, tmp_path, script)
    processes, devices, capabilities, host, address = said.splitlines()
    assert int(processes) < 10
    assert devices == "1"
    assert capabilities.split()[1] == "0" * 16
    assert (host, address) == ("envsnap", "127.0.0.1")


def test_variables_and_inputs_arrive(target: RootlessTarget, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("given")
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit/a").write_text("a")
    code, said = inside(
        target,
        tmp_path,
        'echo "$MORE"; cat /run/envsnap/in/*/a /run/envsnap/in/one; touch /run/envsnap/in/one 2>/dev/null || echo no;'
        " echo x > /run/envsnap/out/y; exit 5",
        inputs={"one": tmp_path / "given", "kit": tmp_path / "kit"},
        env={"MORE": "two words"},
    )
    assert (code, said.splitlines()) == (5, ["two words", "agivenno"])
    assert (tmp_path / "outputs/y").read_text() == "x\n"


def test_a_python_that_the_image_lacks(target: RootlessTarget, tmp_path: Path) -> None:
    for python in ("python4", "/etc/passwd"):
        with pytest.raises(TargetError, match=f"cannot run {python}") as caught:
            dataclasses.replace(target, python=python).run_guest("collect", [], outputs=tmp_path)
        assert "--python" in caught.value.hint


def sleepers(mark: str) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words:
            found.append(place.parent.name)
    return found


@pytest.mark.parametrize("name", runtime.NAMES)
def test_neither_a_time_limit_nor_an_interrupt_leaves_a_process(name: str, homes: dict[int, Path]) -> None:
    """A sleep of a length that nobody else has."""
    uid = NOBODY if os.geteuid() == 0 else os.geteuid()
    program = """
import os, sys
from pathlib import Path
from envsnap.rootless import runtime
found = runtime.probe(sys.argv[1], os.environ)
if isinstance(found, runtime.Absent):
    print("absent", found.reason, flush=True)
    sys.exit()
import dataclasses, tempfile
with tempfile.TemporaryDirectory() as scratch:
    shell = runtime._shell_of_the_host(Path(scratch, "root"))
    sandbox = dataclasses.replace(shell, argv=("/bin/sh", "-c", "echo here; sleep " + sys.argv[2]), env={"PATH": "/usr/bin:/bin"})
    limit = float(sys.argv[3]) or None
    say = lambda _, line: print(line, flush=True)
    done = runtime.run(found, sandbox, Path(scratch), timeout_s=limit, path=os.environ["PATH"], on_line=say)
    print("timed out" if done.timed_out else done.returncode, flush=True)
"""
    for number, limit in enumerate((2.0, 0.0)):
        mark = f"{os.getpid()}.{runtime.NAMES.index(name)}{number}"
        words = [sys.executable, "-c", program, name, mark, str(limit)]
        child = subprocess.Popen(
            command(uid, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(homes[uid]), cwd="/"
        )
        assert child.stdout is not None
        first = child.stdout.readline()
        if first.startswith("absent"):
            child.communicate()
            pytest.skip(f"{name}: {first}")
        assert first == "here\n", first + child.communicate()[1]
        assert sleepers(mark)
        if not limit:
            child.send_signal(signal.SIGINT)
        rest, said = child.communicate(timeout=600)
        assert "timed out" in rest if limit else "KeyboardInterrupt" in said
        wait_for_none(mark)


def test_a_kill_leaves_nothing_of_bubblewrap(bubblewrap: Found, target: RootlessTarget, tmp_path: Path) -> None:
    mark = f"{os.getpid()}.9"
    child = os.fork()
    if child == 0:
        try:
            tempfile.tempdir = str(tmp_path)  # it has no chance to tidy up
            inside(target, tmp_path, f"sleep {mark}")
        finally:
            os._exit(0)
    give_up = time.monotonic() + 10
    while not sleepers(mark) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert sleepers(mark)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for_none(mark)


def wait_for_none(mark: str) -> None:
    give_up = time.monotonic() + 10
    while sleepers(mark) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not sleepers(mark)


def test_where_user_namespaces_are_forbidden_it_says_so(bubblewrap: Found) -> None:
    """A namespace may have no others in it; the limit is its own."""
    program = """
import os
from envsnap.rootless import runtime
print(runtime.probe("bwrap", os.environ).reason)
print(runtime.ability(os.environ).hint)
"""
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    reason, hint = done.stdout.splitlines()
    assert reason.startswith("bwrap: ")
    assert hint.startswith("user namespaces are forbidden here: sudo sysctl user.max_user_namespaces=")


@pytest.fixture
def assembled(cache: Path) -> Iterator[Image]:
    """A small image that no engine has, under a name."""
    with local.blobs(cache).writer() as blob:
        writer = LayerWriter(blob.write)
        writer.file("made/file", b"content")
        diff_id, _ = writer.finish()
    layer = Layer(digest=blob.digest, diff_id=diff_id, size_bytes=blob.size, made_by="a test")
    made = put_together(scratch("amd64"), (layer,), RunConfig(env={}, labels={}, workdir="/made/here"))
    local.remember(made, ["assembled-here:1"], cache, place="here")
    yield made
    local.forget("assembled-here:1", cache)


def places(cache: Path, engine: DockerEngine, registry_client: Registry) -> transfer.Places:
    return transfer.Places(engine=engine, registry=registry_client, cache=cache, machine="x86_64")


@pytest.mark.parametrize("with_engine", [True, False])
def test_verify_finds_what_was_assembled_here(
    with_engine: bool, assembled: Image, cache: Path, engine: DockerEngine, registry_client: Registry, bubblewrap: Found
) -> None:
    asked = engine if with_engine else DockerEngine({"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    here = places(cache, asked, registry_client)
    with pytest.raises(InputError, match="holds no lock"):
        verify.of_image(here, "assembled-here:1", against=None, gpus="none", env=os.environ, progress=SILENT)
    root = cache / "roots" / assembled.config.digest.removeprefix("sha256:")
    assert (root / "root/made/file").read_bytes() == b"content"
    assert (root / "root/made/here").is_dir()
    assert roots.drop(cache, assembled.config.digest)


@pytest.mark.parametrize("with_engine", [True, False])
def test_who_could_give_gpus_is_named(
    with_engine: bool, assembled: Image, cache: Path, engine: DockerEngine, registry_client: Registry, tmp_path: Path
) -> None:
    """An engine that answers could, if it had the image; where none does, one has to be installed."""
    asked = engine if with_engine else DockerEngine({"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    (tmp_path / "lock.yaml").write_bytes(lockfile.dumps(samples.lock()))
    here, nothing = places(cache, asked, registry_client), {"PATH": str(tmp_path)}
    with pytest.raises(TargetError, match="can give --gpus all") as caught:
        verify.of_image(here, "assembled-here:1", against=tmp_path / "lock.yaml", gpus="all", env=nothing, progress=SILENT)
    assert ("envsnap pull assembled-here:1" in caught.value.hint) == with_engine
    assert ("install Docker" in caught.value.hint) == (not with_engine)


def test_verify_still_says_what_is_nowhere(cache: Path, engine: DockerEngine, registry_client: Registry) -> None:
    with pytest.raises(EngineError, match="there is no image nowhere:1 here"):
        verify.of_image(places(cache, engine, registry_client), "nowhere:1", against=None, gpus="none", env=os.environ, progress=SILENT)
    nobody = DockerEngine({"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    with pytest.raises(EngineError):
        verify.of_image(places(cache, nobody, registry_client), "nowhere:1", against=None, gpus="none", env=os.environ, progress=SILENT)


class Wrong:
    """A source of other bytes."""

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        yield b"not a layer at all" * 100


def test_a_layer_of_other_bytes_leaves_no_root(image: Image, tmp_path: Path) -> None:
    with pytest.raises(EnvsnapError):
        rootless.root_of(image, Wrong(), cache=tmp_path, progress=SILENT)
    assert roots.kept(tmp_path) == ()
