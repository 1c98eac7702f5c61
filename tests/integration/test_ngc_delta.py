"""An environment that was made inside the stand-in for NGC's PyTorch 25.03: captured there, and built again as that image with the
difference on top, by Docker and by layers alone.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envsnap.engines.docker import DockerEngine
from tests.fakes import wheels
from tests.integration.conftest import forget
from tests.integration.ground import NOWHERE, Machine

pytestmark = [pytest.mark.engine, pytest.mark.long]

SITE = "/usr/local/lib/python3.12/dist-packages"
DOCKERFILE = """\
FROM {base}
RUN --mount=type=secret,id=ca export PIP_CERT=/run/secrets/ca; pip install timm && PIP_CONSTRAINT= pip install pillow==11.3.0
"""
TREE = r"""cd /; find usr/local opt workspace -xdev -not -name '*.pyc' \( -type f -o -type l \) -printf '%m %u:%g %p\n' |
grep -v 'dist-info/\(RECORD\|INSTALLER\|REQUESTED\)' | sort"""


def run(*command: str, stdin: bytes = b"", code: int = 0) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=900)
    assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
    return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")


@pytest.fixture(scope="module", autouse=True)
def tidy(engine: DockerEngine, registry: str) -> Iterator[None]:
    """The images of these tests go when they are done: 2 GB each."""
    yield
    names = ("lived-in", "replaced", "other-torch", "delta:docker")
    forget(
        engine,
        *(f"envsnap-test/{name}" for name in names),
        *(f"{registry}/envsnap-test/delta:{tag}" for tag in ("layers", "layers-changed")),
    )


@pytest.fixture(scope="module")
def machine(ngc_25_03: str, ca_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """With the lock of an environment that has timm, and another pillow than the image's constraint file says."""
    place = tmp_path_factory.mktemp("delta")
    (place / "project").mkdir()
    run(
        "docker",
        "build",
        "--secret",
        f"id=ca,src={ca_bundle}",
        "-t",
        "envsnap-test/lived-in",
        "-",
        stdin=DOCKERFILE.format(base=ngc_25_03).encode(),
    )
    made = Machine(project=place / "project", cache=place / "cache", timeout_s=900)
    answer = made.envsnap("capture", "--image", "envsnap-test/lived-in", "--name", "small")
    assert answer["provenance"]["unproven"] == 0 and answer["provenance"]["base"] > 40
    return made


@pytest.fixture(scope="module")
def ca_bundle() -> str:
    return "/etc/ssl/certs/ca-certificates.crt"


def test_the_plan_is_that_release_by_digest_and_the_difference(machine: Machine, ngc_25_03: str) -> None:
    told = machine.envsnap("plan", machine.lock)
    assert told["strategy"] == "ngc-delta"
    assert told["base"]["reference"].startswith(f"{ngc_25_03}@sha256:") and told["base"]["digest"]
    steps = {step["kind"]: step for step in told["steps"]}
    added = {wheel["name"] for wheel in steps["install-wheels"]["wheels"]}
    assert {"timm", "pillow", "huggingface-hub", "safetensors"} <= added
    assert not added & {"torch", "torchvision", "numpy", "pytorch-triton"}
    assert [package["name"] for package in steps["remove-packages"]["packages"]] == ["pillow"]
    assert any("pillow 11.1.0 of the base is replaced by 11.3.0" in note for note in told["notes"])


@pytest.fixture(scope="module")
def built(machine: Machine, registry: str, ca_bundle: str) -> dict[str, str]:
    """The image by each engine, in the local one."""
    by_docker, by_layers = "envsnap-test/delta:docker", f"{registry}/envsnap-test/delta:layers"
    machine.envsnap("build", machine.lock, "--engine", "docker", "-t", by_docker, "--ca-bundle", ca_bundle)
    machine.envsnap("build", machine.lock, "--engine", "oci", "-t", by_layers, "--push", "--ca-bundle", ca_bundle)
    run("docker", "pull", "--quiet", by_layers)
    return {"docker": by_docker, "oci": by_layers}


def checked(machine: Machine, image: str, before: str = "true") -> str:
    """What the collector says in an image, held against the lock's packages: how it ended, and its lines."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name in ("guest", "expected.json"):
            archive.add(machine.images / name, name)
    collect = "HOME=/tmp python3 -B guest collect --out f.json --imports --integrity --expect expected.json"
    script = f"cd /tmp; tar x; {before}; {collect}; echo $?"
    return run("docker", "run", "--rm", "--interactive", "--entrypoint", "bash", image, "-c", script, stdin=held.getvalue())


@pytest.mark.parametrize("engine_name", ["docker", "oci"])
def test_every_package_of_the_base_and_of_the_difference_holds(machine: Machine, built: dict[str, str], engine_name: str) -> None:
    assert "distributions, all as expected" in checked(machine, built[engine_name])


def test_a_file_of_torch_that_was_changed_is_found(machine: Machine, built: dict[str, str]) -> None:
    said = checked(machine, built["oci"], before=f"echo '# x' >> {SITE}/torch/functional.py")
    assert "torch 2.7.0a0+7c8ec84dab.nv25.3: torch/functional.py was modified" in said and said.startswith("7\n")


def test_check_proves_it_the_lock_s_from_the_registry_alone(machine: Machine, built: dict[str, str]) -> None:
    """Also where nobody has seen the base: not known, and known once it was read."""
    host = ("--driver", "570.86.15", "--gpu", "9.0")
    stranger = replace(machine, cache=machine.cache / "stranger", env={"DOCKER_HOST": NOWHERE})
    assert machine.envsnap("check", built["oci"], "--lock", machine.lock, *host)["verdict"] == "pass"
    unsure = stranger.envsnap("check", built["oci"], "--lock", machine.lock, *host, code=7)
    (reason,) = [one for one in unsure["reasons"] if one["id"] == "lock.layers"]
    assert (unsure["verdict"], reason["status"]) == ("incomplete", "unknown") and "--fetch" in reason["hint"]
    assert stranger.envsnap("check", built["oci"], "--lock", machine.lock, *host, "--fetch")["verdict"] == "pass"


def test_check_finds_what_was_put_on_it(machine: Machine, built: dict[str, str]) -> None:
    changed = f"{built['oci']}-changed"
    run("docker", "build", "-t", changed, "-", stdin=f"FROM {built['oci']}\nRUN echo '# x' >> {SITE}/torch/functional.py\n".encode())
    run("docker", "push", "--quiet", changed)
    found = machine.envsnap("check", changed, "--lock", machine.lock, code=7)
    assert found["verdict"] == "fail"
    assert [one["id"] for one in found["reasons"] if one["status"] == "fail"] == ["lock.layers", "lock.config"]


def test_both_have_the_same_files(built: dict[str, str]) -> None:
    trees = [run("docker", "run", "--rm", "--entrypoint", "bash", image, "-c", TREE) for image in built.values()]
    assert trees[0] == trees[1] and trees[0].count("\n") > 10_000


def test_what_it_starts_finds_the_difference(built: dict[str, str]) -> None:
    asked = "import PIL, torch, timm; print(PIL.__version__, torch.__version__)"
    said = run("docker", "run", "--rm", "--user", "1000:1000", built["oci"], "torchrun", "--no-python", "python", "-c", asked)
    assert "11.3.0 2.7.0a0+7c8ec84dab.nv25.03" in said and "== PyTorch ==" in said  # the entrypoint stays


def test_an_extension_for_another_torch_stops_the_build(machine: Machine, ngc_25_03: str, ca_bundle: str) -> None:
    """Torchaudio of an index, which pip installs there without a word and nothing can load."""
    steps = DOCKERFILE.partition("pip install")[0] + "PIP_CONSTRAINT= pip install --no-deps torchaudio==2.5.1\n"
    secret = f"id=ca,src={ca_bundle}"
    run("docker", "build", "--secret", secret, "-t", "envsnap-test/other-torch", "-", stdin=steps.format(base=ngc_25_03).encode())
    machine.envsnap("capture", "--image", "envsnap-test/other-torch", "--name", "other-torch")
    lock = machine.project / "lockfiles/other-torch.yaml"
    refused = machine.envsnap("build", lock, "--engine", "oci", "-t", "envsnap-test/other-torch:built", code=5)["error"]
    assert refused["what"] == "torchaudio was built for another torch than the base's" and "symbol" in refused["why"]


def test_torch_of_an_index_never_takes_the_place_of_the_image_s(machine: Machine, tmp_path: Path, ngc_25_03: str) -> None:
    """As `pip install` of a package does that requires another torch; here of a wheel that says it is torch."""
    name, metadata = "torch-2.6.0-py3-none-any.whl", "Metadata-Version: 2.1\nName: torch\nVersion: 2.6.0\n"
    files = {"torch/__init__.py": "__version__ = '2.6.0'\n", "torch-2.6.0.dist-info/METADATA": metadata}
    about = {"torch-2.6.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    wheels.write_wheel(tmp_path / name, {**files, **about})
    steps = f"FROM {ngc_25_03}\nCOPY {name} /tmp/\nRUN PIP_CONSTRAINT= pip install --no-deps /tmp/{name}\n"
    (tmp_path / "Dockerfile").write_text(steps, encoding="utf-8")
    run("docker", "build", "-t", "envsnap-test/replaced", str(tmp_path))
    machine.envsnap("capture", "--image", "envsnap-test/replaced", "--name", "replaced")
    lock = machine.project / "lockfiles/replaced.yaml"
    refused = machine.envsnap("plan", lock, code=5)["error"]
    assert "torch 2.7.0a0+7c8ec84dab.nv25.3" in refused["what"] and "torch 2.6.0 takes its place" in refused["why"]
    assert "--allow-replace torch" in refused["hint"]
    assert machine.envsnap("plan", lock, "--allow-replace", "torch")["strategy"] == "ngc-delta"
