"""The stand-ins for NGC's images, .ci/standin/ngc, are what is known of the real ones. This host needs Python 3.10 and 3.12."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from envsnap.engines.docker import DockerEngine
from envsnap.model import torch_version
from tests.integration.conftest import make_base
from tests.standins import RELEASES, Facts, facts_of

pytestmark = [pytest.mark.engine, pytest.mark.long]

RECORDS = """
import base64, hashlib, importlib.metadata
for found in importlib.metadata.distributions():
    for file in found.files or ():
        if not file.locate().exists():
            print(found.name, "lacks", file)
        elif file.hash:
            digest = hashlib.new(file.hash.mode, file.locate().read_bytes()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                print(found.name, "has another", file)
"""
TORCH = """
import json, site, sys, sysconfig, importlib.metadata
import torch, torchvision
trained = torch.nn.Linear(1, 1, bias=False)
torch.nn.init.ones_(trained.weight)
optimizer = torch.optim.SGD(trained.parameters(), lr=0.5)  # of which the first one made loads the compiler
trained(torch.ones(1, 1)).sum().backward()
optimizer.step()
print(json.dumps({
    "python": "%d.%d" % sys.version_info[:2],
    "prefix": sys.prefix,
    "sites": site.getsitepackages(),
    "scheme": sysconfig.get_default_scheme(),
    "purelib": sysconfig.get_path("purelib"),
    "shown": torch.__version__,
    "cuda": torch.version.cuda,
    "installed": {name: importlib.metadata.version(name) for name in ("torch", "torchvision")},
    "from": json.loads(importlib.metadata.distribution("torch").read_text("direct_url.json"))["url"],
    "place": torch.__file__,
    "needs": importlib.metadata.requires("torch"),
    "kept": torchvision.ops.nms(torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [9, 9, 12, 12]]), torch.tensor([3.0, 2, 1]), 0.5).tolist(),
    "trained": trained.weight.item(),
    "sum": torch.nn.functional.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)).sum().item(),
}))
"""


class Real(NamedTuple):
    """What is known of NVIDIA's image, apart from the facts that the stand-in is made of.

    Attributes:
        variable: PYTORCH_VERSION. shown: torch.__version__. metadata: torch's for pip.
        cuda: the toolkit that torch is for; runtime: version of its library.
        pinned: of the constraint file, beside torch; empty where there is none.
    """

    python: str
    variable: str
    shown: str
    metadata: str
    vision: str
    build: str
    cuda: str
    runtime: str
    cudnn: str
    pinned: tuple[str, ...] = ()


REAL = {
    "23.10": Real(
        "3.10", "2.1.0a0+32f93b1", "2.1.0a0+32f93b1", "2.1.0a0+32f93b1", "0.16.0a0", "71422337", "12.2", "12", "8"
    ),  # before the version named the release
    "24.05": Real(
        "3.10", "2.4.0a0+07cecf4", "2.4.0a0+07cecf4168.nv24.05", "2.4.0a0+07cecf4168.nv24.5", "0.19.0a0", "unknown", "12.4", "12", "9"
    ),
    "25.03": Real(
        "3.12",
        "2.7.0a0+7c8ec84",
        "2.7.0a0+7c8ec84dab.nv25.03",
        "2.7.0a0+7c8ec84dab.nv25.3",
        "0.22.0a0",
        "148941828",
        "12.8",
        "12",
        "9",
        ("torchvision==0.22.0a0", "numpy==1.26.4"),
    ),
    "26.07": Real(
        "3.12",
        "2.13.0a0+9186a08",
        "2.13.0a0+9186a08b2c.nv26.07",
        "2.13.0a0+9186a08b2c.nv26.7.59513937",
        "0.28.0a0",
        "373437298",
        "13.3",
        "13",
        "9",
        ("torchvision==0.28.0a0", "numpy==2.1.0", "triton==3.7.1+gitf797708c.nv26.7"),
    ),
}


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def facts(release: str) -> Facts:
    return facts_of(release)


@pytest.fixture(scope="module")
def real(release: str) -> Real:
    return REAL[release]


@pytest.fixture(scope="module")
def image(engine: DockerEngine, registry: str, release: str) -> Iterator[str]:
    name = make_base(registry, f"ngc-{release}")
    there = engine.image(name) is not None
    run("docker", "pull", "--quiet", name)
    yield name
    if not there:
        run("docker", "image", "rm", "--force", name)


@pytest.fixture(scope="module")
def site(facts: Facts) -> str:
    return f"/usr/local/lib/python{facts.python}/dist-packages"


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[str]:
    name = run("docker", "run", "--detach", "--network=none", image, "sleep", "1200").stdout.strip()
    yield name
    run("docker", "rm", "--force", name)


def run(*command: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def inside(container: str, *command: str, stdin: str = "", code: int = 0) -> str:
    return run("docker", "exec", "--interactive", container, *command, stdin=stdin, code=code).stdout


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("docker", "image", "inspect", image, "--format", "{{json .Config}}").stdout)
    return found


def test_its_variables_are_the_release_s_and_no_other(config: dict[str, Any], facts: Facts, real: Real, release: str) -> None:
    has = dict(entry.split("=", 1) for entry in config["Env"])
    has.pop("PATH")
    assert has == facts.env
    assert (has["NVIDIA_PYTORCH_VERSION"], has["PYTORCH_VERSION"]) == (release, real.variable)
    assert has.get("PIP_CONSTRAINT") == ("/etc/pip/constraint.txt" if real.pinned else None)
    assert has.get("NVIDIA_BUILD_ID", "unknown") == real.build
    assert has["LD_LIBRARY_PATH"].startswith(f"/usr/local/lib/python{real.python}/dist-packages/torch/lib:")


def test_its_labels_entrypoint_and_ports_are_ngc_s(config: dict[str, Any], facts: Facts, real: Real) -> None:
    own = {name: value for name, value in config["Labels"].items() if not name.startswith("dev.envsnap.")}
    assert own == facts.labels
    assert (own["com.nvidia.pytorch.version"], own.get("com.nvidia.build.id", "unknown")) == (real.variable, real.build)
    assert config["Entrypoint"] == ["/opt/nvidia/nvidia_entrypoint.sh"]
    assert sorted(config["ExposedPorts"]) == ["6006/tcp", "8888/tcp"]
    assert config["WorkingDir"] == "/workspace"
    assert not config.get("User") and not config.get("Cmd")
    assert "not NVIDIA's" in config["Labels"]["dev.envsnap.standin"]


def test_torch_runs_under_nvidia_s_version_from_dist_packages(container: str, site: str, real: Real) -> None:
    told = json.loads(inside(container, "python", "-", stdin=TORCH))
    assert (told["python"], told["prefix"], told["scheme"], told["purelib"]) == (real.python, "/usr", "posix_local", site)
    assert told["sites"] == [site, "/usr/lib/python3/dist-packages", f"/usr/lib/python{real.python}/dist-packages"]
    assert told["place"] == f"{site}/torch/__init__.py"
    assert told["installed"] == {"torch": real.metadata, "torchvision": real.vision}
    assert (told["shown"], told["cuda"]) == (real.shown, real.cuda)
    assert told["from"].startswith(f"file:///tmp/pip/torch-{real.metadata.replace('+', '%2B')}-")
    assert not [need for need in told["needs"] if need.startswith(("nvidia", "triton"))]
    assert (told["kept"], told["sum"], told["trained"]) == ([0, 2], 16.0, 0.5)


def test_its_torch_has_nvidia_s_version_in_both_forms(container: str, release: str, real: Real) -> None:
    """As NVIDIA writes it for people, and as pip has it: a release without its zero."""
    year, month = release.split(".")
    shown, installed = (
        inside(container, "python", "-c", f"import torch, importlib.metadata as m; print({said})").strip()
        for said in ("torch.__version__", "m.version('torch')")
    )
    assert torch_version.read(installed).public == torch_version.read(shown).public
    if release == "23.10":
        assert shown == installed and re.fullmatch(r"2\.1\.0a0\+[0-9a-f]{7}", shown)
    else:
        assert re.fullmatch(rf"[0-9.]+a0\+[0-9a-f]{{10}}\.nv{year}\.{month}", shown)
        assert re.fullmatch(rf"[0-9.]+a0\+[0-9a-f]{{10}}\.nv{year}\.{int(month)}(\.[0-9]+)?", installed)
        assert {torch_version.read(said).ngc for said in (shown, installed)} == {release}
    assert shown.startswith(real.variable) and installed.startswith(real.variable)


def test_what_is_installed_is_consistent(container: str) -> None:
    assert inside(container, "pip", "check").strip() == "No broken requirements found."


def test_every_record_holds_and_a_changed_file_is_seen(container: str, site: str) -> None:
    assert inside(container, "python", "-", stdin=RECORDS) == ""
    inside(container, "bash", "-c", f"cp {site}/torch/version.py /tmp; echo '# changed' >> {site}/torch/version.py")
    assert inside(container, "python", "-", stdin=RECORDS) == "torch has another torch/version.py\n"
    inside(container, "cp", "/tmp/version.py", f"{site}/torch/version.py")


def test_cuda_s_libraries_lie_where_the_system_finds_them(container: str, site: str, real: Real) -> None:
    resolved = inside(container, "ldd", f"{site}/torch/lib/libtorch_cuda.so")
    assert "not found" not in resolved
    runtime, cudnn = f"libcudart.so.{real.runtime}", f"libcudnn.so.{real.cudnn}"
    assert f"{runtime} => /usr/local/cuda/targets/x86_64-linux/lib/{runtime}" in resolved
    assert f"{cudnn} => /lib/x86_64-linux-gnu/{cudnn}" in resolved
    assert "site-packages" not in resolved and "/nvidia/" not in resolved


def test_the_constraint_file_pins_what_is_there_and_stops_pip(container: str, real: Real) -> None:
    if not real.pinned:
        assert inside(container, "bash", "-c", 'ls /etc/pip* 2>&1; echo "${PIP_CONSTRAINT-no constraint}"').endswith("no constraint\n")
        inside(container, "test", "!", "-e", "/etc/pip/constraint.txt")
        return
    pinned = set(inside(container, "cat", "/etc/pip/constraint.txt").split())
    assert {f"torch=={real.metadata}", *real.pinned} < pinned
    command = ("python", "-m", "pip", "install", "--dry-run", "--no-index", "numpy==2.0.0")
    refused = inside(container, *command, code=1)
    assert f"The user requested (constraint) {real.pinned[1]}" in refused
    blank = run("docker", "exec", "--env", "PIP_CONSTRAINT=", container, *command, code=1).stderr
    assert "constraint" not in blank and "No matching distribution found for numpy==2.0.0" in blank


def test_the_entrypoint_goes_through_its_parts_in_order_and_runs_the_command(container: str, release: str, real: Real) -> None:
    parts = "/opt/nvidia/entrypoint.d"
    for name, text in (("01-a.txt", "first\n"), ("02-b.sh", "export PART=set\necho second\n"), ("99-z.txt", "last\n")):
        inside(container, "tee", f"{parts}/{name}", stdin=text)
    command = ("bash", "-c", "echo command $PART $NVIDIA_CPU_ONLY; exit 3")
    said = inside(container, "/opt/nvidia/nvidia_entrypoint.sh", *command, code=3).splitlines()
    assert said[:2] == ["first", "second"]
    assert said[-2:] == ["last", "command set 1"]
    assert f"Release {release} (build {real.build}), PyTorch {real.variable}: a stand-in for envsnap's tests, not NVIDIA's image." in said
    assert any(line.startswith("WARNING: The NVIDIA Driver was not detected.") for line in said)
