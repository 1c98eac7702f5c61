"""TensorFlow and PaddlePaddle, for real: captured with their own smoke-train, built, verified on the CPU; then spoilt."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from envsnap import lockfile
from envsnap.engines.docker import DockerEngine
from envsnap.model.frameworks import Framework
from envsnap.model.lock import EnvLock
from envsnap.parity.training import MAP50
from tests.integration import conftest
from tests.integration.ground import Machine

pytestmark = [pytest.mark.engine, pytest.mark.torch, pytest.mark.long]

STEPS = 160


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What differs between the two.

    Attributes:
        packages: of its environment. distribution: that brings the framework.
        lent: to the smoke-train. precisions: in which the CPU computes.
        source, before, after: a constant of an operation in the installed files, and what it is made.
        variable: one that steers it, with a value that is not its default. flag: what that changes.
    """

    framework: Framework
    packages: tuple[str, ...]
    distribution: str
    lent: bool
    precisions: frozenset[str]
    source: str
    before: str
    after: str
    variable: tuple[str, str]
    flag: str


TENSORFLOW = Kind(
    framework="tensorflow",
    packages=conftest.TENSORFLOW,
    distribution="tensorflow-cpu",
    lent=False,
    precisions=frozenset({"amp", "fp32"}),
    source="keras/src/layers/normalization/batch_normalization.py",
    before="epsilon=1e-3,",
    after="epsilon=2e-3,",
    variable=("TF_ENABLE_ONEDNN_OPTS", "0"),
    flag="onednn False",
)
PADDLE = Kind(
    framework="paddle",
    packages=conftest.PADDLE,
    distribution="paddlepaddle",
    lent=True,
    precisions=frozenset({"fp32"}),
    source="paddle/nn/layer/norm.py",
    before="epsilon: float = 1e-05,",
    after="epsilon: float = 1e-03,",
    variable=("FLAGS_use_mkldnn", "1"),
    flag="FLAGS_use_mkldnn True",
)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """One environment, captured."""

    kind: Kind
    python: Path
    machine: Machine
    told: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return self.machine.project / str(self.told["lock"])

    @property
    def lock(self) -> EnvLock:
        return lockfile.loads(self.path.read_bytes())


@pytest.fixture(scope="module", params=[TENSORFLOW, PADDLE], ids=lambda kind: kind.framework)
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    kind: Kind = request.param
    python = conftest.made_once(kind.framework, kind.packages, "2 GB")
    place = tmp_path_factory.mktemp(kind.framework)
    (place / "project").mkdir()
    kept = os.environ.get("ENVSNAP_CACHE")
    machine = Machine(project=place / "project", cache=Path(kept) if kept else place / "cache")
    told = machine.envsnap("capture", "--python", python, "--name", f"family-{kind.framework}", "--smoke")
    return Ground(kind=kind, python=python, machine=machine, told=told)


@pytest.fixture(scope="module")
def image(ground: Ground, debian_base: str, engine: DockerEngine) -> Iterator[str]:
    built = ground.machine.envsnap("build", ground.path, "--base", debian_base, "--engine", "oci")
    name = str(built["image"]["reference"])
    yield name
    conftest.forget(engine, name)


def failed(verdict: Mapping[str, Any]) -> dict[str, str]:
    """Check -> what was found."""
    return {check["id"]: check["actual"] for check in verdict["checks"] if check["status"] == "fail"}


def test_the_lock_has_the_framework_and_what_it_computed(ground: Ground) -> None:
    kind, lock = ground.kind, ground.lock
    (version,) = (package.version for package in lock.packages if package.name == kind.distribution)
    assert lock.observed.cuda.framework is not None
    name, there = lock.observed.cuda.framework
    assert (name, there.version) == (kind.framework, version) and there.git and there.flags
    assert {library.owner for library in lock.observed.cuda.loaded} >= {kind.distribution}
    reference = lock.observed.reference
    assert reference is not None
    smoke = reference.smoke
    assert (smoke.framework, smoke.device, smoke.steps, smoke.self_exact, smoke.wandb_rows) == (kind.framework, "cpu", STEPS, True, 21)
    assert smoke.map50 >= MAP50 and set(smoke.gradient) == kind.precisions
    assert {kind.framework, f"{kind.framework}_git", "cpu", "threads", "flags"} <= set(smoke.key)
    assert ("wandb" in {package.name for package in reference.kit}) == kind.lent


def test_every_package_is_proven(ground: Ground) -> None:
    assert ground.told["provenance"]["index"] == ground.told["packages"], ground.told["warnings"]


def test_the_image_computes_the_same(ground: Ground, image: str) -> None:
    verdict = ground.machine.envsnap("verify", image, "--against", ground.path)
    assert (verdict["verdict"], verdict["device"]) == ("pass", "cpu")
    judged = {check["id"]: check for check in verdict["checks"]}
    assert {f"identity.{ground.kind.framework}", "identity.flags", "identity.libraries"} <= set(judged)
    assert {f"fingerprint.{precision}" for precision in ground.kind.precisions} <= set(judged)
    assert judged["training.losses"]["actual"] == f"{STEPS} bit-equal"


@pytest.fixture(scope="module")
def patched(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment again, with a constant of one operation changed in its installed files."""
    place = tmp_path_factory.mktemp("patched") / "env"
    subprocess.run(["cp", "-al", ground.python.parents[1], place], check=True)
    source = next(place.glob("lib/python3*/site-packages")) / ground.kind.source
    text = source.read_text(encoding="utf-8")
    assert ground.kind.before in text
    shutil.rmtree(source.parent / "__pycache__", ignore_errors=True)
    source.unlink()  # it is the other environment's, too
    source.write_text(text.replace(ground.kind.before, ground.kind.after), encoding="utf-8")
    return place / "bin/python"


def test_a_patched_operation_fails_every_layer(ground: Ground, patched: Path) -> None:
    verdict = ground.machine.envsnap("verify", ground.path, "--python", patched, code=7)
    assert set(failed(verdict)) == {
        "identity.edited", *(f"fingerprint.{precision}" for precision in ground.kind.precisions),
        "training.losses", "training.state",
    } | ({"training.map50"} & set(failed(verdict)))  # fmt: skip
    assert Path(ground.kind.source).name in failed(verdict)["identity.edited"]


def test_a_variable_that_steers_fails_identity(ground: Ground) -> None:
    name, value = ground.kind.variable
    steered = Machine(project=ground.machine.project, cache=ground.machine.cache, env={name: value})
    verdict = steered.envsnap("verify", ground.path, "--python", ground.python, "--require", "L0", code=7)
    assert set(failed(verdict)) == {"identity.env", "identity.flags"}
    assert f"{name} = {value}" in failed(verdict)["identity.env"] and ground.kind.flag in failed(verdict)["identity.flags"]
