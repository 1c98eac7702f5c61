"""What dpkg installed for Debian's own Python: captured, planned, built of wheels that were asked for, and equal afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envsnap import lockfile
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import BuildInputs
from envsnap.model.lock import LockedPackage
from envsnap.model.origins import SystemOrigin
from envsnap.progress import SILENT
from tests.integration.conftest import PLATFORM, forget

pytestmark = pytest.mark.engine

SITE = "usr/lib/python3/dist-packages"
EGG = {
    f"{SITE}/Demo_Egg-1.0.egg-info/PKG-INFO": "Metadata-Version: 2.1\nName: demo-egg\nVersion: 1.0\n",
    f"{SITE}/Demo_Egg-1.0.egg-info/top_level.txt": "demo_egg\n",
    f"{SITE}/Demo_Egg-1.0.egg-info/entry_points.txt": "[console_scripts]\ndemo-egg = demo_egg:main\n",
    f"{SITE}/demo_egg/__init__.py": "def main(): print('of the egg')\n",
    f"{SITE}/demo_egg/part.py": "A = 1\n",
    "usr/bin/demo-egg": "#!/usr/bin/python3\nfrom demo_egg import main\nmain()\n",
    "usr/share/doc/python3-demo-egg/copyright": "free\n",
}
# Its RECORD is of the wheel before Debian's changes.
WHEEL = {
    f"{SITE}/demo_wheel-2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: demo-wheel\nVersion: 2.0\n",
    f"{SITE}/demo_wheel-2.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{SITE}/demo_wheel-2.0.dist-info/RECORD": "demo_wheel.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\ndemo_tests.py,,\n",
    f"{SITE}/demo_wheel.py": "B = 2\n",
}
DOCKERFILE = """
FROM {base} AS packages
COPY packages /packages
RUN for one in /packages/*; do dpkg-deb --build $one; done && dpkg --install /packages/*.deb && rm -r /packages
RUN python3 -m venv --without-pip --system-site-packages /opt/open && python3 -m venv --without-pip /opt/closed
FROM packages AS edited
RUN echo 'A = 3' > /{site}/demo_egg/part.py && echo 'C = 4' > /{site}/demo_egg/mine.py
FROM {target}
"""


def package(root: Path, name: str, files: dict[str, str]) -> None:
    """What dpkg-deb makes a package of."""
    sums = "".join(f"{hashlib.md5(text.encode()).hexdigest()}  {path}\n" for path, text in files.items())
    control = f"Package: {name}\nVersion: 1:1.0-2\nArchitecture: all\nMaintainer: A Person <person@example.com>\nDescription: demo\n"
    for path, text in {**files, "DEBIAN/control": control, "DEBIAN/md5sums": sums}.items():
        (root / name / path).parent.mkdir(parents=True, exist_ok=True)
        (root / name / path).write_text(text)
    (root / name / "DEBIAN").chmod(0o755)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    context = tmp_path_factory.mktemp("system")
    package(context / "packages", "python3-demo-egg", EGG)
    package(context / "packages", "python3-demo-wheel", WHEEL)
    return context


def made(engine: DockerEngine, context: Path, base: str, target: str) -> str:
    tag = f"envsnap-test/system-{target}:{os.getpid()}"
    (context / "Dockerfile").write_text(DOCKERFILE.format(base=base, site=SITE, target=target))
    engine.build(context, BuildInputs(tags=[tag], secrets={}, platform=PLATFORM), SILENT)
    return tag


@pytest.fixture(scope="module")
def clean(engine: DockerEngine, context: Path, debian_base: str) -> Iterator[str]:
    tag = made(engine, context, debian_base, "packages")
    yield tag
    forget(engine, tag)


@pytest.fixture(scope="module")
def edited(engine: DockerEngine, context: Path, debian_base: str) -> Iterator[str]:
    tag = made(engine, context, debian_base, "edited")
    yield tag
    forget(engine, tag)


def envsnap(place: Path, *words: str, code: int = 0) -> dict[str, Any]:
    env = {**os.environ, "ENVSNAP_CACHE": str(place / "cache")}
    command = [sys.executable, "-m", "envsnap.cli.main", *words, "--json"]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def captured(place: Path, image: str, *words: str, python: str = "python3") -> dict[str, LockedPackage]:
    """By name, what is in lockfiles/system.yaml then."""
    envsnap(place, "capture", "--image", image, "--python", python, "--name", "system", "--offline", *words)
    lock = lockfile.loads((place / "lockfiles/system.yaml").read_bytes())
    return {package.name: package for package in lock.packages}


@pytest.mark.parametrize("python", ["python3", "/opt/open/bin/python"])
def test_what_dpkg_installed_is_the_system_s(clean: str, debian_base: str, tmp_path: Path, python: str) -> None:
    found = captured(tmp_path, clean, python=python)
    assert {name: one.provenance for name, one in found.items()} == {"demo-egg": "system", "demo-wheel": "system"}
    origin = found["demo-egg"].origin
    assert isinstance(origin, SystemOrigin) and origin.files is not None
    assert (origin.package, origin.version, origin.arch) == ("python3-demo-egg", "1:1.0-2", "all")
    assert found["demo-egg"].files is None and found["demo-wheel"].files is not None
    same = envsnap(tmp_path, "diff", "lockfiles/system.yaml", "--image", clean, "--python", python)
    assert same == {"equal": True, "differences": []}
    error = envsnap(tmp_path, "plan", "lockfiles/system.yaml", "--base", debian_base, code=5)["error"]
    assert "--rescue demo-egg --rescue demo-wheel" in error["hint"] and "--system-site-packages" in error["hint"]


def test_without_the_system_s_packages_there_is_a_plan(clean: str, debian_base: str, tmp_path: Path) -> None:
    assert captured(tmp_path, clean, python="/opt/closed/bin/python") == {}
    assert envsnap(tmp_path, "plan", "lockfiles/system.yaml", "--base", debian_base, "--fetch-base")["rescued"] == []


def test_what_was_edited_is_kept_with_the_edit(clean: str, edited: str, debian_base: str, tmp_path: Path) -> None:
    found = captured(tmp_path, edited)
    assert {name: one.provenance for name, one in found.items()} == {"demo-egg": "rebuilt", "demo-wheel": "system"}
    assert found["demo-egg"].modified == ("added: demo_egg/mine.py", "demo_egg/part.py")
    assert isinstance(found["demo-egg"].origin, SystemOrigin)
    differences = envsnap(tmp_path, "diff", "lockfiles/system.yaml", "--image", clean, "--python", "python3", code=7)["differences"]
    assert ("packages.demo-egg.modified", "breaking") in {(one["field"], one["grade"]) for one in differences}


@pytest.mark.parametrize("python", ["python3", "/opt/open/bin/python"])
def test_an_image_of_what_was_asked_to_be_kept(engine: DockerEngine, edited: str, debian_base: str, tmp_path: Path, python: str) -> None:
    found = captured(tmp_path, edited, "--rescue", "demo-egg", "--rescue", "demo-wheel", python=python)
    assert {one.provenance for one in found.values()} == {"rebuilt"}
    again = envsnap(tmp_path, "diff", "lockfiles/system.yaml", "--image", edited, "--python", python)
    assert again == {"equal": True, "differences": []}
    tag = f"envsnap-test/of-system:{os.getpid()}"
    built = envsnap(tmp_path, "build", "lockfiles/system.yaml", "--base", debian_base, "--engine", "oci", "--load", "-t", tag)
    assert built["engine"] == "oci"
    try:
        code = "import demo_egg.part, demo_egg.mine, demo_wheel; print(demo_egg.part.A, demo_egg.mine.C, demo_wheel.B, demo_egg.__file__)"
        run = ["docker", "run", "--rm", "--network", "none", tag, "sh", "-c", f'python -c "{code}" && demo-egg']
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert done.stdout.startswith("3 4 2 /opt/envsnap/env/") and done.stdout.endswith("\nof the egg\n"), done.stderr
        verdict = envsnap(tmp_path, "verify", tag, "--require", "L0")
        assert verdict["verdict"] == "pass", verdict
    finally:
        forget(engine, tag)
