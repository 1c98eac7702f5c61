"""The smoke-train of PaddlePaddle: the small detector, built of its layers."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from . import smoke_detector as detector
from .smoke_errors import Unable, stage
from .smoke_host import cpu, cublas_version, first_match, read_text
from .smoke_rounding import TF32_DROPPED_BITS, both_ways
from .smoke_shapes import CLASSES, Dataset, Picture
from .smoke_tensors import RawTensor

MODULES: Tuple[str, ...] = ("paddle",)


def prepare(options: argparse.Namespace) -> None:
    """Import it, have the devices that were asked for, and make it deterministic.

    Raises:
        Unable: it does not import, or there are no such devices.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when its libraries are loaded
        os.environ[name] = str(options.threads)
    with stage("paddle and wandb do not import"):
        import paddle
        import wandb  # noqa: F401
    require_devices(options)
    with stage("the smoke-train could not be prepared"):
        paddle.set_device("cpu" if options.device == "cpu" else "gpu:0")
        if options.device == "cuda":  # a build without CUDA has no such flags
            paddle.set_flags({"FLAGS_cudnn_deterministic": True, "FLAGS_embedding_deterministic": 1})
            if options.negative_control == "tf32":
                turn_tf32()


def require_devices(options: argparse.Namespace) -> None:
    """Never a CPU where CUDA was asked for."""
    import paddle

    if options.device == "cpu":
        return
    seen = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if not seen:
        raise Unable("CUDA was asked for, but paddle sees no GPU")
    if seen < options.gpus:
        raise Unable(f"{options.gpus} GPUs were asked for, paddle sees {seen}")


class Network:
    """The detector with its optimizer; see `smoke_detector.Network`."""

    def __init__(self, rounded: bool) -> None:
        import paddle

        self.model = build(rounded)
        self.optimizer = paddle.optimizer.Adam(parameters=self.model.parameters())
        self.taken = 0

    def step(self, batch: detector.Batch, rate: float) -> Tuple[float, float]:
        self.optimizer.set_lr(rate)
        self.model.train()
        choice, box = losses(see(self.model, batch.images), batch)
        (choice + detector.BOX_WEIGHT * box).backward()
        self.optimizer.step()
        self.optimizer.clear_grad()
        self.taken += 1
        return float(choice), float(box)

    def predict(self, images: Any) -> List[detector.Grid]:
        self.model.eval()
        said: List[detector.Grid] = see(self.model, images).numpy().tolist()
        return said

    def steps(self) -> int:
        return self.taken

    def state(self) -> Dict[str, RawTensor]:
        return raw_state(self)

    def device(self) -> str:
        return "cuda" if any(weight.place.is_gpu_place() for weight in self.model.parameters()) else "cpu"

    def peak_memory_mib(self) -> float:
        import paddle

        return float(paddle.device.cuda.max_memory_allocated() / 2**20)


def build(rounded: bool) -> Any:
    """The layers. `rounded`: each convolution sees its operands as TF32 would."""
    from paddle import nn

    convolution = rounding_convolution() if rounded else nn.Conv2D
    layers = []
    before = 3
    for number, (channels, stride) in enumerate(detector.LAYERS, start=1):
        layers += [
            (f"convolution{number}", convolution(before, channels, 3, stride=stride, padding=1, bias_attr=False)),
            (f"normalisation{number}", nn.BatchNorm2D(channels, momentum=detector.BATCH_NORM_MOMENTUM)),
            (f"rectifier{number}", nn.ReLU()),
        ]
        before = channels
    return nn.Sequential(*layers, ("head", convolution(before, detector.CHANNELS, 1)))


def see(model: Any, images: Any) -> Any:
    """What the model says of pictures: (n, GRID, GRID, CHANNELS)."""
    import paddle

    return paddle.transpose(model(paddle.transpose(paddle.to_tensor(images), [0, 3, 1, 2])), [0, 2, 3, 1])


def losses(grid: Any, batch: detector.Batch) -> Tuple[Any, Any]:
    """Of the choice and of the box, each a mean over the batch."""
    import paddle

    grid = grid.astype("float32")
    count = len(batch.images)
    scores = paddle.reshape(grid[:, :, :, : len(CLASSES)], [count, detector.GRID * detector.GRID * len(CLASSES)])
    boxes = paddle.reshape(grid[:, :, :, len(CLASSES) :], [count, detector.GRID * detector.GRID, detector.CHANNELS - len(CLASSES)])
    places = paddle.stack([paddle.arange(count), paddle.to_tensor(batch.cells)], axis=1)
    choice = paddle.nn.functional.cross_entropy(scores, paddle.to_tensor(batch.choices))
    return choice, paddle.mean(paddle.abs(paddle.gather_nd(boxes, places) - paddle.to_tensor(batch.boxes)))


def train(data: Dataset, room: str, options: argparse.Namespace) -> Tuple[Network, Dict[str, Any]]:
    """The trained network, and the document's fields."""
    import paddle

    paddle.seed(options.seed)
    network = Network(detector.rounds(options))
    return network, detector.train(network, data, room, options)


def raw_state(model: Network) -> Dict[str, RawTensor]:
    """Weights and running statistics as float32, by their names in the layers."""
    return {name: RawTensor("F32", tuple(weight.shape), host_bytes(weight)) for name, weight in model.model.state_dict().items()}


def host_bytes(tensor: Any) -> bytes:
    import numpy as np

    values: bytes = np.ascontiguousarray(tensor.numpy(), dtype="<f4").tobytes()
    return values


def anchored_gradient(weights: Mapping[str, RawTensor], pictures: Sequence[Picture], options: argparse.Namespace, amp: bool) -> bytes:
    """One forward and backward pass from fixed weights on a fixed batch.

    Returns:
        The whole gradient: float32, little-endian, parameters concatenated in the order of their sorted names.
    """
    import numpy as np
    import paddle

    model = build(detector.rounds(options))
    wanted = model.state_dict()
    if set(wanted) != set(weights):
        raise Unable("anchor: its tensors are not this network's")
    model.set_state_dict({name: np.frombuffer(raw.data, dtype="<f4").reshape(raw.shape) for name, raw in weights.items()})
    model.train()
    half = "float16" if options.device == "cuda" else "bfloat16"
    scale = detector.FLOAT16_SCALE if amp and half == "float16" else 1.0
    batch = detector.anchor_batch(pictures)
    with paddle.amp.auto_cast(enable=amp, dtype=half):
        grid = see(model, batch.images)
        if amp and grid.dtype == paddle.float32:  # as Paddle has it for CPUs, with no more than a warning
            raise Unable("paddle's mixed precision has no effect on this device")
        choice, box = losses(grid, batch)
        ((choice + detector.BOX_WEIGHT * box) * scale).backward()
    parameters = sorted((name, weight) for name, weight in wanted.items() if not weight.stop_gradient)
    return b"".join(host_bytes(weight.grad / scale) for _, weight in parameters)


def rounding_convolution() -> Any:
    """Paddle's convolution with its operands rounded to TF32's precision, forward and backward."""
    import paddle

    def rounded(tensor: Any) -> Any:
        if tensor.dtype != paddle.float32:
            return tensor
        # Veltkamp's splitting: the lower bits are pushed out by a larger number, which is then taken away again.
        pushed = tensor * float((1 << TF32_DROPPED_BITS) + 1)
        return pushed - (pushed - tensor)

    operation = both_ways(paddle.autograd.PyLayer, rounded)

    class Convolution(paddle.nn.Conv2D):  # type: ignore[misc]
        def __init__(self, before: int, channels: int, size: int, stride: int = 1, padding: int = 0, **options: Any) -> None:
            super().__init__(before, channels, size, stride=stride, padding=padding, **options)
            self.how = {"stride": stride, "padding": padding}

        def forward(self, given: Any) -> Any:
            return paddle.nn.functional.conv2d(operation.apply(given), operation.apply(self.weight), self.bias, **self.how)

    return Convolution


def turn_tf32() -> None:
    """The negative control of a GPU: TF32 off where it was on, and on where it was off."""
    from paddle.base import core

    core.set_cublas_switch(not core.get_cublas_switch())
    core.set_cudnn_switch(not core.get_cudnn_switch())


def key(options: argparse.Namespace) -> Dict[str, str]:
    """What bit-exactness may depend on (parity.md §2, K)."""
    import paddle

    found = {
        "device": options.device,
        "paddle": paddle.__version__,
        "paddle_git": paddle.version.commit,
        "threads": options.threads,
        **(cuda_key() if options.device == "cuda" else cpu()),
        "flags": " ".join(f"{name}={value}" for name, value in sorted(flags().items())),
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def cuda_key() -> Dict[str, Any]:
    import paddle

    device = paddle.device.cuda.get_device_properties(0)
    return {
        "gpu": device.name,
        "capability": f"{device.major}.{device.minor}",
        "sm_count": device.multi_processor_count,
        "mig": first_match(r"\b(MIG \S+)", device.name),
        "cuda": paddle.version.cuda(),
        "cudnn": paddle.version.cudnn(),
        "cublas": cublas_version(read_text("/proc/self/maps")),
    }


def flags() -> Dict[str, str]:
    """Switches that decide which kernels run, as they stand: whatever variable or default set them."""
    import paddle
    from paddle.base import core

    def flag(name: str) -> Any:
        return paddle.get_flags(f"FLAGS_{name}")[f"FLAGS_{name}"]

    switches = {
        "cublas_tf32": lambda: bool(core.get_cublas_switch()),
        "cudnn_exhaustive_search": lambda: flag("cudnn_exhaustive_search"),
        "cudnn_tf32": lambda: bool(core.get_cudnn_switch()),
        "default_dtype": paddle.get_default_dtype,
        "onednn": lambda: flag("use_mkldnn"),
        "use_autotune": lambda: flag("use_autotune"),
    }
    found = {}
    for name, read in switches.items():
        with contextlib.suppress(Exception):  # a build or a release that does not have it
            found[name] = str(read())
    return found
