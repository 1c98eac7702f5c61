"""The smoke-train of the frameworks that ultralytics does not train: a small convolutional network that finds a picture's object.

The network sees the whole picture at once and gives CHANNELS numbers for each of GRID x GRID cells. Which cell holds the centre of
the object, and of which class it is, is one choice among all cells and classes (softmax, cross-entropy); where the box lies is told
by the cell of the centre (mean absolute difference). Layers, losses and the optimizer are the framework's own, with the defaults
that it gives them; what is computed without it is here.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Protocol, Sequence, Tuple

from .smoke_host import process_memory_mib, report_progress
from .smoke_shapes import CLASSES, PICTURES, SIDE, Dataset, Label, Picture, read_label
from .smoke_tensors import RawTensor, pack_tensors

EPOCHS = 20
BATCH = 8
LEARNING_RATE = (6e-3, 1e-4)  # from the first step to the last, linearly
# Each layer: output channels, stride. Three halvings make the grid; a cell of the last one sees 47 pixels, an object has 28 at most.
LAYERS = ((16, 2), (32, 2), (64, 2), (64, 1), (64, 1))
GRID = SIDE // 8
BOX = 4  # centre, relative to the cell's, in cells; width and height, relative to the side
CHANNELS = len(CLASSES) + BOX
BOX_WEIGHT = 5.0
# Of the running mean that is kept at each step; the frameworks' defaults, 0.9 and 0.99, are too slow for a run this short.
BATCH_NORM_MOMENTUM = 0.8
# Half precision would lose small gradients; a power of two is taken out again without rounding.
FLOAT16_SCALE = 1024.0

Grid = Sequence[Sequence[Sequence[float]]]
"""Of one picture: GRID rows of GRID cells of CHANNELS numbers."""


class Target(NamedTuple):
    """What the network is to say of a picture.

    Attributes:
        choice: cell * len(CLASSES) + class, cells row by row.
        box: as it is to be told at that cell.
    """

    choice: int
    cell: int
    box: Tuple[float, ...]


def target_of(label: Label) -> Target:
    x, y, width, height = label.box
    column, row = int(x * GRID), int(y * GRID)
    cell = row * GRID + column
    return Target(cell * len(CLASSES) + label.kind, cell, (x * GRID - column - 0.5, y * GRID - row - 0.5, width, height))


class Batch(NamedTuple):
    """NumPy arrays of as many rows as there are pictures.

    Attributes:
        images: float32, (n, SIDE, SIDE, 3), in [0, 1].
        choices, cells: int64, (n,).
        boxes: float32, (n, BOX).
    """

    images: Any
    choices: Any
    cells: Any
    boxes: Any


class Network(Protocol):
    """The network in one framework, with its optimizer."""

    def step(self, batch: Batch, rate: float) -> Tuple[float, float]:
        """One step of the optimizer, at this learning rate. Returns the losses of the choice and of the box, before it."""

    def predict(self, images: Any) -> List[Grid]:
        """What it says of pictures."""

    def steps(self) -> int:
        """As the optimizer counted them."""

    def state(self) -> Dict[str, RawTensor]:
        """Weights and what the normalisation has counted."""

    def device(self) -> str:
        """Where the weights lie, "cpu" or "cuda"."""

    def peak_memory_mib(self) -> float:
        """Of the GPU's allocator."""


def make_batch(pictures: Sequence[Picture], labels: Sequence[Label]) -> Batch:
    import numpy as np

    pixels = np.frombuffer(b"".join(picture.pixels for picture in pictures), dtype=np.uint8)
    targets = [target_of(label) for label in labels]
    return Batch(
        images=pixels.reshape(-1, SIDE, SIDE, 3).astype(np.float32) / np.float32(255),
        choices=np.array([target.choice for target in targets], dtype=np.int64),
        cells=np.array([target.cell for target in targets], dtype=np.int64),
        boxes=np.array([target.box for target in targets], dtype=np.float32),
    )


def anchor_batch(pictures: Sequence[Picture]) -> Batch:
    return make_batch(pictures, [read_label(picture.label) for picture in pictures])


def order_of(seed: int, epoch: int, count: int) -> List[int]:
    """Another order in each epoch, drawn by no generator whose stream may change between releases."""
    return sorted(range(count), key=lambda index: hashlib.sha256(f"{seed}/{epoch}/{index}".encode()).digest())


def batches(data: Dataset, seed: int, epoch: int) -> Iterator[Batch]:
    pictures, labels = data.pictures["train"], data.labels("train")
    order = order_of(seed, epoch, len(pictures))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        yield make_batch([pictures[index] for index in chosen], [labels[index] for index in chosen])


def learning_rate(step: int, steps: int) -> float:
    first, last = LEARNING_RATE
    return first + (last - first) * step / (steps - 1)


def rounds(options: argparse.Namespace) -> bool:
    """Whether convolutions see their operands as TF32 would: the negative control of a CPU. A GPU has a switch for it."""
    return bool(options.negative_control == "tf32" and options.device == "cpu")


def train(network: Network, data: Dataset, room: str, options: argparse.Namespace) -> Dict[str, Any]:
    """Train, evaluate and tell W&B; returns the document's fields."""
    import wandb

    run = wandb.init(project="smoke", name="smoke", dir=room)
    expected = EPOCHS * PICTURES["train"] // BATCH
    losses: List[List[str]] = []
    step_ms: List[float] = []
    largest = 0
    started = time.perf_counter()
    for epoch in range(EPOCHS):
        sums = [0.0, 0.0]
        for batch in batches(data, options.seed, epoch):
            before = time.perf_counter()
            row = network.step(batch, learning_rate(len(losses), expected))
            step_ms.append(round((time.perf_counter() - before) * 1e3, 3))
            losses.append([value.hex() for value in row])
            sums = [total + value for total, value in zip(sums, row)]  # noqa: B905  (3.8)
            largest = max(largest, len(batch.images))
            if len(losses) % 10 == 0:
                report_progress(len(losses), expected)
        means = [total * BATCH / PICTURES["train"] for total in sums]
        run.log({"epoch": epoch, "train/cls_loss": means[0], "train/box_loss": means[1]})
    map50 = mean_average_precision(network.predict(anchor_batch(data.pictures["val"]).images), data.labels("val"))
    run.log({"epoch": EPOCHS, "metrics/mAP50": map50})
    seconds = time.perf_counter() - started
    run.finish()
    device = network.device()
    return {
        "device_used": device,
        "gpus": int(device == "cuda"),
        "expected_steps": expected,
        "steps": network.steps(),
        "losses": losses,
        "step_ms": step_ms,
        "state": "sha256:" + hashlib.sha256(pack_tensors(network.state())).hexdigest(),
        "map50": map50,
        "batch_asked": BATCH,
        "batch_used": largest,
        "amp_asked": "fp32",
        "amp_used": "fp32",
        "nan_recoveries": 0,
        "seconds": round(seconds, 3),
        "peak_memory_mib": round(network.peak_memory_mib() if device == "cuda" else process_memory_mib(), 1),
        "problems": [],
    }


# ---------------------------------------------------------------------------------------------------------------- the metric


class Found(NamedTuple):
    """What the network says of one picture. Attributes: confidence: the share of its choice among all (softmax)."""

    confidence: float
    label: Label


def read_prediction(grid: Grid) -> Found:
    """The best choice of all cells and classes, and the box that its cell tells."""
    scores = [score for row in grid for cell in row for score in cell[: len(CLASSES)]]
    highest = max(scores)
    cell, kind = divmod(scores.index(highest), len(CLASSES))
    row, column = divmod(cell, GRID)
    x, y, width, height = grid[row][column][len(CLASSES) :]
    confidence = 1.0 / sum(math.exp(score - highest) for score in scores)
    return Found(confidence, Label(kind, ((column + 0.5 + x) / GRID, (row + 0.5 + y) / GRID, width, height)))


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (centre x, centre y, width, height)."""
    shared = 1.0
    for axis in (0, 1):
        low = max(box[axis] - box[axis + 2] / 2 for box in (one, other))
        high = min(box[axis] + box[axis + 2] / 2 for box in (one, other))
        shared *= max(0.0, high - low)
    union = sum(max(0.0, box[2]) * max(0.0, box[3]) for box in (one, other)) - shared
    return shared / union if union > 0.0 else 0.0


def mean_average_precision(grids: Sequence[Grid], labels: Sequence[Label]) -> float:
    """mAP50 over the classes: one object and one prediction a picture, right where the class is and the boxes overlap by half."""
    found = [read_prediction(grid) for grid in grids]
    values = []
    for kind in range(len(CLASSES)):
        ranked = sorted(
            ((one.confidence, label.kind == kind and overlap(one.label.box, label.box) >= 0.5))
            for one, label in zip(found, labels)  # noqa: B905  (3.8)
            if one.label.kind == kind
        )
        values.append(average_precision([right for _, right in reversed(ranked)], sum(label.kind == kind for label in labels)))
    return sum(values) / len(values)


def average_precision(ranked: Sequence[bool], wanted: int) -> float:
    """Area below precision over recall. `ranked`: right or wrong, the most confident first; `wanted`: how many there are to be found."""
    hits, area, best = sum(ranked), 0.0, 0.0
    for place in range(len(ranked), 0, -1):  # from the back, so that the best precision at this recall or any higher is known
        best = max(best, hits / place)
        if ranked[place - 1]:
            area += best
            hits -= 1
    return area / wanted if wanted else 0.0
