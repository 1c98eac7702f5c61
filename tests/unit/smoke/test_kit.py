"""Kits, with real wheels, a real pip and real environments; the index is a directory."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from envsnap.errors import TargetError
from envsnap.model.facts import CollectedFacts, Distribution, Interpreter, Platform
from envsnap.model.lock import KitPackage, LockedInterpreter, LockedPython
from envsnap.progress import SILENT
from envsnap.smoke import kit

pytest.importorskip("pip", reason="envsnap's own interpreter has no pip")

TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
PYTHON = LockedPython(
    version="{}.{}.{}".format(*sys.version_info),
    implementation="cpython",
    abi=TAG,
    kind="venv",
    interpreter=LockedInterpreter(soabi="", machine="x86_64"),
)


def make_wheel(folder: Path, name: str, version: str, *requires: str, tag: str = "py3-none-any", module: str = "") -> Path:
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    files = {
        f"{module or stem}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {r}\n" for r in requires),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{stem}-tool = {module or stem}:main\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for path, text in files.items()
    )
    path = folder / f"{stem}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name_in_wheel, text in {**files, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            wheel.writestr(zipfile.ZipInfo(name_in_wheel, (2020, 1, 1, 0, 0, 0)), text)
    return path


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip knows of."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, version, requires in (
        ("ultralytics", "8.4.0", ("torch>=1.8", "opencv-python", "lib-a")),
        ("wandb", "0.31.0", ("lib-a>=1", "lib-b")),
        ("lib-a", "1.5", ()),
        ("torch", "9.9", ()),
    ):
        make_wheel(folder, name, version, *requires)
    make_wheel(folder, "opencv-python", "5.0", module="cv2")
    make_wheel(folder, "opencv-python-headless", "5.0", module="cv2")
    # The interpreter's own tag decides between these two.
    make_wheel(folder, "lib-b", "2.0", tag=f"{TAG}-none-any")
    make_wheel(folder, "lib-b", "3.0", tag="cp27-none-any")
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_CONSTRAINT", "PIP_REQUIREMENT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


class Environment:
    """A virtual environment without pip, with tiny distributions in it."""

    def __init__(self, root: Path, index: Path, *installed: tuple[str, str]) -> None:
        venv.create(root, with_pip=False)
        self.python = root / "bin" / "python"
        self.site = next((root / "lib").glob("python*/site-packages"))
        wheels = [make_wheel(root, name, version) for name, version in installed]
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(self.site)
            wheel.unlink()
        self.root = root
        self.facts = CollectedFacts(
            schema=1,
            interpreter=Interpreter(
                version=PYTHON.version,
                implementation="cpython",
                abi=TAG,
                soabi="",
                machine="x86_64",
                libc="",
                kind="venv",
                executable=str(self.python),
                prefix=str(root),
                base_prefix="",
            ),
            platform=Platform(machine="x86_64", kernel="", libc="", distribution="", cpu=""),
            distributions=tuple(Distribution(name=n, version=v, location=str(self.site), metadata_dir="") for n, v in installed),
            env={},
        )

    def state(self) -> dict[str, tuple[int, int]]:
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(self.root.rglob("*"))}


@pytest.fixture
def environment(tmp_path: Path, index: Path) -> Environment:
    return Environment(tmp_path / "env", index, ("torch", "2.12.1+cu130"), ("torchvision", "0.27.1"), ("lib-a", "1.2"))


def names(packages: Sequence[KitPackage]) -> list[str]:
    return [f"{package.name} {package.version}" for package in packages]


def test_only_what_is_missing_is_lent(environment: Environment, index: Path, tmp_path: Path) -> None:
    before = environment.state()
    found = kit.resolve(environment.python, "torch", environment.facts, tmp_path / "cache", SILENT)
    assert isinstance(found, kit.Kit) and found.directory is not None
    # lib-a stays the environment's 1.2, lib-b is the one for this interpreter, OpenCV comes without the toolkits.
    assert names(found.packages) == ["lib-b 2.0", "opencv-python-headless 5.0", "ultralytics 8.4.0", "wandb 0.31.0"]
    for package in found.packages:
        assert hashlib.sha256((index / package.file).read_bytes()).hexdigest() == package.sha256
    assert environment.state() == before

    code = "import sys; sys.path.append(sys.argv[1]); import torch, lib_a, ultralytics, wandb, cv2; print(torch.VERSION, lib_a.VERSION)"
    done = subprocess.run([environment.python, "-B", "-c", code, found.directory], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2.12.1+cu130", "1.2"]
    assert not list(found.directory.rglob("*.pyc")) and not (found.directory / "bin").exists()


def test_the_kit_comes_back_by_hash_without_the_interpreter(environment: Environment, index: Path, tmp_path: Path) -> None:
    found = kit.resolve(environment.python, "torch", environment.facts, tmp_path / "cache", SILENT)
    assert isinstance(found, kit.Kit) and found.directory is not None
    again = kit.restore(found.packages, PYTHON, tmp_path / "elsewhere", SILENT)
    assert again.name == found.directory.name
    assert {path.name for path in again.iterdir()} == {path.name for path in found.directory.iterdir()}

    for wheel in index.iterdir():  # whatever is in the cache needs no index
        wheel.unlink()
    assert kit.restore(found.packages, PYTHON, tmp_path / "elsewhere", SILENT) == again


def test_a_changed_wheel_is_refused(index: Path, tmp_path: Path) -> None:
    wheel = index / "lib_a-1.5-py3-none-any.whl"
    package = KitPackage(name="lib-a", version="1.5", file=wheel.name, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(TargetError, match="cannot be fetched"):
        kit.restore([package], PYTHON, tmp_path / "cache", SILENT)
    assert list((tmp_path / "cache" / "kits").iterdir()) == []


def test_an_environment_that_has_both_needs_neither_kit_nor_pip(tmp_path: Path, index: Path) -> None:
    complete = Environment(tmp_path / "env", index, ("torch", "2.12.1"), ("ultralytics", "8.4.1"), ("wandb", "0.31.0"))
    assert kit.resolve(Path("/no/such/python"), "torch", complete.facts, tmp_path, SILENT) == kit.Kit(directory=None, packages=())


def test_offline_nothing_is_lent_and_no_pip_runs(environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "run", lambda *_, **__: pytest.fail("something ran"))
    found = kit.resolve(environment.python, "torch", environment.facts, tmp_path, SILENT, offline=True)
    assert found == kit.NoKit(reason="ultralytics and wandb not installed, and to lend them an index would have to be asked")


def test_wandb_alone_is_lent_to_who_has_ultralytics(tmp_path: Path, index: Path) -> None:
    half = Environment(tmp_path / "env", index, ("torch", "2.12.1"), ("torchvision", "0.27"), ("ultralytics", "8.4.1"))
    found = kit.resolve(half.python, "torch", half.facts, tmp_path / "cache", SILENT)
    assert isinstance(found, kit.Kit)
    assert names(found.packages) == ["lib-a 1.5", "lib-b 2.0", "wandb 0.31.0"]


def test_pins_that_conflict_leave_the_smoke_train_out(tmp_path: Path, index: Path) -> None:
    old = Environment(tmp_path / "env", index, ("torch", "2.12.1"), ("torchvision", "0.27"), ("lib-a", "0.9"))
    found = kit.resolve(old.python, "torch", old.facts, tmp_path / "cache", SILENT)
    assert isinstance(found, kit.NoKit)
    assert found.reason.startswith("pip finds no ultralytics and wandb that fits the environment as it is: ")
    assert not (tmp_path / "cache").exists()


def test_torch_itself_is_never_lent(tmp_path: Path, index: Path) -> None:
    none = Environment(tmp_path / "env", index, ("lib-a", "1.2"))
    found = kit.resolve(none.python, "torch", none.facts, tmp_path / "cache", SILENT)
    assert found == kit.NoKit(reason="ultralytics and wandb would bring other versions of torch than the environment has")


def test_without_any_pip_it_says_what_to_do(environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(environment.python))
    with pytest.raises(TargetError, match="needs pip") as caught:
        kit.resolve(environment.python, "torch", environment.facts, tmp_path, SILENT)
    assert "ensurepip" in caught.value.hint
    with pytest.raises(TargetError, match="needs pip"):
        kit.restore([KitPackage(name="a", version="1", file="a-1-py3-none-any.whl", sha256="0" * 64)], PYTHON, tmp_path, SILENT)


def test_the_wheels_choose_the_tags() -> None:
    files = ("a-1-py3-none-any.whl", "b-1-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "c-1-cp311-cp311-linux_x86_64.whl")
    packages = [KitPackage(name=file[0], version="1", file=file, sha256="0" * 64) for file in files]
    python = LockedPython(
        version="3.11.7",
        implementation="cpython",
        abi="cp311",
        kind="venv",
        interpreter=LockedInterpreter(soabi="", machine="x86_64"),
    )
    assert kit.foreign_interpreter(packages, python) == (
        "--implementation", "cp", "--python-version", "3.11.7", "--abi", "abi3", "--abi", "cp311", "--abi", "none",
        "--platform", "linux_x86_64", "--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64",
    )  # fmt: skip


def test_constraints_leave_out_what_pip_cannot_read() -> None:
    assert kit.constraints({"torch": "2.12.1+cu130", "ancient": "1.0-final-release", "a": "1"}) == "a==1\ntorch==2.12.1+cu130\n"
