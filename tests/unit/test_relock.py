"""`envsnap relock`, with real wheels on an index of loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from envsnap import lockfile
from envsnap.model.lock import EnvLock
from envsnap.model.origins import CondaOrigin, SystemOrigin
from envsnap.probes.pages import index_label
from tests import samples
from tests.fakes import index_server, wheels
from tests.fakes.index_server import IndexServer


def wheel(directory: Path, name: str, version: str, *requires: str, tag: str = "py3-none-any", python: str = "", written: str = "") -> Path:
    """Args: written: the version as METADATA has it, where that is another spelling."""
    stem = f"{name}-{version}"
    lines = "".join(f"Requires-Dist: {line}\n" for line in requires) + (f"Requires-Python: {python}\n" if python else "")
    interpreters, *others = tag.split("-")
    tags = "".join(f"Tag: {'-'.join((interpreter, *others))}\n" for interpreter in interpreters.split(".")[::-1])
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {written or version}\n{lines}",
        f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n{tags}",
    }
    return wheels.write_wheel(directory / f"{stem}-{tag}.whl", files)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[IndexServer]:
    """Alpha 1 and 2, and beta 1 and 2, which need an alpha of their own number; and a gamma for another system."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    with index_server.serving() as server:
        made = {
            "alpha": [wheel(directory, "alpha", "1.0"), wheel(directory, "alpha", "2.0"), wheel(directory, "alpha", "2.0+cu1")],
            "beta": [wheel(directory, "beta", "1.0", "alpha<2"), wheel(directory, "beta", "2.0", "alpha>=2", "gamma")],
            "gamma": [wheel(directory, "gamma", "3.0", tag="cp311-cp311-win_amd64")],
        }
        for name, paths in made.items():
            server.json(name, *(index_server.entry(path.name, sha256=server.wheel(path.name, path.read_bytes())) for path in paths))
        yield server


def locked(server: IndexServer) -> EnvLock:
    packages = []
    for name in ("alpha", "beta"):
        file = f"{name}-1.0-py3-none-any.whl"
        data = server.pages[f"/files/{file}"][2]
        package = samples.index_package(name, "1.0")
        packages.append(replace(package, file=file, sha256=hashlib.sha256(data).hexdigest(), origin=replace(package.origin, index=None)))
    return lockfile.seal(replace(samples.lock(), packages=tuple(packages), source=None))


@pytest.fixture
def lock(index: IndexServer, tmp_path: Path) -> Path:
    path = tmp_path / "lockfiles/demo.yaml"
    path.parent.mkdir()
    path.write_bytes(lockfile.dumps(labelled(locked(index), index)))
    return path


def listed(server: IndexServer, name: str, *paths: Path, hashes: bool = True) -> None:
    """The index has these wheels of the project, and no others."""
    digests = [(path.name, server.wheel(path.name, path.read_bytes())) for path in paths]
    server.json(name, *(index_server.entry(file, sha256=digest if hashes else "") for file, digest in digests))


def labelled(lock: EnvLock, server: IndexServer) -> EnvLock:
    """With the packages of that index, as a capture calls it."""
    label = index_label(server.url)
    return lockfile.seal(replace(lock, packages=tuple(replace(p, origin=replace(p.origin, index=label)) for p in lock.packages)))


def relock(server: IndexServer, lock: Path, *words: str, code: int = 0, find_links: Path | None = None) -> dict[str, Any]:
    env = {
        **os.environ,
        "PIP_INDEX_URL": server.url,
        "PIP_CONFIG_FILE": os.devnull,
        "ENVSNAP_CACHE": str(lock.parent / "cache"),
        "PIP_FIND_LINKS": str(find_links or ""),
    }
    command = [sys.executable, "-m", "envsnap.cli.main", "relock", str(lock), *words, "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_packages_that_are_changed_together_fit(index: IndexServer, lock: Path) -> None:
    before = lockfile.loads(lock.read_bytes())
    document = relock(index, lock, "alpha==2.0", "--allow-conflict")
    after = lockfile.loads(lock.read_bytes())
    assert document["changed"] == [{"name": "alpha", "from": "1.0", "to": "2.0"}]
    assert document["conflicts"] == ["beta 1.0 requires alpha<2, and the lock would have alpha 2.0"]
    assert document["digest"] == after.digest != before.digest
    alpha = after.packages[0]
    assert (alpha.file, alpha.provenance) == ("alpha-2.0-py3-none-any.whl", "index")
    record = zipfile.ZipFile(lock.parents[1] / "wheels/alpha-2.0-py3-none-any.whl").read("alpha-2.0.dist-info/RECORD")
    assert alpha.files is not None and record
    assert after.packages[1] == before.packages[1]


def test_a_change_that_breaks_another_package_is_refused_and_nothing_written(index: IndexServer, lock: Path) -> None:
    before = lock.read_bytes()
    error = relock(index, lock, "alpha==2.0", code=5)["error"]
    assert "beta 1.0 requires alpha<2, and the lock would have alpha 2.0" in error["what"]
    assert "alpha==2.0 beta==VERSION" in error["hint"] and "--allow-conflict" in error["hint"]
    assert lock.read_bytes() == before
    # The other one as well would need a third.
    error = relock(index, lock, "alpha==2.0", "beta==2.0", code=5)["error"]
    assert "beta 2.0 requires gamma, and the lock has none" in error["what"]
    assert "install gamma" in error["hint"] and "gamma==" not in error["hint"]  # relock could not


def test_what_did_not_fit_before_stops_nothing(index: IndexServer, lock: Path) -> None:
    relock(index, lock, "alpha==2.0", "--allow-conflict")
    assert relock(index, lock, "alpha==2.0+cu1")["conflicts"] == []


def test_a_local_version_is_another_version(index: IndexServer, lock: Path) -> None:
    relock(index, lock, "alpha==2.0+cu1", "--allow-conflict")
    assert lockfile.loads(lock.read_bytes()).packages[0].file == "alpha-2.0+cu1-py3-none-any.whl"
    error = relock(index, lock, "alpha==1.0+cu1", code=5)["error"]
    assert error["what"] == "there is no alpha 1.0+cu1" and error["hint"] == "there are 1.0, 2.0, 2.0+cu1"


def test_a_dry_run_writes_nothing_and_another_file_leaves_the_lock(index: IndexServer, lock: Path, tmp_path: Path) -> None:
    before = lock.read_bytes()
    assert not relock(index, lock, "alpha==2.0", "--allow-conflict", "--dry-run")["written"]
    assert lock.read_bytes() == before
    document = relock(index, lock, "alpha==2.0", "--allow-conflict", "-o", str(tmp_path / "new.yaml"))
    assert document["written"]
    assert lock.read_bytes() == before and lockfile.loads((tmp_path / "new.yaml").read_bytes()).digest == document["digest"]


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["alfa==1"], 4, "the lock has no package alfa"),
        (["alpha==1.0"], 2, "alpha is 1.0 already"),
        (["alpha==1.0.0"], 2, "alpha is 1.0 already"),
        (["alpha==2.0", "Alpha==2.0+cu1"], 2, "alpha is named twice"),
        (["alpha"], 2, "is not NAME==VERSION"),
        (["alpha>=2"], 2, "is not NAME==VERSION"),
        (["alpha==2.*"], 2, "is not NAME==VERSION"),
        (["alpha==2.0; sys_platform == 'x'"], 2, "is not NAME==VERSION"),
        (["alpha==7"], 5, "there is no alpha 7"),
    ],
)
def test_what_cannot_be_done_is_said(index: IndexServer, lock: Path, words: list[str], code: int, what: str) -> None:
    before = lock.read_bytes()
    error = relock(index, lock, *words, code=code)["error"]
    assert what in error["what"] and error["hint"]
    assert lock.read_bytes() == before


def test_a_package_of_another_index_is_not_taken_from_this_one(index: IndexServer, lock: Path) -> None:
    found = lockfile.loads(lock.read_bytes())
    private = replace(found.packages[0], origin=replace(found.packages[0].origin, index="vision@pkgs.example.com"))
    lock.write_bytes(lockfile.dumps(lockfile.seal(replace(found, packages=(private, found.packages[1])))))
    error = relock(index, lock, "alpha==2.0", code=6)["error"]
    assert error["why"] == "vision@pkgs.example.com, where it came from, is not in pip's configuration here"


def test_an_index_that_does_not_answer_is_no_answer(index: IndexServer, lock: Path) -> None:
    index.pages["/simple/alpha/"] = (503, "text/plain", b"busy")
    error = relock(index, lock, "alpha==2.0", code=6)["error"]
    assert "cannot ask for alpha" in error["what"] and "PIP_INDEX_URL" in error["hint"]
    error = relock(index, lock, "beta==2.0", "--offline", code=6)["error"]  # which nobody has asked for yet
    assert error["hint"].startswith("without --offline")


def test_a_package_of_conda_is_condas_to_change(index: IndexServer, lock: Path) -> None:
    found = lockfile.loads(lock.read_bytes())
    conda = replace(found.packages[0], origin=CondaOrigin(url="https://example.com/a-1-0.conda", build="0"), provenance="conda")
    lock.write_bytes(lockfile.dumps(lockfile.seal(replace(found, packages=(conda, found.packages[1])))))
    assert "conda" in relock(index, lock, "alpha==2.0", code=4)["error"]["what"]


def test_a_package_of_the_system_can_be_changed_once_it_is_kept(index: IndexServer, lock: Path) -> None:
    found = lockfile.loads(lock.read_bytes())
    origin = SystemOrigin(package="python3-alpha", version="1.0-1", arch="all", files=samples.digest("alpha"))
    blob = samples.digest("wheel")
    for provenance, code in (("system", 4), ("rebuilt", 0)):
        of_system = replace(found.packages[0], origin=origin, provenance=provenance, blob=blob if code == 0 else None, sha256=None)
        lock.write_bytes(lockfile.dumps(lockfile.seal(replace(found, packages=(of_system, found.packages[1])))))
        said = relock(index, lock, "alpha==2.0", "--allow-conflict", "--dry-run", code=code)
        assert code == 0 or "capture with --rescue alpha" in said["error"]["hint"]


def test_there_and_back_again_is_the_same_lock(index: IndexServer, lock: Path, tmp_path: Path) -> None:
    """Version and tags are said as an installation says them: METADATA's spelling, and WHEEL's order, which is not the file name's."""
    old = wheel(tmp_path, "alpha", "2024.7.4", tag="py2.py3-none-any", written="2024.07.04")
    listed(index, "alpha", old, wheel(tmp_path, "alpha", "2025.1"))
    relock(index, lock, "alpha==2024.7.4", "--allow-conflict")
    alpha, digest = lockfile.loads(lock.read_bytes()).packages[0], lockfile.loads(lock.read_bytes()).digest
    assert (alpha.version, alpha.tags) == ("2024.07.04", ("py3-none-any", "py2-none-any"))
    assert relock(index, lock, "alpha==2025.1", "--allow-conflict")["digest"] != digest
    assert relock(index, lock, "alpha==2024.07.04", "--allow-conflict")["digest"] == digest


def test_a_wheel_for_another_python_is_refused(index: IndexServer, lock: Path, tmp_path: Path) -> None:
    listed(index, "alpha", wheel(tmp_path, "alpha", "1.5", python=">=3.999"), wheel(tmp_path, "alpha", "1.6", python=">=3,<4"))
    error = relock(index, lock, "alpha==1.5", "--allow-conflict", code=5)["error"]  # pip would not install it
    assert "alpha 1.5 is not for Python" in error["what"] and "requires Python >=3.999" in error["why"]
    assert relock(index, lock, "alpha==1.6")["changed"]


def test_a_wheel_that_says_another_version_of_itself_is_not_taken(index: IndexServer, lock: Path, tmp_path: Path) -> None:
    listed(index, "alpha", wheel(tmp_path, "alpha", "1.5", written="1.7"))
    error = relock(index, lock, "alpha==1.5", code=6)["error"]
    assert "METADATA says version 1.7" in error["why"]


def test_without_a_hash_of_the_index_there_is_no_proof(index: IndexServer, lock: Path, tmp_path: Path) -> None:
    path = wheel(tmp_path, "alpha", "1.5")
    listed(index, "alpha", path, hashes=False)
    assert "publishes no sha256 for alpha-1.5" in relock(index, lock, "alpha==1.5", code=5)["error"]["why"]
    relock(index, lock, "alpha==1.5", find_links=tmp_path)  # a folder's file is hashed here
    assert lockfile.loads(lock.read_bytes()).packages[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
