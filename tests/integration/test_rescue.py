"""What no index has, is edited or lies elsewhere: captured, built, run by a real engine, and equal file for file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envsnap import lockfile
from envsnap.engines.docker import DockerEngine
from tests.fakes import nvml, wheels
from tests.integration.conftest import forget

pytestmark = pytest.mark.engine

TAG = "envsnap-test/rescue:1"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def envsnap(root: Path, *words: str, code: int = 0) -> dict[str, Any]:
    env = {**os.environ, "ENVSNAP_CACHE": str(root / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "envsnap.cli.main", *words, "--json"], cwd=root / "project", env=env, capture_output=True, text=True
    )
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with an edited package that no index has, and an editable one whose project is another directory."""
    root = tmp_path_factory.mktemp("rescue")
    (root / "project").mkdir()
    environment = wheels.make_environment(root / "env")
    wheels.install(environment, wheels.write_wheel(root / wheels.DEMO_FILE, wheels.DEMO))
    site = wheels.site_of(environment)
    (site / "demo_module.py").write_text("def main(): print('edited in place')\n")
    (site / "demo_pkg/added.py").write_text("ADDED = 1\n")
    (root / "elsewhere").mkdir()
    (root / "elsewhere/far_away.py").write_text("WHERE = 'elsewhere'\n")
    metadata = site / "far_away-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: far-away\nVersion: 1.0\n")
    (metadata / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (metadata / "direct_url.json").write_text(json.dumps({"url": (root / "elsewhere").as_uri(), "dir_info": {"editable": True}}))
    (metadata / "top_level.txt").write_text("far_away\n")
    (site / "far_away.pth").write_text(f"{root / 'elsewhere'}\n")
    record = ["far_away.pth,,", *(f"far_away-1.0.dist-info/{name},," for name in ("METADATA", "WHEEL", "RECORD"))]
    (metadata / "RECORD").write_text("\n".join(record) + "\n")
    wheels.install(environment, f"git+{repository(root / 'moving').as_uri()}@main")
    (root / "moving/moving.py").write_text("WHERE = 'after'\n")  # the branch goes on
    git(root / "moving", "commit", "-qam", "two")
    return root


def git(place: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    return subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True, text=True).stdout.strip()


def repository(place: Path) -> Path:
    """One with a package that brings its own build backend, so that pip needs nothing else."""
    place.mkdir()
    git(place, "init", "-q", "-b", "main")
    (place / "pyproject.toml").write_text("[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n")
    (place / "backend.py").write_text(BACKEND)
    (place / "moving.py").write_text("WHERE = 'before'\n")
    git(place, "add", ".")
    git(place, "commit", "-qm", "one")
    return place


BACKEND = """
import zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    info = "moving-1.0.dist-info"
    files = {
        "moving.py": open("moving.py").read(),
        f"{info}/METADATA": "Metadata-Version: 2.1\\nName: moving\\nVersion: 1.0\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    with zipfile.ZipFile(f"{directory}/moving-1.0-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\\n" for name in (*files, f"{info}/RECORD")))
    return "moving-1.0-py3-none-any.whl"
"""


@pytest.fixture(scope="module")
def lock(root: Path) -> Path:
    before = files_below(root / "env")
    document = envsnap(root, "capture", "--python", str(root / "env"), "--name", "rescue")
    assert files_below(root / "env") == before  # a capture changes nothing
    assert document["provenance"]["rebuilt"] == 2, document
    assert document["provenance"]["unproven"] == 0 and document["provenance"]["vcs"] == 1, document
    return root / "project" / str(document["lock"])


@pytest.fixture(scope="module")
def image(engine: DockerEngine, root: Path, lock: Path, debian_base: str) -> Iterator[str]:
    assert envsnap(root, "build", str(lock), "--base", debian_base, "-t", TAG, "--ca-bundle", CA_BUNDLE)["engine"] == "oci"
    yield TAG
    forget(engine, TAG)


def test_an_environment_that_did_not_change_has_no_drift(root: Path, lock: Path) -> None:
    """Although some of it is edited, of no index, or elsewhere; and no index is asked."""
    document = envsnap(root, "diff", str(lock), "--python", str(root / "env"))
    assert document == {"equal": True, "differences": []}
    module = wheels.site_of(root / "env") / "demo_module.py"
    before = module.read_bytes()
    module.write_text("def main(): print('edited again')\n")
    try:
        document = envsnap(root, "diff", str(lock), "--python", str(root / "env"), code=7)
    finally:
        module.write_bytes(before)
    assert {difference["field"] for difference in document["differences"] if difference["grade"] == "breaking"} == {
        "packages.demo-pkg.files"
    }


def test_the_image_has_the_edit_and_what_lay_elsewhere(image: str) -> None:
    code = "import demo_module, demo_pkg.added as a, far_away, moving; demo_module.main(); print(far_away.WHERE, a.ADDED, moving.WHERE)"
    done = subprocess.run(["docker", "run", "--rm", image, "python", "-c", code], capture_output=True, text=True)
    assert done.stdout == "edited in place\nelsewhere 1 before\n", done.stderr


def test_the_image_is_the_lock(root: Path, image: str) -> None:
    verdict = envsnap(root, "verify", image, "--gpus", "none", "--require", "L0")
    assert verdict["verdict"] == "pass", verdict["checks"]


def test_captured_from_the_image_the_packages_have_the_same_files(root: Path, image: str, lock: Path) -> None:
    document = envsnap(root, "capture", "--image", image, "--name", "from-image")
    expected = lockfile.loads(lock.read_bytes())
    found = lockfile.loads((root / "project" / str(document["lock"])).read_bytes())
    assert {p.name: (p.version, p.files) for p in found.packages} == {p.name: (p.version, p.files) for p in expected.packages}


def inside(container: str, *command: str) -> str:
    return subprocess.run(["docker", "exec", container, *command], capture_output=True, text=True, check=True).stdout


def changes(container: str) -> list[str]:
    """What a container has that its image has not."""
    return sorted(subprocess.run(["docker", "diff", container], capture_output=True, text=True, check=True).stdout.splitlines())


def numbers(listing: str) -> int:
    return sum(name.isdigit() for name in listing.split())


@pytest.fixture
def container(image: str) -> Iterator[str]:
    name = "envsnap-test-running"
    command = ["docker", "run", "--detach", "--rm", "--name", name, "--user", "1000:1000", image, "sleep", "600"]
    subprocess.run(command, capture_output=True, check=True)
    yield name
    subprocess.run(["docker", "rm", "--force", name], capture_output=True)


def test_a_running_container_has_the_same_packages_and_is_not_changed(root: Path, container: str, lock: Path) -> None:
    subprocess.run(["docker", "exec", container, "touch", "/tmp/before"], check=True)
    before, processes = changes(container), inside(container, "ls", "/proc")
    document = envsnap(root, "capture", "--container", container, "--name", "from-container")
    assert changes(container) == before
    assert numbers(inside(container, "ls", "/proc")) == numbers(processes)  # nothing goes on running
    expected = lockfile.loads(lock.read_bytes())
    found = lockfile.loads((root / "project" / str(document["lock"])).read_bytes())
    assert {p.name: (p.version, p.files) for p in found.packages} == {p.name: (p.version, p.files) for p in expected.packages}
    # No index has them, here as there: they are kept as wheels, made in the container; that of the repository came as one.
    assert document["provenance"]["rebuilt"] == 3 and document["provenance"]["unproven"] == 0, document


def test_what_is_edited_in_a_running_container_is_kept(root: Path, image: str) -> None:
    name = "envsnap-test-edited"
    site = "/opt/envsnap/env/lib/python3.11/site-packages"
    edit = f"echo \"def main(): print('edited inside')\" > {site}/demo_module.py; exec sleep 600"
    subprocess.run(["docker", "run", "-d", "--rm", "--name", name, "-u", "0", image, "sh", "-c", edit], capture_output=True, check=True)
    try:
        document = envsnap(root, "capture", "--container", name, "--name", "edited")
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True)
    found = lockfile.loads((root / "project" / str(document["lock"])).read_bytes())
    demo = next(package for package in found.packages if package.name == "demo-pkg")
    assert demo.modified == ("demo_module.py",) and demo.blob is not None
    wheel = zipfile.ZipFile(root / "project/lockfiles/edited.blobs/sha256" / demo.blob.removeprefix("sha256:"))
    assert wheel.read("demo_module.py") == b"def main(): print('edited inside')\n"


def test_the_gpus_are_those_that_the_container_sees(root: Path, image: str, tmp_path: Path) -> None:
    """By the driver's library inside, which is a fake here; the engine's host has none."""
    name = "envsnap-test-gpus"
    nvml.write(nvml.host(*(nvml.h100(index) for index in range(2)), pairs=nvml.NVSWITCH), tmp_path / "scenario")
    library = nvml.build_library(tmp_path) / "libnvidia-ml.so.1"
    command = ["docker", "create", "--name", name, "-e", "FAKE_NVML=/scenario", image, "sleep", "600"]
    subprocess.run(command, capture_output=True, check=True)
    try:
        for file, place in ((library, "/usr/lib/libnvidia-ml.so.1"), (tmp_path / "scenario", "/scenario")):
            subprocess.run(["docker", "cp", str(file), f"{name}:{place}"], capture_output=True, check=True)
        subprocess.run(["docker", "start", name], capture_output=True, check=True)
        document = envsnap(root, "capture", "--container", name, "--name", "gpus")
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True)
    gpu = lockfile.loads((root / "project" / str(document["lock"])).read_bytes()).observed.gpu
    assert [device.name for device in gpu.devices] == ["NVIDIA H100 80GB HBM3"] * 2 and gpu.topology == ("0-1 18x NVLink",)


def test_a_container_that_does_not_run_is_said(root: Path, image: str) -> None:
    assert "no container" in envsnap(root, "capture", "--container", "nobody", code=3)["error"]["what"]
    subprocess.run(["docker", "create", "--name", "envsnap-test-stopped", image], capture_output=True, check=True)
    try:
        error = envsnap(root, "capture", "--container", "envsnap-test-stopped", code=3)["error"]
    finally:
        subprocess.run(["docker", "rm", "envsnap-test-stopped"], capture_output=True)
    assert "does not run" in error["what"] and "docker start" in error["hint"]


def test_a_lost_edit_is_seen(root: Path, image: str, lock: Path) -> None:
    spoilt = "envsnap-test/rescue:spoilt"
    site = "/opt/envsnap/env/lib/python3.11/site-packages"
    dockerfile = f"FROM {image}\nUSER root\nRUN echo 'def main(): ...' > {site}/demo_module.py\n"
    subprocess.run(["docker", "build", "-q", "-t", spoilt, "-"], input=dockerfile, text=True, check=True, capture_output=True)
    try:
        verdict = envsnap(root, "verify", spoilt, "--against", str(lock), "--gpus", "none", "--require", "L0", code=7)
        assert {check["id"] for check in verdict["checks"] if check["status"] == "fail"} >= {"identity.edited"}
    finally:
        subprocess.run(["docker", "image", "rm", "--force", spoilt], capture_output=True)
