"""Assembling: a layer plan becomes layers, without running anything. What a recipe came down to is remembered, so that an image can be told
before it is made, and only what is missing is made.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import msgspec

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError
from envsnap.layers.wheel import write_wheel
from envsnap.layers.writer import LayerWriter
from envsnap.model.kinds import Digest
from envsnap.model.layers import AnyLayer, BytecodeLayer, LayerPlan, Layout, PlannedWheel, WheelsLayer
from envsnap.notes import read_note, write_note
from envsnap.oci.image import Layer
from envsnap.plan.layers import own_recipe, recipe, title
from envsnap.progress import Progress, Task
from envsnap.workflows import wheel_facts, wheel_files

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

Advance = Callable[[int], object]
"""Told of bytes of work that are done. Raises CancelledError: nobody wants the rest."""
Write = Callable[[LayerWriter, Advance], bool]
"""Writes the content of one layer; returns whether it rests on the word of the image's own interpreter (`BytecodeLayer.own`)."""
Wanted = Callable[[Layer], Literal["no", "here", "elsewhere"]]
"""Whether the bytes of a layer that is remembered are needed: to be kept, or to be sent, and then they have to be right."""


class OnLayer(Protocol):
    def __call__(self, layer: Layer, *, made: bool) -> None:
        """A layer is there. Args: made: just now; False for one that is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where layers are made.

    Attributes:
        store: of layers and wheels. cache: what is remembered of layers lies in its `layers/`, of wheels as `wheel_facts` has it.
        wheel: sha256 -> where that file lies; None when it is not at hand.
        fetch: called with the sha256 of all wheels that are needed, before layers are made.
        others: for each layer that is not made of wheels alone, what writes it.
    """

    store: BlobStore
    cache: Path
    wheel: Callable[[str], Path | None]
    fetch: Callable[[Collection[str]], object]
    others: Mapping[str, Write]


class _Remembered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a recipe came down to."""

    digest: Digest
    diff_id: Digest
    size_bytes: int


def recall(plan: LayerPlan, cache: Path) -> tuple[Layer | None, ...]:
    """The layers of a plan as far as they are remembered, and need not be made to be known."""
    return tuple(_recall(layer, plan.layout, cache) for layer in plan.layers)


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
        wanted: asked from several threads; a layer that is not wanted is not made.
        on_layer: called with each layer as soon as it is there, from the thread that made it.

    Raises:
        InputError: a wheel is not what the lock says, or two have one path with other content, and then no layer is made.
        EngineError: a layer is not what it was the last time.
    """
    order = sorted(range(len(plan.layers)), key=lambda index: -_work(plan.layers[index]))
    ended = threading.Event()
    with (
        progress.task("assemble layers", total=sum(map(_work, plan.layers)), unit="bytes") as task,
        ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="layer") as pool,
    ):

        def find(index: int) -> Layer | None:
            remembered = _recall(plan.layers[index], plan.layout, shop.cache)
            if remembered is None or not _is_at_hand(remembered, shop.store, wanted(remembered)):
                return None
            task.advance(_work(plan.layers[index]))
            on_layer(remembered, made=False)
            return remembered

        def make(index: int) -> Layer:
            made = _make(plan.layers[index], plan.layout, shop, task, ended)
            on_layer(made, made=True)
            return made

        try:
            found = _all_of(pool, find, order)
            missing = [index for index in order if found[index] is None]
            shop.fetch({wheel.sha256 for index in missing for wheel in _wheels(plan.layers[index])})
            if missing:
                wheel_files.require_one_content(plan, shop.wheel, shop.cache)
            layers = found | _all_of(pool, make, missing)
        except BaseException:
            ended.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return tuple(layer for index in range(len(plan.layers)) if (layer := layers[index]) is not None)


def _all_of(pool: ThreadPoolExecutor, do: Callable[[int], T], indices: Sequence[int]) -> dict[int, T]:
    """What `do` gives for each, several at a time. Raises the first failure as soon as it is one."""
    futures = {pool.submit(do, index): index for index in indices}
    return {futures[future]: future.result() for future in as_completed(futures)}


def _is_at_hand(layer: Layer, store: BlobStore, wanted: Literal["no", "here", "elsewhere"]) -> bool:
    if wanted == "no":
        return True
    store.touch(layer.digest)  # before it is looked for: nobody is to free it from here on
    return store.size(layer.digest) == layer.size_bytes and not (wanted == "elsewhere" and store.drop_damaged(layer.digest))


def _make(layer: AnyLayer, layout: Layout, shop: Workshop, task: Task, ended: threading.Event) -> Layer:
    task.status(title(layer))
    name = recipe(layer, layout)
    left = _work(layer)

    def advance(amount: int) -> None:
        nonlocal left
        if ended.is_set():
            raise CancelledError
        if amount:
            left -= amount
            task.advance(amount)

    with shop.store.writer(durable=False) as blob:

        def write(piece: Buffer) -> None:
            advance(0)
            blob.write(piece)

        writer = LayerWriter(write)
        try:
            if isinstance(layer, WheelsLayer):
                for wheel in layer.wheels:
                    _write_wheel(wheel, layout, shop, writer)
                    advance(wheel.size_bytes)
            else:
                if shop.others[name](writer, advance):
                    name = own_recipe(layer, layout)
        except InputError as error:
            _tell_damage(layer, shop.store, error)
            raise
        diff_id, _ = writer.finish()
    made = Layer(digest=blob.digest, diff_id=diff_id, size_bytes=blob.size, made_by=title(layer))
    remembered = _recall_as(layer, name, shop.cache)
    if remembered is not None and remembered != made:
        raise EngineError(
            f"{title(layer)}: the layer is not what it was the last time",
            why=f"{made.digest[:19]}, and {remembered.digest[:19]} was remembered",
            hint="envsnap cache prune --layers   forgets what was remembered; two digests of one recipe are a fault worth a report",
        )
    task.advance(left)
    write_note(_place(name, shop.cache), _Remembered(digest=made.digest, diff_id=made.diff_id, size_bytes=made.size_bytes))
    return made


def _tell_damage(layer: AnyLayer, store: BlobStore, error: InputError) -> None:
    """Raises InputError: a wheel is refused because the cache's copy of it is damaged, and not for what it is."""
    damaged = [wheel.file for wheel in _wheels(layer) if store.drop_damaged(f"sha256:{wheel.sha256}")]
    if damaged:
        raise InputError(
            f"what the cache kept of {', '.join(damaged)} was damaged", why=error.what, hint="run it again: it is fetched anew"
        ) from error


def _wheels(layer: AnyLayer) -> tuple[PlannedWheel, ...]:
    return layer.wheels if isinstance(layer, WheelsLayer | BytecodeLayer) else ()


def _write_wheel(wheel: PlannedWheel, layout: Layout, shop: Workshop, writer: LayerWriter) -> None:
    path = shop.wheel(wheel.sha256)
    if path is None:
        raise InputError(f"{wheel.file} is not at hand", hint="envsnap build without --offline fetches it")
    extra = {name: text.encode() for name, text in wheel.extra.items()}
    try:
        with path.open("rb") as file:
            written = write_wheel(file, writer, layout, file=wheel.file, sha256=wheel.sha256, extra=extra, rebuilt=wheel.rebuilt)
            size_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"{wheel.file} cannot be read", why=f"{path}: {error.strerror}") from error
    if wheel.files not in (None, written.files):
        raise InputError(
            f"{wheel.name} {wheel.version} would have other files than the captured ones",
            why=f"{wheel.file} installs {written.files[:19]}…, the lock says {(wheel.files or '')[:19]}…",
            hint="capture again: the lock and its wheel contradict each other",
        )
    facts = size_bytes, written.source_bytes
    wheel_facts.remember(wheel.sha256, facts, shop.cache)
    if facts != (wheel.size_bytes, wheel.source_bytes):
        planned = f"{wheel.size_bytes:,} bytes with {wheel.source_bytes:,} of Python"
        raise InputError(
            f"what the cache had of {wheel.file} was damaged when the image was laid out",
            why=f"it has {size_bytes:,} bytes with {written.source_bytes:,} of Python, and {planned} were read",
            hint="run it again: it is whole now",
        )


def _recall(layer: AnyLayer, layout: Layout, cache: Path) -> Layer | None:
    return _recall_as(layer, recipe(layer, layout), cache) or _recall_as(layer, own_recipe(layer, layout), cache)


def _recall_as(layer: AnyLayer, name: str, cache: Path) -> Layer | None:
    remembered = read_note(_place(name, cache), _Remembered)
    if remembered is None:
        return None
    return Layer(digest=remembered.digest, diff_id=remembered.diff_id, size_bytes=remembered.size_bytes, made_by=title(layer))


def _place(name: str, cache: Path) -> Path:
    return cache / "layers" / f"{name}.json"


def _work(layer: AnyLayer) -> int:
    """About how long it takes, as bytes of wheels."""
    if isinstance(layer, WheelsLayer):
        return sum(wheel.size_bytes for wheel in layer.wheels)
    return sum(wheel.source_bytes for wheel in layer.wheels) if isinstance(layer, BytecodeLayer) else 0
