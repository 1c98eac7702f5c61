"""Faults around `build --engine oci`: kills, a second build, damage in the cache, full disks, bases that move, registries that die.

None ends in a wrong image, or in a wrong thing under a right name: a build is right, or is refused with a way out and right when run again.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envsnap.engines.docker import DockerEngine
from envsnap.inventory import remembered
from envsnap.registry.client import Registry
from envsnap.rootless.roots import LOCK
from tests.fakes import fault_proxy
from tests.fakes.fault_proxy import Fault
from tests.integration.ground import NOWHERE, Machine, need_more

pytestmark = pytest.mark.engine

KILLS = int(os.environ.get("ENVSNAP_TEST_KILLS", "8"))
BUG = 1


@pytest.fixture
def tag(registry: str) -> str:
    """Of a repository that nothing was sent to."""
    return f"{registry}/faults-{uuid.uuid4().hex[:12]}:1"


@pytest.fixture
def machine(small: Machine, told: dict[str, Any], debian_base: str, tmp_path: Path) -> Machine:
    """One of its own, without an engine, whose cache has all that the image is made of, and its layers."""
    return replace(small.again(tmp_path), env={"DOCKER_HOST": NOWHERE})


@pytest.fixture
def words(debian_base: str) -> tuple[str, ...]:
    return ("--base", debian_base, "--engine", "oci")


def digest_at(tag: str) -> str | None:
    found = Registry(os.environ).head(tag)
    return found.digest if found is not None else None


def forget_layers(machine: Machine) -> None:
    """So that all of them are made again."""
    for folder in ("layers", "bytecode"):
        shutil.rmtree(machine.cache / folder, ignore_errors=True)


# Kills


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


def unfinished(machine: Machine) -> set[Path]:
    """Temporary files and directories; the lock of unpacked images, which stays, is none."""
    folders = (machine.project / "images", machine.cache, machine.cache / "blobs/sha256", *machine.cache.iterdir())
    return {path for folder in folders if folder.is_dir() for path in folder.glob(".*") if path.name != LOCK}


def test_killed_at_any_instant_and_run_again(
    machine: Machine, told: dict[str, Any], words: tuple[str, ...], tag: str, record_property: Callable[[str, object], None]
) -> None:
    started = time.monotonic()
    forget_layers(machine)
    machine.envsnap("build", machine.lock, *words, "-t", f"{tag}-first", "--push")
    whole = time.monotonic() - started
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    instants = random.Random(seed)
    for number in range(KILLS):
        forget_layers(machine)
        name = f"{tag}-{number}"
        with ended(machine.start("build", machine.lock, *words, "-t", name, "--push")):
            time.sleep(instants.uniform(0.1, 1.0) * whole)
        assert digest_at(name) in (None, told["manifest_digest"]), seed
    left = unfinished(machine)
    assert machine.envsnap("build", machine.lock, *words, "-t", tag, "--push")["image"]["manifest_digest"] == told["manifest_digest"], seed
    assert digest_at(tag) == told["manifest_digest"]
    assert len(left) <= 3, left
    assert not [path for path in unfinished(machine) if path.is_dir() or path.name.startswith(".blob")]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_it_ends_at_once(machine: Machine, words: tuple[str, ...], tag: str, how: signal.Signals) -> None:
    forget_layers(machine)
    with ended(machine.start("build", machine.lock, *words, "-t", tag, "--push")) as process:
        while not list((machine.cache / "layers").glob("*.json")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(how)
        started = time.monotonic()
        assert process.wait(20) == 130
        assert time.monotonic() - started < 5
    assert digest_at(tag) is None
    assert not unfinished(machine)


# Two at once


@pytest.mark.parametrize("same_project", [True, False], ids=["one project", "two projects"])
def test_two_at_once_on_one_cache(
    machine: Machine, told: dict[str, Any], words: tuple[str, ...], tag: str, tmp_path: Path, same_project: bool
) -> None:
    forget_layers(machine)
    (tmp_path / "other").mkdir()
    other = machine if same_project else replace(machine.again(tmp_path / "other"), cache=machine.cache)
    running = [one.start("build", one.lock, *words, "-t", f"{tag}-{number}", "--push") for number, one in enumerate((machine, other))]
    told_by = [process.communicate(timeout=600) for process in running]
    for number, (process, (said, errors)) in enumerate(zip(running, told_by, strict=True)):
        assert process.returncode == 0, errors
        assert json.loads(said)["image"]["manifest_digest"] == told["manifest_digest"] == digest_at(f"{tag}-{number}")
    assert not unfinished(machine)


# Damage in the cache


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    put(path, bytes(data))


def cut(path: Path) -> None:
    put(path, path.read_bytes()[:-100])


def garbled(path: Path) -> None:
    put(path, b'{"digest": 1')


def put(path: Path, data: bytes) -> None:
    path.unlink()  # it may be another cache's, too
    path.write_bytes(data)


def exchanged(one: Path, other: Path) -> None:
    """Each is well-formed, and what the other should be."""
    first, second = one.read_bytes(), other.read_bytes()
    put(one, second)
    put(other, first)


def notes(machine: Machine, folder: str) -> list[Path]:
    found = sorted((machine.cache / folder).glob("*.json"))
    assert found
    return found


def blobs(machine: Machine, start: bytes) -> list[Path]:
    """Those that begin with some bytes."""
    every = sorted((machine.cache / "blobs/sha256").iterdir())
    found = [path for path in every if path.read_bytes()[: len(start)] == start]
    assert found
    return found


GZIP, ZIP, JSON, DEB, XZ = b"\x1f\x8b", b"PK", b"{", b"!<arch>", b"\xfd7zXZ"


def layers(machine: Machine) -> list[Path]:
    known = {json.loads(path.read_bytes())["of"]["digest"] for path in notes(machine, "layers")}
    return [machine.cache / "blobs/sha256" / digest.removeprefix("sha256:") for digest in sorted(known)]


def each(paths: list[Path], damage: Callable[[Path], None]) -> None:
    for path in paths:
        damage(path)


def without_layers(machine: Machine) -> Machine:
    shutil.rmtree(machine.cache / "layers")
    return machine


def without_layers_and_byte_code(machine: Machine) -> Machine:
    forget_layers(machine)
    return machine


def as_it_is(machine: Machine) -> Machine:
    return machine


def all_notes(machine: Machine) -> list[Path]:
    return [path for folder in ("layers", "wheels", "bases", "bytecode", "inventories") for path in notes(machine, folder)]


def exchange_notes(machine: Machine) -> None:
    for folder in ("layers", "wheels"):
        exchanged(*notes(machine, folder)[:2])


Damage = tuple[Callable[[Machine], Machine], Callable[[Machine], None]]
DAMAGE: dict[str, Damage] = {
    "layers flipped": (as_it_is, lambda one: each(layers(one), flipped)),
    "layers cut": (as_it_is, lambda one: each(layers(one), cut)),
    "a layer gone": (as_it_is, lambda one: layers(one)[0].unlink()),
    "wheels flipped": (without_layers_and_byte_code, lambda one: each(blobs(one, ZIP), flipped)),
    "wheels and all notes flipped": (as_it_is, lambda one: each([*blobs(one, ZIP), *all_notes(one)], flipped)),
    "notes garbled": (as_it_is, lambda one: each(all_notes(one), garbled)),
    "notes exchanged": (as_it_is, exchange_notes),
    "documents flipped": (as_it_is, lambda one: each(blobs(one, JSON), flipped)),
    "byte code flipped": (without_layers, lambda one: each(byte_code(one), flipped)),
}


def of_inventories(machine: Machine) -> list[Path]:
    """Blobs that the inventories of bases name."""
    digests = {digest for one in remembered.all_of(machine.cache) for digest in remembered.blobs_of(one.inventory)}
    assert digests
    return [machine.cache / "blobs/sha256" / digest.removeprefix("sha256:") for digest in sorted(digests)]


def byte_code(machine: Machine) -> list[Path]:
    pieces = {piece for path in notes(machine, "bytecode") for piece in json.loads(path.read_bytes())["of"]["pieces"]}
    return [machine.cache / "blobs/sha256" / digest.removeprefix("sha256:") for digest in sorted(pieces)]


@pytest.mark.parametrize(("before", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_damage_in_the_cache(
    machine: Machine,
    told: dict[str, Any],
    words: tuple[str, ...],
    tag: str,
    before: Callable[[Machine], Machine],
    damage: Callable[[Machine], None],
) -> None:
    damage(before(machine))
    command: tuple[str | Path, ...] = ("build", machine.lock, *words, "-t", tag, "--push")
    argv, env = machine.command(*command)
    done = subprocess.run(argv, cwd=machine.project, env=env, capture_output=True, text=True, timeout=600)
    answer = json.loads(done.stdout)
    if done.returncode != 0:
        assert done.returncode != BUG and answer["error"]["hint"], answer
        assert digest_at(tag) is None
        if "cache prune --layers" in answer["error"]["hint"]:
            machine.envsnap("cache", "prune", "--layers")
        answer = machine.envsnap(*command)
    assert answer["image"]["manifest_digest"] == told["manifest_digest"] == digest_at(tag)
    assert answer["uploaded_bytes"] > 1_000_000


def test_what_system_packages_are_made_of_is_had_anew_when_it_is_damaged(machine: Machine, words: tuple[str, ...]) -> None:
    """Of the base's inventory the next run, of the distribution's packages and indexes the same one."""
    need_more(machine)
    command: tuple[str | Path, ...] = ("build", machine.lock, *words, "--no-pyc")
    whole = machine.envsnap(*command)["image"]["manifest_digest"]
    each([*blobs(machine, DEB), *blobs(machine, XZ), *of_inventories(machine)], flipped)
    shutil.rmtree(machine.cache / "layers")
    (machine.images / "packages.yaml").unlink()  # so that the index is asked again
    error = machine.envsnap(*command, code=4)["error"]
    assert "the base's inventory was damaged" in error["what"] and "run it again" in error["hint"], error
    assert machine.envsnap(*command)["image"]["manifest_digest"] == whole


def test_pins_that_cannot_be_read_are_not_made_anew_in_silence(machine: Machine, told: dict[str, Any], words: tuple[str, ...]) -> None:
    """A base that was pinned must not move because a file was damaged."""
    machine.envsnap("build", machine.lock, *words)
    for name in ("plan.yaml", "packages.yaml"):
        kept = (machine.images / name).read_bytes()
        (machine.images / name).write_bytes(b"base: [")
        error = machine.envsnap("build", machine.lock, "--engine", "oci", code=4)["error"]
        assert name in error["what"] and "restore it" in error["hint"], error
        (machine.images / name).write_bytes(kept)
    assert machine.envsnap("build", machine.lock, "--engine", "oci")["image"]["manifest_digest"] == told["manifest_digest"]


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_told_and_loses_nothing(
    machine: Machine, told: dict[str, Any], words: tuple[str, ...], tag: str, small_disk: Path
) -> None:
    """The cache is on it: wheels and the inventory go in, the layers do not."""
    full = replace(machine, cache=small_disk / "cache")
    for name in ("inventories", "bases", "wheels", "project-pages"):
        shutil.copytree(machine.cache / name, full.cache / name)
    kept = {path for path in blobs(machine, b"") if path.stat().st_size < 1 << 20}
    (full.cache / "blobs/sha256").mkdir(parents=True)
    for path in kept:
        shutil.copy(path, full.cache / "blobs/sha256")
    error = full.envsnap("build", full.lock, *words, "-t", tag, "--push", code=3)["error"]
    assert "no space left" in error["what"] and str(full.cache) in error["hint"], error
    assert digest_at(tag) is None and not unfinished(full)
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    assert full.envsnap("build", full.lock, *words, "-t", tag, "--push")["image"]["manifest_digest"] == told["manifest_digest"]


def test_a_place_that_cannot_be_written_is_told(machine: Machine, words: tuple[str, ...]) -> None:
    shutil.rmtree(machine.project / "images")
    (machine.project / "images").symlink_to("/sys")  # not even root makes anything there
    error = machine.envsnap("build", machine.lock, *words, code=3)["error"]
    assert "images" in error["what"] and error["why"], error


# Bases


def test_a_base_that_changes_under_its_tag_stays_what_it_was(
    machine: Machine, engine: DockerEngine, debian_base: str, registry: str
) -> None:
    moving = f"{registry}/moving-{uuid.uuid4().hex[:12]}:1"

    def docker(*words: str, **more: Any) -> None:
        subprocess.run(["docker", *words], check=True, capture_output=True, **more)

    try:
        docker("tag", debian_base, moving)
        docker("push", moving)
        plan = ("plan", machine.lock, "--base", moving)
        before = machine.envsnap("build", machine.lock, "--base", moving, "--engine", "oci")["image"]
        pinned = machine.envsnap(*plan)["base"]["digest"]
        docker("build", "--quiet", "--tag", moving, "-", input=f"FROM {debian_base}\nENV MOVED=1\n".encode())
        docker("push", moving)
        after = machine.envsnap("build", machine.lock, "--base", moving, "--engine", "oci")["image"]
        assert (after["manifest_digest"], machine.envsnap(*plan)["base"]["digest"]) == (before["manifest_digest"], pinned)
        assert machine.envsnap(*plan, "--refresh-base", "--fetch")["base"]["digest"] not in (pinned, None)
        assert machine.envsnap(*plan)["base"]["digest"] == pinned  # planning moved nothing
    finally:
        subprocess.run(["docker", "image", "rm", "--force", moving], capture_output=True)


# Networks


def without_network(machine: Machine) -> Machine:
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode != 0:
        pytest.skip("this user may not leave the network")
    return replace(machine, prefix=("unshare", "--net"))


def test_without_any_network_a_warm_cache_is_enough(machine: Machine, told: dict[str, Any], words: tuple[str, ...]) -> None:
    """And what the base's tag names, which an earlier build pinned."""
    machine.envsnap("build", machine.lock, *words)
    pinned = machine.envsnap("plan", machine.lock)["base"]
    forget_layers(machine)
    alone = without_network(machine)
    assert alone.envsnap("build", alone.lock, *words, "--offline")["image"]["manifest_digest"] == told["manifest_digest"]
    for base in ((), ("--base", words[1]), ("--base", f"{pinned['reference']}@{pinned['digest']}")):
        found = alone.envsnap("plan", alone.lock, *base, "--offline")["base"]
        assert found["digest"] == pinned["digest"]


@pytest.mark.parametrize(
    ("gone", "code", "what"),
    [
        (("",), 6, "cannot look up"),
        (("inventories",), 5, "nobody has looked inside it"),
        (("blobs/sha256", "wheels"), 6, "cannot look up"),
        (("layers", "zip"), 4, "is not at hand"),
        (("../project/images",), 6, "never pinned here"),
    ],
    ids=["everything", "inventory", "blobs", "wheels", "pins"],
)
def test_offline_says_what_is_missing(machine: Machine, words: tuple[str, ...], gone: tuple[str, ...], code: int, what: str) -> None:
    machine.envsnap("build", machine.lock, *words)
    for name in gone:
        if name == "zip":
            each(blobs(machine, ZIP), Path.unlink)
        else:
            shutil.rmtree(machine.cache / name)
    alone = without_network(machine)
    error = alone.envsnap("build", alone.lock, *words, "--offline", code=code)["error"]
    assert what in error["what"] + error["why"] and error["hint"], error


@pytest.mark.parametrize("kind", ["cut-upload", "lose-answer", "status"])
def test_a_registry_that_stumbles_gets_the_image_all_the_same(
    machine: Machine, debian_base: str, registry: str, kind: fault_proxy.Kind
) -> None:
    with fault_proxy.running(registry) as proxy:
        words = ("--base", debian_base.replace(registry, proxy.address))  # its layers are mounted there, too
        name = f"{proxy.address}/faults-{uuid.uuid4().hex[:12]}:1"
        told = machine.envsnap("plan", machine.lock, *words)["image"]
        proxy.faults += [Fault(method, "blobs/uploads", kind, times=2, at=100_000) for method in ("PATCH", "PUT")]
        proxy.faults.append(Fault("PUT", "manifests", "lose-answer"))
        made = machine.envsnap("build", machine.lock, *words, "--engine", "oci", "-t", name, "--push")
        assert {"lose-answer", kind} == set(proxy.happened)
        assert made["image"]["manifest_digest"] == told["manifest_digest"] == digest_at(name)


def test_a_registry_that_dies_has_no_tag_and_what_was_sent_is_not_sent_again(machine: Machine, debian_base: str, registry: str) -> None:
    with fault_proxy.running(registry) as proxy:
        words = ("--base", debian_base.replace(registry, proxy.address))
        name = f"{proxy.address}/faults-{uuid.uuid4().hex[:12]}:1"
        told = machine.envsnap("plan", machine.lock, *words)["image"]
        command = ("build", machine.lock, *words, "--engine", "oci", "-t", name, "--push")
        proxy.faults.append(Fault("PUT", "manifests", "status", times=1000, status=401))
        error = machine.envsnap(*command, code=6)["error"]
        assert proxy.address in error["what"] + error["why"] and error["hint"], error
        proxy.faults.clear()
        assert digest_at(name) is None
        assert machine.envsnap(*command)["uploaded_bytes"] < 10_000
        assert digest_at(name) == told["manifest_digest"]
        proxy.asked.clear()
        assert machine.envsnap(*command)["cached"] is True
        repository = name.partition("/")[2].rpartition(":")[0]
        assert proxy.asked == [f"HEAD /v2/{repository}/manifests/1"]  # all else was known
