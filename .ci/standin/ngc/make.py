"""Makes the stand-in for one release of NGC's PyTorch image: `make.py RELEASE ROOT IMAGE`.

ROOT: a Debian 12 with the libraries that CPython needs; IMAGE: the name that the image gets in the engine.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import cuda
import interpreter
import tomllib
import wheels

HERE = Path(__file__).resolve().parent
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux2010", "manylinux1")
INDEX_ONLY = re.compile(r"(nvidia-|cuda-|triton\b|torch\b)")
"""Requirements of the index's builds: their CUDA, their Triton, and torch by a version that NVIDIA's has not."""
OF_TRITON_LEFT_OUT = re.compile(r"triton/(FileCheck|backends/nvidia/(bin|lib/cupti)/.*|instrumentation/.*\.so|plugins/.*\.so.*)\Z")
"""Programs and libraries of CUDA's toolkit, which NGC has in its own place, and what tests Triton itself: 210 MB."""


def main(release: str, root: str, image: str) -> None:
    facts = tomllib.loads((HERE / f"{release}.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="envsnap-standin-") as scratch:
        context = Path(scratch, "context")
        for folder in ("debs", "pip", "cuda", "torch", "built", "index", "root/opt/nvidia"):
            (context / folder).mkdir(parents=True)
        version = interpreter.make_debs(facts["python"], facts["ubuntu"] >= "23.04", context / "debs")
        download(facts["python"], ["pip==25.0.1"], context / "pip")
        names = [f"{name}=={own}" for name, own in facts["packages"].items()]
        download(facts["python"], names, context / "index")
        (context / "index/names").write_text("\n".join(names), encoding="utf-8")
        fetched = Path(scratch, "fetched")
        download(facts["python"], [facts["torch"]["from"], facts["torchvision"]["from"], facts["torch"]["runtime"]], fetched)
        torch(facts, fetched, context)
        shutil.rmtree(fetched)
        for name, own in facts["built"].items():
            if "from" in own:
                triton(own, facts["python"], fetched, context / "built")
            else:
                built(name, own, facts["python"], context / "built")
        if "opencv" in facts:
            opencv(facts, context)
        entrypoint(facts, context / "root/opt/nvidia")
        (context / "Dockerfile").write_text(dockerfile(facts, version), encoding="utf-8")
        command = ["docker", "build", "--progress=plain", "--build-arg", f"ROOT={root}", "--tag", image, str(context)]
        subprocess.run(command, check=True, stdout=sys.stderr)


def download(python: str, requirements: list[str], to: Path) -> None:
    """Wheels of exactly these, through the host's own pip settings."""
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version", python]
    subprocess.run([*command, *platforms, "--dest", str(to), *requirements], check=True, stdout=sys.stderr)


def torch(facts: dict[str, Any], fetched: Path, context: Path) -> None:
    """PyTorch and torchvision under NVIDIA's versions, and the libraries of CUDA that they load."""

    def wheel(name: str) -> Path:
        (found,) = fetched.glob(f"{name}-*.whl")
        return found

    own, shown = facts["torch"]["version"], facts["torch"]["shown"]
    libraries = Path(context.parent, "libraries")
    libraries.mkdir()

    def of_torch(path: str, content: bytes) -> bytes:
        if path == "torch/version.py":
            commit = own.split("+")[1].split(".")[0]
            said = {"__version__": shown, "git_version": commit, "cuda": facts["torch"]["cuda"]}
            assignment = re.compile(r"(?m)^(__version__|git_version|cuda)(:.*)? = .*$")
            return assignment.sub(lambda line: f"{line[1]}{line[2] or ''} = {said[line[1]]!r}", content.decode()).encode()
        if path.startswith("torch/lib/") and ".so" in path:
            content = cuda.without_gpu_code(wheels.without_search_path(content))
            (libraries / Path(path).name).write_bytes(content)
        return content

    wheels.rebuild(wheel("torch"), own, INDEX_ONLY, of_torch, context / "torch")
    cuda.make_libraries(sorted(libraries.iterdir()), wheel("nvidia_cuda_runtime*"), facts["torch"]["cuda"], context / "cuda")
    shutil.rmtree(libraries)
    vision = facts["torchvision"]["version"]

    def of_torchvision(path: str, content: bytes) -> bytes:
        if path == "torchvision/version.py":
            return re.sub(r"__version__ = .*", f"__version__ = {vision!r}", content.decode()).encode()
        return cuda.without_gpu_code(content) if path.endswith(".so") else content

    wheels.rebuild(wheel("torchvision"), vision, INDEX_ONLY, of_torchvision, context / "torch")


def entrypoint(facts: dict[str, Any], folder: Path) -> None:
    shutil.copytree(HERE / "entrypoint", folder, dirs_exist_ok=True)
    env = facts["env"]
    told = {"release": facts["release"], "build": env.get("NVIDIA_BUILD_ID", "unknown"), "version": env["PYTORCH_VERSION"]}
    for text in folder.glob("entrypoint.d/*.txt"):
        text.write_text(text.read_text(encoding="utf-8").format(**told), encoding="utf-8")


def triton(facts: dict[str, Any], python: str, scratch: Path, to: Path) -> None:
    """The index's Triton under NVIDIA's version: the inductor of a newer torch needs more of it than a name."""

    def of_triton(path: str, content: bytes) -> bytes | None:
        if path == "triton/__init__.py":
            text, count = re.subn(r"(?m)^__version__ = .*$", f"__version__ = {facts['shown']!r}", content.decode())
            if count != 1:
                raise SystemExit("this Triton does not say its version where it was looked for")
            return text.encode()
        return None if OF_TRITON_LEFT_OUT.match(path) else content

    download(python, [facts["from"]], scratch)
    (wheel,) = scratch.glob("triton-*.whl")
    wheels.rebuild(wheel, facts["version"], INDEX_ONLY, of_triton, to)
    shutil.rmtree(scratch)


def built(name: str, facts: dict[str, Any], python: str, to: Path) -> None:
    """A wheel with the metadata of a package that NVIDIA builds, and a module that knows its version."""
    module = facts.get("module", name.replace("-", "_"))
    text = f'"""A stand-in for NVIDIA\'s own build."""\n\n__version__ = "{facts["version"]}"\n'
    files = {f"{module}/__init__.py": text}
    if module == "triton":  # what torch 2.4 looks for in any Triton
        files["triton/__init__.py"] += "from . import language\n"
        files["triton/language/__init__.py"] = "class dtype:\n    pass\n"
    wheels.small(name, facts["version"], files, facts.get("requires", ()), python, to)


def opencv(facts: dict[str, Any], context: Path) -> None:
    """OpenCV as its own build installs it: a package whose RECORD has the Python files, and a compiled module that no RECORD has.

    The index's opencv-python-headless serves as the build.
    """
    python, own = facts["python"], facts["opencv"]
    fetched = context.parent / "opencv"
    download(python, [f"opencv-python-headless=={own}.72"], fetched)
    (wheel,) = fetched.glob("*.whl")
    folder = context / "root/usr/local/lib" / f"python{python}/dist-packages/cv2"
    compiled = folder / f"python-{python}" / f"cv2.cpython-{python.replace('.', '')}-x86_64-linux-gnu.so"
    files: dict[str, str] = {}
    with zipfile.ZipFile(wheel) as archive:
        for path in archive.namelist():
            if re.fullmatch(r"cv2/.*\.py", path) and not re.fullmatch(r"cv2/config.*\.py", path):
                files[path] = archive.read(path).decode()
            elif path == "cv2/cv2.abi3.so" or re.fullmatch(r"opencv_python_headless\.libs/.+", path):
                place = compiled if path.startswith("cv2/") else folder / path  # it looks for them beside its folder
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(archive.read(path))
    for name, searched, where in (("config", "BINARIES", "../../lib64"), (f"config-{python}", "PYTHON_EXTENSIONS", f"python-{python}")):
        text = f"import os\n\n{searched}_PATHS = [os.path.join(LOADER_DIR, {where!r})] + {searched}_PATHS\n"
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    wheels.small("opencv", own, files, ["numpy"], python, context / "built")


def dockerfile(facts: dict[str, Any], python: str) -> str:
    """The release's variables, labels, ports, entrypoint after the steps that all have."""
    common = tomllib.loads((HERE / "common.toml").read_text(encoding="utf-8"))
    site = f"/usr/local/lib/python{facts['python']}/dist-packages"
    without = facts.get("without", ())
    env = {name: value.replace("{site}", site) for name, value in {**common["env"], **facts["env"]}.items() if name not in without}
    labels = {"org.opencontainers.image.version": facts["ubuntu"]}
    for name, value in common["labels"].items():
        repeated = value.removeprefix("$")
        if repeated == value:
            labels[name] = value
        elif repeated in env:
            labels[name] = env[repeated]
    labels["dev.envsnap.standin"] = f"not NVIDIA's: see .ci/standin/README.md; Debian 12 and CPython {python}"
    lines = [(HERE / "Dockerfile").read_text(encoding="utf-8")]
    if facts["constraint"]:
        lines.append(f"RUN mkdir -p /etc/pip && python3 -m pip list --format=freeze --path {site} > {env['PIP_CONSTRAINT']}")
    lines += [f"ENV {name}={json.dumps(value)}" for name, value in env.items()]
    lines += [f"LABEL {name}={json.dumps(value)}" for name, value in labels.items()]
    lines += [f"EXPOSE {' '.join(common['ports'])}", f"WORKDIR {common['workdir']}", f"ENTRYPOINT {json.dumps(common['entrypoint'])}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
