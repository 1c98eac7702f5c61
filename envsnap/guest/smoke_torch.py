"""The smoke-train of torch: a small YOLO, as ultralytics trains it."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import math
import os
import re
import shutil
import time
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .smoke_errors import Unable, stage
from .smoke_host import cpu, cublas_version, first_match, process_memory_mib, read_text, report_progress
from .smoke_rounding import TF32_DROPPED_BITS, both_ways
from .smoke_shapes import CLASSES, PICTURES, SIDE, Dataset, Picture
from .smoke_tensors import RawTensor

MODULES: Tuple[str, ...] = ("torch", "torchvision")
MODEL = "yolov8n.yaml"
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


def prepare(options: argparse.Namespace) -> None:
    """Import it all, have the devices that were asked for, and close what would reach out.

    Raises:
        Unable: it does not import, or there are no such devices.
    """
    with stage("torch, torchvision and ultralytics do not import"):
        import torch  # noqa: F401
        import torchvision  # noqa: F401
        import ultralytics  # noqa: F401
    require_devices(options)
    with stage("the smoke-train could not be prepared"):
        close_ultralytics()
        if options.negative_control == "tf32":
            apply_tf32(options.device)


def close_ultralytics() -> None:
    """Every integration off but W&B, no telemetry, and no search for a font."""
    import ultralytics

    others = ("sync", "hub", "clearml", "comet", "dvc", "mlflow", "neptune", "raytune", "tensorboard")
    ultralytics.settings.update({name: False for name in others if name in ultralytics.settings})
    ultralytics.settings.update({"wandb": True})
    from ultralytics.utils import USER_CONFIG_DIR

    fonts = os.path.join(importlib.import_module("matplotlib").get_data_path(), "fonts", "ttf")
    shutil.copy(os.path.join(fonts, "DejaVuSans.ttf"), os.path.join(str(USER_CONFIG_DIR), "Arial.ttf"))


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


def train(data: Dataset, room: str, options: argparse.Namespace) -> Tuple[Any, Dict[str, Any]]:
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
    yolo.train(data=data.yaml, project=os.path.join(room, "runs"), name="smoke", seed=options.seed, device=device, **known)
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
    return process_memory_mib()


def raw_state(model: Any) -> Dict[str, RawTensor]:
    """The whole state: parameters and buffers, floating point as float32, counters as int64."""
    raw: Dict[str, RawTensor] = {}
    for name, tensor in model.state_dict().items():
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

    def rounded(tensor: Any) -> Any:
        if tensor.dtype != torch.float32:
            return tensor
        bits = tensor.contiguous().view(torch.int32)
        return ((bits + (1 << (TF32_DROPPED_BITS - 1))) & ~((1 << TF32_DROPPED_BITS) - 1)).view(torch.float32)

    operation = both_ways(torch.autograd.Function, rounded)
    exact = torch.nn.Conv2d._conv_forward  # noqa: SLF001

    def convolve(self: Any, given: Any, weight: Any, bias: Any) -> Any:
        return exact(self, operation.apply(given), operation.apply(weight), bias)

    torch.nn.Conv2d._conv_forward = convolve  # noqa: SLF001


def key(options: argparse.Namespace) -> Dict[str, str]:
    """What bit-exactness may depend on (parity.md §2, K)."""
    import torch

    torch.set_num_threads(options.threads)  # ultralytics may have set others
    found = {"device": options.device, "torch": torch.__version__, "torch_git": str(torch.version.git_version)}
    found.update(cuda_key() if options.device == "cuda" else cpu_key())
    found["flags"] = " ".join(f"{name}={value}" for name, value in sorted(flags().items()))
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def cpu_key() -> Dict[str, Any]:
    import torch

    build = torch.__config__.show()
    capability = getattr(getattr(torch.backends, "cpu", None), "get_cpu_capability", lambda: "")
    return {
        **cpu(),
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
