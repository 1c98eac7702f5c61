"""`envsnap diff` of a lock and a live environment: nothing where nothing changed, whatever it is made of; each change by its name."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envsnap import lockfile
from envsnap.probes import interpreter
from envsnap.probes.local import LocalPython
from envsnap.progress import SILENT
from tests.fakes import index_server, wheels

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this interpreter has no pip")


ROOT = str(Path(__file__).parents[2])


class Ground:
    """A project in git with uncommitted work, and its environment.

    `known` is of an index, `demo-pkg` is edited and has a file added, `tools` is the project itself and `far-away` another directory, both
    editable; of `local` no index has the wheel.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.project, self.elsewhere, self.lock = root, root / "project", root / "elsewhere", root / "locks/ground.yaml"
        self.env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
        self.env |= {"ENVSNAP_CACHE": str(root / "cache"), "PIP_CONFIG_FILE": os.devnull, "OMP_NUM_THREADS": "2", "PYTHONPATH": ROOT}
        self.lock.parent.mkdir()
        for directory in (self.project, self.elsewhere):
            directory.mkdir()
        (self.project / "tools.py").write_text("WHERE = 'project'\n")
        (self.elsewhere / "far_away.py").write_text("WHERE = 'elsewhere'\n")
        self.git("init", "--quiet")
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", "one")
        (self.project / "tools.py").write_text("WHERE = 'project, edited'\n")
        (self.project / "new.py").write_text("NEW = 1\n")
        self.site = wheels.site_of(wheels.make_environment(root / "env"))
        self.lend_pip()
        wheels.install(root / "env", wheels.write_wheel(root / wheels.DEMO_FILE, wheels.DEMO), self.distribution(root, "local"))
        (self.site / "demo_module.py").write_text("def main(): print('edited in place')\n")
        (self.site / "demo_pkg/added.py").write_text("ADDED = 1\n")
        self.editable("tools", self.project)
        self.editable("far-away", self.elsewhere)
        with index_server.serving() as server:
            wheel = self.distribution(root, "known")
            wheels.install(root / "env", wheel)
            server.json("known", index_server.entry(wheel.name, sha256=server.wheel(wheel.name, wheel.read_bytes())))
            self.env["PIP_INDEX_URL"] = server.url
            self.captured = self.envsnap("capture", "--python", str(root / "env"), "-o", str(self.lock))
        # From here on no index answers.

    def lend_pip(self) -> None:
        """It says which indexes are to be asked, and is no distribution of the environment."""
        spec = importlib.util.find_spec("pip")
        assert spec is not None and spec.origin is not None
        (self.root / "lent").mkdir()
        (self.root / "lent/pip").symlink_to(Path(spec.origin).parent)
        (self.site / "lent.pth").write_text(f"{self.root / 'lent'}\n")

    def envsnap(self, *words: str, code: int = 0, cwd: Path | None = None, **env: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "envsnap.cli.main", *words, "--json"]
        done = subprocess.run(command, cwd=cwd or self.project, env=self.env | env, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def drift(self, *words: str, code: int = 7, cwd: Path | None = None, **env: str) -> dict[str, str]:
        """Field -> grade."""
        document = self.envsnap("diff", str(self.lock), "--python", str(self.root / "env"), *words, code=code, cwd=cwd, **env)
        return {difference["field"]: difference["grade"] for difference in document["differences"]}

    def git(self, *words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        subprocess.run(("git", *identity, *words), cwd=self.project, check=True, capture_output=True)

    def distribution(self, directory: Path, name: str) -> Path:
        info = f"{name}-1.0.dist-info"
        files = {
            f"{name}.py": "VERSION = 1\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        return wheels.write_wheel(directory / f"{name}-1.0-py3-none-any.whl", files)

    def editable(self, name: str, directory: Path) -> None:
        """As pip leaves one, without a build backend."""
        module = name.replace("-", "_")
        info = self.site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        (info / "direct_url.json").write_text(json.dumps({"url": directory.as_uri(), "dir_info": {"editable": True}}))
        (info / "top_level.txt").write_text(f"{module}\n")
        (self.site / f"__editable__.{module}.pth").write_text(f"{directory}\n")
        record = [f"__editable__.{module}.pth,,", *(f"{info.name}/{file},," for file in ("METADATA", "WHEEL", "RECORD"))]
        (info / "RECORD").write_text("\n".join(record) + "\n")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("drift"))


def test_the_ground_has_a_package_of_every_kind(ground: Ground) -> None:
    lock = lockfile.loads(ground.lock.read_bytes())
    found = {package.name: (package.provenance, bool(package.modified)) for package in lock.packages}
    assert found == {
        "demo-pkg": ("rebuilt", True),
        "far-away": ("rebuilt", False),
        "known": ("index", False),
        "local": ("rebuilt", False),
        "tools": ("source", False),
    }
    assert lock.source is not None and lock.source.dirty and lock.source.untracked


def test_nothing_changed_and_nothing_is_said(ground: Ground) -> None:
    assert ground.drift(code=0) == {}


def test_quiet_says_nothing_at_all(ground: Ground) -> None:
    words = ("diff", str(ground.lock), "--python", str(ground.root / "env"), "--quiet")
    command = [sys.executable, "-m", "envsnap.cli.main", *words]
    for env, code in ((ground.env, 0), ({**ground.env, "OMP_NUM_THREADS": "7"}, 7)):
        done = subprocess.run(command, cwd=ground.project, env=env, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


Sabotage = Callable[[Ground], None]


def edit(*parts: str) -> Sabotage:
    def sabotage(ground: Ground) -> None:
        place = ground.root.joinpath(*parts) if parts[0] != "site" else ground.site.joinpath(*parts[1:])
        place.write_text(place.read_text() + "# edited again\n")

    return sabotage


def remove(ground: Ground) -> None:
    shutil.rmtree(ground.site / "known-1.0.dist-info")


def install(ground: Ground) -> None:
    wheels.install(ground.root / "env", ground.distribution(ground.root, "another"))


SABOTAGES: list[tuple[str, Sabotage, dict[str, str]]] = [
    ("what was edited is edited again", edit("site", "demo_module.py"), {"packages.demo-pkg.files": "breaking"}),
    (
        "an untouched package is edited",
        edit("site", "known.py"),
        {"packages.known.files": "breaking", "packages.known.modified": "breaking"},
    ),
    ("the project is edited", edit("project", "tools.py"), {"source.files": "breaking", "source.patch": "breaking"}),
    ("a new file of it is edited", edit("project", "new.py"), {"source.files": "breaking", "source.untracked.new.py.blob": "breaking"}),
    ("another directory that is installed is edited", edit("elsewhere", "far_away.py"), {"packages.far-away.files": "breaking"}),
    ("a package is gone", remove, {"packages.known": "breaking"}),
    ("a package is new", install, {"packages.another": "breaking"}),
]


@pytest.mark.parametrize(("sabotage", "expected"), [case[1:] for case in SABOTAGES], ids=[case[0] for case in SABOTAGES])
def test_each_change_of_files_is_found(ground: Ground, sabotage: Sabotage, expected: dict[str, str]) -> None:
    places = (ground.site, ground.project, ground.elsewhere)
    for place in places:
        shutil.copytree(place, ground.root / "kept" / place.name, symlinks=True)
    try:
        sabotage(ground)
        found = ground.drift()
    finally:
        for place in places:
            shutil.rmtree(place)
            (ground.root / "kept" / place.name).rename(place)
        (ground.root / "kept").rmdir()
    assert expected.items() <= found.items(), found
    assert {field for field, grade in found.items() if grade == "breaking"} - {"observed.imports.another", "observed.imports.known"} == set(
        expected
    )


def test_a_variable_that_steers_is_numeric_and_one_that_does_not_is_cosmetic(ground: Ground) -> None:
    assert ground.drift(OMP_NUM_THREADS="7") == {"env.OMP_NUM_THREADS": "numeric"}
    assert ground.drift("--fail-on", "breaking", code=0, OMP_NUM_THREADS="7") == {"env.OMP_NUM_THREADS": "numeric"}
    assert ground.drift(NCCL_DEBUG="INFO") == {"env.NCCL_DEBUG": "cosmetic"}
    assert ground.drift("--fail-on", "numeric", code=0, NCCL_DEBUG="INFO") == {"env.NCCL_DEBUG": "cosmetic"}


def test_the_project_is_compared_where_the_lock_has_one(ground: Ground, tmp_path: Path) -> None:
    """From cron the current directory is another one: --project names it, and nobody takes an accident for a change."""
    assert "source" in ground.drift(cwd=tmp_path)
    assert ground.drift("--project", str(ground.project), cwd=tmp_path, code=0) == {}


def test_two_locks_and_an_option_of_the_live_one_do_not_go_together(ground: Ground) -> None:
    document = ground.envsnap("diff", str(ground.lock), str(ground.lock), "--ssh", "host", code=2)
    assert "two locks were given" in document["error"]["what"]


def test_what_is_as_it_was_is_recognised_and_so_not_packed_again(ground: Ground) -> None:
    facts = interpreter.collect(
        LocalPython(ground.root / "env/bin/python"), framework=False, imports=False, integrity=True, progress=SILENT
    )
    lock = lockfile.loads(ground.lock.read_bytes())
    assert set(lockfile.recognised(facts.distributions, lock)) == {"demo-pkg", "known", "local"}
