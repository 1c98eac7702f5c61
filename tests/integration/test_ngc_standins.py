"""The stand-ins for NGC's images are what their facts say: .ci/standin/ngc. CI has the one that other tests need made, 25.03."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from envsnap.engines.docker import DockerEngine
from tests.standins import Facts, facts_of

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
    "sum": torch.nn.functional.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)).sum().item(),
}))
"""


@pytest.fixture(scope="module")
def facts() -> Facts:
    return facts_of("25.03")


@pytest.fixture(scope="module")
def image(engine: DockerEngine, ngc_25_03: str) -> str:
    run("docker", "pull", "--quiet", ngc_25_03)
    return ngc_25_03


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[str]:
    name = run("docker", "run", "--detach", "--network=none", image, "sleep", "600").stdout.strip()
    yield name
    run("docker", "rm", "--force", name)


def run(*command: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def inside(container: str, *command: str, stdin: str = "", code: int = 0) -> str:
    return run("docker", "exec", "--interactive", container, *command, stdin=stdin, code=code).stdout


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("docker", "image", "inspect", image, "--format", "{{json .Config}}").stdout)
    return found


def test_its_variables_are_the_release_s_and_no_other(config: dict[str, Any], facts: Facts) -> None:
    has = dict(entry.split("=", 1) for entry in config["Env"])
    has.pop("PATH")
    assert has == facts.env
    assert has["PYTORCH_VERSION"] == "2.7.0a0+7c8ec84"
    assert has["PIP_CONSTRAINT"] == "/etc/pip/constraint.txt"


def test_its_labels_entrypoint_and_ports_are_ngc_s(config: dict[str, Any], facts: Facts) -> None:
    own = {name: value for name, value in config["Labels"].items() if not name.startswith("dev.envsnap.")}
    assert own == facts.labels
    assert own["com.nvidia.pytorch.version"] == "2.7.0a0+7c8ec84"
    assert config["Entrypoint"] == ["/opt/nvidia/nvidia_entrypoint.sh"]
    assert sorted(config["ExposedPorts"]) == ["6006/tcp", "8888/tcp"]
    assert config["WorkingDir"] == "/workspace"
    assert not config.get("User") and not config.get("Cmd")
    assert "not NVIDIA's" in config["Labels"]["dev.envsnap.standin"]


def test_torch_runs_under_nvidia_s_version_from_dist_packages(container: str, facts: Facts) -> None:
    told = json.loads(inside(container, "python", "-", stdin=TORCH))
    site = "/usr/local/lib/python3.12/dist-packages"
    assert (told["python"], told["prefix"], told["scheme"], told["purelib"]) == (facts.python, "/usr", "posix_local", site)
    assert told["sites"] == [site, "/usr/lib/python3/dist-packages", "/usr/lib/python3.12/dist-packages"]
    assert told["place"] == f"{site}/torch/__init__.py"
    assert told["installed"] == {"torch": "2.7.0a0+7c8ec84dab.nv25.3", "torchvision": "0.22.0a0"}
    assert (told["shown"], told["cuda"]) == ("2.7.0a0+7c8ec84dab.nv25.03", "12.8")
    assert told["from"].startswith("file:///tmp/pip/torch-2.7.0a0%2B7c8ec84dab.nv25.3-")
    assert not [need for need in told["needs"] if need.startswith(("nvidia", "triton"))]
    assert (told["kept"], told["sum"]) == ([0, 2], 16.0)


def test_what_is_installed_is_consistent(container: str) -> None:
    assert inside(container, "pip", "check").strip() == "No broken requirements found."


def test_every_record_holds_and_a_changed_file_is_seen(container: str) -> None:
    assert inside(container, "python", "-", stdin=RECORDS) == ""
    inside(container, "bash", "-c", "echo '# changed' >> /usr/local/lib/python3.12/dist-packages/torch/version.py")
    assert inside(container, "python", "-", stdin=RECORDS) == "torch has another torch/version.py\n"


def test_cuda_s_libraries_lie_where_the_system_finds_them(container: str) -> None:
    resolved = inside(container, "ldd", "/usr/local/lib/python3.12/dist-packages/torch/lib/libtorch_cuda.so")
    assert "not found" not in resolved
    assert "libcudart.so.12 => /usr/local/cuda/targets/x86_64-linux/lib/libcudart.so.12" in resolved
    assert "libcudnn.so.9 => /lib/x86_64-linux-gnu/libcudnn.so.9" in resolved
    assert "site-packages" not in resolved and "/nvidia/" not in resolved


def test_the_constraint_file_pins_what_is_there_and_stops_pip(container: str) -> None:
    pinned = set(inside(container, "cat", "/etc/pip/constraint.txt").split())
    assert {"torch==2.7.0a0+7c8ec84dab.nv25.3", "torchvision==0.22.0a0", "numpy==1.26.4"} < pinned
    command = ("python", "-m", "pip", "install", "--dry-run", "--no-index", "numpy==2.1.0")
    refused = inside(container, *command, code=1)
    assert "The user requested (constraint) numpy==1.26.4" in refused
    blank = run("docker", "exec", "--env", "PIP_CONSTRAINT=", container, *command, code=1).stderr
    assert "constraint" not in blank and "No matching distribution found for numpy==2.1.0" in blank


def test_the_entrypoint_goes_through_its_parts_in_order_and_runs_the_command(container: str) -> None:
    parts = "/opt/nvidia/entrypoint.d"
    for name, text in (("01-a.txt", "first\n"), ("02-b.sh", "export PART=set\necho second\n"), ("99-z.txt", "last\n")):
        inside(container, "tee", f"{parts}/{name}", stdin=text)
    command = ("bash", "-c", "echo command $PART $NVIDIA_CPU_ONLY; exit 3")
    said = inside(container, "/opt/nvidia/nvidia_entrypoint.sh", *command, code=3).splitlines()
    assert said[:2] == ["first", "second"]
    assert said[-2:] == ["last", "command set 1"]
    assert "Release 25.03 (build 148941828), PyTorch 2.7.0a0+7c8ec84: a stand-in for envsnap's tests, not NVIDIA's image." in said
    assert any(line.startswith("WARNING: The NVIDIA Driver was not detected.") for line in said)
