"""What can go wrong between a lock and an image, each with its own sentence and code, and nothing half-written."""

from __future__ import annotations

import contextlib
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


def test_an_interrupted_build_leaves_nothing_half_made(place: Path, engine: DockerEngine, debian_base: str) -> None:
    """Ctrl-C while the image is being built: exit 130, no container, no tag, no record; the rendered context is whole."""
    before = containers()
    child, talk, nonce = interrupted_build(place, debian_base, 0.3)  # into the build, unless this engine is done by then
    for pause in (0.2, 0.1, 0.05, 0.0):
        if child.returncode != 0:
            break
        shutil.rmtree(place / "images")
        child, talk, nonce = interrupted_build(place, debian_base, pause)
    assert child.returncode == 130, talk
    assert b"Traceback" not in talk
    assert containers() == before
    assert engine.image(f"envsnap-test/interrupted:{nonce}") is None
    assert not (place / "images" / "empty" / "image.yaml").exists()
    assert not [name for name in listing(place / "images") if name.startswith(".")]


def interrupted_build(place: Path, base: str, pause: float) -> tuple[subprocess.Popen[bytes], bytes, int]:
    env = {**os.environ, "ENVSNAP_CACHE": str(place.parent / "cache")}
    nonce = time.time_ns()
    words = ["build", "lockfiles/empty.yaml", "--base", base, "-t", f"envsnap-test/interrupted:{nonce}", "--env", f"NONCE={nonce}"]
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


def test_what_is_lent_to_a_build_stays_out_of_what_is_pushed(place: Path, registry: str, debian_base: str, engine: DockerEngine) -> None:
    """A pip configuration with a credential: in no layer, no history, no record; the pushed digest is the registry's."""
    secret = f"s3cr3t-{time.time_ns()}"
    (place / "pip.conf").write_text(f"[global]\ntimeout = 60\n# {secret}\n")
    tag = f"{registry}/envsnap-test/lent:1"
    words = [
        "build",
        "lockfiles/empty.yaml",
        "--base",
        debian_base,
        "-t",
        tag,
        "--push",
        "--pip-conf",
        "pip.conf",
        "--env",
        "N=1",
        "--json",
    ]
    try:
        built = json.loads(envsnap(*words, cwd=place).stdout)
        assert built["image"]["manifest_digest"].startswith("sha256:")
        again = json.loads(envsnap(*words, cwd=place).stdout)
        assert (again["cached"], again["uploaded_bytes"]) == (True, 0)
        saved = subprocess.run(["docker", "save", tag], capture_output=True, check=True).stdout
        history = subprocess.run(["docker", "history", "--no-trunc", tag], capture_output=True, check=True).stdout
        assert secret.encode() not in saved + history + (place / "images" / "empty" / "image.yaml").read_bytes()
        assert not any(secret.encode() in path.read_bytes() for path in (place / "images").rglob("*") if path.is_file())
    finally:
        subprocess.run(["docker", "image", "rm", "--force", tag], capture_output=True)
