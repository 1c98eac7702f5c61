"""Whole files or none, and blobs that are checked."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from envsnap import storage
from envsnap.errors import InputError, TargetError
from envsnap.storage import BlobStore, disk_errors, new_directory, read_note, scratch_directory, write_file, write_note

ROOT = str(Path(__file__).parents[2])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_write_file_replaces_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert names(path.parent) == ["file"]


def test_a_failed_write_keeps_the_old_bytes_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TargetError) as caught:
        write_file(path, b"new")
    assert "no space left" in caught.value.what
    assert str(tmp_path) in caught.value.hint
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_disk_that_is_really_full() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(TargetError, match="no space left"), disk_errors("write", Path("/dev")), Path("/dev/full").open("wb", 0) as file:
        file.write(b"x")


def test_other_disk_errors_name_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TargetError) as caught:
        write_file(tmp_path / "file" / "below", b"x")
    assert str(tmp_path / "file") in caught.value.why


def test_new_directory_takes_the_old_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "images" / "x"
    with new_directory(path) as fresh:
        (fresh / "a").write_text("1", encoding="utf-8")
    with new_directory(path) as fresh:
        assert not list(fresh.iterdir())
        (fresh / "b").write_text("2", encoding="utf-8")
    assert names(path) == ["b"]
    assert names(path.parent) == ["x"]


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_new_directory_leaves_the_old_one_when_filling_fails(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x"
    path.mkdir()
    (path / "kept").touch()

    def fill() -> None:
        with new_directory(path) as fresh:
            (fresh / "half").touch()
            raise error

    with pytest.raises(type(error)):
        fill()
    assert names(path) == ["kept"]
    assert names(tmp_path) == ["x"]


def test_new_directory_puts_the_old_one_back_when_the_exchange_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.mkdir()
    (path / "kept").touch()
    real = Path.rename

    def fails_for_the_fresh_one(self: Path, target: Path) -> Path:
        if (self / "fresh").exists():
            raise OSError(errno.EIO, "cannot", str(self))
        return real(self, target)

    monkeypatch.setattr(storage, "_exchange", lambda *_: False)  # as a file system that cannot
    monkeypatch.setattr(Path, "rename", fails_for_the_fresh_one)
    with pytest.raises(TargetError), new_directory(path) as fresh:
        (fresh / "fresh").touch()
    assert names(path) == ["kept"]
    assert names(tmp_path) == ["x"]


def test_new_directory_works_where_nothing_can_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_exchange", lambda *_: False)
    for name in ("a", "b"):
        with new_directory(tmp_path / "x") as fresh:
            (fresh / name).touch()
    assert (names(tmp_path), names(tmp_path / "x")) == (["x"], ["b"])


KILLED = """
import os, signal, sys
from pathlib import Path
from envsnap.storage import BlobStore, new_directory

with BlobStore(Path("blobs")).writer() as blob, new_directory(Path("x")) as fresh:
    blob.write(b"half")
    (fresh / "half").touch()
    print("ready", flush=True)
    signal.pause()
"""


def test_nothing_is_left_of_what_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=tmp_path, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT}
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        (living,) = (name for name in names(tmp_path) if name.startswith(".x."))
        with new_directory(tmp_path / "x"):
            assert living in names(tmp_path)  # it is somebody's work
        process.kill()
    with new_directory(tmp_path / "x"):
        assert living not in names(tmp_path)
    assert names(tmp_path) == ["blobs", "x"]
    assert names(tmp_path / "blobs/sha256") == []


def test_a_file_system_without_unnamed_files_or_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def no_unnamed(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no")
        return real(path, flags, mode)

    def no_locks(handle: int, how: int) -> None:
        raise OSError(errno.EBADF, "no")

    monkeypatch.setattr(os, "open", no_unnamed)
    monkeypatch.setattr("fcntl.flock", no_locks)
    with new_directory(tmp_path / "x"), scratch_directory(tmp_path, ".x.") as second:
        assert len(names(tmp_path)) == 2
        (second / "a").touch()
    store = BlobStore(tmp_path / "blobs")
    with store.writer() as blob:
        blob.write(b"bytes")
    with suppress(RuntimeError), store.writer() as other:
        other.write(b"half")
        raise RuntimeError
    assert store.read(blob.digest) == b"bytes"
    assert names(tmp_path / "blobs/sha256") == [blob.digest[7:]]


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


class Fact(msgspec.Struct):
    digest: str
    size: int


def test_what_was_remembered_is_what_was_written_or_nothing(tmp_path: Path) -> None:
    note = tmp_path / "notes/a.json"
    assert read_note(note, Fact) is None
    write_note(note, Fact(digest="abc", size=1))
    assert read_note(note, Fact) == Fact(digest="abc", size=1)
    whole = note.read_bytes()
    assert json.loads(whole)["of"] == {"digest": "abc", "size": 1}
    (tmp_path / "notes/b.json").write_bytes(whole)  # one thing's, under another's name
    assert read_note(tmp_path / "notes/b.json", Fact) is None
    for other in (
        b"",
        whole[:-3],
        whole.replace(b"abc", b"abd"),
        whole.replace(b"1", b"2", 1),
        whole.replace(b"abc", b"a\xffc"),
        b"\xff" * 10,
        b"{}",
    ):
        note.write_bytes(other)
        assert read_note(note, Fact) is None, other


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


INTERRUPTED = """
import sys
import time
from pathlib import Path
from envsnap.storage import new_directory, new_file, scratch_directory, write_file
place = Path(sys.argv[1])
try:
    print("ready", flush=True)
    while True:
        with scratch_directory(place, ".scratch.") as scratch:
            (scratch / "a").mkdir()
            write_file(scratch / "a/b", b"whole", durable=False)
            write_file(place / "file", b"whole", durable=False)
        with new_file(place / "other") as fresh:
            fresh.write_bytes(b"whole")
        with new_directory(place / "folder") as folder:
            (folder / "c").touch()
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("after_ms", [1, 3, 5, 7, 9, 11, 13, 15])
def test_an_interrupt_at_any_instant_leaves_nothing_half_made(tmp_path: Path, after_ms: int) -> None:
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(after_ms / 1000)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate()
    assert child.returncode == 0, said
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "other", "folder"}


def test_what_is_not_found_within_a_scratch_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot write below"), scratch_directory(tmp_path, ".x."):
        (tmp_path / "no-such-file").read_bytes()
    assert list(tmp_path.iterdir()) == []
