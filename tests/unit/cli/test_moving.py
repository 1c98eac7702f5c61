"""push, pull, save, load and cache as scripts meet them: documents, exit codes, and what is said when nothing is there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from envsnap import lockfile
from envsnap.blobs import BlobStore
from envsnap.cli import cache, main
from envsnap.workflows import local
from envsnap.workflows.records import own_tag
from tests import samples
from tests.fakes import layered, registry

WEEK_S = 7 * 24 * 3600


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image by the name example.com/yolo:1, in a cache of its own; no engine answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENVSNAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    image, store, below = layered.make_image(tmp_path / "cache/blobs")
    for blob in below.by_digest.values():
        store.put(blob)
    local.remember(image, ["example.com/yolo:1"], tmp_path / "cache", place="registry")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, dict[str, Any]]:
    with pytest.raises(SystemExit) as ended:
        main.main([*map(str, words), *([] if "--json" in words else ["--json"])])
    out = capsys.readouterr().out
    return int(ended.value.code or 0), json.loads(out)


def test_save_and_load_through_a_file(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, saved = run(capsys, "save", "example.com/yolo:1", "yolo.tar")
    assert (code, saved["format"], saved["with_base"], saved["file"]) == (0, "docker-archive", True, "yolo.tar")
    assert saved["bytes"] == (home / "yolo.tar").stat().st_size
    code, delta = run(capsys, "save", "example.com/yolo:1", "delta", "--format", "oci-dir", "--without-base")
    assert (code, delta["with_base"], delta["image"]) == (0, False, saved["image"])
    monkeypatch.setenv("ENVSNAP_CACHE", str(home / "there"))
    code, loaded = run(capsys, "load", "yolo.tar", "-t", "example.com/other:2")
    assert (code, loaded["to"], loaded["tags"]) == (0, "cache", ["example.com/other:2"])
    assert loaded["image"]["config_digest"] == saved["image"]["config_digest"]
    assert local.find("example.com/other:2", home / "there") is not None


def test_push_and_pull_through_a_registry(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with registry.running() as served:
        name = f"{served.address}/vision/yolo:1"
        code, pushed = run(capsys, "push", "example.com/yolo:1", name)
        assert (code, [one["reference"] for one in pushed["pushed"]]) == (0, [name])
        code, again = run(capsys, "push", "example.com/yolo:1", name)
        assert (code, again["pushed"][0]["uploaded_bytes"]) == (0, 0)
        code, pulled = run(capsys, "pull", name, "--to", "oci:layout")
        assert (code, pulled["to"]) == (0, "layout")
        assert pulled["image"]["manifest_digest"] == pushed["pushed"][0]["digest"]
        assert (home / "layout/index.json").is_file()


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["push"], 2, "Missing argument 'IMAGE'"),
        (["push", "nowhere:1"], 6, "there is no image nowhere:1 here"),
        (["push", "example.com/yolo:1", "No Name"], 2, "'No Name' is not the name of an image"),
        (["push", "nowhere.yaml"], 4, "cannot read the lock nowhere.yaml"),
        (["pull", "example.com/yolo:1", "--to", "engine"], 6, "cannot reach a Docker engine"),
        (["pull", "example.com/yolo:1", "--to", "layout"], 2, "neither engine nor cache nor oci:DIR"),
        (["save", "nowhere:1", "a.tar"], 6, "there is no image nowhere:1 here"),
        (["save", "example.com/yolo:1", "."], 2, "is a directory"),
        (["load", "nowhere.tar"], 4, "cannot read nowhere.tar"),
        (["load", "noise.tar"], 4, "cannot read noise.tar"),
        (["load", "noise.tar", "--to", "engine"], 4, "cannot read noise.tar"),
        (["load", "noise.tar", "-t", "a@sha256:0"], 2, "not the name of an image"),
        (["cache", "free"], 2, "'free' is not one of"),
        (["cache", "prune", "--max-size", "some"], 2, "'some' is no size"),
        (["cache", "--layers"], 2, "frees nothing"),
        (["cache", "prune", "--older", "-1"], 2, "-1 is not in the range"),
    ],
)
def test_what_cannot_be_done_has_its_exit_code(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, what: str
) -> None:
    (home / "noise.tar").write_bytes(b"noise" * 1000)
    ended, document = run(capsys, *words)
    assert (ended, document["error"]["code"]) == (code, code)
    assert what in document["error"]["what"]


@pytest.mark.parametrize("image", ["demo.yaml", "envsnap/nowhere:1"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["verify"], []),
        (["run", "--print"], ["--", "true"]),
        (["export"], ["--format", "k8s"]),
        (["save"], ["a.tar"]),
        (["push"], ["example.com/yolo:2"]),
    ],
    ids=" ".join,
)
def test_an_image_that_is_not_here_is_the_same_error_of_every_command(
    home: Path, capsys: pytest.CaptureFixture[str], before: list[str], image: str, after: list[str]
) -> None:
    (home / "demo.yaml").write_bytes(lockfile.dumps(samples.lock()))
    ended, document = run(capsys, *before, image, *(after if "--" not in after else ["--json", *after]))
    assert ended == 6
    of_lock = image == "demo.yaml"
    own = f"nothing has the name {own_tag(samples.lock())}; " if of_lock else ""
    assert document["error"]["why"].startswith(f"{own}cannot reach a Docker engine: ")
    assert {key: said for key, said in document["error"].items() if key != "why"} == {
        "code": 6,
        "what": "no image of demo.yaml is here" if of_lock else f"there is no image {image} here",
        "hint": f"envsnap build {'demo.yaml' if of_lock else 'LOCK'}   makes one,   envsnap pull REF   fetches one",
    }


def test_the_cache_is_shown_and_freed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = run(capsys, "cache")
    assert (code, shown["directory"]) == (0, str(home / "cache"))
    assert {kind["kind"]: kind["entries"] for kind in shown["kinds"]} == {"layers": 4, "names of images": 1}
    assert shown["bytes"] == sum(kind["bytes"] for kind in shown["kinds"])
    assert shown["max_bytes"] == min(100 * 10**9, shutil.disk_usage(home).total // 2)
    _, freed = run(capsys, "cache", "prune")
    assert (freed["freed_bytes"], freed["bytes"]) == (0, shown["bytes"])
    old = next((home / "cache/blobs/sha256").iterdir())
    os.utime(old, (time.time() - WEEK_S, time.time() - WEEK_S))
    _, freed = run(capsys, "cache", "prune", "--older", "6")
    assert [kind["entries"] for kind in freed["freed"]] == [1] and not old.exists()
    _, freed = run(capsys, "cache", "prune", "--wheels", "--layers")
    assert {kind["kind"] for kind in freed["kinds"]} == {"names of images"}


@pytest.mark.parametrize("by", ["file", "variable"])
@pytest.mark.parametrize("size", ["0", "1TB"])
def test_the_setting_is_no_word_about_show_and_prune(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, by: str, size: str
) -> None:
    """However large or small it is: `prune` frees what was not used for long, or what it is told to."""
    if by == "file":
        (home / "envsnap.toml").write_text(f'[cache]\nmax-size = "{size}"\n')
    else:
        monkeypatch.setenv("ENVSNAP_CACHE_MAX_SIZE", size)
    code, shown = run(capsys, "cache", "show")
    assert code == 0 and shown["bytes"] > 0
    old = next((home / "cache/blobs/sha256").iterdir())
    os.utime(old, (time.time() - 5 * WEEK_S, time.time() - 5 * WEEK_S))
    _, freed = run(capsys, "cache", "prune")
    assert [kind["entries"] for kind in freed["freed"]] == [1] and not old.exists()
    _, freed = run(capsys, "cache", "prune", "--layers")
    assert {kind["kind"] for kind in freed["kinds"]} == {"names of images"}
    assert run(capsys, "cache", "prune", "--max-size", "0")[1]["bytes"] == 0


def test_prune_is_not_told_to_leave_everything(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The word none is a setting, and would read as no limit to what goes."""
    code, answer = run(capsys, "cache", "prune", "--max-size", "none")
    assert (code, "as a setting" in str(answer["error"])) == (2, True)
    assert run(capsys, "cache", "show")[1]["bytes"] > 0


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("500", 500), ("20GB", 20 * 10**9), ("1.5 mb", 1_500_000), ("2T", 2 * 10**12), ("None", None)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int | None) -> None:
    assert cache._bytes(text, hint="") == size


def test_work_that_went_well_holds_the_cache_to_its_size(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the settings say, or a variable; what is freed is told in one line, and only then."""
    run(capsys, "save", "example.com/yolo:1", "yolo.tar")
    store = BlobStore(home / "cache/blobs")

    def old(number: int) -> Path:
        path = store.path(store.put(b"PK\x03\x04" + bytes([number]) * 100_000))
        os.utime(path, (time.time() - WEEK_S, time.time() - WEEK_S))
        return path

    def load() -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main.main(["load", "yolo.tar", "--to", "cache"])
        return int(ended.value.code or 0), capsys.readouterr().err

    kept = old(1)
    assert load() == (0, "") and kept.exists()  # auto: far from full
    (home / "envsnap.toml").write_text('[cache]\nmax-size = "90 kB"\n')
    code, told = load()
    assert (code, kept.exists()) == (0, False)
    assert told == "freed 102.4 kB of the cache, what was not used for longest: it is held to 90.0 kB (cache.max-size)\n"
    kept = old(2)
    monkeypatch.setenv("ENVSNAP_CACHE_MAX_SIZE", "none")
    assert load() == (0, "") and kept.exists()
    monkeypatch.setenv("ENVSNAP_CACHE_MAX_SIZE", "0")
    assert "held to 0 B" in load()[1] and not kept.exists()
    # What was used just now is there, whatever the size.
    assert run(capsys, "save", "example.com/yolo:1", "again.tar")[0] == 0

    monkeypatch.setenv("ENVSNAP_CACHE_MAX_SIZE", "much")
    code, answer = run(capsys, "load", "nowhere.tar")  # said before the work
    assert code == 2 and "'much' is no size" in answer["error"]["what"] and "cache.max-size" in answer["error"]["what"]


def test_screens_say_what_happened_last(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, last in (
        (["save", "example.com/yolo:1", "yolo.tar"], "wrote yolo.tar"),
        (["load", "yolo.tar"], "loaded into envsnap's own store"),
        (["cache"], "held to"),
        (["cache", "prune", "--layers"], "freed"),
    ):
        with pytest.raises(SystemExit) as ended:
            main.main(words)
        assert not ended.value.code
        assert last in capsys.readouterr().out.strip().splitlines()[-1]
