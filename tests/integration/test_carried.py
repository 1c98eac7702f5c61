"""An environment on a Python that the base has not: its interpreter is kept at the capture, and runs in the image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envsnap import lockfile
from envsnap.engines.docker import DockerEngine
from tests.fakes import wheels
from tests.integration.conftest import forget

pytestmark = pytest.mark.engine
TAG = "envsnap-test/carried:1"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
MODULES = "ssl, sqlite3, ctypes, zlib, lzma, bz2, readline, uuid, decimal, multiprocessing"
CODE = f"""
import {MODULES}, sys, demo_module
demo_module.main()
print(sys.version.split()[0], sys.base_prefix, sys.prefix)
mapped = sorted({{line.split()[5] for line in open("/proc/self/maps") if "/" in line}})
print(all(path.startswith(("/usr/lib/", "/lib/", "/opt/envsnap/")) for path in mapped), mapped)
"""


def envsnap(root: Path, *words: str) -> dict[str, Any]:
    env = {**os.environ, "ENVSNAP_CACHE": str(root / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "envsnap.cli.main", *words, "--json"], cwd=root / "project", env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("carried")
    (root / "project").mkdir()
    environment = wheels.make_environment(root / "env")
    wheels.install(environment, wheels.write_wheel(root / wheels.DEMO_FILE, wheels.DEMO))
    return root


@pytest.fixture(scope="module")
def lock(root: Path) -> Path:
    if Path(sys.base_prefix).resolve() == Path("/usr"):
        pytest.skip("the interpreter that runs this is the distribution's own")
    return (
        root / "project" / str(envsnap(root, "capture", "--python", str(root / "env"), "--name", "carried", "--rescue", "python")["lock"])
    )


def test_the_lock_says_what_it_needs(lock: Path) -> None:
    tree = lockfile.loads(lock.read_bytes()).python.tree
    assert tree is not None
    assert tree.libc.startswith("2.") and "libc.so.6" in tree.sonames and not any(name.startswith("libpython") for name in tree.sonames)


def test_an_environment_that_did_not_change_has_no_drift(root: Path, lock: Path) -> None:
    assert envsnap(root, "diff", str(lock), "--python", str(root / "env"))["equal"]


@pytest.mark.parametrize("which", ["docker", "oci"])
def test_it_runs_in_an_image_whose_base_has_no_python(root: Path, lock: Path, bare: str, which: str, engine: DockerEngine) -> None:
    envsnap(root, "build", str(lock), "--base", bare, "-t", TAG, "--engine", which, "--ca-bundle", CA_BUNDLE)
    try:
        done = subprocess.run(["docker", "run", "--rm", "-u", "1000", TAG, "python", "-c", CODE], capture_output=True, text=True)
    finally:
        forget(engine, TAG)
    version = ".".join(map(str, sys.version_info[:3]))
    said, identity, mapped = done.stdout.splitlines() or ["", "", done.stderr]
    assert (said, identity) == ("main", f"{version} /opt/envsnap/python /opt/envsnap/env"), done.stderr
    assert mapped.startswith("True"), mapped
