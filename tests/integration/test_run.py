"""`envsnap run` on a real engine: what the command finds inside, and what is missing when a part of the command line is taken away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from envsnap.engines.docker import DockerEngine
from tests.fakes import nvml
from tests.integration import ground
from tests.integration.conftest import forget, unavailable

pytestmark = pytest.mark.engine
USER = "12345:23456"
IPC = str(Path("/proc/self/ns/ipc").readlink())  # the host's
KEY = "0123456789abcdef0123456789abcdef01234567"
FACTS = """
echo memlock=$(ulimit -l) stack=$(ulimit -s) user=$(id -u):$(id -g) ipc=$(readlink /proc/self/ns/ipc) here=$PWD key=$WANDB_API_KEY
echo home=$(touch "$HOME/x" 2>/dev/null && echo writable) data=$(cat "$DATA/x") data_writable=$(touch "$DATA/y" 2>/dev/null && echo yes)
touch made; exit 5
"""


@pytest.fixture(scope="module")
def shared(engine: DockerEngine, debian_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that containers can be given: the engine may have a file system of its own, and shares that of its socket then."""
    socket = Path(urlsplit(os.environ.get("DOCKER_HOST", "")).path).parent
    refused = ""
    for place in (tmp_path_factory.mktemp("shared"), socket):
        with tempfile.TemporaryDirectory(dir=place, prefix="run-") as made:
            done = subprocess.run(
                ["docker", "run", "--rm", "--mount", f"type=bind,source={made},target=/x", debian_base, "true"], capture_output=True
            )
            if done.returncode == 0:
                Path(made).chmod(0o755)
                yield Path(made)
                return
            refused = done.stderr.decode()
    unavailable(f"the engine shares no directory with this machine: {refused}", "ENVSNAP_REQUIRE_ENGINE")


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "envsnap.cli.main", *map(str, words)]


def environment(shared: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "ENVSNAP_CACHE": str(shared / "cache"), "WANDB_API_KEY": KEY, **more}


def facts(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in text.split()) if value}


@pytest.fixture(scope="module")
def project(shared: Path) -> Path:
    """Where the user of the tests may write, and data that nobody may."""
    for name in ("yolo", "coco"):
        (shared / name).mkdir()
        (shared / name).chmod(0o777)
    (shared / "coco/x").write_text("there")
    return shared / "yolo"


@pytest.fixture(scope="module")
def argv(project: Path, debian_base: str) -> list[str]:
    """The command line, as `--print` tells it."""
    data = project.parent / "coco"
    asked = ("--user", USER, "--data", data, "--env", f"DATA={data}", "--", "sh", "-c", FACTS)
    done = subprocess.run(
        command("run", debian_base, "--print", "--json", *asked),
        cwd=project,
        env=environment(project.parent),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    words: list[str] = json.loads(done.stdout)["argv"]
    return words


@pytest.fixture(scope="module")
def memlock(debian_base: str) -> str:
    """As a container gets it: an engine in a sandbox may not raise it."""
    ask = ("docker", "run", "--rm", debian_base, "sh", "-c", "ulimit -l")
    done = subprocess.run([*ask[:3], "--ulimit", "memlock=-1", *ask[3:]], capture_output=True, text=True)
    if done.returncode == 0:
        return "unlimited"
    assert "rlimit" in done.stderr
    return subprocess.run(ask, capture_output=True, text=True).stdout.strip()


WANTED = {
    "ipc": IPC,
    "stack": "65536",
    "user": USER,
    "here": "/workspace/yolo",
    "key": KEY,
    "home": "writable",
    "data": "there",
}


def test_what_the_command_finds(project: Path, debian_base: str, memlock: str) -> None:
    data = project.parent / "coco"
    words = command("run", debian_base, "--user", USER, "--data", data, "--env", f"DATA={data}", "--", "sh", "-c", FACTS)
    done = subprocess.run(words, cwd=project, env=environment(project.parent), capture_output=True, text=True)
    assert done.returncode == 5, done.stderr  # the command's own
    found = facts(done.stdout)
    assert found == WANTED | {"memlock": memlock}
    assert ("the limit memlock stays" in done.stderr) == (memlock != "unlimited")
    made = (project / "made").stat()
    assert f"{made.st_uid}:{made.st_gid}" == USER
    (project / "made").unlink()


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (
            lambda words: [*words[:2], "--ulimit", "memlock=65536", *(word.replace("memlock=-1", "core=-1") for word in words[2:])],
            "memlock",
        ),
        (lambda words: [word.replace("stack=67108864", "stack=8388608") for word in words], "stack"),
        (lambda words: [word for word in words if word != "--ipc=host"], "ipc"),
        (lambda words: [word.replace(USER, "0:0") for word in words], "user"),
        (lambda words: [word.replace("/workspace/yolo", "/elsewhere") for word in words], "here"),
        (lambda words: [word if word != "WANDB_API_KEY" else "OTHER" for word in words], "key"),
        (lambda words: [word.replace("HOME=/tmp", "HOME=/") for word in words], "home"),
        (lambda words: [word.replace(",readonly", "") for word in words], "data_writable"),
    ],
)
def test_each_part_of_the_command_line_is_what_does_it(
    argv: list[str], project: Path, memlock: str, spoil: Callable[[list[str]], list[str]], fact: str
) -> None:
    spoilt = spoil(argv)
    assert spoilt != argv
    found = facts(subprocess.run(spoilt, env=environment(project.parent), capture_output=True, text=True).stdout)
    wanted = WANTED | {"memlock": memlock}
    assert {name for name in {*wanted, *found} if wanted.get(name) != found.get(name)} == {fact}


def test_ctrl_c_reaches_the_command_and_nothing_stays(project: Path, debian_base: str) -> None:
    """It is docker from then on, with the same process ID; the key is in no list of arguments."""
    script = "trap 'echo heard; exit 42' INT; cat /etc/hostname; while :; do sleep 0.1; done"
    words = command("run", debian_base, "--no-project", "--", "sh", "-c", script)
    with subprocess.Popen(words, env=environment(project.parent), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        container = child.stdout.readline().strip()
        said = Path(f"/proc/{child.pid}/cmdline").read_bytes().decode().split("\0")
        child.send_signal(signal.SIGINT)
        assert (child.stdout.read(), child.wait(20)) == ("heard\n", 42)
    assert (said[0], "WANDB_API_KEY" in said, any(KEY in word for word in said)) == ("docker", True, False)
    deadline = time.monotonic() + 10
    while subprocess.run(["docker", "inspect", container], capture_output=True).returncode == 0:
        assert time.monotonic() < deadline, "the container stays"
        time.sleep(0.1)


def test_standard_input_goes_in(project: Path, debian_base: str) -> None:
    words = command("run", debian_base, "--no-project", "--", "cat")
    done = subprocess.run(words, env=environment(project.parent), input=b"through\n", capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"through\n")


def test_nvidia_s_entrypoint_runs(project: Path, ngc_base: str) -> None:
    """Its banner, and what it sets where there is no driver; both are lost with another entrypoint."""
    ask = ("sh", "-c", "echo cpu_only=$NVIDIA_CPU_ONLY")
    env = environment(project.parent)
    done = subprocess.run(command("run", ngc_base, "--gpus", "none", "--", *ask), cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "== PyTorch" in done.stdout and "SHMEM" not in done.stdout  # it has nothing to say of shared memory
    driver = Path("/proc/driver/nvidia/version").exists()
    assert facts(done.stdout).get("cpu_only") == (None if driver else "1")
    printed = subprocess.run(
        command("run", ngc_base, "--gpus", "none", "--print", "--json", "--", *ask), cwd=project, env=env, capture_output=True, text=True
    )
    words = json.loads(printed.stdout)["argv"]
    place = words.index("sh")
    spoilt = [*words[: place - 1], "--entrypoint=sh", words[place - 1], *words[place + 1 :]]
    done = subprocess.run(spoilt, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "cpu_only=\n")


def test_a_host_that_cannot_run_it_is_told_before(project: Path, ngc_base: str, tmp_path: Path) -> None:
    scenario = nvml.write(nvml.host(nvml.v100(0, []), driver="470.57.02", cuda=11040), tmp_path / "scenario")
    env = environment(project.parent, LD_LIBRARY_PATH=str(nvml.build_library(tmp_path)), FAKE_NVML=str(scenario))
    words = ("run", ngc_base, "--no-project")
    done = subprocess.run(command(*words, "--", "echo", "ran"), cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 7 and "ran" not in done.stdout
    assert "this host cannot run" in done.stderr and "--print" in done.stderr
    done = subprocess.run(command(*words, "--gpus", "none", "--", "echo", "ran"), cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "ran" in done.stdout


def test_an_environment_and_its_project(small: ground.Machine, engine: DockerEngine, debian_base: str, shared: Path) -> None:
    """By its lock. What is installed in place is what is worked on, and with --no-project the image's own copy."""
    here = small.again(shared / "small")
    image = here.envsnap("build", here.lock, "--base", debian_base, "--no-pyc", "-t", "run-small:1")["image"]["config_digest"]
    try:
        (here.project / "src/yolotools/__init__.py").write_text('WHAT = "live"\n')
        ask = ("--", "python", "-c", "import yolotools; print(yolotools.WHAT, yolotools.__file__)")
        for more, what in (((), "live"), (("--no-project",), "changed")):
            argv, env = here.command("run", here.lock, *more, *ask)
            done = subprocess.run(argv[:-1], cwd=here.project / "src", env=env, capture_output=True, text=True)
            assert (done.returncode, done.stdout) == (0, f"{what} /workspace/project/src/yolotools/__init__.py\n"), done.stderr
    finally:
        forget(engine, "run-small:1", image)
