"""What can go wrong between a lock and an image, each with its own sentence and code, and nothing half-written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envsnap.engines.docker import DockerEngine
from tests import opened
from tests.integration.conftest import forget

pytestmark = pytest.mark.engine

ENVSNAP = [sys.executable, "-m", "envsnap.cli.main"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the lock of an environment that holds nothing: no index is needed to make it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (tmp_path / "work").mkdir()
    envsnap("capture", "--python", str(tmp_path / "venv"), "--name", "empty", "--offline", cwd=tmp_path / "work")
    return tmp_path / "work"


def envsnap(*words: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "ENVSNAP_CACHE": str(cwd.parent / "cache")}
    done = subprocess.run([*ENVSNAP, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def listing(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


def test_a_base_that_no_registry_has(place: Path, registry: str) -> None:
    done = envsnap("build", "lockfiles/empty.yaml", "--base", f"{registry}/nobody/has:this", cwd=place, code=6)
    assert f"{registry}/nobody/has:this" in done.stderr
    assert "try" in done.stderr
    assert not (place / "images").exists()
    body = json.loads(
        envsnap("render", "lockfiles/empty.yaml", "--base", f"{registry}/nobody/has:this", "--json", cwd=place, code=6).stdout
    )
    assert body["error"]["code"] == 6


@pytest.mark.skipif(os.geteuid() != 0, reason="a full disk is made by mounting a tiny one, which needs root")
def test_a_full_disk_in_the_context_directory(place: Path, debian_base: str) -> None:
    images = place / "images"
    images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(images)], check=True)
    try:
        done = envsnap("render", "lockfiles/empty.yaml", "--base", debian_base, cwd=place, code=3)
        assert "no space left" in done.stderr
        assert listing(images) == set()
    finally:
        subprocess.run(["umount", str(images)], check=True)


@pytest.mark.alone
@pytest.mark.parametrize("which", ["docker", "oci"])
def test_an_interrupted_build_leaves_nothing_half_made(place: Path, engine: DockerEngine, debian_base: str, which: str) -> None:
    """Ctrl-C while the image is being built: exit 130, no container, no tag, no record; the rendered context is whole."""
    before = containers()
    child, talk, nonce = interrupted_build(place, debian_base, which, 0.3)  # into the build, unless it is done by then
    for pause in (0.2, 0.1, 0.05, 0.0):
        too_late = engine.image(f"envsnap-test/interrupted:{nonce}") is not None  # whole, under its name: only the record was to come
        if child.returncode not in (0, -signal.SIGINT) and not too_late:  # the latter of a process that was ending anyway
            break
        shutil.rmtree(place / "images")
        forget(engine, f"envsnap-test/interrupted:{nonce}")
        child, talk, nonce = interrupted_build(place, debian_base, which, pause)
    assert child.returncode == 130, talk
    assert b"Traceback" not in talk
    assert containers() == before
    assert engine.image(f"envsnap-test/interrupted:{nonce}") is None
    assert not (place / "images" / "empty" / "image.yaml").exists()
    left = {*listing(place / "images"), *listing(place.parent / "cache")}
    assert [Path(name).name for name in left if Path(name).name.startswith(".")] == [".dockerignore"]


def interrupted_build(place: Path, base: str, which: str, pause: float) -> tuple[subprocess.Popen[bytes], bytes, int]:
    env = {**os.environ, "ENVSNAP_CACHE": str(place.parent / "cache")}
    nonce = time.time_ns()
    tag = f"envsnap-test/interrupted:{nonce}"
    words = ["build", "lockfiles/empty.yaml", "--engine", which, "--base", base, "-t", tag, "--env", f"NONCE={nonce}"]
    with subprocess.Popen(
        [*ENVSNAP, *words], cwd=place, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as child:
        deadline = time.monotonic() + 120
        while not (place / "images" / "empty" / "Dockerfile").exists() and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(pause)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)
        _, talk = child.communicate(timeout=60)
    return child, talk, nonce


def containers() -> set[str]:
    return set(subprocess.run(["docker", "ps", "--all", "--quiet"], capture_output=True, text=True, check=True).stdout.split())


def test_a_context_builds_without_envsnap(place: Path, debian_base: str) -> None:
    envsnap("render", "lockfiles/empty.yaml", "--base", debian_base, cwd=place)
    bundle = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    words = [
        "docker",
        "build",
        "--quiet",
        "--secret",
        f"id=ca,src={bundle}",
        "--tag",
        "envsnap-test/plain:1",
        str(place / "images" / "empty"),
    ]
    env = {**os.environ, "DOCKER_BUILDKIT": "1"}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    try:
        where = ["docker", "run", "--rm", "--user", "1000:1000", "envsnap-test/plain:1", "python", "-c", "import sys; print(sys.prefix)"]
        assert subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip() == "/opt/envsnap/env"
    finally:
        subprocess.run(["docker", "image", "rm", "--force", "envsnap-test/plain:1"], capture_output=True)


def test_rendering_twice_gives_the_same_bytes(place: Path, debian_base: str) -> None:
    def files() -> dict[str, bytes]:
        root = place / "images" / "empty"
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    envsnap("render", "lockfiles/empty.yaml", "--base", debian_base, cwd=place)
    first = files()
    envsnap("render", "lockfiles/empty.yaml", "--base", debian_base, cwd=place)
    assert files() == first
    envsnap("render", "lockfiles/empty.yaml", cwd=place)  # the base of the last plan stays, by its digest
    assert files() == first


@pytest.mark.parametrize("which", ["docker", "oci"])
def test_what_is_lent_to_a_build_stays_out_of_what_is_pushed(
    place: Path, registry: str, debian_base: str, engine: DockerEngine, which: str
) -> None:
    """A pip configuration with a credential: in no layer, no history, no record; what was pushed is there, and only there if assembled."""
    secret = f"s3cr3t-{time.time_ns()}"
    (place / "pip.conf").write_text(f"[global]\ntimeout = 60\n# {secret}\n")
    tag = f"{registry}/envsnap-test/lent-{which}:1"
    lent = ("--pip-conf", "pip.conf", "--env", f"N={time.time_ns()}")
    words = ("build", "lockfiles/empty.yaml", "--engine", which, "--base", debian_base, "-t", tag, "--push", *lent, "--json")
    try:
        built = json.loads(envsnap(*words, cwd=place).stdout)
        manifest, config = next(data for _, data in opened.in_registry(tag)), built["image"]["config_digest"]
        assert built["image"]["manifest_digest"] == f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        assert config == json.loads(manifest)["config"]["digest"]
        assert built["uploaded_bytes"] > 0
        again = json.loads(envsnap(*words, cwd=place).stdout)
        assert (again["cached"], again["uploaded_bytes"]) == (True, 0)
        assert again["image"] == built["image"] and again["lock_digest"] == built["lock_digest"]
        in_engine = engine.image(tag)
        assert (in_engine is None) == (which == "oci")  # --push without --load
        said = opened.in_engine(tag) if in_engine is not None else ()
        assert not [name for name, data in (*opened.in_registry(tag), *said, *opened.below(place / "images")) if secret.encode() in data]
        assert not [name for name, data in opened.below(place.parent / "cache") if secret.encode() in data]
    finally:
        forget(engine, tag)
