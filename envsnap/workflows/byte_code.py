"""Byte code of an assembled image: by exactly its interpreter's version, from wherever that can be run here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from envsnap.bytecode.carried import unpack_carried, unpack_conda
from envsnap.bytecode.compiler import Compiler, sources_of, sources_of_tree
from envsnap.bytecode.interpreters import Command, Interpreter, NotFound, find_interpreter, on_this_host
from envsnap.errors import InputError
from envsnap.inventory.interpreter import unpack
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import BaseInventory
from envsnap.model.layers import BytecodeLayer, LayerPlan, Layout, TreeLayer
from envsnap.model.plan import CARRIED
from envsnap.storage import BlobStore


class ByteCode:
    """Writes layers of byte code.

    Args:
        wheel: sha256 -> where that file lies; None when it is not at hand.
        kept: blobs of the lock.
    """

    def __init__(self, compiler: Compiler, layout: Layout, wheel: Callable[[str], Path | None], kept: BlobStore) -> None:
        self._compiler = compiler
        self._layout = layout
        self._wheel = wheel
        self._kept = kept

    def write(self, layer: BytecodeLayer, writer: LayerWriter) -> None:
        """Write one layer.

        Raises:
            TargetError: no interpreter of the version can be run here. InputError: a wheel is not at hand.
        """
        sources = [sources_of_tree(layer.tree, self._kept, self._layout)] if layer.tree is not None else []
        for planned in layer.wheels:
            path = self._wheel(planned.sha256)
            if path is None:
                raise InputError(f"{planned.file} is not at hand", hint="envsnap build without --offline fetches it")
            sources.append(sources_of(planned, path, self._layout))
        self._compiler.write_layer(sources, self._layout, writer)


@contextmanager
def byte_code(
    plan: LayerPlan, inventory: BaseInventory, wheel: Callable[[str], Path | None], cache: Path, env: Mapping[str, str], kept: BlobStore
) -> Iterator[ByteCode]:
    """What makes the byte code of a plan's layers: an interpreter of this host, the lock's (carried, or conda's), or the base's own, which
    its inventory keeps.

    Args:
        kept: blobs of the lock.
    """
    version = next((layer.version for layer in plan.layers if isinstance(layer, BytecodeLayer)), "")
    with tempfile.TemporaryDirectory(prefix="envsnap-python-") as scratch:

        def find() -> Interpreter | NotFound:
            # Each is unpacked only if those before it are of no use.
            from_lock, own = _of_lock(plan, kept, Path(scratch)), _of_base(inventory, cache, Path(scratch))
            return find_interpreter(version, chain(on_this_host(version, env), from_lock, own))

        with Compiler(version, find, cache) as compiler:
            yield ByteCode(compiler, plan.layout, wheel, kept)


def _of_lock(plan: LayerPlan, kept: BlobStore, scratch: Path) -> Iterator[Command]:
    """The one that is carried, or conda's."""
    for layer in plan.layers:
        if isinstance(layer, TreeLayer) and layer.path == CARRIED.rpartition("/")[0]:
            yield unpack_carried(kept, layer.tree, f"python{plan.layout.python}", scratch / "carried")
        elif isinstance(layer, TreeLayer) and layer.path == f"/{plan.layout.prefix}":
            yield unpack_conda(kept, layer.tree, plan.layout.python, scratch / "conda")


def _of_base(inventory: BaseInventory, cache: Path, scratch: Path) -> Iterator[Command]:
    if inventory.interpreter is None:
        return
    try:
        found = unpack(BlobStore(cache / "blobs"), inventory.interpreter, scratch / "interpreter")
    except InputError:  # pruned from the cache, or damaged: then it is as if the base had none
        return
    yield Command(argv=found.argv, env=found.env)
