"""The project's files in a layer."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest

from envsnap.errors import InputError
from envsnap.layers.tree import Content, write_tree
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import Directory

FILES = {
    "run.sh": ("100755", b"#!/bin/sh\n"),
    "src/pkg/link": ("120000", b"../../run.sh"),
    "src/pkg/__init__.py": ("100644", b""),
    "weights.bin": ("100644", bytes(400_000) + b"x"),
    "größe": ("100644", b"x"),
    "latin-\udce9": ("100644", b"x"),
}
MANIFEST = [(path, mode, hashlib.sha256(data).hexdigest()) for path, (mode, data) in FILES.items()]


def content(path: str) -> Content:
    data = FILES[path][1]
    return Content(len(data), (data[:7], data[7:]))


def layer(manifest: list[tuple[str, str, str]]) -> list[tuple[tarfile.TarInfo, bytes]]:
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    write_tree(manifest, content, writer, top="workspace/yolo", above={"workspace": Directory(mode=0o1777)})
    writer.finish()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue()), mode="r:gz") as archive:
        return [(entry, found.read() if entry.isreg() and (found := archive.extractfile(entry)) else b"") for entry in archive]


def test_anybody_may_read_and_write() -> None:
    assert [(entry.name.removeprefix("workspace"), oct(entry.mode), entry.linkname, len(data)) for entry, data in layer(MANIFEST)] == [
        ("", "0o1777", "", 0),
        ("/yolo", "0o777", "", 0),
        ("/yolo/run.sh", "0o777", "", 10),
        ("/yolo/src", "0o777", "", 0),
        ("/yolo/src/pkg", "0o777", "", 0),
        ("/yolo/src/pkg/link", "0o777", "../../run.sh", 0),
        ("/yolo/src/pkg/__init__.py", "0o666", "", 0),
        ("/yolo/weights.bin", "0o666", "", 400_001),
        ("/yolo/größe", "0o666", "", 1),
        ("/yolo/latin-\udce9", "0o666", "", 1),
    ]


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_what_the_manifest_says(path: str) -> None:
    with pytest.raises(InputError, match="is not what it was"):
        layer([(path, FILES[path][0], "0" * 64)])


@pytest.mark.parametrize(
    ("line", "what"),
    [(("run.sh", "160000", ""), "refused workspace/yolo/run.sh"), (("weights.bin", "120000", ""), "refused workspace/yolo/weights.bin")],
)
def test_modes_that_are_none_are_refused(line: tuple[str, str, str], what: str) -> None:
    with pytest.raises(InputError, match=what):
        layer([line])


def test_paths_stay_below_the_project() -> None:
    with pytest.raises(InputError, match="refused the path"):
        write_tree([("../x", "100644", "")], lambda _: Content(0, ()), LayerWriter(len), top="workspace/yolo")


def test_no_file_passes_through_a_link() -> None:
    files = [MANIFEST[1], ("src/pkg/link/x", "100644", "")]
    with pytest.raises(InputError) as caught:
        write_tree(files, lambda _: content("src/pkg/link"), LayerWriter(len), top="w")
    assert caught.value.what == "refused the directory 'w/src/pkg/link'"
