"""A recipe names a layer before it is made, so what it came down to once must be what it comes down to for ever: else `FORMAT` is raised.

A digest here that is another one means that machines with an earlier envsnap have other images for the same lock. Raise
`envsnap.plan.layers.FORMAT`, and only then write the new digest down. Wheels have theirs in `tests/unit/layers/test_wheel.py`.
"""

from __future__ import annotations

import hashlib
import io
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from envsnap.layers.environment import write_environment
from envsnap.layers.kept import write_kept
from envsnap.layers.tree import Content, write_tree
from envsnap.layers.writer import LayerWriter
from envsnap.model.layers import EnvironmentLayer, Layout
from envsnap.plan.layers import FORMAT
from tests.unit.bytecode import test_compiler as byte_code
from tests.unit.debian import test_layer as system
from tests.unit.layers import test_kept as kept

LAYOUT = Layout(python="3.11")
WAYS = {
    "environment": "93e8960f289eaedec0fda056c97e4c9e16409cd58b26817e5316515f834e52ba",
    "tree": "bbc33ab0215d907145b62da879f65911026546b0a87f360c5be54eaa5c0d228c",
    "source": "ee4ec2882e9624f5376e46b6db4f49384c633a063341b0b16474a0ee7bd7cbdb",
    "system": "d8573f99d292f26a6c913741f52cb3490a2ccae2b2af286c92fed573af291550",
}
BYTE_CODE = "d9056309047fc045b63e8063e1a0001672f4ea8fed3152479d582ff5c1cda117"


def made(write: Callable[[LayerWriter], object]) -> bytes:
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    write(writer)
    writer.finish()
    return out.getvalue()


def environment(_: Path) -> bytes:
    layer = EnvironmentLayer(interpreter="/usr/bin/python3", version="3.11.2", writable=("/opt/envsnap/home", "/workspace"))
    return made(lambda writer: write_environment(layer, LAYOUT, writer))


def tree(_: Path) -> bytes:
    return made(lambda writer: write_kept([kept.tree(kept.FILES)], writer, top=kept.TOP, conda=kept.CONDA))


def source(_: Path) -> bytes:
    files = {"a/train.py": ("100755", b"print(1)\n"), "link": ("120000", b"a")}
    manifest = [(path, mode, hashlib.sha256(data).hexdigest()) for path, (mode, data) in files.items()]
    return made(lambda writer: write_tree(manifest, lambda path: Content(len(files[path][1]), [files[path][1]]), writer, top="workspace/p"))


def packages(place: Path) -> bytes:
    return system.blob(system.HELLO, system.ALPHA, store=place)


WRITERS = {"environment": environment, "tree": tree, "source": source, "system": packages}


@pytest.mark.parametrize("kind", WAYS)
def test_a_recipe_comes_down_to_the_same_bytes_as_ever(kind: str, tmp_path: Path) -> None:
    assert (FORMAT, hashlib.sha256(WRITERS[kind](tmp_path)).hexdigest()) == (1, WAYS[kind])


@pytest.mark.skipif(platform.python_version() != "3.11.7", reason="byte code is another one for each version")
def test_so_does_one_of_byte_code(tmp_path: Path) -> None:
    source = """
import os

class A:
    x = {1, "a", None}

    def f(self, *, b="é"):
        return [b for _ in (1, 2) if b in {"a", "b"}]
"""
    blob = byte_code.layer(tmp_path, byte_code.wheel(modules={"pkg/__init__.py": "", "pkg/part.py": source}))
    assert (FORMAT, hashlib.sha256(blob).hexdigest()) == (1, BYTE_CODE)
