"""What `export` writes of a lock, installed by the tools that the formats are for: pip and uv, into empty environments."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from msgspec.structs import replace

from envsnap.lockfile.digest import seal
from envsnap.model.lock import EnvLock, LockedPackage
from envsnap.model.origins import BaseOrigin, EditableOrigin, IndexOrigin, UnknownOrigin, VcsOrigin
from envsnap.workflows import places
from tests import samples
from tests.fakes import index_server
from tests.fakes.index_server import IndexServer, entry
from tests.fakes.wheels import make_environment, site_of
from tests.wheels import make_wheel

BACKEND = """
import zipfile
from pathlib import Path

def build_wheel(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(Path(directory, "gamma-3.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("gamma.py", Path("gamma.py").read_text())
        wheel.writestr("gamma-3.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: gamma\\nVersion: 3.0\\n")
        wheel.writestr("gamma-3.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("gamma-3.0.dist-info/RECORD", "gamma.py,,\\ngamma-3.0.dist-info/METADATA,,\\ngamma-3.0.dist-info/WHEEL,,\\n"
                       "gamma-3.0.dist-info/RECORD,,\\n")
    return "gamma-3.0-py3-none-any.whl"
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@pytest.fixture
def index() -> Iterator[IndexServer]:
    with index_server.serving() as server:
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Address and commit of a git repository with a package, as a plain web server gives it."""
    work = tmp_path / "repositories/gamma"
    work.mkdir(parents=True)
    (work / "pyproject.toml").write_text(PYPROJECT)
    (work / "backend.py").write_text(BACKEND)
    (work / "gamma.py").write_text("VALUE = 'of the repository'\n")
    who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "one"), ("update-server-info",)):
        subprocess.run(("git", *words), cwd=work, check=True)
    commit = subprocess.run(("git", "rev-parse", "HEAD"), cwd=work, check=True, capture_output=True, text=True).stdout.strip()

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(work.parent))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/gamma/.git", commit
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def lock(tmp_path: Path, index: IndexServer, repository: tuple[str, str]) -> Path:
    """Of a project `yolo` with a package of each kind; another build of what the index has is listed beside the right one."""
    file = tmp_path / "yolo/lockfiles/yolo.yaml"
    blobs = places.blobs_of(file)

    def wheel(name: str, version: str, value: str) -> bytes:
        return make_wheel({f"{name}.py": f"VALUE = {value!r}\n".encode()}, name=name, version=version)

    alpha, other = wheel("alpha", "1.0", "of the index"), wheel("alpha", "1.0", "another build")
    index.json(
        "alpha",
        entry("alpha-1.0-1-py3-none-any.whl", sha256=index.wheel("alpha-1.0-1-py3-none-any.whl", other)),
        entry("alpha-1.0-py3-none-any.whl", sha256=index.wheel("alpha-1.0-py3-none-any.whl", alpha), size=len(alpha)),
    )

    def package(name: str, version: str, **changes: object) -> LockedPackage:
        made = LockedPackage(name=name, version=version, origin=UnknownOrigin(reason="gone"), provenance="unproven")
        return replace(made, **changes)

    def kept(name: str, version: str, value: str, **changes: object) -> LockedPackage:
        blob = blobs.put(wheel(name, version, value))
        file = f"{name}-{version}-py3-none-any.whl"
        return package(name, version, file=file, blob=blob, files=samples.digest(name), provenance="rebuilt", **changes)

    url, commit = repository
    vcs = VcsOrigin(vcs="git", url=url, commit=commit)
    packages = (
        package(
            "alpha",
            "1.0",
            origin=IndexOrigin(index=index.url.split("/")[2]),
            file="alpha-1.0-py3-none-any.whl",
            sha256=hashlib.sha256(alpha).hexdigest(),
            files=samples.digest("alpha"),
            provenance="index",
        ),
        kept("beta", "2.0+edited", "edited in place", modified=("beta.py",)),
        replace(kept("gamma", "3.0", "of the kept wheel", origin=vcs), provenance="vcs"),
        package("torch", "2.7.0a0+nv", origin=BaseOrigin(reference="nvcr.io/nvidia/pytorch:25.03-py3"), provenance="base"),
        replace(
            kept("yolotools", "0.3.0", "metadata alone", origin=EditableOrigin(path="", import_paths=("src",))),
            files=None,
            provenance="source",
        ),
    )
    sample = samples.lock()
    version = ".".join(map(str, sys.version_info[:3]))
    sealed: EnvLock = seal(replace(sample, packages=packages, python=replace(sample.python, version=version)))
    places.write_lock(sealed, file)
    return file


def environment(index: IndexServer, tmp_path: Path) -> Mapping[str, str]:
    """Nobody's settings of pip or uv but the index."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "ENVSNAP_"))}
    return {
        **kept,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": index.url,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "UV_NO_CONFIG": "1",
        "UV_DEFAULT_INDEX": index.url,
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "ENVSNAP_CACHE": str(tmp_path / "cache"),
    }


def export(lock: Path, form: str, place: Path, env: Mapping[str, str]) -> str:
    """What was said. The command is called in the project."""
    words = (sys.executable, "-m", "envsnap.cli.main", "export", f"lockfiles/{lock.name}", "--format", form, "-o", str(place))
    done = subprocess.run(words, cwd=lock.parent.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def install(tool: str, made: Path, *words: str, env: Mapping[str, str], cwd: Path) -> None:
    python = str(made / "bin/python")
    begin = ("pip", "--python", python, "install") if tool == "pip" else ("uv", "pip", "install", "--python", python)
    done = subprocess.run((sys.executable, "-m", *begin, "--quiet", *words), cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def values(made: Path) -> dict[str, str]:
    """Of the packages that can be imported there."""
    names = ("alpha", "beta", "gamma", "torch", "yolotools")
    code = f"import importlib.util as u; print({{n: __import__(n).VALUE for n in {names!r} if u.find_spec(n)}})"
    done = subprocess.run((made / "bin/python", "-c", code), capture_output=True, text=True, check=True, cwd=made)
    found: dict[str, str] = eval(done.stdout)
    return found


FILES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("requirements", "requirements.txt", ("--require-hashes", "--no-deps")),
    ("pylock", "pylock.toml", ()),
)
KEPT = {"alpha": "of the index", "beta": "edited in place", "gamma": "of the kept wheel"}


@pytest.mark.parametrize("tool", ["pip", "uv"])
@pytest.mark.parametrize(("form", "name", "words"), FILES)
def test_every_file_is_installed_by_its_hash(
    form: str, name: str, words: tuple[str, ...], tool: str, lock: Path, index: IndexServer, tmp_path: Path
) -> None:
    """From any directory; what has no file is left out and told."""
    env = environment(index, tmp_path)
    said = export(lock, form, tmp_path / "out" / name, env)
    assert "torch: part of the image nvcr.io/nvidia/pytorch:25.03-py3" in said and "left out: yolotools" in said
    made, elsewhere = make_environment(tmp_path / "env"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    install(tool, made, *words, "-r", f"../out/{name}", env=env, cwd=elsewhere)
    assert values(made) == KEPT
    assert len([*site_of(made).glob("*.dist-info")]) == 3


def test_what_is_in_no_index_can_be_brought_by_pip_download(lock: Path, index: IndexServer, tmp_path: Path) -> None:
    """Where nobody answers, pylock.toml names files beside it, and the warning says how they come there."""
    env, out = environment(index, tmp_path), tmp_path / "out"
    said = export(lock, "pylock", out / "pylock.toml", {**env, "PIP_INDEX_URL": "http://127.0.0.1:9/simple"})
    assert "no address of alpha" in said and "pip download --require-hashes --no-deps -d yolo-train.wheels -r FILE" in said
    export(lock, "requirements", out / "requirements.txt", env)
    words = ("download", "--quiet", "--require-hashes", "--no-deps", "-d", "yolo-train.wheels", "-r", "requirements.txt")
    subprocess.run((sys.executable, "-m", "pip", *words), cwd=out, env=env, check=True)
    made = make_environment(tmp_path / "env")
    nowhere = {**env, "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    install("pip", made, "-r", str(out / "pylock.toml"), env=nowhere, cwd=tmp_path)
    assert values(made) == KEPT


def test_the_pip_part_of_an_environment_yml(lock: Path, index: IndexServer, tmp_path: Path) -> None:
    """As conda has it done: its lines are a file of requirements beside the environment's."""
    env, out = environment(index, tmp_path), tmp_path / "out"
    export(lock, "conda", out / "environment.yml", env)
    (*_, pip) = yaml.safe_load((out / "environment.yml").read_text())["dependencies"]
    (out / "condaenv.txt").write_text("\n".join(pip["pip"]))
    made = make_environment(tmp_path / "env")
    install("pip", made, "-U", "-r", "condaenv.txt", "--exists-action=b", env=env, cwd=out)
    # It has no hashes: another build of alpha is what pip prefers.
    assert values(made) == {"alpha": "another build", "beta": "edited in place", "gamma": "of the repository"}


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_another_file_under_a_wheel_s_name_is_refused(tool: str, lock: Path, index: IndexServer, tmp_path: Path) -> None:
    env = environment(index, tmp_path)
    for form, name, words in FILES:
        place = tmp_path / form / name
        export(lock, form, place, env)
        (wheel,) = (place.parent / "yolo-train.wheels").glob("beta-*.whl")
        wheel.write_bytes(make_wheel({"beta.py": b"VALUE = 'evil'\n"}, name="beta", version="2.0+edited"))
        with pytest.raises(AssertionError, match=r"(?i)hash"):
            install(tool, make_environment(tmp_path / f"env-{form}"), *words, "-r", str(place), env=env, cwd=tmp_path)


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_captured_environment_is_made_again(tool: str, index: IndexServer, tmp_path: Path) -> None:
    """By other tools, its edit included, although the index has that very version without it."""
    env = environment(index, tmp_path)
    for name, version in (("alpha", "1.0"), ("beta", "2.0")):
        file, data = (
            f"{name}-{version}-py3-none-any.whl",
            make_wheel({f"{name}.py": b"VALUE = 'of the index'\n"}, name=name, version=version),
        )
        index.json(name, entry(file, sha256=index.wheel(file, data), size=len(data)))
    first = make_environment(tmp_path / "first")
    install("pip", first, "alpha", "beta", env=env, cwd=tmp_path)
    (site_of(first) / "beta.py").write_text("VALUE = 'edited in place'\n")
    project = tmp_path / "project"
    project.mkdir()
    capture = ("capture", "--python", str(first / "bin/python"), "--name", "made", "--project", ".")
    done = subprocess.run((sys.executable, "-m", "envsnap.cli.main", *capture), cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lock = project / "lockfiles/made.yaml"
    for form, name, words in FILES:
        export(lock, form, project / name, env)
        again = make_environment(tmp_path / form)
        install(tool, again, *words, "-r", str(project / name), env=env, cwd=tmp_path)
        assert values(again) == {"alpha": "of the index", "beta": "edited in place"}
        assert {path.name for path in site_of(again).iterdir()} >= {path.name for path in site_of(first).glob("*.dist-info")}
