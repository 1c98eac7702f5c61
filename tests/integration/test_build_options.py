"""What a build can be told, and bases of other kinds: a small environment, in the engine afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from envsnap.engines.docker import DockerEngine
from tests.integration.conftest import forget
from tests.integration.ground import NAME, Machine, make_project

pytestmark = pytest.mark.engine

CA_BUNDLE = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
TAG = "envsnap-test/options:1"


@pytest.fixture
def machine(small: Machine, tmp_path: Path) -> Machine:
    return small.again(tmp_path)


@pytest.fixture
def tag(engine: DockerEngine) -> Iterator[str]:
    yield TAG
    forget(engine, TAG)


def run(image: str, *command: str) -> str:
    return subprocess.run(["docker", "run", "--rm", image, *command], capture_output=True, text=True, check=True).stdout.strip()


def test_variables_and_no_source(debian_base: str, tag: str, engine: DockerEngine, tmp_path: Path) -> None:
    """Of a project that is not installed in place: an environment that holds nothing."""
    machine = Machine(project=make_project(tmp_path / "project"), cache=tmp_path / "cache")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    machine.envsnap("capture", "--python", tmp_path / "env", "--name", NAME, "--offline")
    words = ("build", machine.lock, "--base", debian_base, "-t", tag)
    whole = machine.envsnap(*words)
    assert (whole["engine"], whole["cached"]) == ("oci", False)
    assert run(tag, "sh", "-c", "echo ${MINE-unset}; pwd; ls").splitlines()[:2] == ["unset", "/workspace/project"]
    built = machine.envsnap(*words, "--no-source", "--env", "MINE=a b")
    assert built["image"]["layers"] == whole["image"]["layers"] - 1
    assert built["lock_digest"] == whole["lock_digest"]
    assert run(tag, "sh", "-c", "echo $MINE; pwd; ls").splitlines() == ["a b", "/workspace"]
    assert run(tag, "python", "-c", "import sys; print(sys.prefix)") == "/opt/envsnap/env"
    # The record is that of the last build, and says what the answer said.
    record = yaml.safe_load((machine.images / "image.yaml").read_text())
    found = engine.image(tag)
    assert found is not None
    assert record["config_digest"] == built["image"]["config_digest"] == found.config_digest
    for field in ("reference", "manifest_digest", "size_bytes", "layers"):
        assert record[field] == built["image"][field], field
    assert (record["engine"], record["tags"], record["lock_digest"]) == ("oci", built["tags"], built["lock_digest"])
    assert record["base"].startswith(f"{debian_base}@sha256:")
    again = machine.envsnap(*words, "--no-source", "--env", "MINE=a b")
    assert (again["cached"], again["image"]) == (True, built["image"])


@pytest.fixture
def base_of_the_engine(engine: DockerEngine, debian_base: str) -> Iterator[str]:
    """A base that no registry has, with a user of its own."""
    tag = f"envsnap-test/only-here:{os.getpid()}"
    dockerfile = f"FROM {debian_base}\nRUN useradd --uid 4321 somebody\nUSER somebody\n"
    subprocess.run(["docker", "build", "--quiet", "--tag", tag, "-"], input=dockerfile, text=True, check=True, capture_output=True)
    yield tag
    forget(engine, tag)


def test_a_base_that_only_the_engine_has_is_built_on_by_docker(
    machine: Machine, base_of_the_engine: str, tag: str, engine: DockerEngine
) -> None:
    words = ("build", machine.lock, "--base", base_of_the_engine, "-t", tag, "--ca-bundle", CA_BUNDLE)
    refused = machine.envsnap(*words, "--engine", "oci", code=5)["error"]
    assert "only an engine has the base" in refused["why"] and "--engine docker" in refused["hint"]
    assert engine.image(tag) is None
    with machine.start(*words) as child:
        answer, talk = child.communicate()
    assert child.returncode == 0, talk
    assert "built by Docker: only an engine has the base" in talk
    assert json.loads(answer)["engine"] == "docker"
    assert run(tag, "id", "-u") == "4321"


@pytest.mark.long
def test_what_a_base_wants_of_builds_upon_it_is_carried_out(
    machine: Machine, debian_base: str, registry: str, tag: str, engine: DockerEngine
) -> None:
    base = f"{registry}/envsnap-test/on-build:1"
    dockerfile = f"FROM {debian_base}\nONBUILD RUN touch /carried-out\n"
    subprocess.run(["docker", "build", "--quiet", "--tag", base, "-"], input=dockerfile, text=True, check=True, capture_output=True)
    try:
        subprocess.run(["docker", "push", "--quiet", base], check=True, capture_output=True)
        words = ("build", machine.lock, "--base", base, "-t", tag, "--ca-bundle", CA_BUNDLE)
        refused = machine.envsnap(*words, "--engine", "oci", code=5)["error"]
        assert "(ONBUILD)" in refused["why"] and "--engine docker" in refused["hint"]
        assert machine.envsnap(*words)["engine"] == "docker"
        run(tag, "test", "-e", "/carried-out")
        told = subprocess.run(
            ["docker", "inspect", "--format", "{{json .Config.OnBuild}}", tag], check=True, capture_output=True, text=True
        )
        assert json.loads(told.stdout) in (None, [])
    finally:
        forget(engine, base)


def test_a_base_with_a_user_keeps_it_and_the_environment_is_roots(
    machine: Machine, base_of_the_engine: str, tag: str, registry: str, engine: DockerEngine
) -> None:
    base = f"{registry}/envsnap-test/with-user:1"
    for command in (["tag", base_of_the_engine, base], ["push", "--quiet", base]):
        subprocess.run(["docker", *command], check=True, capture_output=True)
    try:
        assert machine.envsnap("build", machine.lock, "--base", base, "-t", tag)["engine"] == "oci"
        asked = "id -u; touch ~/x new && stat -c %u /opt/envsnap/env ~/x train.sh; ./train.sh"
        assert run(tag, "sh", "-c", asked).splitlines() == ["4321", "0", "4321", "0", "changed"]
        verdict = machine.envsnap("verify", tag, "--gpus", "none", "--require", "L0")
        assert verdict["verdict"] == "pass", verdict["checks"]
    finally:
        forget(engine, base)
