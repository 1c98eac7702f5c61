"""What the cache keeps, and that freeing it takes what was asked for and nothing else."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace

import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import InputError
from envsnap.inventory import remembered
from envsnap.model.base import BaseInventory
from envsnap.model.cache import CacheState
from envsnap.oci.documents import Descriptor, digest_of
from envsnap.progress import SILENT
from envsnap.publish.content import Stored
from envsnap.rootless import roots
from envsnap.storage import write_file
from envsnap.workflows import cache as workflow
from envsnap.workflows import local
from tests.fakes import layered, tars

NOW = time.time()
FACT = f"layers/{'f' * 64}.json"
REPOSITORY = f"git/{'a' * 24}"
DAY = 24 * 3600.0


def aged(path: Path, days: float) -> Path:
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two layers, a wheel, a fact, a repository, and what a killed process left."""
    root = tmp_path / "cache"
    store = BlobStore(root / "blobs")
    for data, days in ((b"\x1f\x8b" + b"n" * 30_000, 1.0), (b"\x1f\x8b" + b"o" * 60_000, 100), (b"PK\x03\x04" + b"w" * 20_000, 50)):
        aged(store.path(store.put(data)), days)
    aged(store.path(store.put(b"{}")), 1)
    write_file(root / FACT, b"{}")
    aged(root / FACT, 1)
    repository = root / REPOSITORY
    (repository / "objects").mkdir(parents=True)
    (repository / "objects/pack").write_bytes(b"p" * 10_000)
    for path in (repository / "objects/pack", repository / "objects", repository):
        aged(path, 10)
    for name, days in ((".blob.old", 3.0), (".blob.new", 0.1)):
        (root / "blobs/sha256" / name).write_bytes(b"half")
        aged(root / "blobs/sha256" / name, days)
    return root


def kinds(state: CacheState) -> dict[str, int]:
    return {kept.kind: kept.entries for kept in state.kinds}


def test_everything_is_shown_by_kind_largest_first(cache: Path) -> None:
    state = workflow.show(cache)
    assert kinds(state) == {"layers": 3, "wheels": 1, "manifests and configs": 1, "git repositories": 1, "unfinished": 2}
    assert state.kinds[0].kind == "layers"
    assert state.bytes == sum(kept.bytes for kept in state.kinds) > 120_000
    assert workflow.show(cache / "nowhere").kinds == ()


def test_what_was_not_used_for_long_goes(cache: Path) -> None:
    pruned = workflow.prune(cache, SILENT, now=NOW, unused_s=30 * DAY)
    assert kinds(pruned.freed) == {"layers": 1, "wheels": 1, "unfinished": 1}
    assert kinds(pruned.left) == {"layers": 2, "manifests and configs": 1, "git repositories": 1, "unfinished": 1}
    assert pruned.left == workflow.show(cache)


def test_all_of_a_kind_goes(cache: Path) -> None:
    assert kinds(workflow.prune(cache, SILENT, now=NOW, kinds=["layers"]).freed) == {"layers": 3, "unfinished": 1}
    assert kinds(workflow.prune(cache, SILENT, now=NOW, kinds=["wheels", "layers"]).freed) == {"wheels": 1}


def test_a_directory_goes_as_a_whole(cache: Path) -> None:
    workflow.prune(cache, SILENT, now=NOW, unused_s=9 * DAY)
    assert list((cache / "git").iterdir()) == []


def test_a_size_is_kept_by_freeing_what_was_not_used_for_longest(cache: Path) -> None:
    whole = workflow.show(cache).bytes
    pruned = workflow.prune(cache, SILENT, now=NOW, max_bytes=whole - 1)
    assert kinds(pruned.freed) == {"unfinished": 1}  # which was over
    pruned = workflow.prune(cache, SILENT, now=NOW, max_bytes=pruned.left.bytes - 1)
    assert kinds(pruned.freed) == {"layers": 1}
    assert pruned.freed.bytes > 50_000
    assert workflow.prune(cache, SILENT, now=NOW, max_bytes=pruned.left.bytes).freed.kinds == ()
    pruned = workflow.prune(cache, SILENT, now=NOW, max_bytes=0)
    assert kinds(pruned.left) == {"unfinished": 1}


def test_what_was_just_touched_is_the_last_to_go(cache: Path) -> None:
    old = digest_of(b"\x1f\x8b" + b"o" * 60_000)
    BlobStore(cache / "blobs").touch(old)
    workflow.prune(cache, SILENT, now=NOW, max_bytes=70_000)
    assert BlobStore(cache / "blobs").has(old)


def test_who_reads_a_blob_reads_on(cache: Path) -> None:
    data = b"\x1f\x8b" + b"big" * (2 << 20)
    store = BlobStore(cache / "blobs")
    descriptor = Descriptor(media_type="", digest=store.put(data), size=len(data))
    pieces = Stored(store).open(descriptor)
    first = next(pieces)
    workflow.prune(cache, SILENT, now=NOW, kinds=["layers"])
    assert first + b"".join(pieces) == data
    with pytest.raises(InputError) as failed:
        next(Stored(store).open(descriptor))
    assert "again" in failed.value.hint


def test_builds_and_prunings_at_once_end_without_an_error(cache: Path) -> None:
    store = BlobStore(cache / "blobs")
    stop = threading.Event()

    def build() -> None:
        for number in range(60):
            data = b"\x1f\x8b" + bytes([number]) * 5000
            assert digest_of(data) == store.put(data)
            write_file(cache / f"layers/{number:064x}.json", b"{}")

    def prune() -> None:
        while not stop.is_set():
            workflow.prune(cache, SILENT, now=NOW, kinds=["layers"])

    with ThreadPoolExecutor(4) as pool:
        builders, pruners = ([pool.submit(work) for _ in range(2)] for work in (build, prune))
        wait(builders)
        stop.set()
        for done in (*builders, *pruners):
            done.result()


def test_what_cannot_go_stays_and_is_not_counted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", forbidden)
    assert kinds(workflow.prune(cache, SILENT, now=NOW, kinds=["layers"]).freed) == {}


def test_an_unpacked_image_goes_unless_something_runs_in_it(tmp_path: Path) -> None:
    config, layers = tars.image((tars.file("a", b"x" * 5000),))
    root = roots.unpacked(config, layers, cache=tmp_path, progress=SILENT)
    with roots.in_use(root):
        pruned = workflow.prune(tmp_path, SILENT, now=NOW)
        assert ([kept.kind for kept in pruned.left.kinds], pruned.freed.kinds) == (["unpacked images"], ())
    pruned = workflow.prune(tmp_path, SILENT, now=NOW)
    assert [kept.kind for kept in pruned.freed.kinds] == ["unpacked images"]
    assert not root.path.exists()


@pytest.mark.parametrize(
    "name",
    ["model.pt", "data/train.bin", "images/cat.jpg", "images/yolo/Dockerfile", "git/app/.git/HEAD", "records/.hidden", "blobs/a"],
)
def test_what_is_not_envsnaps_is_neither_shown_nor_freed(tmp_path: Path, name: str) -> None:
    """Where somebody has the cache in a directory with other things in it."""
    theirs = tmp_path / name
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_bytes(b"t" * 100_000)
    for path in (theirs, *theirs.parents):
        if path.is_relative_to(tmp_path):
            aged(path, 400)
    ours = big(tmp_path, 1, 100)
    aged(theirs.parent, 400)
    assert kinds(workflow.show(tmp_path)) == {"layers": 1}
    assert workflow.hold_to(tmp_path, 0, SILENT, now=NOW) >= 100_000 and not ours.exists()
    workflow.prune(tmp_path, SILENT, now=NOW)
    workflow.prune(tmp_path, SILENT, now=NOW, max_bytes=0)
    assert theirs.exists()


def test_every_folder_that_the_code_makes_in_the_cache_is_known_here() -> None:
    """And nothing is known that it does not make."""
    named = re.compile(r"""cache / (?:"([^"/]+)"|FOLDER\b)""")
    folders = set[str]()
    for path in Path(workflow.__file__).parents[1].rglob("*.py"):
        text = path.read_text()
        if found := [match[1] for match in named.finditer(text)]:
            constant = re.search(r'^FOLDER = "(\w+)"$', text, re.MULTILINE)
            folders |= {name or (constant[1] if constant else "FOLDER") for name in found}
    assert folders == {*workflow._KINDS, "blobs"}


# -- holding it to a size ---------------------------------------------------------------------------------------------------


def big(cache: Path, number: int, days: float) -> Path:
    store = BlobStore(cache / "blobs")
    return aged(store.path(store.put(b"\x1f\x8b" + bytes([number]) * 100_000)), days)


def test_a_cache_is_held_to_a_size_by_freeing_what_was_not_used_for_longest(cache: Path) -> None:
    """What is small stays, however old it is."""
    aged(cache / FACT, 400)
    small = kinds(workflow.show(cache))
    old, older = big(cache, 1, 100), big(cache, 2, 300)
    whole = workflow.show(cache).bytes
    assert workflow.hold_to(cache, whole, SILENT, now=NOW) == 0
    assert workflow.hold_to(cache, whole - 1, SILENT, now=NOW) >= 100_000
    assert (old.exists(), older.exists()) == (True, False)
    assert workflow.hold_to(cache, 0, SILENT, now=NOW) >= 100_000
    assert kinds(workflow.show(cache)) == small and not old.exists()


def test_what_was_used_within_a_day_is_nothing_to_free(tmp_path: Path) -> None:
    made, used, old = (big(tmp_path, number, days) for number, days in enumerate((0.0, 40.0, 30.0)))
    BlobStore(tmp_path / "blobs").touch(f"sha256:{used.name}")
    assert workflow.hold_to(tmp_path, 0, SILENT, now=NOW) >= 100_000
    assert (made.exists(), used.exists(), old.exists()) == (True, True, False)


def test_what_is_used_while_it_is_looked_at_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = big(tmp_path, 1, 40)
    entries = list(workflow.entries(tmp_path))
    BlobStore(tmp_path / "blobs").touch(f"sha256:{place.name}")
    monkeypatch.setattr(workflow, "entries", lambda *_, **__: iter(entries))
    assert workflow.hold_to(tmp_path, 0, SILENT, now=NOW) == 0 and place.exists()


def test_it_looks_once_an_hour_and_when_the_size_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    real = workflow.entries

    def look(cache: Path, *, by_content: bool = True) -> Iterator[workflow.Entry]:
        looked.append(cache)
        return real(cache, by_content=by_content)

    monkeypatch.setattr(workflow, "entries", look)
    for now, size, times in ((0, 500_000, 1), (60, 500_000, 1), (60, 400_000, 2), (1800, 400_000, 2), (3700, 400_000, 3)):
        workflow.hold_to(tmp_path, size, SILENT, now=time.time() + now)
        assert len(looked) == times, (now, size)
    assert workflow.show(tmp_path).kinds == ()  # the note of it is nothing that is kept


def test_what_stays_is_not_asked_where_nothing_is_over(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That reads every image and every inventory; it was looked all the same."""
    asked: list[Path] = []

    def kept(cache: Path) -> Callable[[workflow.Entry], bool]:
        asked.append(cache)
        return lambda _: True

    monkeypatch.setattr(workflow, "_kept", kept)
    whole = workflow.show(cache).bytes
    assert workflow.hold_to(cache, whole, SILENT, now=NOW) == 0
    assert (asked, (cache / "bounded").read_bytes()) == ([], str(whole).encode())
    assert workflow.hold_to(cache, whole - 1, SILENT, now=NOW) == 0
    assert (asked, (cache / "bounded").read_bytes()) == ([cache], str(whole - 1).encode())


def test_nobody_fails_for_what_cannot_be_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    place = big(tmp_path, 1, 40)
    monkeypatch.setattr(Path, "unlink", forbidden)
    monkeypatch.setattr("tempfile.mkstemp", forbidden)
    assert workflow.hold_to(tmp_path, 0, SILENT, now=NOW) == 0 and place.exists()


def test_an_image_in_use_is_not_freed(tmp_path: Path) -> None:
    config, layers = tars.image((tars.file("a", b"x" * 100_000),))
    root = roots.unpacked(config, layers, cache=tmp_path, progress=SILENT)
    for folder in (root.path.parent, *root.path.parent.rglob("*")):
        aged(folder, 40)
    with roots.in_use(root):
        assert workflow.hold_to(tmp_path, 0, SILENT, now=NOW) == 0
    aged(root.path.parent / "root.json", 40)
    assert workflow.hold_to(tmp_path, 1, SILENT, now=NOW) == 100_000 and not root.path.exists()


def test_the_usual_limit_is_what_the_disk_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for total, limit in ((10**12, 100 * 10**9), (10**11, 5 * 10**10)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, total=total: SimpleNamespace(total=total))
        assert workflow.usual_limit(tmp_path / "not/yet/there") == limit


def test_an_image_that_is_nowhere_else_is_not_freed_until_it_is_pushed(tmp_path: Path) -> None:
    image, _, _ = layered.make_image(tmp_path / "blobs")
    store = BlobStore(tmp_path / "blobs")
    layers = [store.path(layer.digest) for layer in image.layers]
    other = aged(store.path(store.put(b"o" * 100_000)), 50)

    def hold() -> None:
        for layer in layers:
            layer.write_bytes(b"l" * 100_000)
            aged(layer, 100)
        (tmp_path / "bounded").unlink(missing_ok=True)
        workflow.hold_to(tmp_path, 0, SILENT, now=NOW)

    local.remember(image, ["yolo:1", "yolo:2"], tmp_path, place="here")
    hold()
    assert all(layer.exists() for layer in layers) and not other.exists()
    local.remember(image, ["registry.example.com/yolo:1"], tmp_path, place="registry")
    hold()
    assert not any(layer.exists() for layer in layers)


def test_what_cannot_be_had_again_is_not_freed_unasked(tmp_path: Path) -> None:
    """Mirrors drop a package's old versions, a base of 20 GB is not read again for what its inventory names; prune takes them when told."""
    store = BlobStore(tmp_path / "blobs")
    status, interpreter, package, wheel = (
        store.put(start + b"s" * 100_000) for start in (b"Package: dpkg", b"python3", b"!<arch>\ndebian-binary", b"PK\x03\x04")
    )
    base = BaseInventory(distribution="debian 12", complete=True, dpkg_status=status, interpreter=interpreter)
    remembered.remember(base, config=digest_of(b"config"), reference="debian:bookworm", cache=tmp_path)
    facts = [tmp_path / folder / f"{'e' * 64}{end}" for folder, end in (("records", ".end"), ("inventories", ".json"), ("layers", ".json"))]
    again = [tmp_path / folder / ("d" * 64) for folder in ("project-pages", "debian")]
    for path in (*facts, *again):
        write_file(path, os.urandom(100_000))
    for path in (*facts, *again, *map(store.path, (status, interpreter, package, wheel))):
        aged(path, 400)
    workflow.hold_to(tmp_path, 0, SILENT, now=NOW)
    assert all(path.exists() for path in (*facts, *map(store.path, (status, interpreter, package))))
    assert not any(path.exists() for path in (*again, store.path(wheel)))
    workflow.prune(tmp_path, SILENT, now=NOW, unused_s=30 * DAY)
    assert not any(path.exists() for path in (*facts, *map(store.path, (status, interpreter, package))))
