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
import tomllib
from pathlib import Path
from typing import Any

import cuda
import interpreter
import wheels

HERE = Path(__file__).resolve().parent
INDEX_ONLY = re.compile(r"(nvidia-|triton\b|torch\b)")
"""Requirements of the index's builds: their CUDA, their Triton, and torch by a version that NVIDIA's has not."""


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
            wheels.small(name, own, modules(name, own), [], "A stand-in for NVIDIA's own build", facts["python"], context / "built")
        entrypoint(facts, context / "root/opt/nvidia")
        (context / "Dockerfile").write_text(dockerfile(facts, version), encoding="utf-8")
        subprocess.run(["docker", "build", "--progress=plain", "--build-arg", f"ROOT={root}", "--tag", image, context], check=True, stdout=sys.stderr)


def download(python: str, requirements: list[str], to: Path) -> None:
    platforms = [word for name in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux2010", "manylinux1") for word in ("--platform", f"{name}_x86_64")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version", python, *platforms, "--dest", str(to)]
    subprocess.run([*command, *requirements], check=True, stdout=sys.stderr)


def torch(facts: dict[str, Any], fetched: Path, context: Path) -> None:
    """torch and torchvision under NVIDIA's versions, and the libraries of CUDA that they load."""

    def wheel(name: str) -> Path:
        (found,) = fetched.glob(f"{name}-*.whl")
        return found

    own = facts["torch"]["version"]
    shown = re.sub(r"\.nv(\d+)\.(\d)\b", r".nv\1.0\2", own)
    libraries = Path(context.parent, "libraries")
    libraries.mkdir()

    def of_torch(path: str, content: bytes) -> bytes:
        if path == "torch/version.py":
            text = re.sub(r"__version__ = .*", f"__version__ = {shown!r}", content.decode())
            text = re.sub(r"git_version = .*", f"git_version = {own.split('+')[1].split('.')[0]!r}", text)
            return re.sub(r"(cuda: Optional\[str\]) = .*", rf"\1 = {facts['torch']['cuda']!r}", text).encode()
        if path.startswith("torch/lib/") and ".so" in path:
            content = cuda.without_gpu_code(wheels.without_search_path(content))
            (libraries / Path(path).name).write_bytes(content)
        return content

    wheels.rebuild(wheel("torch"), own, INDEX_ONLY, of_torch, context / "torch")
    cuda.make_libraries(sorted(libraries.iterdir()), wheel("nvidia_cuda_runtime_cu*"), facts["torch"]["cuda"], context / "cuda")
    shutil.rmtree(libraries)
    vision = facts["torchvision"]["version"]

    def of_torchvision(path: str, content: bytes) -> bytes:
        if path == "torchvision/version.py":
            return re.sub(r"__version__ = .*", f"__version__ = {vision.split('.nv')[0]!r}", content.decode()).encode()
        return content

    wheels.rebuild(wheel("torchvision"), vision, INDEX_ONLY, of_torchvision, context / "torch")


def entrypoint(facts: dict[str, Any], folder: Path) -> None:
    shutil.copytree(HERE / "entrypoint", folder, dirs_exist_ok=True)
    told = {"release": facts["release"], "build": facts["env"].get("NVIDIA_BUILD_ID", "unknown"), "version": facts["env"]["PYTORCH_VERSION"]}
    for text in folder.glob("entrypoint.d/*.txt"):
        text.write_text(text.read_text(encoding="utf-8").format(**told), encoding="utf-8")


def modules(name: str, version: str) -> dict[str, str]:
    module = name.replace("-", "_")
    return {f"{module}/__init__.py": f'"""A stand-in for NVIDIA\'s own build."""\n\n__version__ = "{version}"\n'}


def dockerfile(facts: dict[str, Any], python: str) -> str:
    """The release's variables, labels, ports, entrypoint after the steps that all have."""
    common = tomllib.loads((HERE / "common.toml").read_text(encoding="utf-8"))
    site = f"/usr/local/lib/python{facts['python']}/dist-packages"
    env = {name: value.replace("{site}", site) for name, value in {**common["env"], **facts["env"]}.items()}
    labels = {name: env[value[1:]] if value.startswith("$") else value for name, value in common["labels"].items() if value.lstrip("$") in env or value[0] != "$"}
    labels["org.opencontainers.image.version"] = facts["ubuntu"]
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
