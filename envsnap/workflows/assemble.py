"""Assembling: a layer plan becomes layers, without running anything. What a recipe came down to is remembered, so that an image can be told
before it is made, and only what is missing is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from envsnap.errors import EngineError, InputError
from envsnap.layers.wheel import write_wheel
from envsnap.layers.writer import LayerWriter
from envsnap.model.kinds import Digest
from envsnap.model.layers import AnyLayer, BytecodeLayer, LayerPlan, PlannedWheel, WheelsLayer
from envsnap.oci.image import Layer
from envsnap.plan.layers import recipe, title
from envsnap.progress import Progress, Task
from envsnap.storage import BlobStore, write_file

Write = Callable[[LayerWriter], None]
"""Writes the content of one layer."""
Wanted = Callable[[Layer], bool]


class OnLayer(Protocol):
    def __call__(self, layer: Layer, *, made: bool) -> None:
        """A layer is there. Args: made: just now; False for one that is known from an earlier time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where layers are made.

    Attributes:
        store: of layers and wheels. cache: what is remembered lies in its `layers/`.
        wheel: sha256 -> where that file lies; None when it is not at hand.
        others: for each layer that is not made of wheels alone, what writes it.
    """

    store: BlobStore
    cache: Path
    wheel: Callable[[str], Path | None]
    others: Mapping[str, Write]


class _Remembered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a recipe came down to."""

    digest: Digest
    diff_id: Digest
    size_bytes: int


def recall(plan: LayerPlan, cache: Path) -> tuple[Layer | None, ...]:
    """The layers of a plan as far as they are known without making them."""
    return tuple(_recall(layer, recipe(layer, plan.layout), cache) for layer in plan.layers)


def make_layers(
    plan: LayerPlan,
    shop: Workshop,
    *,
    wanted: Wanted,
    on_layer: OnLayer,
    progress: Progress,
) -> tuple[Layer, ...]:
    """The layers of a plan, several at a time, those that take longest first.

    Args:
        wanted: whether a known layer's bytes are needed (from several threads); where they are not, nothing is made.
        on_layer: called with each layer as soon as it is there, from the thread that made it.

    Raises:
        InputError: a wheel is not what the lock says. EngineError: a layer is not what it was the last time.
    """
    order = sorted(range(len(plan.layers)), key=lambda index: -_work(plan.layers[index]))
    made: dict[int, Layer] = {}
    total = sum(map(_work, plan.layers))
    with (
        progress.task("assemble layers", total=total, unit="bytes") as task,
        ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="layer") as pool,
    ):

        def one(index: int) -> None:
            layer = plan.layers[index]
            made[index], new = _layer(layer, plan, shop, wanted, task)
            on_layer(made[index], made=new)

        futures = [pool.submit(one, index) for index in order]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        failed = [future for future in futures if future in done and future.exception() is not None]
        if failed:
            pool.shutdown(wait=True, cancel_futures=True)
            failed[0].result()
    return tuple(made[index] for index in range(len(plan.layers)))


def _layer(layer: AnyLayer, plan: LayerPlan, shop: Workshop, wanted: Wanted, task: Task) -> tuple[Layer, bool]:
    """Make a layer, or know it; and whether it was made."""
    name = recipe(layer, plan.layout)
    known = _recall(layer, name, shop.cache)
    if known is not None and (shop.store.has(known.digest) or not wanted(known)):
        task.advance(_work(layer))
        return known, False
    task.status(title(layer))
    with shop.store.writer(durable=False) as blob:
        writer = LayerWriter(blob.write)
        if isinstance(layer, WheelsLayer):
            for wheel in layer.wheels:
                _write_wheel(wheel, plan, shop, writer)
                task.advance(wheel.size_bytes)
        else:
            shop.others[name](writer)
            task.advance(_work(layer))
        diff_id, _ = writer.finish()
    made = Layer(digest=blob.digest, diff_id=diff_id, size_bytes=blob.size, made_by=title(layer))
    if known is not None and known != made:
        raise EngineError(
            f"{title(layer)}: the layer is not what it was the last time",
            why=f"{made.digest[:19]}, and {known.digest[:19]} was remembered",
            hint="envsnap cache prune --layers   forgets what was remembered; two digests of one recipe are a fault worth a report",
        )
    remembered = _Remembered(digest=made.digest, diff_id=made.diff_id, size_bytes=made.size_bytes)
    write_file(_place(name, shop.cache), msgspec.json.encode(remembered))
    return made, True


def _write_wheel(wheel: PlannedWheel, plan: LayerPlan, shop: Workshop, writer: LayerWriter) -> None:
    path = shop.wheel(wheel.sha256)
    if path is None:
        raise InputError(f"{wheel.file} is not at hand", hint="envsnap build without --offline fetches it")
    extra = {name: text.encode() for name, text in wheel.extra.items()}
    try:
        with path.open("rb") as file:
            written = write_wheel(file, writer, plan.layout, file=wheel.file, sha256=wheel.sha256, extra=extra, rebuilt=wheel.rebuilt)
    except OSError as error:
        raise InputError(f"{wheel.file} cannot be read", why=f"{path}: {error.strerror}") from error
    if wheel.files not in (None, written.files):
        raise InputError(
            f"{wheel.name} {wheel.version} would have other files than the captured ones",
            why=f"{wheel.file} installs {written.files[:19]}…, the lock says {(wheel.files or '')[:19]}…",
            hint="capture again: the lock and its wheel contradict each other",
        )


def _recall(layer: AnyLayer, name: str, cache: Path) -> Layer | None:
    try:
        kept = msgspec.json.decode(_place(name, cache).read_bytes(), type=_Remembered)
    except (OSError, msgspec.MsgspecError):
        return None
    return Layer(digest=kept.digest, diff_id=kept.diff_id, size_bytes=kept.size_bytes, made_by=title(layer))


def _place(name: str, cache: Path) -> Path:
    return cache / "layers" / f"{name}.json"


def _work(layer: AnyLayer) -> int:
    """About how long it takes, as bytes of wheels."""
    if isinstance(layer, WheelsLayer):
        return sum(wheel.size_bytes for wheel in layer.wheels)
    return sum(wheel.source_bytes for wheel in layer.wheels) if isinstance(layer, BytecodeLayer) else 0
