"""`build --engine oci` as a whole: one image wherever it is built, taken by every engine, and equal to the one that Docker builds."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
import requests
import yaml

from envsnap.engines.docker import DockerEngine
from envsnap.oci.documents import OCI_INDEX, Manifest
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from tests.integration.conftest import ROOT
from tests.integration.ground import NOWHERE, Machine, need_more

pytestmark = pytest.mark.engine

CA_BUNDLE = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
ENVIRONMENT = "opt/envsnap/env"
SITE = f"{ENVIRONMENT}/lib/python3.11/site-packages"
ANOTHER_USER = 4321


def build(machine: Machine, base: str, *words: str) -> dict[str, Any]:
    return machine.envsnap("build", machine.lock, "--base", base, "--engine", "oci", *words)


# One image


def test_a_plan_that_fetches_nothing_tells_the_same(small: Machine, debian_base: str, told: dict[str, Any]) -> None:
    assert {path.name for path in small.images.iterdir()} == {"packages.yaml"}  # what the distribution's packages came down to
    told = small.envsnap("plan", small.lock, "--base", debian_base)["image"]
    assert told["manifest_digest"] == told["manifest_digest"]


@dataclass(frozen=True)
class Elsewhere:
    """How a machine differs from the one that told. Attributes: cold: it knows nothing of the base either."""

    of: Callable[[Machine, Path], Machine]
    cold: bool = False


def under_another_user(machine: Machine, place: Path) -> Machine:
    """Who reads all and writes nothing but what is his; with all else that differs between persons, too."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can be somebody else (setpriv)")
    for folder, names, files in os.walk(place):
        for name in (".", *names, *files):
            os.chown(Path(folder, name), ANOTHER_USER, ANOTHER_USER, follow_symlinks=False)
    reads = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--bounding-set=-all,+dac_read_search")
    who = ("setpriv", f"--reuid={ANOTHER_USER}", f"--regid={ANOTHER_USER}", "--clear-groups", *reads)
    mask = ("sh", "-c", 'umask 077; exec "$@"', "sh")
    env = {"HOME": str(place), "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7", "TMPDIR": str(place), "DOCKER_HOST": NOWHERE}
    return replace(machine, prefix=(*who, *mask), env={**machine.env, **env})


def with_pythons_own_inflate(machine: Machine, place: Path) -> Machine:
    (place / "instead/isal").mkdir(parents=True)
    (place / "instead/isal/__init__.py").touch()
    (place / "instead/isal/isal_zlib.py").write_text("from zlib import *\nfrom zlib import error\n")
    path = os.pathsep.join((str(place / "instead"), *filter(None, [os.environ.get("PYTHONPATH")])))
    return replace(machine, env={**machine.env, "PYTHONPATH": path, "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8"})


def under_python(version: str) -> Callable[[Machine, Path], Machine]:
    def of(machine: Machine, _: Path) -> Machine:
        return replace(machine, python=str(tools(version)), env={**machine.env, "PYTHONPATH": str(ROOT), "DOCKER_HOST": NOWHERE})

    return of


def tools(version: str) -> Path:
    """The interpreter of an environment with what envsnap needs, made once below ENVSNAP_TEST_CACHE."""
    of_pyenv = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))
    found = str(of_pyenv[-1]) if of_pyenv else shutil.which(f"python{version}")
    if found is None or sys.version_info[:2] == tuple(map(int, version.split("."))):
        pytest.skip(f"no other Python {version}")
    cache = Path(os.environ.get("ENVSNAP_TEST_CACHE") or Path.home() / ".cache/envsnap-tests")
    place, project = cache / f"tools-py{version}", (ROOT / "pyproject.toml").read_bytes()
    ready = place / "ready"
    if not (ready.is_file() and ready.read_bytes() == project):
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([found, "-m", "venv", place], check=True)
        command = [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"what envsnap needs cannot be installed for Python {version}: {done.stderr[-500:]}")
        subprocess.run([place / "bin/python", "-m", "pip", "uninstall", "--quiet", "--yes", "envsnap"], check=True)
        ready.write_bytes(project)
    return place / "bin/python"


ELSEWHERE = {
    "cold, with an engine": Elsewhere(lambda machine, _: machine, cold=True),
    "another user": Elsewhere(under_another_user),
    "another inflate": Elsewhere(with_pythons_own_inflate),
    **{f"python {version}": Elsewhere(under_python(version)) for version in ("3.10", "3.12", "3.13")},
}


@pytest.fixture(scope="module")
def repository(registry: str) -> str:
    """One that nothing was sent to."""
    return f"{registry}/assembled-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def pushed(small: Machine, engine: DockerEngine, debian_base: str, told: dict[str, Any], repository: str) -> Iterator[str]:
    """The image's name in a registry."""
    made = build(small, debian_base, "-t", f"{repository}:1", "--push")
    assert made["image"]["manifest_digest"] == told["manifest_digest"]
    assert made["uploaded_bytes"] > 1_000_000
    yield f"{repository}:1"
    subprocess.run(["docker", "image", "rm", "--force", f"{repository}:1"], capture_output=True)


@pytest.mark.parametrize("how", ELSEWHERE.values(), ids=ELSEWHERE)
def test_one_image_wherever_it_is_built(
    small: Machine, engine: DockerEngine, debian_base: str, told: dict[str, Any], pushed: str, how: Elsewhere
) -> None:
    engine.pull(debian_base, SILENT)
    with tempfile.TemporaryDirectory(prefix="somewhere else ") as place:  # where others may look, too
        machine = how.of(small.again(Path(place), layers=False, cold=how.cold), Path(place))
        made = build(machine, debian_base, "-t", pushed, "--push")
    assert made["image"]["manifest_digest"] == told["manifest_digest"]
    assert (made["cached"], made["uploaded_bytes"]) == (False, 0)


def test_nothing_changed_nothing_done(small: Machine, debian_base: str, pushed: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.images.rglob("image.yaml")}
    made = build(small, debian_base, "-t", pushed, "--push")
    assert (made["cached"], made["uploaded_bytes"]) == (True, 0)
    assert {path: path.stat().st_mtime_ns for path in small.images.rglob("image.yaml")} == before


def test_what_was_not_said_of_an_image_is_said_by_the_next_build(
    small: Machine, debian_base: str, pushed: str, told: dict[str, Any]
) -> None:
    """As after a push that was broken off when the image was there, and its documents were not."""
    address, _, repository = pushed.rpartition(":")[0].partition("/")
    client, digest = Registry(os.environ), told["manifest_digest"]
    said = {one.digest for one in client.referrers(pushed, digest)}
    at = f"http://{address}/v2/{repository}/manifests"
    listed = requests.head(f"{at}/{digest.replace(':', '-')}", headers={"Accept": OCI_INDEX}, timeout=10)
    assert said and requests.delete(f"{at}/{listed.headers['Docker-Content-Digest']}", timeout=10).status_code == 202
    assert client.referrers(pushed, digest) == ()
    assert build(small, debian_base, "-t", pushed, "--push")["cached"] and client.referrers(pushed, digest) == ()  # that build had ended
    (small.images / "image.yaml").unlink()
    assert build(small, debian_base, "-t", pushed, "--push")["uploaded_bytes"] == 0
    assert {one.artifact_type for one in client.referrers(pushed, digest)} == {
        "application/vnd.envsnap.lock.v1+yaml",
        "application/vnd.in-toto+json",
    }


# What engines make of it

PROGRAMS = """
set -e
python -m pip check
demo-main; demo-tool; demo-shell; f2py -v; yolotools-version; ./train.sh
python -c "import idna, attrs, numpy; print(numpy.linalg.inv(numpy.eye(2)).sum())"
touch ~/there new; echo $HOME; pwd; cat latest
"""  # without any activation, as any user
SAID = ["No broken requirements found.", "edited in place", "tool", "shell", "2.2.6", "changed", "changed", "2.0"]
SAID += ["/opt/envsnap/home", "/workspace/project", "as committed"]
HASHES = """
import base64, csv, hashlib, importlib.metadata as metadata
count = 0
for found in metadata.distributions():
    for name, told, _ in csv.reader(found.read_text('RECORD').splitlines()):
        data = found.locate_file(name).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')
        assert told == 'sha256=' + digest or not told and name.endswith('RECORD'), name
        count += 1
assert count > 1000, count
"""


def test_docker_runs_it(each_engine: DockerEngine, pushed: str) -> None:
    env = dict(each_engine._env)
    subprocess.run(["docker", "pull", "--quiet", pushed], env=env, check=True, capture_output=True)
    for user, code in (("1000:1000", PROGRAMS), ("0", f'{PROGRAMS} python -c "{HASHES}"')):
        command = ["docker", "run", "--rm", "--network=none", "-u", user, pushed, "sh", "-c", code]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.splitlines()[: len(SAID)] == SAID, done.stdout + done.stderr


def test_it_is_the_lock(small: Machine, pushed: str) -> None:
    verdict = small.envsnap("verify", pushed, "--gpus", "none", "--require", "L0")
    assert verdict["verdict"] == "pass", verdict["checks"]


def test_the_verdict_lies_beside_the_image(small: Machine, pushed: str, told: dict[str, Any], tmp_path: Path) -> None:
    """Attached, signed, found again by whoever asks for it; and only to an image that a registry has."""
    key, public = tmp_path / "key.pem", tmp_path / "key.pub"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
    subprocess.run(["openssl", "ec", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    asked = ("verify-signature", pushed, "--key", public, "--attestation", "test-result")
    assert small.envsnap(*asked, code=7)["findings"] == []

    words = ("--gpus", "none", "--require", "L0", "--attach", "--sign", key)
    given = [small.envsnap("verify", what, *words)["attached"] for what in (pushed, small.lock)]
    assert given[0] == given[1] | {"reference": pushed}  # said twice, it lies there once
    assert (given[0]["image_digest"], given[0]["signed"]) == (told["manifest_digest"], True)
    client = Registry(os.environ)
    (found,) = [one for one in client.referrers(pushed, told["manifest_digest"]) if one.digest == given[0]["digest"]]
    manifest = client.manifest(f"{pushed.rpartition(':')[0]}@{found.digest}")
    assert isinstance(manifest, Manifest)
    said = json.loads(b"".join(client.open_blob(pushed, manifest.layers[0])))
    client.close()
    assert said["predicate"]["result"] == "PASSED" and "identity.packages" in said["predicate"]["passedTests"]
    assert [finding["result"] for finding in small.envsnap(*asked, code=7)["findings"]] == ["PASSED"]  # of the image nothing is signed
    small.envsnap("sign", pushed, "--key", key)
    assert [finding["result"] for finding in small.envsnap(*asked)["findings"]] == ["", "PASSED"]

    own = yaml.safe_load((small.images / "image.yaml").read_bytes())["tags"][-1]
    assert own.startswith("envsnap/")
    assert "which registry" in small.envsnap("verify", own, *words, code=2)["error"]["what"]
    for wrong in (("--sign", key), ("--attach", "--python", sys.executable), ("--attach", "--negative-control", "tf32")):
        small.envsnap("verify", small.lock, *wrong, code=2)


# podman raises limits by itself, and starts nothing where it may not.
LOW = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--cgroups=disabled")
# crun takes no host where both versions of cgroups are mounted, as an engine may leave it: in a mount namespace of its own there is one.
WITH_ONE_CGROUP = ("unshare", "--mount", "sh", "-c", 'umount -lR /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "sh")


def test_podman_has_the_same(told: dict[str, Any], pushed: str, tmp_path: Path) -> None:
    """Pulled, and all files as RECORD has them; run where its runtime can."""
    if shutil.which("podman") is None:
        pytest.skip("no podman")
    if os.geteuid() != 0:
        pytest.skip("only root sees the files that podman unpacked")
    (tmp_path / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    with tempfile.TemporaryDirectory(prefix="run") as run:  # podman takes no long path
        # By its own way of storing layers; vfs, which always works, would copy the base for each layer.
        own = ("podman", "--root", tmp_path / "root", "--runroot", run, "--storage-driver", "overlay")
        plain = ("--events-backend", "none", "--cgroup-manager", "cgroupfs")  # systemd's need a session

        def podman(*words: str | Path, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*before, *map(str, own), *plain, *map(str, words)], capture_output=True, text=True, timeout=600)

        try:
            done = podman("pull", "--quiet", "--tls-verify=false", "--signature-policy", tmp_path / "policy.json", pushed)
            if "overlay" in done.stderr and done.returncode != 0:
                pytest.skip(f"podman cannot store layers here: {done.stderr[-300:]}")
            assert done.returncode == 0, done.stderr
            (inspected,) = json.loads(podman("image", "inspect", pushed).stdout)
            assert (f"sha256:{inspected['Id']}", inspected["Digest"]) == (told["config_digest"], told["manifest_digest"])
            root = podman("image", "mount", pushed).stdout.strip()
            assert hashes_hold(Path(root) / SITE) > 1000
            podman("image", "umount", pushed)
            asked = ("run", "--rm", "--network=none", *LOW, "-u", "1000:1000", pushed, "sh", "-c", PROGRAMS)
            ran = podman(*asked)
            if ran.returncode != 0 and "cgroups in hybrid mode" in ran.stderr:
                ran = podman(*asked, before=WITH_ONE_CGROUP)
            if ran.returncode != 0 and "OCI" in ran.stderr:
                pytest.skip(f"pulled and unpacked; podman runs nothing here: {ran.stderr.strip()[-300:]}")
            assert ran.returncode == 0 and ran.stdout.splitlines() == SAID, ran.stderr
        finally:
            podman("system", "reset", "--force")


def hashes_hold(site: Path) -> int:
    """How many files are what RECORD says. Raises AssertionError where one is not."""
    count = 0
    for record in site.glob("*.dist-info/RECORD"):
        for name, digest, _ in csv.reader(record.read_text().splitlines()):
            if digest:
                found = hashlib.sha256((site / name).read_bytes()).digest()
                assert digest == "sha256=" + base64.urlsafe_b64encode(found).decode().rstrip("="), name
                count += 1
    return count


# The two readings of one plan

# As docs/images-equal.md has them; "*" is any part of a path.
DIFFER: Mapping[str, str] = {
    "*.dist-info/INSTALLER": "who installed it: pip, or envsnap",
    "*.dist-info/RECORD": "the same rows, but for files that differ by this table",
    "*.pyc": "pip's name the times of a build, ours are the same in each",
    "etc/ld.so.cache": "the same libraries, in another order",
    "var/lib/apt/extended_states": "apt notes what was asked for by name although it was there",
    "var/lib/dpkg/*-old": "dpkg's database as it was before",
}
"""Files whose content may differ, and why."""
ONLY_DOCKERS: Mapping[str, str] = {
    "*.dist-info/REQUESTED": "pip notes what it was asked for by name; here that is every package",
    "etc/rc?.d/*": "links for an init that containers do not have",
    "var/cache/ldconfig/aux-cache": "what makes ldconfig's next run faster",
    "var/log/*": "what apt and dpkg did",
}
ONLY_OURS: Mapping[str, str] = {
    "var/lib/apt/lists/*": "the base's own; the Dockerfile empties that directory",
}


class Entry(NamedTuple):
    """Of a tree. Attributes: sha256: of a file's content."""

    kind: bytes
    mode: int
    uid: int
    gid: int
    link: str
    sha256: str
    text: bytes


def tree(image: str) -> dict[str, Entry]:
    """All of an image's files, as its engine gives them out."""
    container = subprocess.run(["docker", "create", image, "true"], check=True, capture_output=True, text=True).stdout.strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
            assert export.stdout is not None
            found = read_tree(export.stdout)
        assert export.returncode == 0
        return found
    finally:
        subprocess.run(["docker", "rm", container], capture_output=True)


def read_tree(stream: IO[bytes]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.islnk():
                found[member.name] = found[member.linkname]
                continue
            content = archive.extractfile(member) if member.isfile() else None
            data = content.read() if content is not None else b""
            about = (member.type, member.mode, member.uid, member.gid, member.linkname)
            kept = data if is_script(member.name) or member.name.endswith("/RECORD") else b""
            found[member.name.rstrip("/")] = Entry(*about, sha256=hashlib.sha256(data).hexdigest(), text=kept)
    return found


def is_script(path: str) -> bool:
    return path.startswith(f"{ENVIRONMENT}/bin/")


def named(path: str, table: Mapping[str, str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in table)


def differences(docker: Mapping[str, Entry], ours: Mapping[str, Entry]) -> list[str]:
    """What no table above allows."""
    wrong = [f"only Docker's has {path}" for path in sorted(docker.keys() - ours.keys()) if not named(path, ONLY_DOCKERS)]
    wrong += [f"only ours has {path}" for path in sorted(ours.keys() - docker.keys()) if not named(path, ONLY_OURS)]
    for path in sorted(docker.keys() & ours.keys()):
        theirs, own = docker[path], ours[path]
        if theirs[:5] != own[:5]:
            wrong.append(f"{path}: {theirs[:5]} is {own[:5]}")
        elif theirs.sha256 != own.sha256 and not named(path, DIFFER) and not (is_script(path) and calls(theirs) == calls(own)):
            wrong.append(f"{path} has another content")
        elif path.endswith(".dist-info/RECORD") and path.startswith(SITE):
            wrong += [f"{path}: {said}" for said in rows_that_differ(rows(theirs, docker), rows(own, ours))]
    return wrong


def calls(script: Entry) -> tuple[bytes, bytes]:
    """What a script of an entry point comes down to: its interpreter, and what it imports and calls."""
    lines = script.text.splitlines()
    imported = next((line for line in lines if line.startswith(b"from ")), script.text)
    called = next((line.strip() for line in lines if b"sys.exit(" in line), script.text)
    return lines[0], imported + called


def rows(record: Entry, whole: Mapping[str, Entry]) -> dict[str, str]:
    """Path -> hash, without those that no table above lets both have; "" for a hash that may differ."""
    found = {}
    for name, digest, _ in csv.reader(io.StringIO(record.text.decode(), newline="")):
        path = os.path.normpath(f"{SITE}/{name}")
        if not (named(path, ONLY_DOCKERS) or path.endswith(".pyc")):
            assert path in whole, f"RECORD names {path}, which is not there"
            found[name] = "" if named(path, DIFFER) or is_script(path) else digest
    return found


def rows_that_differ(docker: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """One without a hash says nothing of the file."""
    both = docker.keys() & ours.keys()
    return sorted((docker.keys() ^ ours.keys()) | {name for name in both if docker[name] != ours[name] and docker[name]})


def test_a_difference_is_seen() -> None:
    info = f"{SITE}/six-1.0.dist-info"
    file = Entry(b"0", 0o644, 0, 0, "", "1" * 64, b"")
    record = file._replace(text=b"six.py,sha256=1,1\nsix-1.0.dist-info/RECORD,,\nsix-1.0.dist-info/REQUESTED,sha256=2,0\n")
    script = file._replace(text=b"#!/p\nimport sys\nfrom six import main\nsys.exit(main())\n")
    docker = {"opt": file, f"{info}/RECORD": record, f"{info}/REQUESTED": file, f"{SITE}/six.py": file, f"{ENVIRONMENT}/bin/six": script}
    other = script._replace(sha256="2" * 64, text=b"#!/p\n# other words\nfrom six import main\nif 1:\n    sys.exit(main())\n")
    shorter = record._replace(sha256="3" * 64, text=record.text[: record.text.index(b"six-1.0.dist-info/REQ")])
    ours = {**docker, f"{ENVIRONMENT}/bin/six": other, f"{info}/RECORD": shorter}
    del ours[f"{info}/REQUESTED"]
    assert not differences(docker, ours)
    for path, entry in (
        ("opt", file._replace(mode=0o755)),
        ("opt", file._replace(sha256="4" * 64)),
        ("new", file),
        (f"{info}/RECORD", record._replace(text=record.text.replace(b"sha256=1", b"sha256=5"))),
        (f"{ENVIRONMENT}/bin/six", script._replace(sha256="6" * 64, text=script.text.replace(b"main()", b"other()"))),
    ):
        assert len(differences(docker, {**ours, path: entry})) == 1, path
    assert differences(docker, {path: entry for path, entry in ours.items() if path != "opt"}) == ["only Docker's has opt"]


@pytest.fixture(scope="module")
def needy(small: Machine, told: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """With system packages to install, too."""
    machine = small.again(tmp_path_factory.mktemp("needy"))
    need_more(machine)
    return machine


def files_of(machine: Machine, base: str, *words: str) -> dict[str, Entry]:
    """Of the image that a build puts into the engine."""
    tag = f"envsnap-test/files:{uuid.uuid4().hex[:12]}"
    machine.envsnap("build", machine.lock, "--base", base, "-t", tag, "--ca-bundle", CA_BUNDLE, *words)
    try:
        return tree(tag)
    finally:
        subprocess.run(["docker", "image", "rm", "--force", tag], capture_output=True)


@pytest.fixture(scope="module")
def by_docker(needy: Machine, engine: DockerEngine, debian_base: str) -> dict[str, Entry]:
    return files_of(needy, debian_base, "--engine", "docker")


def test_the_page_has_the_tables() -> None:
    told = (ROOT / "docs/images-equal.md").read_text(encoding="utf-8")
    assert not [pattern for pattern in (*DIFFER, *ONLY_DOCKERS, *ONLY_OURS) if f"`{pattern}`" not in told]


@pytest.mark.parametrize("compiled", [True, False], ids=["pyc", "no-pyc"])
def test_the_files_are_those_of_dockers_image(needy: Machine, debian_base: str, by_docker: dict[str, Entry], compiled: bool) -> None:
    ours = files_of(needy, debian_base, "--engine", "oci", "--pyc" if compiled else "--no-pyc")
    theirs = {path: entry for path, entry in by_docker.items() if compiled or not is_compiled(path)}
    assert "\n".join(differences(theirs, ours)) == ""
    assert {"usr/lib/x86_64-linux-gnu/libSM.so.6", f"{SITE}/numpy/__init__.py"} < ours.keys()
    assert any(map(is_compiled, ours)) is compiled


def is_compiled(path: str) -> bool:
    return path.startswith(ENVIRONMENT) and "__pycache__" in path
