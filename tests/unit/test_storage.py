"""Whole files and directories, or none."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from envsnap import storage
from envsnap.blobs import BlobStore
from envsnap.errors import TargetError
from envsnap.storage import disk_errors, new_directory, scratch_directory, write_file

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
    assert str(tmp_path / "file") in caught.value.why and "another place" in caught.value.hint


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
from envsnap.blobs import BlobStore
from envsnap.storage import new_directory

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


def test_a_directory_that_another_took_away_before_it_was_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other holds its lock for as long as it takes to remove what it took for left: an instant, between our opening and our locking."""
    real, taken = storage._lock, list[Path]()

    def late(handle: int) -> str:
        if not taken:
            taken.extend(tmp_path.glob(".x.*"))
            taken[0].rmdir()
        return real(handle)

    monkeypatch.setattr(storage, "_lock", late)
    with scratch_directory(tmp_path, ".x.") as place:
        (place / "a").touch()
        assert taken and place not in taken
    assert names(tmp_path) == []


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
