"""What writes each layer that is not made of wheels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from envsnap.blobs import BlobStore
from envsnap.layers.environment import directories, directories_above, write_environment, write_removal
from envsnap.layers.kept import write_kept
from envsnap.layers.tree import Content, write_tree
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import Directory
from envsnap.model.layers import (
    AnyLayer,
    BytecodeLayer,
    EnvironmentLayer,
    LayerPlan,
    Layout,
    LockLayer,
    RemovalLayer,
    SourceLayer,
    SystemLayer,
    TreeLayer,
    WheelsLayer,
)
from envsnap.model.plan import LOCK_IN_IMAGE, MANIFEST_IN_IMAGE
from envsnap.plan.layers import recipe
from envsnap.workflows.assemble import Advance, Write

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Where the content lies.

    Attributes:
        context: the rendered files of `images/NAME/`, the project's files in its `source/`.
        blobs: beside the lock.
        system: writes the distribution's packages. byte_code: writes what an interpreter made of a layer's wheels; see `Write`.
    """

    context: Path
    blobs: BlobStore
    system: Callable[[SystemLayer, LayerWriter], None]
    byte_code: Callable[[BytecodeLayer, LayerWriter, Advance], bool]


def writers(plan: LayerPlan, parts: Parts) -> Mapping[str, Write]:
    """Recipe -> what writes that layer."""
    return {recipe(layer, plan.layout): _writer(layer, plan.layout, parts) for layer in plan.layers if not isinstance(layer, WheelsLayer)}


def _writer(layer: AnyLayer, layout: Layout, parts: Parts) -> Write:
    def write(writer: LayerWriter, advance: Advance) -> bool:
        match layer:
            case EnvironmentLayer():
                write_environment(layer, layout, writer)
            case RemovalLayer(paths=paths):
                write_removal(paths, layout, writer)
            case SystemLayer():
                parts.system(layer, writer)
            case TreeLayer():
                directories(layout, writer)
                write_kept(parts.blobs.pieces(layer.tree), writer, top=layer.path.lstrip("/"), conda=layer.conda)
            case BytecodeLayer():
                return parts.byte_code(layer, writer, advance)
            case SourceLayer():
                _write_source(parts.context, layer, writer)
            case LockLayer():
                _write_lock(parts.context, layer, layout, writer)
            case WheelsLayer():
                raise AssertionError("wheels are written one by one")
        return False

    return write


def _write_source(context: Path, layer: SourceLayer, writer: LayerWriter) -> None:
    def of(path: str) -> Content:
        place = context / "source" / path
        if place.is_symlink():
            target = os.fsencode(place.readlink())
            return Content(len(target), (target,))
        return Content(place.stat().st_size, _pieces(place))

    manifest = [(path, mode, sha256) for path, mode, sha256 in json.loads((context / "source.json").read_bytes())["files"]]
    top = layer.path.lstrip("/")
    write_tree(manifest, of, writer, top=top, above={top.partition("/")[0]: Directory(mode=0o1777)})


def _pieces(place: Path) -> Iterator[bytes]:
    with place.open("rb") as file:
        yield from iter(lambda: file.read(_PIECE), b"")


def _write_lock(context: Path, layer: LockLayer, layout: Layout, writer: LayerWriter) -> None:
    directories_above(LOCK_IN_IMAGE.lstrip("/"), layout, writer)
    writer.file(LOCK_IN_IMAGE.lstrip("/"), (context / "lock.yaml").read_bytes())
    if layer.files is not None:
        writer.file(MANIFEST_IN_IMAGE.lstrip("/"), (context / "source.json").read_bytes())
