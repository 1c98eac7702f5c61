"""A small real environment, its lock, and machines on which images of it are built.

Five packages of an index (one of them with libraries of its own), one that no index has and that was edited in place, and a project in a
git repository that is installed in place.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from envsnap import lockfile
from envsnap.model.lock import LockedSystemPackage
from tests.fakes import wheels

PACKAGES = ("attrs==25.3.0", "idna==3.10", "numpy==2.2.6", "pip==25.1.1", "six==1.17.0")
NAME = "small"
OWN = "demo-pkg"  # the package that was edited
PROJECT = "yolotools"  # the project's own
NOWHERE = "unix:///nonexistent/docker.sock"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a build sees of the world: a project with its lock, a cache, variables.

    Attributes:
        prefix: what starts the command. python: that runs envsnap. timeout_s: of one command.
    """

    project: Path
    cache: Path
    env: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    python: str = sys.executable
    timeout_s: int = 300

    @property
    def lock(self) -> Path:
        return self.project / f"lockfiles/{NAME}.yaml"

    @property
    def images(self) -> Path:
        return self.project / f"images/{NAME}"

    def command(self, *words: str | Path) -> tuple[list[str], dict[str, str]]:
        """The command line, and its variables."""
        argv = [*self.prefix, self.python, "-m", "envsnap.cli.main", *map(str, words), "--json"]
        return argv, {**os.environ, "ENVSNAP_CACHE": str(self.cache), **self.env}

    def envsnap(self, *words: str | Path, code: int = 0) -> dict[str, Any]:
        """What a command answers."""
        argv, env = self.command(*words)
        done = subprocess.run(argv, cwd=self.project, env=env, capture_output=True, text=True, timeout=self.timeout_s)
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """The same command, running."""
        argv, env = self.command(*words)
        return subprocess.Popen(argv, cwd=self.project, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def again(self, place: Path, *, layers: bool = True, cold: bool = False) -> Machine:
        """Another machine in a new directory, with the same project, what was pinned for it, and what this one's cache has.

        Args:
            layers: those that were made here, too. cold: with nothing in its cache.
        """
        shutil.copytree(self.project, place / "project", symlinks=True)
        if not cold:
            subprocess.run(["cp", "-al", self.cache, place / "cache"], check=True)  # files there are replaced, never written into
            for folder in () if layers else ("layers", "bytecode", "images"):
                shutil.rmtree(place / "cache" / folder, ignore_errors=True)
        return changed(self, project=place / "project", cache=place / "cache")


def git(place: Path, *words: str) -> None:
    who = ("-c", "user.name=A Person", "-c", "user.email=person@example.com", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *who, *words], cwd=place, check=True, capture_output=True)


def make_environment(place: Path) -> Path:
    """The environment, with the project of `make_project` installed in place."""
    python = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11") or sys.executable  # the base's version
    subprocess.run([python, "-m", "venv", "--without-pip", place], check=True)
    pip = (sys.executable, "-m", "pip", "--python", place / "bin/python", "install", "--quiet", "--no-deps", "--no-compile")
    subprocess.run((*pip, *PACKAGES), check=True)
    wheels.install(place, wheels.write_wheel(place.parent / wheels.DEMO_FILE, wheels.DEMO))
    (wheels.site_of(place) / "demo_module.py").write_text("def main(): print('edited in place')\n")
    subprocess.run((*pip, "--no-index", "--no-build-isolation", "-e", place.parent / "project"), check=True)
    return place


def make_project(place: Path) -> Path:
    """A repository that is not clean: committed, changed and new files, a program, a link."""
    package = place / "src" / PROJECT
    package.mkdir(parents=True)
    (place / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbackend-path = ["."]\nbuild-backend = "backend"\n'
        f'[project]\nname = "{PROJECT}"\nversion = "0.3.0"\n'
    )
    shutil.copy(Path(__file__).parent / "editable_backend.py", place / "backend.py")
    (package / "__init__.py").write_text('WHAT = "committed"\n')
    (package / "data.txt").write_text("as committed\n")
    (place / "train.sh").write_text("#!/bin/sh\nexec python -c 'import yolotools; print(yolotools.WHAT)'\n")
    (place / "train.sh").chmod(0o755)
    (place / "latest").symlink_to("src/yolotools/data.txt")
    (place / ".gitignore").write_text("/lockfiles/\n/images/\n__pycache__/\n")
    git(place, "init", "--quiet")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "-m", "Train")
    (package / "__init__.py").write_text('WHAT = "changed"\n\n\ndef main() -> None:\n    print(WHAT)\n')
    (package / "new.py").write_text("NEW = True\n")
    return place


def make(root: Path) -> Machine:
    """Everything, captured. The machine's cache knows what the capture asked for, and no base."""
    machine = Machine(project=make_project(root / "project"), cache=root / "cache")
    machine.envsnap("capture", "--python", make_environment(root / "env"), "--name", NAME)
    return machine


def need_more(machine: Machine) -> None:
    """Change its lock, as if a package needed libraries of the distribution that the base lacks; one of them brings others."""
    needed = tuple(
        LockedSystemPackage(name=name, version="1", arch="amd64", sonames=(soname,), needed_by=("numpy",))
        for name, soname in (("libgomp1", "libgomp.so.1"), ("libsm6", "libSM.so.6"))
    )
    lock = lockfile.loads(machine.lock.read_bytes())
    machine.lock.write_bytes(lockfile.dumps(lockfile.seal(replace(lock, system_packages=(*lock.system_packages, *needed)))))


def spoil(place: Path, digest: str, data: bytes) -> None:
    """Put other bytes in the place of a blob, as a disk that fails or another program would."""
    path = place / "blobs/sha256" / digest.removeprefix("sha256:")
    path.unlink()  # it may be another cache's, too
    path.write_bytes(data)
