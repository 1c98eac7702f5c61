"""The first command on a fresh machine; needs Python 3.10 or newer and git, nothing else.

    python3 bootstrap.py demo   an isolated environment for envsnap and a real training environment beside it (torch,
                                torchvision, ultralytics, wandb); captured with a smoke-train, planned, built, verified
    python3 bootstrap.py test   the development environment, then lint, types and all tests

All that is kept lies in .envsnap/ of this checkout; deleting that folder undoes it.

No engine and no registry are needed with Python 3.11 or 3.13: the image is assembled on a base of Debian's own packages, from the mirror
that this host's apt uses or ENVSNAP_APT_MIRROR names. With another Python its base is python:3.12-slim and its like, of a registry. Where
Docker answers the image lands there, as yolo-train:demo; else bubblewrap, crun, runc or podman runs what verifies it.

Variables: ENVSNAP_DEMO_BASE names another base image for the demonstration; ENVSNAP_CA_BUNDLE a file of CA certificates that
builds need behind a company's proxy; ENVSNAP_CACHE and ENVSNAP_TEST_CACHE other places for what is kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = HERE / ".envsnap"
NO_GPUS, NO_PLAN, NO_ENGINE = 3, 5, 6  # exit codes of envsnap
ASSEMBLED = {(3, 11): "debian:bookworm", (3, 13): "debian:trixie"}  # bases of packages alone, by their Python
TRAINING = ["torch==2.12.1", "torchvision==0.27.1", "ultralytics", "wandb"]
TRAIN_PY = '''"""The project of the demonstration: train a YOLO on your own data."""

from ultralytics import YOLO

if __name__ == "__main__":
    YOLO("yolov8n.yaml").train(data="data.yaml", epochs=100)
'''


def main(words: list[str]) -> int:
    os.environ.setdefault("ENVSNAP_CACHE", str(HOME / "cache"))
    os.environ.setdefault("ENVSNAP_TEST_CACHE", str(HOME / "tests"))
    if words == ["demo"]:
        return demo()
    if words[:1] == ["test"]:
        return test(words[1:])
    print(__doc__)
    return 0 if words in ([], ["-h"], ["--help"]) else 2


def demo() -> int:
    """Capture, plan, build and verify for real; where no base can be had, say so and judge the host alone."""
    envsnap = [str(environment("cli", ["-e", str(HERE)]) / "bin" / "envsnap")]
    training = environment("training", TRAINING)
    project = demo_project()
    lock = "lockfiles/yolo-train.yaml"
    show([*envsnap, "capture", "--python", str(training), "--name", "yolo-train", "--smoke"], project)
    base = os.environ.get("ENVSNAP_DEMO_BASE") or ASSEMBLED.get(sys.version_info[:2], "slim")
    ca = ["--ca-bundle", os.environ["ENVSNAP_CA_BUNDLE"]] if os.environ.get("ENVSNAP_CA_BUNDLE") else []
    planning = [lock, "--base", base, *ca]
    show([*envsnap, "plan", *planning], project, may_fail=True)
    built = show([*envsnap, "build", *planning, "-t", "yolo-train:demo"], project, may_fail=True)
    if built in (NO_PLAN, NO_ENGINE) and os.environ.get("ENVSNAP_REQUIRE_IMAGE") != "1":
        print("\nno image here (above: why, and what to try); the reference is verified on this host instead")
        return show([*envsnap, "verify", lock, "--python", str(training)], project)
    if built:
        return built
    verified = show([*envsnap, "verify", "yolo-train:demo", "--report", "images/yolo-train/verify.html"], project, may_fail=True)
    if verified != NO_GPUS:
        return verified
    print("\nthis host's GPUs cannot be given to the image (above); what is installed is judged, not what it computes")
    return show([*envsnap, "verify", "yolo-train:demo", "--gpus", "none", "--require", "L0"], project)


def test(pytest_words: list[str]) -> int:
    """Lint, types, tests, in an environment that has what development needs."""
    tools = environment("cli", ["-e", str(HERE), "--group", str(HERE / "pyproject.toml") + ":dev"])
    env = {**os.environ, "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(tools)}
    ready = HOME / "training" / "bin" / "python"
    if ready.exists():
        env.setdefault("ENVSNAP_TEST_PYTHON", str(ready))
    return subprocess.run(
        [str(tools / "bin" / "nox"), "-s", "lint", "types", "tests", "--", *pytest_words], cwd=HERE, env=env, check=False
    ).returncode


def environment(name: str, requirements: list[str]) -> Path:
    """A virtual environment under .envsnap/ with the requirements; made once, completed when they change."""
    place = HOME / name
    stamp = place / "installed.txt"
    wanted = "\n".join(requirements) + (HERE / "pyproject.toml").read_text(encoding="utf-8")
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return place
    print(f"making {place.relative_to(HERE)}: {' '.join(requirements)}", flush=True)
    if not (place / "bin" / "python").exists():
        try:
            venv.create(place, with_pip=True)
        except (subprocess.CalledProcessError, ImportError):
            sys.exit(f"{sys.executable} cannot make a virtual environment: it lacks ensurepip\n  try   apt install python3-venv")
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
    subprocess.run([*pip, *requirements], check=True, cwd=HERE)
    stamp.write_text(wanted, encoding="utf-8")
    return place


def demo_project() -> Path:
    """A small project in a git repository of its own."""
    project = HOME / "yolo-train"
    if not (project / ".git").exists():
        project.mkdir(parents=True, exist_ok=True)
        (project / "train.py").write_text(TRAIN_PY, encoding="utf-8")
        (project / ".gitignore").write_text("/lockfiles/\n/images/\n", encoding="utf-8")
        who = ["-c", "user.name=envsnap", "-c", "user.email=demo@example.com"]
        for words in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "-m", "Train a YOLO"]):
            subprocess.run(["git", *words], cwd=project, check=True)
    return project


def show(words: list[str], cwd: Path, *, may_fail: bool = False) -> int:
    """Run a command as a person would, with its line above."""
    print(f"\n$ {' '.join([Path(words[0]).name, *words[1:]])}", flush=True)
    code = subprocess.run(words, cwd=cwd, check=False).returncode
    if code and not may_fail:
        sys.exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
