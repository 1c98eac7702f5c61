"""Trains a small YOLO model on generated shapes in the interpreter that runs it, and writes down what happened.

Python 3.8 or newer, nothing but the standard library until the environment's own torch,
ultralytics and wandb are imported. Nothing is downloaded, nothing is written outside `--out` and one temporary directory, and
no secret of the caller's environment is seen by the libraries.

    python -B GUEST smoke --out DIR [--seed N] [--device cpu|cuda] [--gpus N] [--threads N] [--kit DIR]
                    [--anchor FILE] [--keep-weights] [--negative-control tf32|labels|wandb]

`DIR/smoke.json` is the document that `envsnap.model.parity.SmokeRun` describes. Beside it, as asked for:

    anchor.safetensors                   the trained weights
    gradient-fp32.f32, gradient-amp.f32  the whole gradient at the anchor: float32, little-endian, parameters in the order of
                                         their sorted names

An environment in which this cannot run (no torch, no GPU, an import that fails, training that breaks) still yields a document,
with `status` and `reason`, and exit code 0; any other exit code is a crash.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.util
import json
import math
import os
import platform
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

SCHEMA = 1
MODEL = "yolov8n.yaml"
CLASSES = ("rectangle", "disc")
SIDE = 64  # pixels
PICTURES = {"train": 64, "val": 16}
ANCHOR_BATCH = 16
WEIGHTS_FILE = "anchor.safetensors"

AUGMENTATIONS = re.findall(
    r"\w+", "hsv_h hsv_s hsv_v degrees translate scale shear perspective flipud fliplr bgr mosaic mixup cutmix copy_paste erasing"
)
# Learns both classes within 160 steps; it hangs on `nbs` being the batch (64 would accumulate eight of them) and on the
# BatchNorm momentum, which is too slow for a run this short.
BATCH_NORM_MOMENTUM = 0.2
TRAINING: Dict[str, Any] = {
    "epochs": 20,
    "imgsz": SIDE,
    "batch": 8,
    "nbs": 8,
    "optimizer": "AdamW",
    "lr0": 2e-3,
    "lrf": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "warmup_epochs": 1.0,
    "warmup_bias_lr": 0.0,
    "cls": 1.5,
    "amp": False,
    "workers": 0,
    "patience": 0,
    "max_det": 10,
    "close_mosaic": 0,
    "val": False,
    "plots": False,
    "save": False,
    "verbose": False,
    "deterministic": True,
    "exist_ok": True,
    "auto_augment": "",
    **dict.fromkeys(AUGMENTATIONS, 0.0),
}

# Whatever steers these libraries from outside would make two runs differ, or reach a server.
FOREIGN_VARIABLES = re.compile(
    r"(?:WANDB|ULTRALYTICS|YOLO|COMET|CLEARML|MLFLOW|NEPTUNE)_.*|(?:LOCAL_)?RANK|(?:LOCAL_)?WORLD_SIZE"
    # Both make ultralytics take itself for its own test suite, which leaves W&B out.
    r"|PYTEST_CURRENT_TEST|GITHUB_ACTIONS"
)
DISPATCHED_SETS = re.compile(r"sse4_[12]|fma|avx\w*|amx\w*|asimd\w*|sve\w*|bf16|i8mm")


class Unable(Exception):
    """The environment cannot run the smoke-train; the message is the sentence for a person."""


class Absent(Unable):
    """It has no torch to try."""


@contextlib.contextmanager
def stage(doing: str) -> Iterator[None]:
    """Name what was being done when foreign code fails; the traceback goes to the log."""
    try:
        yield
    except Unable:
        raise
    except Exception as error:
        traceback.print_exc()
        words = str(error).strip().splitlines() or [""]
        raise Unable(f"{doing}: {type(error).__name__}: {words[0][:300]}") from error


# --------------------------------------------------------------------------------------------------------------------- data


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


def write_dataset(root: str, pictures: Mapping[str, Sequence[Picture]]) -> str:
    """Write the YOLO layout below `root`; returns the path of its YAML."""
    for split, samples in pictures.items():
        for folder in ("images", "labels"):
            os.makedirs(os.path.join(root, split, folder))
        for index, picture in enumerate(samples):
            with open(os.path.join(root, split, "images", f"{index:03}.png"), "wb") as image:
                image.write(png(picture.pixels, SIDE))
            with open(os.path.join(root, split, "labels", f"{index:03}.txt"), "w", encoding="ascii") as label:
                label.write(picture.label + "\n")
    path = os.path.join(root, "shapes.yaml")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"path": root, "train": "train/images", "val": "val/images", "names": list(CLASSES)}, file)  # JSON is YAML
    return path


def dataset_digest(root: str, pictures: Mapping[str, Sequence[Picture]]) -> str:
    """Digest of raw pixels and labels, the labels as they lie on the disk: what was trained on, not what was meant."""
    digest = hashlib.sha256()
    for split, samples in sorted(pictures.items()):
        for index, picture in enumerate(samples):
            with open(os.path.join(root, split, "labels", f"{index:03}.txt"), "rb") as label:
                text = label.read()
            digest.update(f"{split}/{index} {len(picture.pixels)} {len(text)}\n".encode() + picture.pixels + text)
    return "sha256:" + digest.hexdigest()


# ------------------------------------------------------------------------------------------------------------------ tensors


class RawTensor(NamedTuple):
    """Attributes: dtype: "F32" or "I64"; data: little-endian, row-major."""

    dtype: str
    shape: Tuple[int, ...]
    data: bytes


ITEM_BYTES = {"F32": 4, "I64": 8}
MAX_HEADER_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 28


def pack_tensors(tensors: Mapping[str, RawTensor]) -> bytes:
    """The safetensors layout: length of the header (u64), JSON header, data. Same tensors, same bytes."""
    header: Dict[str, Dict[str, Any]] = {}
    end = 0
    for name, tensor in sorted(tensors.items()):
        start, end = end, end + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(tensor.data for _, tensor in sorted(tensors.items()))


def unpack_tensors(data: bytes) -> Dict[str, RawTensor]:
    """Read the safetensors layout from an untrusted file: every number is checked before it is used.

    Raises:
        Unable: it is malformed, too large, or its tensors overlap or leave gaps.
    """
    if not 8 <= len(data) <= MAX_FILE_BYTES:
        raise Unable(f"anchor: {len(data)} bytes are not a file of weights")
    (length,) = struct.unpack_from("<Q", data)
    if length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise Unable(f"anchor: the header claims {length} bytes")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Unable(f"anchor: the header is not readable: {error}") from error
    if not isinstance(header, dict):
        raise Unable("anchor: the header is not an object")
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + length :]
    spans: List[Tuple[int, int]] = []
    tensors: Dict[str, RawTensor] = {}
    for name, entry in header.items():
        start, end = _checked_span(name, entry, len(body))
        spans.append((start, end))
        tensors[name] = RawTensor(entry["dtype"], tuple(entry["shape"]), bytes(body[start:end]))
    covered = 0
    for start, end in sorted(spans):
        if start != covered:
            raise Unable(f"anchor: tensors overlap or leave a gap at byte {covered}")
        covered = end
    if covered != len(body):
        raise Unable(f"anchor: {len(body) - covered} bytes belong to no tensor")
    return tensors


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _checked_span(name: str, entry: Any, available: int) -> Tuple[int, int]:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        sizes = [*shape, start, end]
        plain = isinstance(shape, list) and all(type(size) is int and 0 <= size <= MAX_FILE_BYTES for size in sizes)
        right = plain and len(shape) <= 8 and start <= end <= available and end - start == ITEM_BYTES[dtype] * _product(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise Unable(f"anchor: tensor {name!r} is not described as safetensors does") from error
    if not right:
        raise Unable(f"anchor: tensor {name!r} does not fit its description")
    return start, end


def _product(numbers: Sequence[int]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result


def raw_state(module: Any) -> Dict[str, RawTensor]:
    """A module's whole state: parameters and buffers, floating point as float32, counters as int64."""
    raw: Dict[str, RawTensor] = {}
    for name, tensor in module.state_dict().items():
        dtype, values = ("F32", tensor.float()) if tensor.is_floating_point() else ("I64", tensor.long())
        raw[name] = RawTensor(dtype, tuple(values.shape), host_bytes(values))
    return raw


def state_digest(module: Any) -> str:
    """Digest over the state by sorted name, with dtype and shape as torch has them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode() + host_bytes(tensor))
    return "sha256:" + digest.hexdigest()


def host_bytes(tensor: Any) -> bytes:
    """A tensor's values, row-major, whatever its device and memory format."""
    values: bytes = tensor.detach().cpu().contiguous().numpy().tobytes()
    return values


# ---------------------------------------------------------------------------------------------------------------- isolation


def isolate(room: str, negative_control: str) -> None:
    """Point every library at the temporary directory `room`, offline, before any of them is imported."""
    for name in list(os.environ):
        if FOREIGN_VARIABLES.fullmatch(name):
            del os.environ[name]
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR", "TORCH_HOME", "YOLO_CONFIG_DIR"):
        os.environ[name] = os.path.join(room, name.lower())
        os.makedirs(os.environ[name])
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        os.environ[name] = os.path.join(room, "wandb")
    os.environ.update(
        PYTHONDONTWRITEBYTECODE="1",
        MPLBACKEND="Agg",
        YOLO_OFFLINE="1",
        YOLO_AUTOINSTALL="0",
        YOLO_VERBOSE="0",
        WANDB_MODE="disabled" if negative_control == "wandb" else "offline",
        WANDB_SILENT="true",
        WANDB_CONSOLE="off",
        WANDB_DISABLE_GIT="true",
        WANDB_DISABLE_CODE="true",
        WANDB_ERROR_REPORTING="false",
    )
    sys.dont_write_bytecode = True
    os.makedirs(os.path.join(room, "wandb"))
    os.chdir(room)


def close_ultralytics() -> None:
    """Every integration off but W&B, no telemetry, and no search for a font."""
    import ultralytics

    others = ("sync", "hub", "clearml", "comet", "dvc", "mlflow", "neptune", "raytune", "tensorboard")
    ultralytics.settings.update({name: False for name in others if name in ultralytics.settings})
    ultralytics.settings.update({"wandb": True})
    from ultralytics.utils import USER_CONFIG_DIR

    fonts = os.path.join(importlib.import_module("matplotlib").get_data_path(), "fonts", "ttf")
    shutil.copy(os.path.join(fonts, "DejaVuSans.ttf"), os.path.join(str(USER_CONFIG_DIR), "Arial.ttf"))


# ----------------------------------------------------------------------------------------------------------------- training


class Recorder:
    """Callbacks that watch one training.

    Attributes:
        losses: one row a step, in the criterion's order, as float.hex().
        step_ms: forward, backward and optimizer of each step, milliseconds.
        optimizer_steps: counted at the optimizer itself.
        nan_recoveries: epochs that were begun again from a checkpoint.
    """

    def __init__(self, threads: int, expected_steps: int) -> None:
        self.threads = threads
        self.expected_steps = expected_steps
        self.losses: List[List[str]] = []
        self.step_ms: List[float] = []
        self.optimizer_steps = 0
        self.nan_recoveries = 0
        self._started = 0.0

    def attach(self, model: Any) -> None:
        model.add_callback("on_pretrain_routine_end", self.prepare)
        # ultralytics sets the number of threads itself whenever it selects a device: before training and before validation.
        for event in ("on_pretrain_routine_end", "on_train_start", "on_val_start"):
            model.add_callback(event, self.hold_threads)
        model.add_callback("on_train_start", self.watch_optimizer)
        model.add_callback("on_train_epoch_start", self.count_recoveries)
        model.add_callback("on_train_batch_start", self.begin_step)
        model.add_callback("on_train_batch_end", self.end_step)

    def prepare(self, trainer: Any) -> None:
        import torch

        for module in trainer.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = BATCH_NORM_MOMENTUM

    def hold_threads(self, _: Any) -> None:
        import torch

        torch.set_num_threads(self.threads)

    def watch_optimizer(self, trainer: Any) -> None:
        def count(*_: Any) -> None:
            self.optimizer_steps += 1

        trainer.optimizer.register_step_post_hook(count)

    def count_recoveries(self, trainer: Any) -> None:
        # The trainer raises its counter, begins the epoch again, and sets it back to 0 once an epoch went well.
        self.nan_recoveries += int(getattr(trainer, "nan_recovery_attempts", 0) > 0)

    def begin_step(self, _: Any) -> None:
        self._started = time.perf_counter()

    def end_step(self, trainer: Any) -> None:
        items = trainer.loss_items
        values = items.values() if isinstance(items, dict) else items  # a tensor before ultralytics 8.4
        self.losses.append([float(value).hex() for value in values])  # float() waits for the device
        self.step_ms.append(round((time.perf_counter() - self._started) * 1e3, 3))
        if len(self.losses) % 10 == 0:
            report_progress(len(self.losses), self.expected_steps)


def report_progress(step: int, total: int) -> None:
    print(f"progress {step} {total}", file=sys.stderr, flush=True)


def train(data: str, room: str, options: argparse.Namespace) -> Tuple[Any, Dict[str, Any]]:
    """Train as parity.md §3 says.

    Returns:
        The trained model (not its moving average: what every step went into), and the document's fields.
    """
    import torch
    from ultralytics import YOLO
    from ultralytics.utils import DEFAULT_CFG_DICT

    expected = TRAINING["epochs"] * PICTURES["train"] // TRAINING["batch"]
    recorder = Recorder(options.threads, expected)
    known = {name: value for name, value in TRAINING.items() if name in DEFAULT_CFG_DICT}
    problems = [{"where": "ultralytics", "what": f"does not know the option {name}"} for name in sorted(set(TRAINING) - set(known))]
    yolo = YOLO(MODEL, task="detect")
    recorder.attach(yolo)
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    device = "cpu" if options.device == "cpu" else "0"
    yolo.train(data=data, project=os.path.join(room, "runs"), name="smoke", seed=options.seed, device=device, **known)
    seconds = time.perf_counter() - started
    trainer = yolo.trainer
    map50 = float(trainer.metrics.get("metrics/mAP50(B)", math.nan))
    if not math.isfinite(map50):
        problems.append({"where": "ultralytics", "what": f"the final evaluation gave mAP50 {map50}"})
    fields = {
        "device_used": trainer.device.type,
        "gpus": int(trainer.device.type == "cuda"),
        "expected_steps": expected,
        "steps": recorder.optimizer_steps,
        "losses": recorder.losses,
        "step_ms": recorder.step_ms,
        "state": state_digest(trainer.model),
        "map50": map50 if math.isfinite(map50) else 0.0,
        "batch_asked": TRAINING["batch"],
        "batch_used": int(trainer.batch_size),
        "amp_asked": "fp32",
        "amp_used": "amp" if trainer.amp else "fp32",
        "nan_recoveries": recorder.nan_recoveries,
        "seconds": round(seconds, 3),
        "peak_memory_mib": round(peak_memory_mib(trainer.device.type), 1),
        "problems": problems,
    }
    return trainer.model, fields


def peak_memory_mib(device: str) -> float:
    """Of the allocator on a GPU, of the process on a CPU."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated() / 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


# -------------------------------------------------------------------------------------------------------------- fingerprint


def anchored_gradient(weights: Mapping[str, RawTensor], pictures: Sequence[Picture], options: argparse.Namespace, amp: bool) -> bytes:
    """One forward and backward pass from fixed weights on a fixed batch.

    Returns:
        The whole gradient: float32, little-endian, parameters concatenated in the order of their sorted names.
    """
    import torch
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils.torch_utils import init_seeds

    torch.set_num_threads(options.threads)
    init_seeds(0, deterministic=True)  # as the training had it; ultralytics takes it back afterwards
    model = DetectionModel(MODEL, nc=len(CLASSES), verbose=False)
    types = {"F32": torch.float32, "I64": torch.int64}
    model.load_state_dict(
        {name: torch.frombuffer(bytearray(raw.data), dtype=types[raw.dtype]).reshape(raw.shape) for name, raw in weights.items()}
    )
    model.args = get_cfg(overrides={"cls": TRAINING["cls"]})
    model = model.to(options.device).train()

    precision = torch.float16 if options.device == "cuda" else torch.bfloat16
    # Half precision would lose small gradients; a power of two is taken out again without rounding.
    scale = 1024.0 if amp and precision is torch.float16 else 1.0
    with torch.autocast(options.device, dtype=precision, enabled=amp):
        loss, _ = model(anchor_batch(pictures, options.device))
        (loss.sum() * scale).backward()
    parameters = sorted((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
    return b"".join(host_bytes(torch.zeros_like(p) if p.grad is None else p.grad / scale) for _, p in parameters)


def anchor_batch(pictures: Sequence[Picture], device: str) -> Dict[str, Any]:
    """A batch as the criterion takes it; images RGB in [0, 1]."""
    import torch

    labels = [[float(word) for word in picture.label.split()] for picture in pictures]
    images = [torch.frombuffer(bytearray(p.pixels), dtype=torch.uint8).reshape(SIDE, SIDE, 3).permute(2, 0, 1) for p in pictures]
    batch = {
        "img": torch.stack(images).float() / 255,
        "cls": torch.tensor([label[:1] for label in labels]),
        "bboxes": torch.tensor([label[1:] for label in labels]),
        "batch_idx": torch.arange(len(labels)).float(),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


def apply_tf32(device: str) -> None:
    """The negative control: the precision that a careless base image brings along.

    On a GPU the convolutions' own switch is turned to its other side (PyTorch has it on by default). On a CPU the operands of every
    convolution are rounded to TF32's 10 bits of mantissa, forward and backward.
    """
    import torch

    if device == "cuda":
        torch.backends.cudnn.allow_tf32 = not torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = not torch.backends.cuda.matmul.allow_tf32
        return
    dropped = 23 - 10

    def rounded(tensor: Any) -> Any:
        if tensor.dtype != torch.float32:
            return tensor
        bits = tensor.contiguous().view(torch.int32)
        return ((bits + (1 << (dropped - 1))) & ~((1 << dropped) - 1)).view(torch.float32)

    class Round(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(_: Any, tensor: Any) -> Any:
            return rounded(tensor)

        @staticmethod
        def backward(_: Any, gradient: Any) -> Any:
            return rounded(gradient)

    exact = torch.nn.Conv2d._conv_forward  # noqa: SLF001

    def convolve(self: Any, given: Any, weight: Any, bias: Any) -> Any:
        return exact(self, Round.apply(given), Round.apply(weight), bias)

    torch.nn.Conv2d._conv_forward = convolve  # noqa: SLF001


# ---------------------------------------------------------------------------------------------------------------------- key


def key(options: argparse.Namespace) -> Dict[str, str]:
    """What bit-exactness may depend on (parity.md §2, K)."""
    import torch

    found = {"device": options.device, "torch": torch.__version__, "torch_git": str(torch.version.git_version)}
    found.update(cuda_key() if options.device == "cuda" else cpu_key())
    found["flags"] = " ".join(f"{name}={value}" for name, value in sorted(flags().items()))
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def cpu_key() -> Dict[str, Any]:
    import torch

    build = torch.__config__.show()
    capability = getattr(getattr(torch.backends, "cpu", None), "get_cpu_capability", lambda: "")
    model, sets = processor(read_text("/proc/cpuinfo"))
    return {
        "cpu": model or platform.machine(),
        "instruction_sets": sets,
        "capability": capability(),
        "threads": torch.get_num_threads(),
        "onednn": first_match(r"MKL-DNN (v\S+)", build),
        "mkl": first_match(r"Math Kernel Library Version ([\d.]+)", build),
    }


def cuda_key() -> Dict[str, Any]:
    import torch

    device = torch.cuda.get_device_properties(0)
    nccl = torch.cuda.nccl.version() if torch.distributed.is_available() and torch.distributed.is_nccl_available() else ()
    return {
        "gpu": device.name,
        "capability": f"{device.major}.{device.minor}",
        "sm_count": device.multi_processor_count,
        "mig": first_match(r"\b(MIG \S+)", device.name),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cublas": cublas_version(read_text("/proc/self/maps")),
        "nccl": ".".join(map(str, nccl)),
    }


def flags() -> Dict[str, str]:
    """Switches that decide which kernels run, as they stand: whatever variable or default set them."""
    import torch

    switches = {
        "cudnn.allow_tf32": lambda: torch.backends.cudnn.allow_tf32,
        "cudnn.benchmark": lambda: torch.backends.cudnn.benchmark,
        "cudnn.enabled": lambda: torch.backends.cudnn.enabled,
        "cuda.matmul.allow_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
        "float32_matmul_precision": torch.get_float32_matmul_precision,
        "mkldnn.enabled": lambda: torch.backends.mkldnn.enabled,
    }
    found = {}
    for name, read in switches.items():
        with contextlib.suppress(Exception):  # a torch too old, or one whose old and new TF32 switches disagree
            found[name] = str(read())
    return found


def processor(cpuinfo: str) -> Tuple[str, str]:
    """Model and the instruction sets that math libraries dispatch on, from /proc/cpuinfo."""
    names = first_match(r"(?m)^(?:flags|Features)\s*:\s*(.*)$", cpuinfo).split()
    sets = sorted({name for name in names if DISPATCHED_SETS.fullmatch(name)})
    return first_match(r"(?m)^model name\s*:\s*(.*)$", cpuinfo), " ".join(sets)


def cublas_version(maps: str) -> str:
    """Of the library that is loaded, whoever advertises another; "" when none is."""
    path = first_match(r"(?m)\s(/\S*/libcublas\.so\S*)$", maps)
    if not path:
        return ""
    import ctypes

    library = ctypes.CDLL(path)
    numbers = []
    for which in range(3):  # libraryPropertyType: major, minor, patch
        number = ctypes.c_int()
        if library.cublasGetProperty(which, ctypes.byref(number)) != 0:
            return ""
        numbers.append(str(number.value))
    return ".".join(numbers)


def first_match(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1).strip() if match else ""


def read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


# -------------------------------------------------------------------------------------------------------------------- W&B


def read_wandb(room: str, problems: List[Dict[str, str]]) -> Optional[Dict[str, Any]]:
    """What W&B's own reader finds in the run that the training wrote; None when it wrote none."""
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(room) for name in names if name.endswith(".wandb")]
    if len(paths) != 1:
        problems.append({"where": "wandb", "what": f"the training wrote {len(paths)} runs, not one"})
        return None
    import wandb

    try:
        records = inspect_wandb(paths[0])
    except (ValueError, OSError, subprocess.SubprocessError) as error:
        problems.append({"where": "wandb", "what": f"wandb {wandb.__version__} cannot read its own run back: {error}"})
        return {"rows": 0, "keys": [], "exit_code": None, "reader": ""}
    return {**summarise_wandb(records), "reader": f"wandb {wandb.__version__} leet inspect"}


def inspect_wandb(path: str) -> List[Dict[str, Any]]:
    """The records of a run, by `wandb leet inspect --json`.

    Raises:
        ValueError: this wandb has no such command, or it could not read the file.
    """
    # The child gets this process's sys.path: PYTHONPATH would put a kit in front of the environment's own packages.
    code = "import json, runpy, sys; sys.path[:] = json.loads(sys.argv.pop(1)); runpy.run_module('wandb', run_name='__main__')"
    words = [sys.executable, "-c", code, json.dumps(sys.path), "leet", "inspect", "--json", path]
    done = subprocess.run(words, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    if done.returncode != 0:
        raise ValueError((done.stderr or done.stdout).decode("utf-8", "replace").strip()[-200:])
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


def summarise_wandb(records: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """History rows, the metrics in them, and how the run ended (None while it has not)."""
    rows = [record["history"]["item"] for record in records if record.get("type") == "history"]
    exits = [record["exit"].get("exit_code", 0) for record in records if record.get("type") == "exit"]
    keys = sorted({name for row in rows for name in row if not name.startswith("_")})
    return {"rows": len(rows), "keys": keys, "exit_code": exits[-1] if exits else None}


# --------------------------------------------------------------------------------------------------------------------- main


def smoke(options: argparse.Namespace, room: str) -> Dict[str, Any]:
    """The document's fields; raises Unable."""
    for module in ("torch", "torchvision"):
        if importlib.util.find_spec(module) is None:
            raise Absent(f"{module} is not installed in this environment")
    if options.kit:
        sys.path.append(options.kit)  # behind everything: its own packages win
    anchor = unpack_tensors(read_bytes(options.anchor)) if options.anchor else None
    with stage("torch, torchvision and ultralytics do not import"):
        import torch
        import torchvision  # noqa: F401
        import ultralytics  # noqa: F401
    require_devices(options)
    pictures = make_pictures(options.seed, swap_first_label=options.negative_control == "labels")
    data = os.path.join(room, "data")
    with stage("the smoke-train could not be prepared"):
        close_ultralytics()
        yaml = write_dataset(data, pictures)
        if options.negative_control == "tf32":
            apply_tf32(options.device)
    with stage("the training failed"):
        model, fields = train(yaml, room, options)
    fields["labels"] = dataset_digest(data, pictures)
    fields["wandb"] = read_wandb(room, fields["problems"])
    with stage("the environment's key cannot be read"):
        torch.set_num_threads(options.threads)
        fields["key"] = key(options)
    if options.keep_weights:
        packed = pack_tensors(raw_state(model))
        write_bytes(options.out, WEIGHTS_FILE, packed)
        fields["weights"] = WEIGHTS_FILE
        anchor = anchor or unpack_tensors(packed)
    if anchor is not None:
        fields["gradients"] = write_gradients(anchor, pictures["train"][:ANCHOR_BATCH], options, fields["problems"])
    return fields


def require_devices(options: argparse.Namespace) -> None:
    """Never a CPU where CUDA was asked for. Training uses one GPU; `--gpus` says how many must be visible."""
    import torch

    if options.device == "cpu":
        return
    if not torch.cuda.is_available():
        with stage("CUDA was asked for, but torch cannot use a GPU"):
            torch.cuda.init()
        raise Unable("CUDA was asked for, but torch cannot use a GPU")
    seen = torch.cuda.device_count()
    if seen < options.gpus:
        raise Unable(f"{options.gpus} GPUs were asked for, torch sees {seen}")


def write_gradients(
    anchor: Mapping[str, RawTensor], pictures: Sequence[Picture], options: argparse.Namespace, problems: List[Dict[str, str]]
) -> Dict[str, str]:
    """Fingerprint in both precisions; returns precision -> file name. An AMP that this machine cannot do is a problem, not an end."""
    names = {}
    with stage("the anchored step failed"):
        names["fp32"] = write_bytes(options.out, "gradient-fp32.f32", anchored_gradient(anchor, pictures, options, amp=False))
    try:
        with stage("the anchored step failed under autocast"):
            names["amp"] = write_bytes(options.out, "gradient-amp.f32", anchored_gradient(anchor, pictures, options, amp=True))
    except Unable as error:
        problems.append({"where": "amp", "what": str(error)})
    return names


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unable(f"anchor: {error}") from error


def write_bytes(folder: str, name: str, data: bytes) -> str:
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)
    return name


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="train a small model on generated shapes and write down what happened")
    parser.add_argument("--out", required=True, type=os.path.abspath, help="directory for smoke.json and the files beside it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that must be visible; training uses the first")
    # One thread: more bring little at this size, stall on a busy host, and would make the result depend on its cores.
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--kit", type=os.path.abspath, help="packages to use where the environment has none of its own")
    parser.add_argument("--anchor", type=os.path.abspath, help="weights to take the gradient at")
    parser.add_argument("--keep-weights", action="store_true", help="write the trained weights; the anchor unless --anchor is given")
    parser.add_argument(
        "--negative-control", choices=("", "tf32", "labels", "wandb"), default="", help="a fault that a comparison must find"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    os.makedirs(options.out, exist_ok=True)
    document: Dict[str, Any] = {"schema": SCHEMA, "status": "ok", "seed": options.seed, "device_asked": options.device}
    room = tempfile.mkdtemp(prefix="envsnap-smoke-")
    try:
        isolate(room, options.negative_control)
        document.update(smoke(options, room))
    except Absent as error:
        document.update(status="absent", reason=str(error))
    except Unable as error:
        document.update(status="failed", reason=str(error))
    finally:
        os.chdir("/")
        shutil.rmtree(room, ignore_errors=True)
    write_bytes(options.out, "smoke.json", json.dumps(document, indent=1, allow_nan=False).encode("utf-8"))
    return 0
