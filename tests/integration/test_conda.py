"""An environment of conda with pip on top: captured, built, run by a real engine, and the same there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envsnap import lockfile
from envsnap.engines.docker import DockerEngine
from tests.fakes import conda, wheels
from tests.integration.conftest import forget

pytestmark = [pytest.mark.engine, pytest.mark.skipif(not conda.AVAILABLE, reason="no conda client, or no gcc")]

TAG = "envsnap-test/conda:1"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def envsnap(root: Path, *words: str, code: int = 0, **variables: str) -> dict[str, Any]:
    env = {**os.environ, "ENVSNAP_CACHE": str(root / "cache"), **variables}
    command = [sys.executable, "-m", "envsnap.cli.main", *words, "--json"]
    done = subprocess.run(command, cwd=root / "project", env=env, capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("conda")
    (root / "project").mkdir()
    conda.install(conda.make_channel(root).as_uri(), root / "env", root / "packages")
    wheels.install(root / "env", wheels.write_wheel(root / wheels.DEMO_FILE, wheels.DEMO))
    (root / "env/share/demo/where.txt").write_text(f"edited, below {root / 'env'}\n")
    return root


@pytest.fixture(scope="module")
def lock(root: Path) -> Path:
    document = envsnap(root, "capture", "--python", str(root / "env"), "--name", "mix")
    assert document["provenance"]["rebuilt"] == 3 and document["provenance"]["unproven"] == 0, document
    return root / "project" / str(document["lock"])


@pytest.fixture(scope="module")
def image(engine: DockerEngine, root: Path, lock: Path, debian_base: str) -> Iterator[str]:
    assert envsnap(root, "build", str(lock), "--base", debian_base, "-t", TAG, "--ca-bundle", CA_BUNDLE)["engine"] == "oci"
    yield TAG
    forget(engine, TAG)


def inside(image: str, *command: str) -> str:
    return subprocess.run(["docker", "run", "--rm", "-u", "1000:1000", image, *command], capture_output=True, text=True, check=True).stdout


def test_binaries_scripts_and_edits_work_at_the_new_prefix(root: Path, image: str) -> None:
    code = "import demo_module, demo_native, demo_pure, sys; print(sys.prefix, demo_native.where(), demo_pure.VALUE); demo_module.main()"
    assert inside(image, "python", "-c", code) == "/opt/envsnap/env /opt/envsnap/env/share/demo pure\nmain\n"
    assert inside(image, "demo-native") == "/opt/envsnap/env/share/demo\n"
    assert inside(image, "cat", "/opt/envsnap/env/share/demo/where.txt") == "edited, below /opt/envsnap/env\n"
    assert inside(image, "sh", "-c", f"grep -rl {root} /opt/envsnap/env --include=*.json --include=*.txt || true") == ""


def test_the_standard_library_and_all_packages_have_byte_code(image: str) -> None:
    """Of conda, and of pip."""
    code = "import argparse, json, demo_native, demo_pure, demo_module"
    done = subprocess.run(["docker", "run", "--rm", image, "python", "-B", "-v", "-c", code], capture_output=True, text=True, check=True)
    compiled = re.findall(r"^# code object from '?(/opt/envsnap/env/\S+?)'?$", done.stderr, re.MULTILINE)
    assert {"argparse", "demo_native", "demo_module"} <= {Path(path).name.partition(".")[0] for path in compiled}
    assert [path for path in compiled if not path.endswith(".pyc")] == []


FILES = """
cd /opt/envsnap/env
find . -name __pycache__ -prune -o -printf '%y %#m %U:%G %p -> %l\\n' | sort
find . -name '*.pyc' -prune -o -type f -print0 | sort -z | xargs -0 sha256sum
"""
OF_THE_INSTALLER = re.compile(r"/(INSTALLER|RECORD|REQUESTED|bin/demo-main)\b")  # the latter a script of an entry point


def test_docker_builds_the_same_files_from_the_same_plan(
    engine: DockerEngine, root: Path, image: str, lock: Path, debian_base: str
) -> None:
    tag = "envsnap-test/conda:docker"
    built = envsnap(root, "build", str(lock), "--base", debian_base, "-t", tag, "--ca-bundle", CA_BUNDLE, "--engine", "docker")
    try:
        assert built["engine"] == "docker"
        listings = [inside(name, "sh", "-c", FILES).splitlines() for name in (image, tag)]
    finally:
        forget(engine, tag)
    assembled, by_docker = ([line for line in listing if not OF_THE_INSTALLER.search(line)] for listing in listings)
    assert len(assembled) > 1000
    assert assembled == by_docker


def test_the_image_is_the_lock(root: Path, image: str) -> None:
    verdict = envsnap(root, "verify", image, "--gpus", "none", "--require", "L0")
    assert verdict["verdict"] == "pass", verdict["checks"]


def test_captured_from_the_image_conda_has_the_same_packages_and_files(root: Path, image: str, lock: Path) -> None:
    document = envsnap(root, "capture", "--image", image, "--name", "from-image")
    expected = lockfile.loads(lock.read_bytes()).python.conda
    found = lockfile.loads((root / "project" / str(document["lock"])).read_bytes()).python.conda
    assert expected is not None and found is not None and expected.tree is not None
    assert [(p.name, p.version, p.build, p.files) for p in found.packages] == [
        (p.name, p.version, p.build, p.files) for p in expected.packages
    ]


@pytest.mark.parametrize(
    ("command", "check"),
    [
        ("echo other > /opt/envsnap/env/share/demo/where.txt", "identity.edited"),
        ("rm /opt/envsnap/env/conda-meta/_libgcc_mutex-0.1-0.json", "identity.packages"),
        ("sed -i s/2.0/2.1/ /opt/envsnap/env/conda-meta/demo-native-2.0-py*_0.json", "identity.packages"),
    ],
)
def test_what_changes_in_the_image_is_seen(root: Path, image: str, command: str, check: str) -> None:
    spoilt = "envsnap-test/conda:spoilt"
    dockerfile = f"FROM {image}\nUSER root\nRUN {command}\n"
    subprocess.run(["docker", "build", "-q", "-t", spoilt, "-"], input=dockerfile, text=True, check=True, capture_output=True)
    try:
        verdict = envsnap(root, "verify", spoilt, "--gpus", "none", "--require", "L0", code=7)
    finally:
        subprocess.run(["docker", "image", "rm", "--force", spoilt], capture_output=True)
    assert check in [found["id"] for found in verdict["checks"] if found["status"] == "fail"]


def test_with_a_channel_that_answers_the_packages_are_named_by_url_and_hash(root: Path, tmp_path: Path) -> None:
    """Without an edit and from http, nothing is kept: the explicit list is what a client of the base is given."""
    with conda.serving(root / "channel") as url:
        conda.install(url, tmp_path / "env", tmp_path / "packages")
    project = tmp_path / "project"
    project.mkdir()
    document = envsnap(tmp_path, "capture", "--python", str(tmp_path / "env"), "--name", "explicit")
    assert document["provenance"] == {**dict.fromkeys(document["provenance"], 0), "conda": 2}, document
    locked = lockfile.loads((project / str(document["lock"])).read_bytes()).python.conda
    assert locked is not None and locked.tree is None
    plan = envsnap(tmp_path, "plan", str(project / str(document["lock"])), "--base", "slim")
    lines = next(step["explicit"] for step in plan["steps"] if step["kind"] == "make-conda-environment")
    files = {path.name: path for path in (root / "channel").rglob("*.conda")}
    assert len(lines) == 4
    for line in lines:
        address, _, md5 = line.partition("#")
        assert address.startswith(url) and conda.md5_of(files[address.rpartition("/")[2]]) == md5


def test_a_conda_client_of_the_base_makes_the_same_packages_at_the_images_prefix(
    engine: DockerEngine, root: Path, tmp_path: Path, registry: str, debian_base: str
) -> None:
    base, tag = f"{registry}/envsnap-test/client:1", "envsnap-test/explicit:1"
    (tmp_path / "base").mkdir()
    conda.make_client(tmp_path / "base")
    steps = f"FROM {debian_base}\nCOPY rattler /opt/client/rattler\nCOPY micromamba /usr/local/bin/micromamba\n"
    (tmp_path / "base/Dockerfile").write_text(steps)
    for command in (["build", "-q", "-t", base, str(tmp_path / "base")], ["push", "-q", base]):
        subprocess.run(["docker", *command], check=True, capture_output=True)
    network = json.loads(subprocess.run(["docker", "network", "inspect", "bridge"], check=True, capture_output=True).stdout)
    project = tmp_path / "project"
    project.mkdir()
    try:
        with conda.serving(root / "channel", network[0]["IPAM"]["Config"][0]["Gateway"]) as url:
            conda.install(url, tmp_path / "env", tmp_path / "packages")
            document = envsnap(tmp_path, "capture", "--python", str(tmp_path / "env"), "--name", "explicit", "--offline")
            words = ("build", str(document["lock"]), "--base", base, "-t", tag, "--ca-bundle", CA_BUNDLE, "--engine")
            refused = envsnap(tmp_path, *words, "oci", code=5)["error"]
            assert "conda client" in refused["why"] and "--engine auto" in refused["hint"]
            built = envsnap(tmp_path, *words, "auto")
        # That step alone is Docker's; the channel is not asked again.
        assert (built["engine"], built["cached"]) == ("oci", False)
        again = envsnap(tmp_path, *words, "auto")
        assert (again["cached"], again["image"]) == (True, built["image"])
        without = envsnap(tmp_path, *words, "auto", "--offline", DOCKER_HOST="unix:///nonexistent/docker.sock")
        assert without["image"]["config_digest"] == built["image"]["config_digest"]
        assert inside(tag, "demo-native") == "/opt/envsnap/env/share/demo\n"
        verdict = envsnap(tmp_path, "verify", tag, "--gpus", "none", "--require", "L0")
        assert verdict["verdict"] == "pass", verdict["checks"]
    finally:
        forget(engine, tag, base)
