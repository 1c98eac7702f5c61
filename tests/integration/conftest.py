"""What integration tests need of the world: an engine, a registry, two bases, a training environment.

Each is used where it is there, and its test skipped with the reason where it is not; ENVSNAP_REQUIRE_ENGINE=1 and
ENVSNAP_REQUIRE_TORCH=1, which CI sets, turn the missing engine or environment into a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import BuildInputs
from envsnap.errors import EngineError
from envsnap.progress import SILENT
from tests.integration import ground

ROOT = Path(__file__).parents[2]
PLATFORM = "linux/amd64" if os.uname().machine == "x86_64" else "linux/arm64"
TRAINING = ("torch==2.12.1", "torchvision==0.27.1", "ultralytics", "wandb")
TENSORFLOW = ("tensorflow-cpu==2.21.0", "wandb")
PADDLE = ("paddlepaddle==3.3.1",)  # the smoke-train is lent its wandb
MORE_ENGINES = tuple(os.environ.get("ENVSNAP_TEST_ENGINES", "").split())
"""Of other versions or with another store: addresses as in DOCKER_HOST (docs/images.md says how to start them)."""


def unavailable(reason: str, variable: str) -> NoReturn:
    if os.environ.get(variable) == "1":
        pytest.fail(f"{reason} ({variable}=1)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    """A Docker engine that can build."""
    engine = DockerEngine(os.environ)
    try:
        engine.require(build=True)
    except EngineError as error:
        unavailable(f"{error.what}: {error.why}", "ENVSNAP_REQUIRE_ENGINE")
    yield engine
    engine.close()


@pytest.fixture(params=["", *MORE_ENGINES], ids=lambda host: host.rpartition("/")[0].rpartition("/")[2] or "engine")
def each_engine(request: pytest.FixtureRequest, engine: DockerEngine) -> Iterator[DockerEngine]:
    """The engine of the other tests, then those that ENVSNAP_TEST_ENGINES names."""
    if not request.param:
        yield engine
        return
    other = DockerEngine({**os.environ, "DOCKER_HOST": request.param})
    yield other
    other.close()


@pytest.fixture(scope="session")
def registry() -> str:
    """Address of a registry on loopback that the engine, too, reaches ("localhost:5000")."""
    address = os.environ.get("ENVSNAP_TEST_REGISTRY", "")
    if not address:
        unavailable("no registry: ENVSNAP_TEST_REGISTRY is not set (.ci/engine up)", "ENVSNAP_REQUIRE_ENGINE")
    return address


def make_base(registry: str, which: str) -> str:
    """Have a base in the registry; returns its name."""
    done = subprocess.run([ROOT / ".ci/standin/make", registry, which], capture_output=True, text=True)
    if done.returncode != 0:
        unavailable(f"the stand-in base cannot be made: {done.stderr[-2000:]}", "ENVSNAP_REQUIRE_ENGINE")
    return done.stdout.split()[-1]


@pytest.fixture(scope="session")
def debian_base(engine: DockerEngine, registry: str) -> str:
    """Debian 12 with Python 3.11 and nothing else."""
    return make_base(registry, "debian")


@pytest.fixture(scope="session")
def bare(engine: DockerEngine, debian_base: str, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same without Python."""
    context = tmp_path_factory.mktemp("bare")
    (context / "Dockerfile").write_text(f"FROM {debian_base}\nRUN rm -rf /usr/bin/python3* /usr/lib/python3*\n")
    name = f"{registry}/envsnap-test/bare:{os.getpid()}"
    engine.build(context, BuildInputs(tags=[name], secrets={}, platform=PLATFORM), SILENT)
    engine.push(name, SILENT)
    yield name
    engine._client.remove_image(name, force=True)


@pytest.fixture(scope="session")
def ngc_base(engine: DockerEngine, registry: str) -> str:
    """Debian 12 with Python 3.11 and torch, under NGC's name, variables, labels and entrypoint: 5 GB."""
    return make_base(registry, "ngc")


@pytest.fixture(scope="session")
def ngc_25_03(engine: DockerEngine, registry: str) -> str:
    """NGC's release 25.03 as .ci/standin/README.md has it: Python 3.12, torch under NVIDIA's version, a constraint file; 2.3 GB."""
    name = make_base(registry, "ngc-25.03")
    subprocess.run(["docker", "pull", "--quiet", name], check=True, capture_output=True)  # BuildKit's FROM makes no image of it
    return name


def forget(engine: DockerEngine, *names: str) -> None:
    """Remove images, with all of their names."""
    for image in filter(None, map(engine.image, names)):
        subprocess.run(["docker", "image", "rm", "--force", image.image_id], capture_output=True)


def made_once(name: str, packages: tuple[str, ...], size: str) -> Path:
    """The interpreter of a real environment of these packages, made once below ENVSNAP_TEST_CACHE."""
    cache = Path(os.environ.get("ENVSNAP_TEST_CACHE") or Path.home() / ".cache/envsnap-tests")
    environment = cache / f"{name}-py3.11"
    ready = environment / "ready"
    wanted = "\n".join(packages)
    if ready.is_file() and ready.read_text(encoding="utf-8") == wanted:
        return environment / "bin/python"
    if os.environ.get("ENVSNAP_REQUIRE_TORCH") != "1":
        pytest.skip(f"no {name} environment: ENVSNAP_REQUIRE_TORCH=1 has one made ({size})")
    python = shutil.which("python3.11") or sys.executable  # the bases' Python
    shutil.rmtree(environment, ignore_errors=True)
    made = str(environment / "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", made]  # its own may be one that a connection's end within a file ends, too
    for command in ([python, "-m", "venv", str(environment)], [*pip, "install", "--quiet", *packages]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.fail(f"the {name} environment cannot be made: {done.stderr[-2000:]}", pytrace=False)
    ready.write_text(wanted, encoding="utf-8")
    return Path(made)


@pytest.fixture(scope="session")
def training_python() -> Path:
    """The interpreter of a real training environment: ENVSNAP_TEST_PYTHON, or one made once."""
    given = os.environ.get("ENVSNAP_TEST_PYTHON")
    return Path(given) if given else made_once("training", TRAINING, "5 GB")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> ground.Machine:
    """A small environment, captured."""
    return ground.make(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def told(small: ground.Machine, debian_base: str) -> dict[str, Any]:
    """What is told of its image before anything is built, without an engine: the base is read from its registry."""
    no_engine = replace(small, env={"DOCKER_HOST": ground.NOWHERE})
    image: dict[str, Any] = no_engine.envsnap("plan", small.lock, "--base", debian_base, "--fetch")["image"]
    assert image["unknown_because"] is None, image
    return image
