"""A package that requires another torch than the stand-in for NGC's PyTorch 25.03 has, as an inference server does: however it
was installed there, the capture says whose place was taken, and the plan stops and names what wanted it so.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from envsnap import lockfile
from tests.fakes import wheels
from tests.integration.ground import Machine

pytestmark = [pytest.mark.engine, pytest.mark.long]
SITE = "/usr/local/lib/python3.12/dist-packages"
USER = "/root/.local/lib/python3.12/site-packages"
TORCH, TRITON = "2.7.0a0+7c8ec84dab.nv25.3", "3.2.0+gitb2684bf3b.nvinternal"
CHAIN = "fastserve 1.0 > fastserve-kernels 1.0: torch==2.11.0"
WHEELS = {  # name, version -> module, requirements
    ("fastserve", "1.0"): ("fastserve", ["fastserve-kernels"]),
    ("fastserve-kernels", "1.0"): ("fastserve_kernels", ["torch==2.11.0"]),
    ("torch", "2.11.0"): ("torch", ["triton==3.6.0"]),
    ("fastsparse", "1.0"): ("fastsparse", ["triton==3.6.0"]),
    ("triton", "3.6.0"): ("triton", []),
}
INSTALL = "pip install --no-index --find-links /wheels"


class Trap(NamedTuple):
    """Attributes:
    steps: how it came into the image.
    taken: what of the image would not stay; why: as the plan says it.
    told: whose place was taken, as the capture says it.
    """

    steps: str
    taken: str
    why: str
    told: tuple[str, ...]


TRAPS = {
    "constraint blanked": Trap(
        f"RUN PIP_CONSTRAINT= {INSTALL} fastserve",
        "torch",
        f"torch 2.11.0 takes its place ({CHAIN})",
        (f"triton 3.6.0 has written over triton/__init__.py of pytorch-triton {TRITON}",),
    ),
    "for one user": Trap(
        f"RUN PIP_CONSTRAINT= {INSTALL} --user fastserve",
        "torch",
        f"torch 2.11.0 takes its place ({CHAIN})",
        (
            f"torch {TORCH} is hidden by 2.11.0 in {USER}",
            f"the user's own site directory {USER} is enabled and not empty",
        ),
    ),
    "a folder in front": Trap(
        f"RUN PIP_CONSTRAINT= {INSTALL} --target /opt/extra fastserve\nENV PYTHONPATH=/opt/extra",
        "torch",
        f"torch 2.11.0 takes its place ({CHAIN})",
        (f"torch {TORCH} is hidden by 2.11.0 in /opt/extra", "PYTHONPATH puts /opt/extra in front of the environment's own packages"),
    ),
    "triton over NVIDIA's": Trap(
        f"RUN PIP_CONSTRAINT= {INSTALL} fastsparse",
        "pytorch-triton",
        "triton 3.6.0 brings the same modules as pytorch-triton (fastsparse 1.0: triton==3.6.0)",
        (f"triton 3.6.0 has written over triton/__init__.py of pytorch-triton {TRITON}",),
    ),
    "triton for one user": Trap(
        f"RUN PIP_CONSTRAINT= {INSTALL} --user fastsparse",
        "pytorch-triton",
        "triton 3.6.0 brings the same modules as pytorch-triton (fastsparse 1.0: triton==3.6.0)",
        (f"triton is imported from {USER}/triton/__init__.py, not from pytorch-triton {TRITON} in {SITE}",),
    ),
}


def docker(*words: str | Path, code: int = 0) -> str:
    done = subprocess.run(("docker", *words), capture_output=True, text=True, timeout=600)
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What images are made of: the wheels."""
    folder = tmp_path_factory.mktemp("traps")
    (folder / "wheels").mkdir()
    for (name, version), (module, requires) in WHEELS.items():
        stem = f"{name.replace('-', '_')}-{version}"
        needs = "".join(f"Requires-Dist: {need}\n" for need in requires)
        files = {
            f"{module}/__init__.py": f"__version__ = '{version}'\n",
            f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
            f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        wheels.write_wheel(folder / "wheels" / f"{stem}-py3-none-any.whl", files)
    return folder


def image(place: Path, base: str, steps: str, name: str) -> str:
    (place / "Dockerfile").write_text(f"FROM {base}\nCOPY wheels /wheels\n{steps}\n", encoding="utf-8")
    docker("build", "--tag", name, place)
    return name


@pytest.fixture(params=TRAPS)
def trap(request: pytest.FixtureRequest, place: Path, ngc_25_03: str) -> Iterator[tuple[Trap, str]]:
    found = TRAPS[request.param]
    name = image(place, ngc_25_03, found.steps, "envsnap-test/trap")
    yield found, name
    docker("image", "rm", "--force", name)


def test_the_constraint_keeps_it_out(place: Path, ngc_25_03: str) -> None:
    """Nothing was installed, so there is nothing to capture."""
    name = image(place, ngc_25_03, "", "envsnap-test/trap:none")
    script = f"{INSTALL} fastserve; echo exit $?; pip list --format=freeze | grep -e fastserve -e ^torch="
    said = docker("run", "--rm", "--entrypoint", "bash", name, "-c", script)
    docker("image", "rm", "--force", name)
    assert f"(constraint) torch=={TORCH}" in said and "exit 1\n" in said
    assert f"torch=={TORCH}\n" in said and "fastserve==" not in said


def test_nvidia_s_build_is_never_replaced_silently(trap: tuple[Trap, str], tmp_path: Path) -> None:
    found, name = trap
    (tmp_path / "project").mkdir()
    machine = Machine(project=tmp_path / "project", cache=tmp_path / "cache")
    machine.envsnap("capture", "--image", name, "--name", "small", "--offline")
    problems = [problem.what for problem in lockfile.loads(machine.lock.read_bytes()).capture.problems]
    assert not [sentence for sentence in found.told if sentence not in problems], problems
    assert not [sentence for sentence in problems if sentence.startswith("no package brought")]
    refused = machine.envsnap("plan", machine.lock, code=5)["error"]
    assert found.taken in refused["what"] and "would not stay as NVIDIA built" in refused["what"]
    assert found.why in refused["why"]
    assert f"--allow-replace {found.taken}" in refused["hint"] and "isolated" in refused["hint"]
    if found.taken == "torch":
        assert "make it in nvcr.io/nvidia/pytorch:26.03-py3" in refused["hint"]
    # Another build of the torch is no way out for who allows something else.
    machine.envsnap("plan", machine.lock, "--allow-replace", "numpy", "--allow-unproven", "all", code=5)
