"""push, pull, save and load between an engine, a registry, files and the cache: the same image in each."""

from __future__ import annotations

import dataclasses
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from envsnap import lockfile
from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError, UsageError
from envsnap.model.image import ImageRecord
from envsnap.oci.documents import OCI_MANIFEST, digest_of
from envsnap.oci.image import Image, RunConfig, put_together
from envsnap.progress import SILENT
from envsnap.publish import read
from envsnap.publish.content import layers_of
from envsnap.registry.client import Registry
from envsnap.workflows import local, transfer
from envsnap.workflows.records import own_tag
from envsnap.workflows.transfer import Places
from tests import samples
from tests.fakes import layered, registry
from tests.fakes.engine import FakeEngine
from tests.fakes.registry import FakeRegistry

OWN = "envsnap/yolo:0123456789ab"


@dataclasses.dataclass
class World:
    """An image that was put together here, on a base in a registry."""

    places: Places
    engine: FakeEngine
    registry: FakeRegistry
    image: Image
    name: str

    def forget_layers(self) -> None:
        for layer in self.image.layers:
            local.blobs(self.places.cache).path(layer.digest).unlink(missing_ok=True)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"
    plain, _, below = layered.make_image(cache / "blobs")
    engine = FakeEngine()
    with registry.running() as served:
        base = dataclasses.replace(plain.base, reference=f"{served.address}/debian:bookworm")
        assert base.manifest is not None
        for digest, blob in (*below.by_digest.items(), (base.config.digest, base.config.raw)):
            served.blobs["debian", digest] = blob
        for tag in ("bookworm", base.manifest.digest):
            served.manifests["debian", tag] = (OCI_MANIFEST, base.manifest.raw)
        image = put_together(base, plain.layers, RunConfig(env={"A": "1"}, labels={"l": "1"}, workdir="/workspace"))
        name = f"{served.address}/vision/yolo:1"
        local.remember(image, [name, OWN], cache, place="registry")
        client = Registry({"DOCKER_CONFIG": str(tmp_path)})
        yield World(Places(engine=engine(), registry=client, cache=cache, machine="x86_64"), engine, served, image, name)
        client.close()


def write_record(world: World, directory: Path, **changes: object) -> None:
    record = ImageRecord(
        reference=world.name,
        config_digest=world.image.config.digest,
        size_bytes=1,
        layers=4,
        tags=(world.name, OWN),
        engine="oci",
        base="debian",
        lock_digest="sha256:" + "1" * 64,
        context_digest="sha256:" + "2" * 64,
        at="2026-01-01T00:00:00Z",
        seconds=1.0,
    )
    directory.mkdir(parents=True)
    (directory / "image.yaml").write_bytes(msgspec.yaml.encode(msgspec.structs.replace(record, **changes)))


# push


def test_push_sends_what_the_registry_lacks(world: World) -> None:
    moved, (sent,) = transfer.push(world.name, [], world.places, SILENT)
    assert world.image.manifest is not None
    assert moved.config_digest == world.image.config.digest
    assert sent.digest == digest_of(world.registry.manifests["vision/yolo", "1"][1]) == world.image.manifest.digest
    assert sent.uploaded_bytes == sum(layer.size_bytes for layer in world.image.layers) + len(world.image.config.raw)
    again = transfer.push(world.name, [], world.places, SILENT)[1][0]
    assert (again.digest, again.uploaded_bytes) == (sent.digest, 0)


def test_what_was_pushed_elsewhere_is_known_by_that_name_too(world: World) -> None:
    elsewhere = f"{world.registry.address}/team/yolo:2"
    transfer.push(OWN, [elsewhere], world.places, SILENT)
    assert local.find(elsewhere, world.places.cache) == world.image


def test_layers_that_the_cache_lost_come_from_where_the_image_was_pushed(world: World) -> None:
    transfer.push(world.name, [], world.places, SILENT)
    world.forget_layers()
    elsewhere = f"{world.registry.address}/team/yolo:2"
    world.registry.mounts = False
    transfer.push(world.name, [elsewhere], world.places, SILENT)
    assert world.image.manifest is not None
    assert digest_of(world.registry.manifests["team/yolo", "2"][1]) == world.image.manifest.digest


def test_layers_that_nobody_has_any_more_leave_no_tag(world: World) -> None:
    world.forget_layers()
    with pytest.raises((EngineError, InputError)):
        transfer.push(world.name, [], world.places, SILENT)
    assert ("vision/yolo", "1") not in world.registry.manifests


def test_a_poisoned_layer_leaves_no_tag(world: World) -> None:
    path = local.blobs(world.places.cache).path(world.image.layers[0].digest)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises((EngineError, InputError)):
        transfer.push(world.name, [], world.places, SILENT)
    assert ("vision/yolo", "1") not in world.registry.manifests


def test_an_engines_image_is_pushed_by_the_engine(world: World) -> None:
    world.engine.configs["sha256:" + "5" * 64] = ("sha256:" + "6" * 64,)
    world.engine.tags["example.com/other:1"] = "sha256:" + "5" * 64
    moved, (sent,) = transfer.push("example.com/other:1", ["example.com/new:2"], world.places, SILENT)
    assert world.engine.pushed == [sent.reference] == ["example.com/new:2"]
    assert moved.config_digest == world.engine.tags["example.com/new:2"]


@pytest.mark.parametrize("name", [OWN, "yolo", "own-digest"])
def test_what_has_no_registry_in_its_name_needs_one(world: World, tmp_path: Path, name: str) -> None:
    write_record(world, tmp_path / "images/yolo", tags=(OWN,))
    with pytest.raises(UsageError, match="where is"):
        transfer.push(world.image.config.digest if name == "own-digest" else name, [], world.places, SILENT)


def test_a_reference_that_no_image_can_have_is_said_first(world: World) -> None:
    with pytest.raises(UsageError):
        transfer.push("nowhere:1", ["Not/A NAME"], world.places, SILENT)


# which image


def test_an_image_is_found_by_its_record(world: World, tmp_path: Path) -> None:
    write_record(world, tmp_path / "images/yolo")
    assert transfer.find("yolo", world.places).image == world.image


def test_a_name_that_moved_on_is_not_the_records_image(world: World, tmp_path: Path) -> None:
    write_record(world, tmp_path / "images/yolo", config_digest="sha256:" + "3" * 64)
    with pytest.raises(EngineError, match="there is no image yolo here") as failed:
        transfer.find("yolo", world.places)
    assert failed.value.why == f"nothing has the name {world.name} and the config digest sha256:{'3' * 12}…"


def test_a_lock_s_image_is_of_that_very_lock(world: World, tmp_path: Path) -> None:
    lock = samples.lock()
    (tmp_path / "yolo.yaml").write_bytes(lockfile.dumps(lock))
    local.remember(world.image, [own_tag(lock)], world.places.cache, place="here")
    assert transfer.find("yolo.yaml", world.places).name == own_tag(lock)  # without a record
    place = tmp_path / "images" / lock.name
    write_record(world, place)  # of another lock: what was built before this one changed
    assert transfer.find("yolo.yaml", world.places).name == own_tag(lock)
    local.forget(own_tag(lock), world.places.cache)
    with pytest.raises(EngineError, match=r"no image of yolo\.yaml is here"):
        transfer.find("yolo.yaml", world.places)
    shutil.rmtree(place)
    write_record(world, place, lock_digest=lock.digest)
    assert transfer.find("yolo.yaml", world.places).name == world.name
    shutil.rmtree(place)
    write_record(world, place, lock_digest=lock.digest, config_digest="sha256:" + "3" * 64)
    with pytest.raises(EngineError, match=r"no image of yolo\.yaml is here") as failed:
        transfer.find("yolo.yaml", world.places)
    assert world.name in failed.value.why and "envsnap build yolo.yaml" in failed.value.hint


def test_names_that_nothing_has(world: World, tmp_path: Path) -> None:
    for name in ("nowhere", "a/b", "sha256:" + "0" * 64, "0" * 64):
        with pytest.raises(EngineError, match="there is no image"):
            transfer.find(name, world.places)
    for name in ("..", "Not A Name"):
        with pytest.raises(UsageError, match="is not the name of an image"):
            transfer.find(name, world.places)
    with pytest.raises(InputError):
        transfer.find("lockfiles/nowhere.yaml", world.places)
    world.engine.answers = False
    with pytest.raises(EngineError, match="there is no image"):
        transfer.find("nowhere:1", world.places)


# pull


def test_pull_into_an_engine_that_reaches_no_registry_goes_through_here(world: World) -> None:
    transfer.push(world.name, [], world.places, SILENT)
    moved, to = transfer.pull(world.name, world.places, SILENT)
    assert to == "engine"
    assert world.engine.tags == {world.name: world.image.config.digest}
    assert moved.config_digest == world.image.config.digest


def test_pull_into_a_layout(world: World, tmp_path: Path) -> None:
    transfer.push(world.name, [], world.places, SILENT)
    world.engine.answers = False
    transfer.pull(world.name, world.places, SILENT, directory=tmp_path / "layout")
    with read.opened(tmp_path / "layout", architecture="amd64") as carried:
        assert (carried.image.manifest, carried.names) == (world.image.manifest, (world.name,))


def test_what_is_not_what_its_digest_says_is_refused(world: World, tmp_path: Path) -> None:
    transfer.push(world.name, [], world.places, SILENT)
    world.forget_layers()
    digest = world.image.layers[0].digest
    served = world.registry.blobs["vision/yolo", digest]
    world.registry.blobs["vision/yolo", digest] = b"x" * len(served)
    for directory in (tmp_path / "layout", None):
        with pytest.raises((EngineError, InputError)):
            transfer.pull(world.name, world.places, SILENT, directory=directory)
    assert not (tmp_path / "layout").exists()
    assert world.engine.tags == {}


def test_what_is_not_trusted_is_not_kept(world: World, tmp_path: Path) -> None:
    transfer.push(world.name, [], world.places, SILENT)
    asked: list[tuple[str, str]] = []

    def distrust(reference: str, digest: str) -> None:
        asked.append((reference, digest))
        raise EngineError("not signed")

    for directory in (tmp_path / "layout", None):
        with pytest.raises(EngineError, match="not signed"):
            transfer.pull(world.name, world.places, SILENT, directory=directory, verify=distrust)
    assert world.image.manifest is not None
    assert asked == [(world.name, world.image.manifest.digest)] * 2
    assert not (tmp_path / "layout").exists()
    assert (world.engine.tags, world.engine.configs) == ({}, {})


def test_an_engine_that_does_not_answer_is_said_before_the_registry_is_asked(world: World) -> None:
    world.engine.answers = False
    with pytest.raises(EngineError, match="cannot reach"):
        transfer.pull(world.name, world.places, SILENT, to="engine")
    assert world.registry.asked == []


def test_pull_where_no_engine_answers_keeps_the_image_whole(world: World, tmp_path: Path) -> None:
    transfer.push(world.name, [], world.places, SILENT)
    world.engine.answers = False
    elsewhere = dataclasses.replace(world.places, cache=tmp_path / "elsewhere")
    moved, to = transfer.pull(world.name, elsewhere, SILENT)
    assert to == "cache"
    assert moved.config_digest == world.image.config.digest
    kept = local.find(world.name, elsewhere.cache)
    assert kept is not None
    assert kept.config.digest == world.image.config.digest
    store = BlobStore(elsewhere.cache / "blobs")
    assert all(store.has(layer.blob.digest) for layer in layers_of(kept) if layer.blob is not None)


# save and load


def test_saved_here_and_loaded_there(world: World, tmp_path: Path) -> None:
    moved, saved = transfer.save(world.name, tmp_path / "yolo.tar", world.places, SILENT)
    assert (saved.form, saved.with_base, saved.bytes) == ("docker-archive", True, (tmp_path / "yolo.tar").stat().st_size)
    there = dataclasses.replace(world.places, cache=tmp_path / "there")
    world.registry.blobs.clear()  # no registry is reached
    loaded, landed = transfer.load(tmp_path / "yolo.tar", ["yolo:there"], there, SILENT)
    assert moved.config_digest == loaded.config_digest == world.engine.tags["yolo:there"]
    assert (landed.to, landed.names) == ("engine", ("yolo:there",))


def test_where_no_engine_answers_it_is_kept_and_can_be_sent_on(world: World, tmp_path: Path) -> None:
    transfer.save(world.name, tmp_path / "yolo.tar", world.places, SILENT)
    there = dataclasses.replace(world.places, cache=tmp_path / "there")
    world.engine.answers = False
    world.registry.blobs.clear()
    _, landed = transfer.load(tmp_path / "yolo.tar", [], there, SILENT)
    assert (landed.to, landed.names) == ("cache", (world.name,))
    assert local.find(world.name, there.cache) == world.image
    transfer.push(world.name, [], there, SILENT)
    assert world.image.manifest is not None
    assert digest_of(world.registry.manifests["vision/yolo", "1"][1]) == world.image.manifest.digest


def test_a_delta_is_loaded_where_the_base_is_or_can_be_fetched(world: World, tmp_path: Path) -> None:
    transfer.save(world.name, tmp_path / "delta.tar", world.places, SILENT, with_base=False)
    there = dataclasses.replace(world.places, cache=tmp_path / "there")
    transfer.load(tmp_path / "delta.tar", [], there, SILENT)
    assert world.engine.tags == {world.name: world.image.config.digest}
    elsewhere = FakeEngine()
    world.registry.blobs.clear()
    with pytest.raises((EngineError, InputError)):
        transfer.load(tmp_path / "delta.tar", [], dataclasses.replace(there, engine=elsewhere()), SILENT)
    assert elsewhere.tags == {}
    elsewhere.chains = {world.image.config.diff_ids[:2]}
    transfer.load(tmp_path / "delta.tar", [], dataclasses.replace(there, engine=elsewhere()), SILENT)
    assert elsewhere.tags == {world.name: world.image.config.digest}


def test_a_damaged_file_is_given_to_nobody(world: World, tmp_path: Path) -> None:
    transfer.save(world.name, tmp_path / "yolo.tar", world.places, SILENT)
    data = bytearray((tmp_path / "yolo.tar").read_bytes())
    with tarfile.open(tmp_path / "yolo.tar") as tar:
        at = tar.getmember(f"blobs/sha256/{world.image.layers[0].digest[7:]}").offset_data + 50
    data[at] ^= 1
    (tmp_path / "yolo.tar").write_bytes(data)
    for to in ("engine", "cache"):
        with pytest.raises(InputError, match="damaged"):
            transfer.load(tmp_path / "yolo.tar", ["new:1"], world.places, SILENT, to=to)
    assert (world.engine.given, local.find("new:1", world.places.cache)) == ([], None)


def test_names_in_a_file_that_no_image_can_have_are_passed_over(world: World, tmp_path: Path) -> None:
    transfer.save(world.name, tmp_path / "yolo.tar", world.places, SILENT)
    data = (tmp_path / "yolo.tar").read_bytes()
    assert data.count(world.name.encode()) >= 2
    (tmp_path / "yolo.tar").write_bytes(data.replace(world.name.encode(), b"--privileged $(id)".ljust(len(world.name), b"x")))
    _, landed = transfer.load(tmp_path / "yolo.tar", [], world.places, SILENT)
    assert (landed.names, world.engine.tags) == ((), {})
    with pytest.raises(UsageError, match="called"):
        transfer.load(tmp_path / "yolo.tar", [], world.places, SILENT, to="cache")


def test_an_engines_own_image_is_saved_by_it_and_looked_at(world: World, tmp_path: Path) -> None:
    transfer.save(world.name, tmp_path / "yolo.tar", world.places, SILENT)
    transfer.load(tmp_path / "yolo.tar", ["theirs:1"], world.places, SILENT)
    world.engine.archives["theirs:1"] = (tmp_path / "yolo.tar").read_bytes()
    _, saved = transfer.save("theirs:1", tmp_path / "theirs.tar", world.places, SILENT)
    assert (tmp_path / "theirs.tar").stat().st_size == saved.bytes
    world.engine.configs["sha256:" + "5" * 64] = ()
    world.engine.tags["theirs:1"] = "sha256:" + "5" * 64
    with pytest.raises(EngineError) as failed:
        transfer.save("theirs:1", tmp_path / "other.tar", world.places, SILENT)
    assert "another image" in failed.value.why
    assert not (tmp_path / "other.tar").exists()
    with pytest.raises(UsageError, match="whole images"):
        transfer.save("theirs:1", tmp_path / "other.tar", world.places, SILENT, with_base=False)


def test_a_file_without_a_manifest_is_for_engines_alone(world: World, tmp_path: Path) -> None:
    image, _, _ = layered.make_image(tmp_path / "cache/blobs", manifest=False)
    local.remember(image, ["plain:1"], world.places.cache, place="here")
    transfer.save("plain:1", tmp_path / "plain.tar", world.places, SILENT, with_base=False)
    with pytest.raises(InputError, match="cannot be kept"):
        transfer.load(tmp_path / "plain.tar", [], world.places, SILENT, to="cache")
    with pytest.raises(EngineError, match="cannot push"):
        transfer.push("plain:1", ["example.com/a:1"], world.places, SILENT)
    world.engine.chains = {image.config.diff_ids[:2]}
    transfer.load(tmp_path / "plain.tar", [], world.places, SILENT)
    assert world.engine.tags == {"plain:1": image.config.digest}
