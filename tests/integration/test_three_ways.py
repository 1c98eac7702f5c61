"""A training environment of an index's torch on Python 3.11, each way that it can be carried: planned with what it adds, built, verified.

On NVIDIA's image with another Python, on Debian's own packages, and where there is no Python at all; `test_main_job` has it on NVIDIA's
with the same Python.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from envsnap import lockfile
from envsnap.engines.docker import DockerEngine
from tests.integration import ground
from tests.integration.conftest import forget
from tests.integration.ground import Machine

pytestmark = pytest.mark.engine
CA_BUNDLE = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")


def rows(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The first row of each strategy."""
    first: dict[str, dict[str, Any]] = {}
    for row in told["candidates"]:
        first.setdefault(row["strategy"], row)
    return first


def test_a_plan_says_of_each_way_what_it_adds_or_why_it_is_none(small: Machine, debian_base: str) -> None:
    found = rows(small.envsnap("plan", small.lock, "--base", debian_base, "--fetch-base"))  # whatever the engine has of it
    assert {name: row["possible"] for name, row in found.items()} == {"venv": True, "slim": True, "ngc-venv": False, "ngc-delta": False}
    assert found["venv"]["pull_bytes"] is not None and found["venv"]["added_bytes"] > 15_000_000  # numpy's wheel
    assert found["slim"]["added_bytes"] == found["venv"]["added_bytes"]
    assert "capture --rescue python" in found["ngc-venv"]["way"] and found["ngc-delta"]["added_bytes"] is None


# -- with all of torch: minutes each, 3 GB and a base


@pytest.fixture(scope="module")
def machine(training_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """With the lock of the training environment, its interpreter and its smoke-train. Wheels and layers of other tests are used again."""
    place = tmp_path_factory.mktemp("three-ways")
    (place / "project").mkdir()
    kept = os.environ.get("ENVSNAP_CACHE")
    made = Machine(project=place / "project", cache=Path(kept) if kept else place / "cache", timeout_s=1800)
    made.envsnap("capture", "--python", training_python, "--name", ground.NAME, "--smoke", "--rescue", "python")
    tree = lockfile.loads(made.lock.read_bytes()).python.tree
    if tree is None:
        pytest.skip("the training environment's interpreter is the distribution's own")
    return made


@pytest.mark.long
@pytest.mark.torch
def test_the_plan_shows_all_three_with_sizes(machine: Machine, ngc_25_03: str) -> None:
    told = machine.envsnap("plan", machine.lock, "--base", ngc_25_03)
    found = rows(told)
    assert told["strategy"] == "ngc-venv" and found["ngc-venv"]["reference"] == ngc_25_03
    assert {name: row["possible"] for name, row in found.items()} == {"ngc-venv": True, "slim": True, "ngc-delta": False}
    assert found["ngc-venv"]["carried"] and not found["slim"]["carried"]
    wheels = found["slim"]["added_bytes"]
    assert 2_000_000_000 < wheels < found["ngc-venv"]["added_bytes"] < wheels + 200_000_000  # the interpreter, and what it loads
    assert "NVIDIA's 2.12.0a0" in found["ngc-delta"]["reason"] and found["ngc-delta"]["breaks"] and found["ngc-delta"]["way"]


@pytest.mark.long
@pytest.mark.torch
@pytest.mark.parametrize(
    ("base", "strategy", "carried"),
    [
        ("ngc_25_03", "ngc-venv", True),
        ("debian:bookworm", "slim", False),
        ("bare", "venv", True),
    ],
)
def test_each_that_is_chosen_builds_and_verifies(
    machine: Machine, engine: DockerEngine, request: pytest.FixtureRequest, base: str, strategy: str, carried: bool
) -> None:
    """Args: base: a fixture, or the name itself."""
    named = base if ":" in base else str(request.getfixturevalue(base))
    tag = f"envsnap-test/three-ways:{os.getpid()}"
    try:
        made = machine.envsnap("build", machine.lock, "--base", named, "-t", tag, "--engine", "oci", "--load", "--ca-bundle", CA_BUNDLE)
        told = machine.envsnap("plan", machine.lock)
        chosen = told["candidates"][0]
        assert (chosen["strategy"], chosen["carried"], chosen["possible"]) == (strategy, carried, True)
        assert told["image"]["config_digest"] == made["image"]["config_digest"]
        assert machine.envsnap("verify", tag, "--gpus", "none")["verdict"] == "pass"
    finally:
        forget(engine, tag)
