"""The data set of the smoke-train: generated shapes, the same bytes in every environment, as YOLO lays them out."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import zlib
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

CLASSES = ("rectangle", "disc")
SIDE = 64  # pixels
PICTURES = {"train": 64, "val": 16}
DESCRIPTION = "shapes.yaml"


class Picture(NamedTuple):
    """One sample: SIDE x SIDE RGB bytes with one object, and its label as YOLO writes it (class, box relative to the side)."""

    pixels: bytes
    label: str


def make_picture(seed: int, split: str, index: int) -> Picture:
    """Noise-grey ground with one red rectangle or green disc.

    Every number comes from SHAKE-256, so that the data are the same in every environment: the streams of NumPy's generators
    may change between releases.
    """
    stream = hashlib.shake_256(f"{seed}/{split}/{index}".encode()).digest(SIDE * SIDE * 3 + 8)
    pixels = bytearray(stream[8:].translate(bytes(90 + value % 50 for value in range(256))))
    small, large = SIDE * 3 // 10, SIDE * 45 // 100
    wide, high, across, down = struct.unpack("<4H", stream[:8])
    width, height = small + wide % (large - small), small + high % (large - small)
    left, top = across % (SIDE - width), down % (SIDE - height)
    kind = index % len(CLASSES)
    colour = bytes((240, 20, 20)) if kind == 0 else bytes((20, 240, 20))
    for row in range(height):
        inset = 0 if kind == 0 else disc_inset(row, width, height)
        start = ((top + row) * SIDE + left + inset) * 3
        run = width - 2 * inset
        pixels[start : start + run * 3] = colour * run
    box = ((left + width / 2) / SIDE, (top + height / 2) / SIDE, width / SIDE, height / SIDE)
    return Picture(bytes(pixels), f"{kind} " + " ".join(f"{value:.6f}" for value in box))


class Label(NamedTuple):
    """Attributes: kind: index in CLASSES; box: centre x, centre y, width, height, relative to the side."""

    kind: int
    box: Tuple[float, float, float, float]


def read_label(text: str) -> Label:
    kind, x, y, width, height = text.split()
    return Label(int(kind), (float(x), float(y), float(width), float(height)))


def disc_inset(row: int, width: int, height: int) -> int:
    """How many pixels of a row lie outside the ellipse on either side; integers only."""
    off_centre = 2 * row + 1 - height
    chord = math.isqrt(width * width * (height * height - off_centre * off_centre)) // height
    return (width - chord) // 2


def make_pictures(seed: int, swap_first_label: bool = False) -> Dict[str, List[Picture]]:
    """All pictures by split; with `swap_first_label` the class of the first training picture is wrong."""
    pictures = {split: [make_picture(seed, split, index) for index in range(count)] for split, count in PICTURES.items()}
    if swap_first_label:
        first = pictures["train"][0]
        pictures["train"][0] = first._replace(label=str(1 - int(first.label[0])) + first.label[1:])
    return pictures


def png(pixels: bytes, side: int) -> bytes:
    """8-bit RGB PNG, written here so that no imaging library decides about the bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + pixels[start : start + side * 3] for start in range(0, side * side * 3, side * 3))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def write_dataset(root: str, pictures: Mapping[str, Sequence[Picture]]) -> Dataset:
    """Write the YOLO layout below `root`."""
    for split, samples in pictures.items():
        for folder in ("images", "labels"):
            os.makedirs(os.path.join(root, split, folder))
        for index, picture in enumerate(samples):
            with open(os.path.join(root, split, "images", f"{index:03}.png"), "wb") as image:
                image.write(png(picture.pixels, SIDE))
            with open(os.path.join(root, split, "labels", f"{index:03}.txt"), "w", encoding="ascii") as label:
                label.write(picture.label + "\n")
    with open(os.path.join(root, DESCRIPTION), "w", encoding="utf-8") as file:
        json.dump({"path": root, "train": "train/images", "val": "val/images", "names": list(CLASSES)}, file)  # JSON is YAML
    return Dataset(root, pictures)


def dataset_digest(root: str, pictures: Mapping[str, Sequence[Picture]]) -> str:
    """Digest of raw pixels and labels, the labels as they lie on the disk: what was trained on, not what was meant."""
    digest = hashlib.sha256()
    for split, samples in sorted(pictures.items()):
        for index, picture in enumerate(samples):
            with open(os.path.join(root, split, "labels", f"{index:03}.txt"), "rb") as label:
                text = label.read()
            digest.update(f"{split}/{index} {len(picture.pixels)} {len(text)}\n".encode() + picture.pixels + text)
    return "sha256:" + digest.hexdigest()


class Dataset(NamedTuple):
    """Attributes: root: where it lies; pictures: by split."""

    root: str
    pictures: Mapping[str, Sequence[Picture]]

    @property
    def yaml(self) -> str:
        """Path of the file that describes it to ultralytics."""
        return os.path.join(self.root, DESCRIPTION)

    @property
    def digest(self) -> str:
        return dataset_digest(self.root, self.pictures)

    def labels(self, split: str) -> List[Label]:
        """As they lie on the disk."""
        labels = []
        for index in range(len(self.pictures[split])):
            with open(os.path.join(self.root, split, "labels", f"{index:03}.txt"), encoding="ascii") as file:
                labels.append(read_label(file.read()))
        return labels
