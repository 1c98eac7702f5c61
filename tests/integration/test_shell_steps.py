"""A plan with a step that needs a shell: Docker does that step on the base, and all else is assembled upon what comes of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from envsnap import catalog, lockfile, plan
from envsnap.blobs import BlobStore
from envsnap.engines.docker import DockerEngine
from envsnap.model.base import Base, BaseInventory, ImageConfig
from envsnap.model.debian import NeedsShell, SystemPlan
from envsnap.model.lock import LockedSystemPackage
from envsnap.oci.image import BaseImage
from envsnap.plan.shell import shell_steps
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.workflows import shell
from envsnap.workflows.system import Packages
from tests import samples
from tests.integration.conftest import forget
from tests.integration.ground import NOWHERE, Machine
from tests.integration.test_assembled import CA_BUNDLE, PROGRAMS, SAID, Entry, differences, tree

pytestmark = pytest.mark.engine

NEEDED = LockedSystemPackage(name="libfontconfig1", version="1", arch="amd64", sonames=("libfontconfig.so.1",), needed_by=("numpy",))
"""Depends on fontconfig-config, whose postinst asks debconf what to link in /etc/fonts/conf.d."""
SCRIPTED = "fontconfig-config"
OF_THEIR_TIME = ("var/cache/ldconfig/aux-cache", "var/log/*")
"""What says when they were installed, and a cache that names inodes."""


@pytest.fixture(scope="module")
def machine(small: Machine, told: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Machine:
    made = small.again(tmp_path_factory.mktemp("scripted"))
    lock = lockfile.loads(made.lock.read_bytes())
    made.lock.write_bytes(lockfile.dumps(lockfile.seal(replace(lock, system_packages=(*lock.system_packages, NEEDED)))))
    return made


@pytest.fixture(scope="module")
def before(machine: Machine, debian_base: str) -> dict[str, Any]:
    """What is told before anything is built."""
    return machine.envsnap("plan", machine.lock, "--base", debian_base, "--fetch")


@pytest.fixture(scope="module")
def tag(registry: str, engine: DockerEngine) -> Iterator[str]:
    name = f"{registry}/shell-steps-{uuid.uuid4().hex[:12]}:1"
    yield name
    forget(engine, name)


@pytest.fixture(scope="module")
def built(machine: Machine, before: dict[str, Any], debian_base: str, engine: DockerEngine, tag: str) -> dict[str, Any]:
    words = ("-t", tag, "--push", "--load", "--vendor", "--ca-bundle", CA_BUNDLE)
    return machine.envsnap("build", machine.lock, "--base", debian_base, *words)


def test_the_plan_says_what_docker_does_and_why(before: dict[str, Any]) -> None:
    (step,) = before["by_docker"]
    assert step["kind"] == "apt-install" and f"{SCRIPTED}: its postinst" in step["because"]
    assert before["image"]["config_digest"] is None
    # But for the lock, what lies above was made for another image of this machine.
    told = re.search(r"no two such are the same; (\d+) of the (\d+) above them are known", before["image"]["unknown_because"])
    assert told is not None and int(told[1]) == int(told[2]) - 1 > 3


def test_without_an_engine_it_stops_and_says_what_for(machine: Machine, before: dict[str, Any], debian_base: str) -> None:
    words = ("build", machine.lock, "--base", debian_base, "--engine")
    refused = machine.envsnap(*words, "oci", code=5)["error"]
    assert SCRIPTED in refused["why"] and "--engine auto" in refused["hint"]
    nowhere = Machine(project=machine.project, cache=machine.cache, env={"DOCKER_HOST": NOWHERE})
    stopped = nowhere.envsnap(*words, "auto", code=6)["error"]
    assert stopped["what"] == "cannot reach a Docker engine" and SCRIPTED in stopped["why"] and stopped["hint"]


def test_dockers_layer_lies_below_and_all_others_above(built: dict[str, Any], debian_base: str, tag: str) -> None:
    assert built["engine"] == "oci" and built["uploaded_bytes"] > 1_000_000
    registry = Registry(os.environ)
    (manifest, config), (base, _) = (registry.image(name, machine=os.uname().machine) for name in (tag, debian_base))
    assert manifest.digest == built["image"]["manifest_digest"]
    below = len(base.layers)
    assert [layer.digest for layer in manifest.layers[:below]] == [layer.digest for layer in base.layers]
    made_by = [entry.get("created_by", "") for entry in config.document["history"] if not entry.get("empty_layer")]
    assert made_by[below].startswith("envsnap, by Docker: ") and "fontconfig-config, " in made_by[below]
    assert all(line.startswith("envsnap: ") for line in made_by[below + 1 :]) and len(made_by) > below + 4


def test_the_packages_are_kept_beside_the_lock(machine: Machine, built: dict[str, Any]) -> None:
    kept = [path.read_bytes()[:8] for path in machine.lock.with_suffix(".packages").glob("sha256/*")]
    assert len(kept) > 5 and set(kept) == {b"!<arch>\n"}


CHECKS = f"""
set -e
dpkg --audit; dpkg --status libfontconfig1 {SCRIPTED} > /dev/null
test -e /etc/fonts/conf.d/10-hinting-slight.conf
python -c "import ctypes; ctypes.CDLL('libfontconfig.so.1').FcInit() == 1 or exit(1)"
{PROGRAMS}
"""


def test_it_runs(built: dict[str, Any], tag: str) -> None:
    forgotten = subprocess.run(["docker", "image", "rm", "--force", tag], capture_output=True)
    assert forgotten.returncode == 0
    subprocess.run(["docker", "pull", "--quiet", tag], check=True, capture_output=True)
    done = subprocess.run(
        ["docker", "run", "--rm", "--network=none", "-u", "1000:1000", tag, "sh", "-c", CHECKS], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.splitlines()[: len(SAID)] == SAID, done.stdout + done.stderr


def test_nothing_changed_nothing_done_and_now_it_is_told(machine: Machine, built: dict[str, Any], debian_base: str, tag: str) -> None:
    again = machine.envsnap("build", machine.lock, "--base", debian_base, "-t", tag, "--push")
    assert (again["cached"], again["uploaded_bytes"], again["image"]) == (True, 0, built["image"])
    known = machine.envsnap("plan", machine.lock, "--base", debian_base)
    assert known["image"]["manifest_digest"] == built["image"]["manifest_digest"] and len(known["by_docker"]) == 1


def test_it_is_its_locks_here_and_elsewhere_that_is_proven_but_for_dockers_layer(
    machine: Machine, built: dict[str, Any], debian_base: str, tag: str, tmp_path: Path
) -> None:
    here = machine.envsnap("check", tag, "--lock", machine.lock)
    assert {reason["status"] for reason in here["reasons"]} == {"pass"} and "lock.shell" in [reason["id"] for reason in here["reasons"]]
    registry = Registry(os.environ)
    below = len(registry.image(debian_base, machine=os.uname().machine)[0].layers)
    made_by_docker = registry.image(tag, machine=os.uname().machine)[0].layers[below]
    elsewhere = machine.again(tmp_path)
    BlobStore(elsewhere.cache / "blobs").path(made_by_docker.digest).unlink()
    found = elsewhere.envsnap("check", tag, "--lock", elsewhere.lock, code=7)
    assert found["verdict"] == "incomplete"
    assert [reason["id"] for reason in found["reasons"] if reason["status"] != "pass"] == ["lock.shell"]
    (elsewhere.images / "plan.yaml").unlink()  # as in a directory where nothing was planned
    found = elsewhere.envsnap("check", tag, "--lock", elsewhere.lock, code=7)
    assert [reason["id"] for reason in found["reasons"] if reason["status"] != "pass"] == ["lock.base", "lock.shell"]
    found = elsewhere.envsnap("check", tag, "--lock", elsewhere.lock, "--base", debian_base, code=7)
    assert [reason["id"] for reason in found["reasons"] if reason["status"] != "pass"] == ["lock.shell"]


def test_the_files_are_those_of_a_build_by_docker_alone(
    machine: Machine, built: dict[str, Any], debian_base: str, engine: DockerEngine, tag: str
) -> None:
    whole = f"envsnap-test/whole:{os.getpid()}"
    words = ("-t", whole, "--engine", "docker", "--ca-bundle", CA_BUNDLE)
    try:
        assert machine.envsnap("build", machine.lock, "--base", debian_base, *words)["engine"] == "docker"
        docker, ours = (compared(tree(name)) for name in (whole, tag))
    finally:
        forget(engine, whole)
    assert "etc/fonts/conf.d/10-hinting-slight.conf" in ours
    assert differences(docker, ours) == []


# What a package's scripts may do

POSTINST = """#!/bin/sh
ls /sys/class/net > /etc/demo-interfaces
/usr/bin/python3 - <<'END' || true
import pathlib, socket, struct, urllib.request
rows = [line.split() for line in pathlib.Path("/proc/net/route").read_text().splitlines()[1:]]
host = next(socket.inet_ntoa(struct.pack("<L", int(row[2], 16))) for row in rows if row[1] == "00000000")
urllib.request.urlretrieve(f"http://{host}:PORT/", "/etc/demo-fetched")
END
"""


class OnePackage:
    """A package whose postinst fetches a file from this host."""

    def __init__(self, root: Path, port: int) -> None:
        control = root / "demo/DEBIAN"
        control.mkdir(parents=True)
        (control / "control").write_text("Package: demo\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: demo\n")
        (control / "postinst").write_text(POSTINST.replace("PORT", str(port)))
        (control / "postinst").chmod(0o755)
        self._file = root / "demo.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root / "demo", self._file], check=True, capture_output=True)

    def lay_out(self, plan: object, machine: str, directory: Path) -> int:
        (directory / "1").mkdir(parents=True)
        shutil.copy(self._file, directory / "1")
        return 1


@contextmanager
def downloads() -> Iterator[tuple[int, list[str]]]:
    """A server that containers reach; its port, and what it is asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()


def test_a_package_that_would_fetch_more_finds_no_network(engine: DockerEngine, debian_base: str, tmp_path: Path) -> None:
    lock, (manifest, config) = samples.lock(), Registry(os.environ).image(debian_base, machine=os.uname().machine)
    cache = tmp_path / "cache"
    cache.mkdir()
    known = Base(
        reference=debian_base,
        family="other",
        digest=manifest.digest,
        config=ImageConfig(architecture="amd64"),
        inventory=BaseInventory(distribution="debian 12", python="3.11.2", python_path="/usr/bin/python3"),
    )
    made = plan.make_plan(lock, catalog.load(), [known])
    scripts = (NeedsShell(package="demo", because="its postinst fetches"),)
    steps = shell_steps(made, SystemPlan(distribution="debian 12", arch="amd64", packages=(), needs_shell=scripts), config.digest)
    assert steps is not None
    base = BaseImage(config=config, manifest=manifest, reference=debian_base)
    with downloads() as (port, asked), shell.named(lock, engine) as name:
        packages = cast("Packages", OnePackage(tmp_path, port))
        done = shell.do(steps, made, lock, base, {}, engine, packages, cache, SILENT, tag=name)
    (layer,) = done.layers
    with tarfile.open(BlobStore(cache / "blobs").path(layer.digest)) as files:
        interfaces = files.extractfile("etc/demo-interfaces")
        assert interfaces is not None and interfaces.read().split() == [b"lo"]
        assert "etc/demo-fetched" not in files.getnames()
    assert asked == []


def compared(found: dict[str, Entry]) -> dict[str, Entry]:
    return {path: entry for path, entry in found.items() if not any(fnmatchcase(path, pattern) for pattern in OF_THEIR_TIME)}
