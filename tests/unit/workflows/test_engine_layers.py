"""Layers out of what an engine saves, in whichever way it lays such archives out."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError
from envsnap.oci.documents import digest_of
from envsnap.oci.image import Layer
from envsnap.progress import SILENT
from envsnap.workflows.engine_layers import take_layers
from tests.fakes.layered import tar_of

BASE = [tar_of("etc/os-release", b"ID=debian\n"), tar_of("usr/bin/python3", b"\x7fELF" * 3000)]
MADE = [tar_of("etc/fonts/fonts.conf", b"<fontconfig>" * 500), tar_of("opt/envsnap/env/bin/python", b"conda" * 900)]
CONFIG = json.dumps({"rootfs": {"diff_ids": [digest_of(tar) for tar in (*BASE, *MADE)]}}).encode()


def archive(files: Mapping[str, bytes], links: Mapping[str, str] = {}) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
        for name, target in links.items():
            header = tarfile.TarInfo(name)
            header.type, header.linkname = tarfile.SYMTYPE, target
            tar.addfile(header)
    return out.getvalue()


def blob_name(data: bytes) -> str:
    return f"blobs/sha256/{digest_of(data).removeprefix('sha256:')}"


def plain_by_digest() -> bytes:
    """A graph driver's since Docker 25: layers as they are, by their digest."""
    blobs = {blob_name(data): data for data in (*BASE, *MADE, CONFIG)}
    return archive({**dict(sorted(blobs.items())), "index.json": b"{}", "manifest.json": b"[]"})


def plain_by_id() -> bytes:
    """A graph driver's before that: the names say nothing, and of equal layers all but one are links."""
    layers = {f"{number:064x}/layer.tar": tar for number, tar in enumerate((*MADE, *BASE))}
    return archive({**layers, "config.json": CONFIG, "manifest.json": b"[]"}, {f"{9:064x}/layer.tar": f"../{0:064x}/layer.tar"})


def compressed() -> bytes:
    """The containerd store's: blobs as a registry has them."""
    return archive({blob_name(data): data for data in (*map(zipped, (*BASE, *MADE)), CONFIG)})


def zipped(tar: bytes) -> bytes:
    return gzip.compress(tar, 9, mtime=1)


def take(saved: bytes, store: BlobStore, wanted: list[bytes] = MADE, others: tuple[str, ...] | None = None) -> dict[str, Layer]:
    pieces: Iterator[bytes] = (saved[start : start + 700] for start in range(0, len(saved), 700))
    known = (*map(digest_of, BASE), *(digest_of(zipped(tar)) for tar in BASE)) if others is None else others
    with SILENT.task("") as task:
        return take_layers(
            pieces, [digest_of(tar) for tar in wanted], known, made_by="by Docker", store=store, scratch=store.root, task=task
        )


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    made = BlobStore(tmp_path / "blobs")
    made.put(b"there")
    return made


@pytest.mark.parametrize("saved", [plain_by_digest, plain_by_id, compressed])
def test_the_wanted_ones_are_blobs_and_no_other(saved: Callable[[], bytes], store: BlobStore) -> None:
    found = take(saved(), store)
    assert set(found) == {digest_of(tar) for tar in MADE}
    for tar in MADE:
        layer = found[digest_of(tar)]
        blob = store.read(layer.digest)
        assert gzip.decompress(blob) == tar
        assert (layer.size_bytes, layer.diff_id, layer.made_by) == (len(blob), digest_of(tar), "by Docker")
    assert len(list((store.root / "sha256").iterdir())) == 1 + len(MADE)
    assert take(saved(), store) == found


def test_what_the_engine_keeps_compressed_stays_as_it_is(store: BlobStore) -> None:
    assert {layer.digest for layer in take(compressed(), store).values()} == {digest_of(zipped(tar)) for tar in MADE}


def test_a_name_is_not_believed(store: BlobStore) -> None:
    """Another file under a wanted layer's name is not that layer; the layer is found under the other's."""
    one, other = MADE
    swapped = archive({blob_name(one): other, blob_name(other): one})
    assert set(take(swapped, store)) == {digest_of(one), digest_of(other)}
    with pytest.raises(EngineError, match="cannot read the layers") as caught:
        take(archive({blob_name(one): other}), store)
    assert digest_of(one)[:19] in caught.value.why and "--engine docker" in caught.value.hint


def test_a_step_may_make_a_layer_that_the_base_has_too(store: BlobStore) -> None:
    assert set(take(plain_by_digest(), store, [BASE[0], MADE[0]])) == {digest_of(BASE[0]), digest_of(MADE[0])}


def test_what_is_damaged_is_refused_and_nothing_of_it_is_kept(store: BlobStore) -> None:
    with pytest.raises(EngineError, match="cannot read the layers"):
        take(plain_by_digest()[:1500], store)
    with pytest.raises(EngineError, match="cannot read the layers"):
        take(b"no archive" * 200, store)
    with pytest.raises(InputError):
        take(archive({blob_name(zipped(MADE[0])): zipped(MADE[0])[:-9]}), store)
    assert len(list((store.root / "sha256").iterdir())) == 1
