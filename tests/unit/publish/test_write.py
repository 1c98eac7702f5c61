"""Images as files: the same bytes always, whole or not there, and read back as what was written."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsnap.errors import EnvsnapError, InputError, TargetError, UsageError
from envsnap.model.plan import BASE_DIGEST
from envsnap.oci.documents import DOCKER_MANIFEST, OCI_MANIFEST, Descriptor
from envsnap.oci.image import Image
from envsnap.progress import SILENT
from envsnap.publish import read, write
from envsnap.publish.content import FirstOf, Stored, layers_of
from envsnap.publish.layout import CONTAINERD_NAME, LEFT_OUT, REF_NAME, blob_path, contents
from envsnap.publish.write import FORMS, Form
from tests.fakes import layered
from tests.fakes.layered import REFERENCE


def made(tmp_path: Path, kind: str = OCI_MANIFEST) -> tuple[Image, FirstOf]:
    image, store, below = layered.make_image(tmp_path / "blobs", kind=kind)
    return image, FirstOf(Stored(store), below)


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [OCI_MANIFEST, DOCKER_MANIFEST])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_back_as_the_same_image(tmp_path: Path, form: Form, kind: str) -> None:
    image, source = made(tmp_path, kind)
    size = write.save(image, tmp_path / "out", form, [REFERENCE], source, SILENT)
    with read.opened(tmp_path / "out", architecture="amd64") as carried:
        assert (carried.image, carried.names, carried.absent) == (image, (REFERENCE,), 0)
        carried.verify(SILENT)
        for layer in layers_of(image):
            assert layer.blob is not None
            assert hashlib.sha256(b"".join(carried.open(layer.blob))).hexdigest() == layer.blob.digest[7:]
    if form != "oci-dir":
        assert (tmp_path / "out").stat().st_size == size


@pytest.mark.parametrize("name", ["envsnap/yolo:1", "yolo:1", REFERENCE])
@pytest.mark.parametrize("form", FORMS)
def test_it_is_called_there_as_it_was_when_it_was_written(tmp_path: Path, form: Form, name: str) -> None:
    image, source = made(tmp_path)
    write.save(image, tmp_path / "out", form, [name], source, SILENT)
    with read.opened(tmp_path / "out", architecture="amd64") as carried:
        assert carried.names == (name,)


@pytest.mark.parametrize("form", FORMS)
def test_without_the_base_its_layers_are_named_and_it_says_so(tmp_path: Path, form: Form) -> None:
    image, store, _ = layered.make_image(tmp_path / "blobs")
    write.save(image, tmp_path / "out", form, [REFERENCE], Stored(store), SILENT, with_base=False)
    with read.opened(tmp_path / "out", architecture="amd64") as carried:
        assert (carried.image, carried.absent) == (image, 2)
        carried.verify(SILENT)
        lowest = layers_of(image)[0].blob
        assert lowest is not None
        with pytest.raises(InputError, match="is missing"):
            carried.open(lowest)


def test_an_archive_is_the_same_bytes_always_and_a_tar_that_others_read(tmp_path: Path) -> None:
    image, source = made(tmp_path)
    files = contents(image, [REFERENCE], docker=True)
    archive = b"".join(write.stream(files, source))
    assert archive == b"".join(write.stream(files, source))
    assert len(archive) % tarfile.RECORDSIZE == 0
    found = members(archive)
    assert set(found) == {*files.documents, *(blob_path(layer.digest) for layer in files.layers)}
    assert [json.loads(found["oci-layout"])] == [{"imageLayoutVersion": "1.0.0"}]
    (entry,) = json.loads(found["manifest.json"])
    assert entry["RepoTags"] == [REFERENCE]
    assert f"sha256:{hashlib.sha256(found[entry['Config']]).hexdigest()}" == image.config.digest
    assert [f"sha256:{Path(path).name}" for path in entry["Layers"]] == [one.digest for one in image.manifest.layers]  # type: ignore[union-attr]
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert {(member.mtime, member.uid, member.gid, member.uname) for member in tar} == {(315532800, 0, 0, "")}


def test_the_index_names_the_image_and_its_base(tmp_path: Path) -> None:
    image, _ = made(tmp_path)
    assert image.base.manifest is not None
    index = json.loads(contents(image, ["yolo:1", REFERENCE], without=2).documents["index.json"])
    first, second = (entry["annotations"] for entry in index["manifests"])
    assert (first[REF_NAME], first[CONTAINERD_NAME]) == ("yolo:1", "docker.io/library/yolo:1")
    assert (second[REF_NAME], second[LEFT_OUT], second[BASE_DIGEST]) == (REFERENCE, "2", image.base.manifest.digest)
    assert not {REF_NAME, CONTAINERD_NAME} & set(json.loads(contents(image).documents["index.json"])["manifests"][0]["annotations"])


def test_a_base_that_only_an_engine_has_is_left_out_of_an_archive_of_dockers_and_asked_for_nowhere_else(tmp_path: Path) -> None:
    image, store, _ = layered.make_image(tmp_path / "blobs", manifest=False)
    found = members(b"".join(write.stream(contents(image, without=2, docker=True), Stored(store))))
    assert "index.json" not in found
    assert json.loads(found["manifest.json"])[0]["Layers"][0].startswith("absent/")
    (tmp_path / "delta.tar").write_bytes(b"".join(write.stream(contents(image, without=2, docker=True), Stored(store))))
    with read.opened(tmp_path / "delta.tar", architecture="amd64") as carried:
        assert (carried.absent, carried.image.config, carried.image.manifest) == (2, image.config, None)
        assert [one.diff_id for one in carried.image.layers] == [one.diff_id for one in image.layers]
        carried.verify(SILENT)
    for without, docker in ((0, True), (2, False)):
        with pytest.raises(InputError, match="cannot be written out whole"):
            contents(image, without=without, docker=docker)


class Broken:
    """Gives the beginning of a blob, then fails."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        yield b"half"
        raise self.error


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("error", [InputError("gone"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_fails_in_the_middle_leaves_what_was_there(tmp_path: Path, form: Form, error: BaseException) -> None:
    image, source = made(tmp_path)
    write.save(image, tmp_path / "out", form, [], source, SILENT)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} or (tmp_path / "out").read_bytes()
    with pytest.raises((EnvsnapError, KeyboardInterrupt)):
        write.save(image, tmp_path / "out", form, [], Broken(error), SILENT)
    after = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} or (tmp_path / "out").read_bytes()
    assert before == after
    assert {path.name for path in tmp_path.iterdir()} == {"blobs", "out"}


class Lying:
    """A source that does not keep its promise."""

    def open(self, descriptor: Descriptor) -> Iterator[bytes]:
        yield b"x" * descriptor.size


@pytest.mark.parametrize("form", FORMS)
def test_what_was_written_is_looked_at_before_it_gets_its_name(tmp_path: Path, form: Form) -> None:
    image, _ = made(tmp_path)
    with pytest.raises(InputError, match="is damaged"):
        write.save(image, tmp_path / "out", form, [], Lying(), SILENT)
    assert not (tmp_path / "out").exists()


def test_a_directory_of_somebody_is_not_replaced(tmp_path: Path) -> None:
    image, source = made(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter").write_text("dear")
    with pytest.raises(UsageError, match="no image layout"):
        write.save(image, tmp_path / "home", "oci-dir", [], source, SILENT)
    with pytest.raises(UsageError, match="is a directory"):
        write.save(image, tmp_path / "home", "oci-archive", [], source, SILENT)
    assert (tmp_path / "home/letter").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    write.save(image, tmp_path / "empty", "oci-dir", [], source, SILENT)
    with pytest.raises(TargetError, match="cannot write"):
        write.save(image, tmp_path / "home/letter/out", "oci-archive", [], source, SILENT)
