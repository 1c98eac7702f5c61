"""Blobs: under their digest or not there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import InputError, TargetError


def test_a_blob_takes_the_place_of_one_that_was_changed(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.path(store.put(b"bytes")).write_bytes(b"other")
    with store.writer() as blob:
        blob.write(b"bytes")
    assert store.read(blob.digest) == b"bytes"
    assert store.path(blob.digest).stat().st_mode & 0o777 == 0o644


def test_a_damaged_blob_is_let_go(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    good, bad = store.put(b"good"), store.put(b"bad")
    store.path(bad).write_bytes(b"bat")
    assert [store.drop_damaged(digest) for digest in (good, bad, bad)] == [False, True, False]
    assert (store.has(good), store.has(bad)) == (True, False)
    store.path(good).write_bytes(b"goof")
    assert store.read(store.put(b"good")) == b"good"
    assert (store.size(good), store.size(bad)) == (4, None)


def test_what_is_there_is_whole_or_goes(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    good, bad = store.put(b"good"), store.put(b"bad")
    store.path(bad).write_bytes(b"bat")
    assert (store.has_whole(good), store.has_whole(bad), store.has(bad)) == (True, False, False)
    assert not store.has_whole(bad)


def test_all_that_is_damaged_goes_where_one_of_it_is_read(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digests = good, bad, worse = store.put(b"good"), store.put(b"bad"), store.put(b"worse")
    for digest in (bad, worse):
        store.path(digest).write_bytes(b"")
    with store.mending(digests, "the words"):
        store.read(good)
    assert store.has(bad)
    with pytest.raises(InputError, match="what the cache kept of the words was damaged") as caught, store.mending(digests, "the words"):
        store.read(bad)
    assert "was changed" in caught.value.why and "run it again" in caught.value.hint
    assert [store.has(digest) for digest in digests] == [True, False, False]
    with pytest.raises(InputError, match="is missing"), store.mending(digests, "the words"):
        store.read(bad)
    with pytest.raises(TargetError), store.mending(digests, "the words"):
        raise TargetError("another thing")


def test_blobs_are_kept_under_their_digest(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "a.blobs")
    digest = store.put(b"bytes")
    assert digest == "sha256:" + hashlib.sha256(b"bytes").hexdigest()
    assert store.put(b"bytes") == digest
    assert store.has(digest)
    assert store.read(digest) == b"bytes"


def test_a_blob_that_is_freed_while_it_is_put_is_put_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"bytes")
    read = Path.read_bytes

    def freed(path: Path) -> bytes:
        path.unlink()
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", freed)
        assert store.put(b"bytes") == digest
    assert store.read(digest) == b"bytes"


def test_a_changed_blob_is_refused(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"bytes")
    store.path(digest).write_bytes(b"other")
    with pytest.raises(InputError, match="was changed"):
        store.read(digest)


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        BlobStore(tmp_path).read("sha256:" + "0" * 64)


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "0" * 64 + "\n", "sha256:../" + "0" * 61, "sha512:" + "0" * 64]
)
def test_nothing_but_a_digest_becomes_a_path(tmp_path: Path, digest: str) -> None:
    with pytest.raises(InputError, match="not a digest"):
        BlobStore(tmp_path).path(digest)


def test_a_blob_written_piece_by_piece(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "x.blobs")
    with store.writer() as blob:
        blob.write(b"one ")
        blob.write(b"two")
    assert store.read(blob.digest) == b"one two"
    assert blob.digest == store.put(b"one two")


def test_a_blob_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "x.blobs")

    def cut_short() -> None:
        with store.writer() as blob:
            blob.write(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        cut_short()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_blob_of_another_store(tmp_path: Path) -> None:
    scratch, kept = BlobStore(tmp_path / "scratch"), BlobStore(tmp_path / "kept")
    digest = scratch.put(b"bytes")
    kept.adopt(scratch, digest)
    assert kept.read(digest) == b"bytes"
    kept.copy_to(digest, tmp_path / "deep/copy")
    assert (tmp_path / "deep/copy").read_bytes() == b"bytes"


def test_a_changed_blob_is_copied_nowhere(tmp_path: Path) -> None:
    scratch, kept = BlobStore(tmp_path / "scratch"), BlobStore(tmp_path / "kept")
    digest = scratch.put(b"bytes")
    scratch.path(digest).write_bytes(b"other")
    with pytest.raises(InputError, match="was changed"):
        kept.adopt(scratch, digest)
    assert not kept.has(digest)
    with pytest.raises(InputError, match="was changed"):
        scratch.copy_to(digest, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_finished_file_moves_into_the_store(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    (tmp_path / "file").write_bytes(b"bytes")
    digest = store.take(tmp_path / "file")
    assert store.read(digest) == b"bytes" and not (tmp_path / "file").exists()
    assert [path.name for path in (tmp_path / "blobs/sha256").iterdir()] == [digest.removeprefix("sha256:")]
    (tmp_path / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(b"broken")
    (tmp_path / "file").write_bytes(b"bytes")
    assert store.take(tmp_path / "file") == digest and store.read(digest) == b"bytes"  # what is there is not trusted


def test_a_caches_blob_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    store = BlobStore(tmp_path)
    for durable, times in ((False, 0), (True, 1)):
        with store.writer(durable=durable) as blob:
            blob.write(b"data")
        assert store.read(blob.digest) == b"data"
        assert len(waited) == times


def test_what_a_kill_left_of_a_blob_goes_when_it_is_written_again(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"content")
    left = store.path(digest).with_name(f".blob.{store.path(digest).name}")
    left.write_bytes(b"of another")
    with store.writer() as blob:
        blob.write(b"content")
    assert not left.exists() and store.read(digest) == b"content"
