"""One path has one content in an image, whichever layers its wheels lie in; that is seen before a layer is made."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import InputError
from envsnap.model.layers import AnyLayer, LayerPlan, Layout, LockLayer, PlannedWheel, WheelsLayer
from envsnap.probes.wheel_ends import WheelEnds
from envsnap.probes.wheel_record import read_end
from envsnap.progress import SILENT
from envsnap.workflows.assemble import Workshop, make_layers
from envsnap.workflows.wheel_files import require_one_content
from tests.wheels import File, make_wheel

LAYOUT = Layout(python="3.11")
SITE = f"/{LAYOUT.site}"


class Ground:
    """A cache and wheels. Attributes: asked: hashes of wheels that somebody looked for."""

    def __init__(self, root: Path) -> None:
        self.cache = root / "cache"
        self.store = BlobStore(self.cache / "blobs")
        self.asked: list[str] = []

    def wheel(self, name: str, members: Mapping[str, File | bytes], *, rebuilt: bool = False, extra: Mapping[str, str] = {}) -> WheelsLayer:
        """A wheel, alone in its layer, as large ones are."""
        data = make_wheel(members, name=name)
        self.store.put(data)
        planned = PlannedWheel(
            name=name.replace("_", "-"),
            version="1.0",
            file=f"{name}-1.0-py3-none-any.whl",
            sha256=hashlib.sha256(data).hexdigest(),
            size_bytes=len(data),
            source_bytes=sum(len(text) for path, text in members.items() if path.endswith(".py") and isinstance(text, bytes)),
            rebuilt=rebuilt,
            extra=extra,
        )
        return WheelsLayer(wheels=(planned,))

    def find(self, sha256: str) -> Path | None:
        self.asked.append(sha256)
        path = self.store.path(f"sha256:{sha256}")
        return path if path.is_file() else None

    def require(self, *layers: AnyLayer, layout: Layout = LAYOUT) -> None:
        require_one_content(LayerPlan(layout=layout, layers=layers), self.find, self.cache)

    def make(self, *layers: AnyLayer) -> list[bool]:
        """Which of the layers were made just now."""
        said: list[bool] = []
        shop = Workshop(store=self.store, cache=self.cache, wheel=self.find, fetch=lambda _: None, others={})
        plan = LayerPlan(layout=LAYOUT, layers=layers)
        make_layers(plan, shop, wanted=lambda _: "no", on_layer=lambda _, made: said.append(made), progress=SILENT)
        return said


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def refusal(ground: Ground, *layers: AnyLayer, layout: Layout = LAYOUT) -> InputError:
    with pytest.raises(InputError) as caught:
        ground.require(*layers, layout=layout)
    return caught.value


def test_no_layer_is_made_of_two_wheels_that_have_one_path_with_other_content(ground: Ground) -> None:
    """What relocking one of two packages with the same modules leads to: the captured files of the other would lie over the new ones."""
    new = ground.wheel("opencv_python", {"cv2/__init__.py": b"NEW = 1\n", "cv2/new.py": b""})
    old = ground.wheel("opencv_python_headless", {"cv2/__init__.py": b"OLD = 1\n", "cv2/old.py": b""}, rebuilt=True)
    before = set(ground.cache.rglob("*"))
    with pytest.raises(InputError) as caught:
        ground.make(new, old)
    assert caught.value.what == "opencv-python 1.0 and opencv-python-headless 1.0 cannot be in one image"
    assert caught.value.why == f"both have {SITE}/cv2/__init__.py, with other content"
    assert "capture again" in caught.value.hint
    assert set(ground.cache.rglob("*")) == before


def test_it_is_seen_where_both_layers_are_remembered_and_another_is_to_be_made(ground: Ground) -> None:
    """Each was made for another lock."""
    one, two = ground.wheel("one", {"a.py": b"1"}), ground.wheel("two", {"a.py": b"2"})
    assert ground.make(one) == ground.make(two) == [True]
    with pytest.raises(InputError, match=r"one 1\.0 and two 1\.0"):
        ground.make(one, two, LockLayer(lock="sha256:" + "0" * 64))


def test_what_is_made_already_is_not_looked_at(ground: Ground) -> None:
    layers = [ground.wheel("one", {"a.py": b"1"}), ground.wheel("two", {"b.py": b"2"})]
    assert ground.make(*layers) == [True, True]
    ground.asked.clear()
    assert ground.make(*layers) == [False, False]
    assert ground.asked == []


SHARED = {"nvidia/__init__.py": b"# shared\n"}


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("rebuilt", [True, False])
def test_the_same_content_is_both_s(ground: Ground, same: bool, rebuilt: bool) -> None:
    """Where the RECORD of one has no hash, size and checksum tell."""
    text = b"# shared\n" if same else b"# others\n"
    two = ground.wheel("two", {"nvidia/__init__.py": File(text, record="nvidia/__init__.py,,\n") if rebuilt else text}, rebuilt=rebuilt)
    one = ground.wheel("one", SHARED)
    if same:
        ground.require(one, two)
    else:
        assert "nvidia/__init__.py, with other content" in refusal(ground, one, two).why
        assert "nvidia/__init__.py, with other content" in refusal(ground, two, one).why


@pytest.mark.parametrize(
    ("one", "two", "place"),
    [
        ({"one-1.0.data/purelib/a.py": b"1"}, {"a.py": b"2"}, f"{SITE}/a.py"),
        ({"one-1.0.data/data/share/x": b"1"}, {"two-1.0.data/data/share/x": b"2"}, "/opt/envsnap/env/share/x"),
        ({"one-1.0.data/scripts/x": b"1"}, {"two-1.0.data/data/bin/x": b"2"}, "/opt/envsnap/env/bin/x"),
        ({"one-1.0.data/data/lib64/x": b"1"}, {"two-1.0.data/data/lib/x": b"2"}, "/opt/envsnap/env/lib/x"),
        ({f"{number}.py": b"1" for number in range(6)}, {f"{number}.py": b"2" for number in range(6)}, "/3.py and 2 more"),
    ],
)
def test_wherever_a_wheel_puts_it(ground: Ground, one: Mapping[str, bytes], two: Mapping[str, bytes], place: str) -> None:
    assert f"{place}, with other content" in refusal(ground, ground.wheel("one", one), ground.wheel("two", two)).why


def test_what_lies_apart_is_left_alone(ground: Ground) -> None:
    """Byte code that was shipped goes nowhere, headers have a directory for each package, and lib64 may be a directory of its own."""
    one = ground.wheel("one", {"p/__pycache__/a.pyc": b"1", "one-1.0.data/headers/x.h": b"1", "one-1.0.data/data/lib64/x": b"1"})
    two = ground.wheel("two", {"p/__pycache__/a.pyc": b"2", "two-1.0.data/headers/x.h": b"2", "two-1.0.data/data/lib/x": b"2"})
    ground.require(one, two, layout=Layout(python="3.11", lib64="directory"))


@pytest.mark.parametrize("turned", [False, True])
def test_a_file_where_another_wheel_has_a_directory(ground: Ground, turned: bool) -> None:
    layers = [ground.wheel("one", {"deep/a": b""}), ground.wheel("two", {"deep/a/b/c.py": b""})]
    refused = refusal(ground, *(layers[::-1] if turned else layers))
    assert refused.why == f"{SITE}/deep/a is a file of one-1.0-py3-none-any.whl and a directory of two-1.0-py3-none-any.whl"
    assert "one 1.0 and two 1.0" in refused.what


def entry_points(name: str, value: str) -> dict[str, File | bytes]:
    return {f"{name}-1.0.dist-info/entry_points.txt": f"[console_scripts]\ntool = {value}\n".encode()}


@pytest.mark.parametrize("turned", [False, True])
def test_scripts_of_entry_points_count(ground: Ground, turned: bool) -> None:
    """No RECORD has them: they are made. A script that gives way to one is not there."""
    one = ground.wheel("one", {**entry_points("one", "tool:main"), "one-1.0.data/scripts/tool-script.py": b"#!python\nold\n"})
    two = ground.wheel("two", {**entry_points("two", "tool:main"), "two-1.0.data/scripts/tool": b"#!python\n"})
    three = ground.wheel("three", entry_points("three", "tool:other"))
    plain = ground.wheel("plain", {"plain-1.0.data/scripts/tool": b"#!/bin/sh\n"})
    ground.require(*(two, one) if turned else (one, two))
    for other in (three, plain):
        assert f"both have /{LAYOUT.prefix}/bin/tool," in refusal(ground, *((other, two) if turned else (two, other))).why
    assert ground.make(one, two) == [True, True]


def test_metadata_that_a_wheel_brings_along_is_not_its_own(ground: Ground) -> None:
    """As setuptools has it of what it vendors: its paths there are not paths of the environment."""
    vendored = {"big/_vendor/two-0.9.dist-info/RECORD": b"a.py,sha256=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA,1\n"}
    big, two = ground.wheel("big", {**vendored, "big/b.py": b"1"}), ground.wheel("two", {"a.py": b"2"})
    ground.require(big, two)
    assert "big/b.py, with other content" in refusal(ground, big, ground.wheel("three", {"big/b.py": b"2"})).why


def test_what_is_put_beside_a_wheel_counts(ground: Ground) -> None:
    beside = ground.wheel("one", {}, extra={"mine.pth": "/workspace\n"})
    ground.require(beside, ground.wheel("two", {"mine.pth": b"/workspace\n"}))
    assert "mine.pth" in refusal(ground, beside, ground.wheel("three", {"mine.pth": b"/other\n"})).why


def test_of_a_wheel_that_is_not_at_hand_a_captures_word_is_taken(ground: Ground) -> None:
    gone, here = ground.wheel("gone", {"a.py": b"1"}), ground.wheel("here", {"a.py": b"2"})
    path = ground.find(gone.wheels[0].sha256)
    assert path is not None
    end = read_end(io.BytesIO(path.read_bytes()))
    path.unlink()
    ground.require(gone, here)  # nobody knows what it has
    WheelEnds(ground.cache).keep(gone.wheels[0].sha256, end)
    assert "a.py, with other content" in refusal(ground, gone, here).why


def test_a_damaged_wheel_is_told_by_whoever_makes_its_layer(ground: Ground) -> None:
    bad, good = ground.wheel("bad", {"a.py": b"1"}), ground.wheel("good", {"a.py": b"2"})
    path = ground.find(bad.wheels[0].sha256)
    assert path is not None
    path.write_bytes(path.read_bytes()[:-10])
    ground.require(bad, good)
    with pytest.raises(InputError, match=r"what the cache kept of bad-1.0-py3-none-any.whl was damaged"):
        ground.make(bad)


def test_no_body_is_read(ground: Ground) -> None:
    layers = [ground.wheel(name, {"a.bin": File(name.encode() * 1000, method=0)}) for name in ("one", "two")]
    for layer in layers:
        path = ground.find(layer.wheels[0].sha256)
        assert path is not None
        data = path.read_bytes()
        body = layer.wheels[0].name.encode() * 1000
        assert body in data
        path.write_bytes(data.replace(body, bytes(len(body))))
    assert "a.bin, with other content" in refusal(ground, *layers).why


def test_it_costs_little(ground: Ground) -> None:
    """As many files as an environment for training has: 24,000."""
    layers = [ground.wheel(f"wheel{n}", {f"wheel{n}/{i % 20}/{i}.py": b"" for i in range(300)}) for n in range(80)]
    started = time.process_time()
    ground.require(*layers)
    assert time.process_time() - started < 3  # a tenth of that where it was measured
