"""An image that was put together goes every way out, and is the same at each end.

More engines, of other versions or with another store, are tried where ENVSNAP_TEST_ENGINES names them: addresses as in DOCKER_HOST,
separated by spaces (.ci/engine starts one beside the first).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from docker.errors import DockerException

from envsnap.engines.docker import DockerEngine
from envsnap.engines.loading import NotTaken
from envsnap.errors import EngineError
from envsnap.layers.writer import LayerWriter
from envsnap.model.kinds import ARCHITECTURES
from envsnap.oci.documents import Descriptor
from envsnap.oci.image import BaseImage, Image, Layer, RunConfig, put_together, scratch
from envsnap.progress import SILENT
from envsnap.publish import write
from envsnap.publish.content import Stored
from envsnap.publish.write import Form
from envsnap.registry.client import Registry
from envsnap.workflows import local
from envsnap.workflows.land import land
from envsnap.workflows.transfer import source_of
from tests.integration.conftest import MORE_ENGINES

pytestmark = pytest.mark.engine
LABEL = {"envsnap-test": f"ways-out-{os.getpid()}"}


@pytest.fixture
def name(registry: str, engine: DockerEngine) -> Iterator[str]:
    """A name that nothing has; what was loaded is removed from every engine."""
    yield f"{registry}/ways-out-{uuid.uuid4().hex[:12]}:1"
    ((label, value),) = LABEL.items()
    for one in (engine, *(DockerEngine({**os.environ, "DOCKER_HOST": host}) for host in MORE_ENGINES)):
        for image in one._client.images(filters={"label": f"{label}={value}"}):
            with suppress(DockerException):
                one._client.remove_image(image["Id"], force=True)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def base(debian_base: str) -> BaseImage:
    manifest, config = Registry(os.environ).image(debian_base, machine=platform.machine())
    return BaseImage(config=config, manifest=manifest, reference=debian_base)


def layer(cache: Path, text: str, size: int = 0) -> Layer:
    """Says `text` in a file, beside `size` bytes that no compressor makes smaller."""
    with local.blobs(cache).writer(durable=False) as blob:
        writer = LayerWriter(blob.write)
        writer.directory("opt")
        writer.file(f"opt/{text}", text.encode())
        if size:
            writer.file(f"opt/{text}.bin", b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(size // 32)))
        diff_id, _ = writer.finish()
    return Layer(digest=blob.digest, diff_id=diff_id, size_bytes=blob.size, made_by=f"envsnap: {text}")


def image_on(base: BaseImage, cache: Path, *texts: str, size: int = 0) -> Image:
    layers = [layer(cache, text, size) for text in texts]
    return put_together(base, layers, RunConfig(env={"A": "1"}, labels=LABEL, workdir="/opt"))


def small(cache: Path) -> Image:
    """On nothing at all: for those who take everything."""
    return image_on(scratch(ARCHITECTURES[platform.machine()]), cache, uuid.uuid4().hex, "second")


class Sent:
    """What a source was asked for. Attributes: bytes: in all."""

    def __init__(self, cache: Path, image: Image) -> None:
        self._source = source_of(image, cache, Registry(os.environ))
        self.bytes = 0

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        for piece in self._source.open(descriptor):
            self.bytes += len(piece)
            yield piece


def said_in(engine: DockerEngine, reference: str, text: str) -> bytes | None:
    return engine.read_file(reference, f"/opt/{text}")


def have_base(engine: DockerEngine, base: BaseImage) -> None:
    if engine.image(base.reference) is None:
        engine.pull(base.reference, SILENT)


def test_only_the_layers_that_an_engine_lacks_are_sent(each_engine: DockerEngine, base: BaseImage, cache: Path, name: str) -> None:
    have_base(each_engine, base)
    first = image_on(base, cache, uuid.uuid4().hex, "second")
    sent = Sent(cache, first)
    landed = land(first, [name], each_engine, sent, SILENT)
    assert landed.config_digest == first.config.digest
    assert landed.tags == (name,)
    assert sent.bytes == sum(one.size_bytes for one in first.layers)
    assert said_in(each_engine, name, "second") == b"second"

    again = Sent(cache, first)
    land(first, [name], each_engine, again, SILENT)
    assert again.bytes == 0

    changed = put_together(base, [first.layers[0], layer(cache, "third")], RunConfig(env={}, labels=LABEL, workdir="/opt"))
    sent = Sent(cache, changed)
    assert land(changed, [name], each_engine, sent, SILENT).config_digest == changed.config.digest
    assert sent.bytes == changed.layers[1].size_bytes
    assert (said_in(each_engine, name, "second"), said_in(each_engine, name, "third")) == (None, b"third")


def test_a_base_that_only_the_engine_has_is_built_upon_where_images_are_known_by_their_config(
    each_engine: DockerEngine, base: BaseImage, cache: Path, name: str
) -> None:
    have_base(each_engine, base)
    image = image_on(BaseImage(config=base.config, manifest=None), cache, uuid.uuid4().hex)
    source = Stored(local.blobs(cache))
    if each_engine._containerd_store:
        with pytest.raises(EngineError, match="cannot load"):
            land(image, [name], each_engine, source, SILENT)
        assert each_engine.image(name) is None
    else:
        assert land(image, [name], each_engine, source, SILENT).config_digest == image.config.digest


def test_when_the_delta_is_not_taken_all_is_sent(each_engine: DockerEngine, cache: Path, name: str) -> None:
    class Mistaken(DockerEngine):
        def layers_there(self, image: Image) -> int:
            return 1

    image = small(cache)
    mistaken = Mistaken(each_engine._env)
    landed = land(image, [name], mistaken, Stored(local.blobs(cache)), SILENT)
    assert (landed.config_digest, landed.tags) == (image.config.digest, (name,))
    assert said_in(each_engine, name, "second") == b"second"
    mistaken.close()


def test_layers_that_are_not_the_images_give_it_no_name(each_engine: DockerEngine, cache: Path, name: str) -> None:
    image = small(cache)

    class Lying:
        def open(self, descriptor: Descriptor) -> Iterator[bytes]:
            yield gzip.compress(b"").ljust(descriptor.size, b"\0")

    with pytest.raises(EngineError):
        land(image, [name], each_engine, Lying(), SILENT)
    assert each_engine.image(name) is None
    assert each_engine.find(image) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EngineError("the registry went away")], ids=["interrupt", "error"])
def test_an_end_in_the_middle_leaves_no_image(each_engine: DockerEngine, cache: Path, name: str, error: BaseException) -> None:
    image = image_on(scratch(ARCHITECTURES[platform.machine()]), cache, uuid.uuid4().hex, size=8 << 20)
    source = Stored(local.blobs(cache))

    class Ends:
        def open(self, descriptor: Descriptor) -> Iterator[bytes]:
            yield next(source.open(descriptor))
            raise error

    with pytest.raises(type(error)):
        land(image, [name], each_engine, Ends(), SILENT)
    assert each_engine.image(name) is None
    assert each_engine.find(image) is None
    land(image, [name], each_engine, source, SILENT)
    assert each_engine.find(image) is not None


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_dockers_own_load_takes_the_archive(each_engine: DockerEngine, cache: Path, name: str, tmp_path: Path, form: Form) -> None:
    image = small(cache)
    write.save(image, tmp_path / "image.tar", form, [name], Stored(local.blobs(cache)), SILENT)
    if form == "oci-archive" and not each_engine._containerd_store:
        pytest.skip("with a graph driver docker reads its own archives alone")
    with (tmp_path / "image.tar").open("rb") as file:
        for _ in each_engine._client.load_image(file):  # type: ignore[no-untyped-call]
            pass
    assert each_engine.find(image) is not None
    found = each_engine.image(name)
    assert found is not None and found.config_digest == image.config.digest


def peer(*words: str | Path, **env: str) -> str:
    """What another program says. The test is skipped where it is not installed."""
    if shutil.which(str(words[0])) is None:
        pytest.skip(f"no {words[0]}")
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env={**os.environ, **env}, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
def test_skopeo_copies_the_same_image(cache: Path, tmp_path: Path, form: Form) -> None:
    image = small(cache)
    write.save(image, tmp_path / "image", form, ["example.com/small:1"], Stored(local.blobs(cache)), SILENT)
    transport = {"oci-dir": "oci"}.get(form, form)
    peer("skopeo", "--insecure-policy", "copy", f"{transport}:{tmp_path / 'image'}", f"dir:{tmp_path / 'copy'}")
    manifest = json.loads((tmp_path / "copy/manifest.json").read_bytes())
    assert manifest["config"]["digest"] == image.config.digest
    assert hashlib.sha256((tmp_path / "copy" / image.config.digest[7:]).read_bytes()).hexdigest() == image.config.digest[7:]


@pytest.mark.parametrize("program", ["podman", "buildah"])
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_podman_and_buildah_have_the_same_image(cache: Path, tmp_path: Path, program: str, form: Form) -> None:
    image = small(cache)
    write.save(image, tmp_path / "image.tar", form, ["example.com/small:1"], Stored(local.blobs(cache)), SILENT)
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    with tempfile.TemporaryDirectory(prefix="run") as run:  # podman takes no long path
        store = ("--root", tmp_path / "root", "--runroot", run, "--storage-driver", "vfs")
        said = peer(program, *store, "pull", "--signature-policy", policy, f"{form}:{tmp_path / 'image.tar'}")
    assert said.split()[-1] == image.config.digest.removeprefix("sha256:")


def envsnap(cache: Path, *words: str | Path) -> dict[str, Any]:
    """The answer of a command."""
    command = [sys.executable, "-m", "envsnap.cli.main", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "ENVSNAP_CACHE": str(cache)}, timeout=600)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_push_and_pull(engine: DockerEngine, base: BaseImage, cache: Path, name: str, tmp_path: Path) -> None:
    have_base(engine, base)
    image = image_on(base, cache, uuid.uuid4().hex, "second")
    assert image.manifest is not None
    local.remember(image, [name], cache, place="here")
    (pushed,) = envsnap(cache, "push", name)["pushed"]
    assert pushed["digest"] == image.manifest.digest
    assert pushed["uploaded_bytes"] < 100_000
    pulled = envsnap(tmp_path / "there", "pull", name)
    assert (pulled["to"], pulled["image"]["config_digest"]) == ("engine", image.config.digest)
    assert engine.find(image) is not None


def test_save_and_load_between_machines_without_a_registry(
    engine: DockerEngine, base: BaseImage, cache: Path, name: str, tmp_path: Path
) -> None:
    have_base(engine, base)
    there = tmp_path / "there"
    whole, delta = small(cache), image_on(base, cache, uuid.uuid4().hex)
    for image, options in ((whole, ()), (delta, ("--without-base",))):
        local.remember(image, [name], cache, place="here")
        saved = envsnap(cache, "save", name, tmp_path / "image.tar", *options)
        assert saved["bytes"] == (tmp_path / "image.tar").stat().st_size < 100_000
        loaded = envsnap(there, "load", tmp_path / "image.tar", "-t", name)
        assert loaded["image"]["config_digest"] == image.config.digest
        assert engine.find(image) is not None
        envsnap(there, "load", tmp_path / "image.tar", "--to", "cache")
        kept = local.find(name, there)
        assert kept is not None and (kept.config, kept.manifest) == (image.config, image.manifest)
    assert envsnap(there, "cache")["bytes"] > 0


def test_saying_that_nothing_was_wrong_is_no_proof(each_engine: DockerEngine, cache: Path) -> None:
    """Docker takes an archive of no image without a complaint."""
    image = small(cache)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        header = tarfile.TarInfo("manifest.json")
        header.size = 2
        tar.addfile(header, io.BytesIO(b"[]"))
    with pytest.raises(NotTaken):
        each_engine.load(image, iter([archive.getvalue()]))
