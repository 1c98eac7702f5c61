from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envsnap.errors import InputError, TargetError
from envsnap.progress import SILENT
from envsnap.rootless import roots
from tests.fakes.tars import directory, file, image, link

GOOD = (
    directory("tmp", 0o1777),
    file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
    link("proc", "/oldroot"),
    file("dev", b"no directory"),
)


def never() -> Iterator[bytes]:
    raise AssertionError("a layer was opened in vain")


def test_a_root_is_unpacked_once_and_has_what_containers_have(tmp_path: Path) -> None:
    config, layers = image(GOOD, WorkingDir="/workspace/project", Volumes={"/data": {}})
    root = roots.unpacked(config, layers, cache=tmp_path, progress=SILENT)
    assert root.path == tmp_path / "roots" / config.digest.removeprefix("sha256:") / "root"
    assert {path.name: path.is_dir() and not path.is_symlink() for path in root.path.iterdir()} == dict.fromkeys(
        ("data", "dev", "etc", "proc", "run", "sys", "tmp", "var", "workspace"), True
    )
    assert sorted(path.name for path in (root.path / "etc").iterdir()) == ["hostname", "hosts", "passwd", "resolv.conf"]
    assert root.writable == ("/tmp",)
    assert root.read("/etc/passwd") == b"root:x:0:0::/root:/bin/sh\n"
    assert root.read("/etc/none") is None
    again = roots.unpacked(config, [(diff_id, never) for diff_id, _ in layers], cache=tmp_path, progress=SILENT)
    assert again == root


def test_reading_does_not_leave_the_image_and_holds_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    config, layers = image(
        (link("out", str(tmp_path / "secret")), link("up", "../../../secret"), file("large", bytes(100)), directory("d"))
    )
    root = roots.unpacked(config, layers, cache=tmp_path, progress=SILENT)
    assert [root.read(name) for name in ("out", "up", "d")] == [None, None, None]
    assert root.read("large") == bytes(100)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, layers = image((file("large", bytes(100)),))
    root = roots.unpacked(config, layers, cache=tmp_path, progress=SILENT)
    monkeypatch.setattr(roots, "_FILE_LIMIT", 99)
    with pytest.raises(TargetError, match="refused large"):
        root.read("large")


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    config, layers = image(GOOD, (file("../up"),))
    with pytest.raises(InputError):
        roots.unpacked(config, layers, cache=tmp_path, progress=SILENT)
    assert [path.name for path in (tmp_path / "roots").iterdir()] == [".lock"]


def test_what_was_killed_is_cleared_and_what_is_broken_made_again(tmp_path: Path) -> None:
    config, layers = image(GOOD)
    place = tmp_path / "roots" / config.digest.removeprefix("sha256:")
    (place / "root/half").mkdir(parents=True)
    (tmp_path / "roots/.0123.abc/root").mkdir(parents=True)
    root = roots.unpacked(config, layers, cache=tmp_path, progress=SILENT)
    assert not (root.path / "half").exists()
    assert {path.name for path in (tmp_path / "roots").iterdir()} == {place.name, ".lock"}


def test_layers_that_are_not_the_configs_are_a_bug(tmp_path: Path) -> None:
    config, _ = image(GOOD)
    with pytest.raises(ValueError, match="other layers"):
        roots.unpacked(config, [], cache=tmp_path, progress=SILENT)


def test_a_disk_that_cannot_be_written_is_an_error_with_the_place(tmp_path: Path) -> None:
    config, layers = image(GOOD)
    (tmp_path / "roots").write_text("in the way")
    with pytest.raises(TargetError, match="cannot unpack"):
        roots.unpacked(config, layers, cache=tmp_path, progress=SILENT)


def _unpack(cache: Path, opened: Any) -> None:
    config, layers = image(GOOD)

    [(diff_id, opener)] = layers

    def counted() -> Iterator[bytes]:
        with opened.get_lock():
            opened.value += 1
        time.sleep(0.3)
        yield from opener()

    roots.unpacked(config, [(diff_id, counted)], cache=cache, progress=SILENT)


def test_where_nothing_can_be_locked_the_first_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", none)
    config, [(diff_id, opener)] = image(GOOD)

    def slow() -> Iterator[bytes]:
        first = roots.unpacked(config, [(diff_id, opener)], cache=tmp_path, progress=SILENT)
        (first.path / "mark").touch()
        yield from opener()

    root = roots.unpacked(config, [(diff_id, slow)], cache=tmp_path, progress=SILENT)
    assert (root.path / "mark").exists()
    with roots.in_use(root):
        pass


def test_two_at_once_unpack_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    opened = context.Value("i", 0)
    both = [context.Process(target=_unpack, args=(tmp_path, opened)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]
    assert opened.value == 1


def test_what_is_kept_can_be_dropped_unless_something_runs_in_it(tmp_path: Path) -> None:
    config, layers = image(GOOD)
    assert roots.kept(tmp_path) == ()
    root = roots.unpacked(config, layers, cache=tmp_path, progress=SILENT)
    other, other_layers = image((file("a", b"12345"),))
    roots.unpacked(other, other_layers, cache=tmp_path, progress=SILENT)
    os.utime(tmp_path / "roots" / other.digest.removeprefix("sha256:") / "root.json", (1, 1))
    assert [(one.digest, one.bytes) for one in roots.kept(tmp_path)] == [(other.digest, 5), (config.digest, 38)]
    with roots.in_use(root):
        assert not roots.drop(tmp_path, config.digest)
        assert root.path.is_dir()
    assert roots.drop(tmp_path, config.digest)
    assert not roots.drop(tmp_path, config.digest)
    assert not roots.drop(tmp_path, "sha256:../../etc")
    assert [one.digest for one in roots.kept(tmp_path)] == [other.digest]
    with pytest.raises(TargetError, match="is gone"), roots.in_use(root):
        pass
