"""The road, for real: a dirty project with an editable package, captured with its smoke-train, built, verified; then spoilt.

One real training environment (torch, torchvision, ultralytics, wandb) is cloned by hard links, so that each scenario may change
its own copy without paying for another 5 GB. Images are assembled, one of them is built by Docker; all from one cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from envsnap import lockfile
from envsnap.engines.docker import DockerEngine
from tests.integration.conftest import forget

pytestmark = [pytest.mark.engine, pytest.mark.torch]

CA_BUNDLE = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
LENT = ("ultralytics", "ultralytics-thop", "wandb")


@dataclass(frozen=True)
class Ground:
    """A directory to work in, with a project and an environment of its own."""

    root: Path
    python: Path
    cache: Path

    def envsnap(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run a command with --json in the project; its document."""
        argv = [sys.executable, "-m", "envsnap.cli.main", *words, "--json"]
        env = {**os.environ, "ENVSNAP_CACHE": str(self.cache)}
        env["WANDB_API_KEY"] = "0123456789abcdef0123456789abcdef01234567"
        done = subprocess.run(argv, cwd=self.root, env=env, capture_output=True, text=True)
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        document: dict[str, Any] = json.loads(done.stdout)
        return document


def git(*words: str, cwd: Path) -> None:
    who = ("-c", "user.name=A Person", "-c", "user.email=person@example.com", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *who, *words], cwd=cwd, check=True, capture_output=True)


def clone_environment(python: Path, place: Path) -> Path:
    """The environment again, by hard links: pip replaces files, it does not write into them."""
    subprocess.run(["cp", "-al", str(python.parent.parent), str(place)], check=True)
    return place / "bin" / "python"


def dirty_project(root: Path) -> None:
    """A package in a git repository: committed, changed, with new and ignored files, and attributes that git archive obeys."""
    (root / "src" / "yolotools").mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbackend-path = ["."]\nbuild-backend = "backend"\n[project]\nname = "yolotools"\nversion = "0.3.0"\n'
    )
    shutil.copy(Path(__file__).parent / "editable_backend.py", root / "backend.py")
    (root / "src" / "yolotools" / "__init__.py").write_text('WHAT = "committed"\n')
    (root / "src" / "yolotools" / "private.py").write_text("HIDDEN = '$Format:%H$'\n")
    (root / "src" / "yolotools" / "data.txt").write_text("as committed\n")
    (root / ".gitattributes").write_text("private.py export-ignore export-subst\n")
    (root / ".gitignore").write_text("*.log\n/runs/\n/lockfiles/\n/images/\n")
    (root / "train.py").write_text("import yolotools, yolotools.private, yolotools.new\nprint(yolotools.WHAT)\n")
    git("init", "--quiet", cwd=root)
    git("remote", "add", "origin", "https://person:s3cr3t-t0ken@git.example.com/vision/yolo.git", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "--quiet", "-m", "Train", cwd=root)
    (root / "src" / "yolotools" / "__init__.py").write_text('WHAT = "changed"\n')
    (root / "src" / "yolotools" / "new.py").write_text("NEW = True\n")
    (root / "noise.log").write_text("ignored\n")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was fetched and made before is used again where the caller keeps it: 6 GB, and minutes."""
    kept = os.environ.get("ENVSNAP_CACHE")
    return Path(kept) if kept else tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def ground(training_python: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """The whole scenario: torch, ultralytics, wandb and an editable package of a dirty repository."""
    place = tmp_path_factory.mktemp("main-job")
    root = place / "yolo"
    root.mkdir()
    dirty_project(root)
    python = clone_environment(training_python, place / "venv")
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", "."]
    subprocess.run(install, cwd=root, check=True)
    return Ground(root=root, python=python, cache=cache)


@pytest.fixture(scope="module")
def captured(ground: Ground) -> dict[str, Any]:
    return ground.envsnap("capture", "--python", str(ground.python), "--name", "yolo", "--smoke")


@pytest.fixture(scope="module")
def lock(ground: Ground, captured: dict[str, Any]) -> Path:
    return ground.root / str(captured["lock"])


def names_of(ground: Ground) -> set[Path]:
    return {path for path in ground.root.parent.rglob("*") if not {"lockfiles", "images"} & set(path.parts)}


def test_the_lock_says_what_was_loaded_and_nothing_is_unproven(captured: dict[str, Any], lock: Path) -> None:
    read = lockfile.loads(lock.read_bytes())
    assert captured["digest"] == read.digest
    assert captured["provenance"]["unproven"] == 0, captured["warnings"]
    assert captured["provenance"]["source"] == 1
    assert captured["provenance"]["index"] == captured["packages"] - 1
    assert read.observed.cuda.cudnn is not None
    assert read.observed.cuda.cudnn.startswith("9.20.")
    reference = read.observed.reference
    assert reference is not None
    assert (reference.smoke.steps, reference.smoke.self_exact, reference.kit) == (160, True, ())
    assert reference.smoke.map50 >= 0.8
    assert reference.smoke.wandb_rows > 0


def test_secrets_stay_where_they_are(lock: Path) -> None:
    for path in [lock, *lock.with_suffix(".blobs").rglob("*")]:
        if path.is_file():
            data = path.read_bytes()
            assert b"s3cr3t-t0ken" not in data, path
            assert b"0123456789abcdef0123456789abcdef01234567" not in data, path
    assert "WANDB_API_KEY" in yaml.safe_load(lock.read_text())["capture"]["withheld"]


def test_capturing_again_gives_the_same_bytes_and_changes_nothing(ground: Ground, lock: Path) -> None:
    before = names_of(ground)
    again = ground.envsnap("capture", "--python", str(ground.python), "--name", "yolo", "-o", "lockfiles/again.yaml")
    third = ground.envsnap("capture", "--python", str(ground.python), "--name", "yolo", "-o", "lockfiles/third.yaml")
    assert names_of(ground) == before
    texts = [(ground.root / str(one["lock"])).read_text().partition("\ncapture:")[0] for one in (again, third)]
    assert texts[0] == texts[1]
    assert again["digest"] == lockfile.loads(lock.read_bytes()).digest


def test_drift_of_the_live_environment_is_none_until_something_changes(ground: Ground, lock: Path) -> None:
    words = ("diff", str(lock), "--python", str(ground.python))
    assert ground.envsnap(*words) == {"equal": True, "differences": []}
    edited = next((ground.python.parent.parent / "lib").glob("python*/site-packages/filelock/__init__.py"))
    original = edited.read_bytes()
    try:
        edited.unlink()  # its bytes are shared with the environment that was cloned
        edited.write_bytes(original + b"# edited\n")
        fields = [difference["field"] for difference in ground.envsnap(*words, code=7)["differences"]]
        assert any(field.startswith("packages.filelock") for field in fields)
    finally:
        edited.write_bytes(original)


@dataclass(frozen=True)
class Image:
    """A built image with the tag that sabotage starts from."""

    ground: Ground
    tag: str
    document: dict[str, Any]


def build(ground: Ground, lock: Path, base: str, tag: str, *words: str) -> Image:
    document = ground.envsnap("build", str(lock), "--base", base, "-t", tag, "--ca-bundle", CA_BUNDLE, *words)
    assert document["engine"] == ("docker" if "docker" in words else "oci")
    return Image(ground=ground, tag=tag, document=document)


@pytest.fixture(scope="module")
def on_ngc(engine: DockerEngine, ground: Ground, lock: Path, ngc_base: str) -> Iterator[Image]:
    yield build(ground, lock, ngc_base, "envsnap-test/yolo:ngc")
    forget(engine, "envsnap-test/yolo:ngc")


def test_the_ngc_image_computes_what_the_host_computed(on_ngc: Image) -> None:
    verdict = on_ngc.ground.envsnap("verify", on_ngc.tag, "--gpus", "none", "--report", "verify.html")
    assert verdict["verdict"] == "pass", verdict["checks"]
    status = {check["id"]: check["status"] for check in verdict["checks"]}
    assert status["training.losses"] == status["fingerprint.fp32"] == "pass"
    losses = next(check for check in verdict["checks"] if check["id"] == "training.losses")
    assert "bit-equal" in losses["actual"], losses
    assert "<html" in (on_ngc.ground.root / "verify.html").read_text()


def test_captured_from_the_image_the_packages_have_the_same_files(on_ngc: Image, lock: Path) -> None:
    document = on_ngc.ground.envsnap("capture", "--image", on_ngc.tag, "--name", "from-image")
    expected, found = lockfile.loads(lock.read_bytes()), lockfile.loads((on_ngc.ground.root / str(document["lock"])).read_bytes())
    assert {p.name: p.version for p in found.packages} == {p.name: p.version for p in expected.packages}
    # The project does not come along from an image, so what is installed in place there is packed with its code.
    (editable,) = (package.name for package in expected.packages if package.files is None)
    assert next(package for package in found.packages if package.name == editable).provenance == "rebuilt"
    files = {package.name: package.files for package in found.packages if package.name != editable}
    assert files == {package.name: package.files for package in expected.packages if package.name != editable}


def test_a_second_build_of_the_same_lock_does_nothing_and_was_foretold(on_ngc: Image, lock: Path, ngc_base: str) -> None:
    foretold = on_ngc.ground.envsnap("plan", str(lock), "--base", ngc_base)
    record = on_ngc.ground.root / "images/yolo/image.yaml"
    before = record.read_bytes()
    again = build(on_ngc.ground, lock, ngc_base, on_ngc.tag).document
    assert again["cached"] is True
    assert again["image"] == on_ngc.document["image"]
    assert record.read_bytes() == before
    assert foretold["image"]["unknown_because"] is None
    assert {name: again["image"][name] for name in ("config_digest", "manifest_digest")}.items() <= foretold["image"].items()
    assert f"envsnap/yolo:{again['lock_digest'].removeprefix('sha256:')[:12]}" in again["tags"]


def in_image(tag: str, *words: str, user: str | None = None) -> str:
    options = ["--user", user] if user else []
    done = subprocess.run(["docker", "run", "--rm", "--network", "none", *options, tag, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_image_is_the_environment_for_any_user(on_ngc: Image) -> None:
    code = (
        "import sys, os, torch, yolotools; open(os.path.expanduser('~/x'), 'w');"
        "print(sys.prefix, torch.__file__, yolotools.__file__, os.getcwd())"
    )
    for user in (None, "1000:1000"):
        said = in_image(on_ngc.tag, "python", "-c", code, user=user).split()[-4:]
        assert said[0] == "/opt/envsnap/env"
        assert said[1].startswith("/opt/envsnap/env/")
        assert said[2] == "/workspace/yolo/src/yolotools/__init__.py"
        assert in_image(on_ngc.tag, "python3", "train.py", user=user).splitlines()[-1] == "changed"
        in_image(on_ngc.tag, "yolo", "version", user=user)


def test_the_base_keeps_its_entrypoint_and_does_not_steer(on_ngc: Image, engine: DockerEngine) -> None:
    image = engine.image(on_ngc.tag)
    assert image is not None
    assert image.config.entrypoint == ("/opt/nvidia/nvidia_entrypoint.sh",)
    assert image.config.env["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"] in ("", "0")
    assert "dist-packages" not in image.config.env["LD_LIBRARY_PATH"]
    assert image.config.labels["dev.envsnap.lock.digest"] == on_ngc.document["lock_digest"]


def test_neither_secret_nor_certificate_is_in_the_image(on_ngc: Image) -> None:
    history = subprocess.run(["docker", "history", "--no-trunc", on_ngc.tag], capture_output=True, text=True, check=True).stdout
    config = subprocess.run(["docker", "inspect", on_ngc.tag], capture_output=True, text=True, check=True).stdout
    inside = in_image(on_ngc.tag, "sh", "-c", "cat /opt/envsnap/lock.yaml; ls -A /run/secrets /root 2>/dev/null; true")
    for text in (history, config, inside):
        assert "s3cr3t-t0ken" not in text
        assert "0123456789abcdef0123456789abcdef01234567" not in text
    lent = in_image(on_ngc.tag, "sh", "-c", "find / -xdev -path '*/run/secrets/*' -o -xdev -name pip.conf -path '/opt/*'")
    assert not [line for line in lent.splitlines() if line.startswith("/")]


def test_the_same_on_a_plain_debian_built_by_docker(engine: DockerEngine, ground: Ground, lock: Path, debian_base: str) -> None:
    tag = "envsnap-test/yolo:debian"
    try:
        build(ground, lock, debian_base, tag, "--engine", "docker")
        verdict = ground.envsnap("verify", tag, "--gpus", "none")
        assert verdict["verdict"] == "pass", verdict["checks"]
        assert "/workspace/yolo" in in_image(tag, "pwd")
        in_image(tag, "python", "-c", "import cv2")
    finally:
        forget(engine, tag)


SITE = "/opt/envsnap/env/lib/python3.11/site-packages"
SABOTAGE = {
    # what is done to the image, the check that must fail for it, the layers that are judged
    "a package a patch version off": (
        f"RUN cd {SITE} && sed -i 's/^Version: .*/Version: 0.0.1/' filelock-*.dist-info/METADATA",
        "identity.packages",
        "L0",
    ),
    "a file of a package edited": (f"RUN echo '# edited' >> {SITE}/filelock/__init__.py", "identity.edited", "L0"),
    "the base's TF32 override let through": ("ENV TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1", "identity.env", "L0"),
    "a system library removed": ("RUN rm -f /usr/lib/x86_64-linux-gnu/libxcb.so.1*", "identity.system-libraries", "L0"),
    "a file of the project changed": ("RUN echo >> /workspace/yolo/train.py", "identity.source", "L0"),
    "no W&B run is written": (f"RUN echo 'callbacks = {{}}' >> {SITE}/ultralytics/utils/callbacks/wb.py", "training.wandb", "L3"),
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_sabotage_fails_in_the_check_made_for_it(what: str, on_ngc: Image, engine: DockerEngine, tmp_path: Path) -> None:
    instruction, check, layer = SABOTAGE[what]
    tag = f"envsnap-test/spoilt:{abs(hash(what))}"
    (tmp_path / "Dockerfile").write_text(f"FROM {on_ngc.tag}\n{instruction}\n")
    subprocess.run(["docker", "build", "--quiet", "--tag", tag, str(tmp_path)], check=True, capture_output=True)
    try:
        verdict = on_ngc.ground.envsnap("verify", tag, "--gpus", "none", "--require", layer, code=7)
        failed = {found["id"]: found for found in verdict["checks"] if found["status"] == "fail"}
        assert verdict["verdict"] == "fail"
        assert check in failed, failed
        assert failed[check]["expected"] != failed[check]["actual"]
        assert failed[check]["hint"]
    finally:
        forget(engine, tag)


@pytest.mark.parametrize(("control", "layer", "check"), [("tf32", "L2", "fingerprint.fp32"), ("labels", "L3", "training.data")])
def test_the_negative_controls_that_ship_fail_in_their_layer(control: str, layer: str, check: str, on_ngc: Image) -> None:
    verdict = on_ngc.ground.envsnap("verify", on_ngc.tag, "--gpus", "none", "--require", layer, "--negative-control", control, code=7)
    assert check in [found["id"] for found in verdict["checks"] if found["status"] == "fail"]


def test_a_cpu_that_was_asked_to_be_a_gpu_fails(ground: Ground, lock: Path) -> None:
    verdict = ground.envsnap("verify", str(lock), "--python", str(ground.python), "--gpus", "1", "--require", "L3", code=7)
    assert verdict["device"] == "cuda"
    failed = {found["id"]: found["actual"] for found in verdict["checks"] if found["status"] == "fail"}
    assert "CUDA" in failed["training.run"] or "CUDA" in failed.get("training.device", ""), failed


def test_gpus_that_nobody_can_give_are_a_clear_error(on_ngc: Image) -> None:
    answer = on_ngc.ground.envsnap("verify", on_ngc.tag, "--gpus", "all", code=3)
    assert answer["error"]["code"] == 3
    assert "--gpus none" in answer["error"]["hint"]


def test_an_environment_without_ultralytics_and_wandb_is_lent_them(
    engine: DockerEngine, training_python: Path, cache: Path, debian_base: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("lent")
    python = clone_environment(training_python, place / "venv")
    subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *LENT], check=True)
    (place / "plain").mkdir()
    ground = Ground(root=place / "plain", python=python, cache=cache)
    captured = ground.envsnap("capture", "--python", str(python), "--name", "plain", "--smoke")
    lock = ground.root / str(captured["lock"])
    reference = lockfile.loads(lock.read_bytes()).observed.reference
    assert reference is not None
    assert {"ultralytics", "wandb"} <= {package.name for package in reference.kit}
    assert not {"torch", "torchvision", "numpy"} & {package.name for package in reference.kit}
    tag = "envsnap-test/plain:debian"
    try:
        build(ground, lock, debian_base, tag)
        verdict = ground.envsnap("verify", tag, "--gpus", "none")
        assert verdict["verdict"] == "pass", verdict["checks"]
        missing = "import importlib.util as u; print([u.find_spec(n) for n in ('ultralytics', 'wandb')])"
        assert in_image(tag, "python", "-c", missing).strip().endswith("[None, None]")
    finally:
        forget(engine, tag)


def test_the_lock_of_an_image_is_the_lock(on_ngc: Image, lock: Path, engine: DockerEngine) -> None:
    kept = engine.read_file(on_ngc.tag, "/opt/envsnap/lock.yaml")
    assert kept is not None
    assert msgspec.to_builtins(lockfile.loads(kept)) == msgspec.to_builtins(lockfile.loads(lock.read_bytes()))
