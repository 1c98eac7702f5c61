"""The smoke-train of TensorFlow: the small detector, built of Keras' layers."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from . import smoke_detector as detector
from .smoke_errors import Unable, stage
from .smoke_host import cpu, cublas_version, first_match, read_text
from .smoke_rounding import TF32_DROPPED_BITS
from .smoke_shapes import CLASSES, SIDE, Dataset, Picture
from .smoke_tensors import RawTensor

MODULES: Tuple[str, ...] = ("tensorflow",)


def prepare(options: argparse.Namespace) -> None:
    """Import it, have the devices that were asked for, and make it deterministic.

    Raises:
        Unable: it does not import, or there are no such devices.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever else the environment has
    with stage("tensorflow and wandb do not import"):
        import tensorflow as tf
        import wandb  # noqa: F401
    require_devices(options)
    with stage("the smoke-train could not be prepared"):
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(options.threads)
        tf.config.experimental.enable_op_determinism()
        if options.device == "cuda" and options.negative_control == "tf32":
            switch = tf.config.experimental
            switch.enable_tensor_float_32_execution(not switch.tensor_float_32_execution_enabled())


def require_devices(options: argparse.Namespace) -> None:
    """Never a CPU where CUDA was asked for, and no GPU where it was not."""
    import tensorflow as tf

    seen = tf.config.list_physical_devices("GPU")
    if options.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
        return
    if not seen:
        raise Unable("CUDA was asked for, but tensorflow sees no GPU")
    if len(seen) < options.gpus:
        raise Unable(f"{options.gpus} GPUs were asked for, tensorflow sees {len(seen)}")
    tf.config.set_visible_devices(seen[:1], "GPU")
    tf.config.experimental.set_memory_growth(seen[0], True)


class Network:
    """The detector with its optimizer; see `smoke_detector.Network`."""

    def __init__(self, rounded: bool) -> None:
        import tensorflow as tf

        self.model = build("float32", rounded)
        self.optimizer = tf.keras.optimizers.Adam()
        self._step = tf.function(self._traced_step)

    def _traced_step(self, images: Any, choices: Any, cells: Any, boxes: Any) -> Tuple[Any, Any]:
        import tensorflow as tf

        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            choice, box = losses(self.model(images, training=True), choices, cells, boxes)
            total = choice + detector.BOX_WEIGHT * box
        self.optimizer.apply_gradients(zip(tape.gradient(total, variables), variables))  # noqa: B905  (3.8)
        return choice, box

    def step(self, batch: detector.Batch, rate: float) -> Tuple[float, float]:
        import tensorflow as tf

        self.optimizer.learning_rate.assign(rate)
        choice, box = self._step(*(tf.constant(part) for part in batch))
        return float(choice), float(box)

    def predict(self, images: Any) -> List[detector.Grid]:
        said: List[detector.Grid] = self.model(images, training=False).numpy().tolist()
        return said

    def steps(self) -> int:
        return int(self.optimizer.iterations)

    def state(self) -> Dict[str, RawTensor]:
        return raw_state(self)

    def device(self) -> str:
        return "cuda" if any("GPU" in place_of(weight) for weight in self.model.weights) else "cpu"

    def peak_memory_mib(self) -> float:
        import tensorflow as tf

        return float(tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20)


def place_of(weight: Any) -> str:
    """The device of a variable; Keras 3 wraps TensorFlow's."""
    return str(getattr(weight, "value", weight).device)


def build(dtype: str, rounded: bool) -> Any:
    """The layers. `dtype`: a Keras policy; `rounded`: each convolution sees its operands as TF32 would."""
    import tensorflow as tf

    layers = tf.keras.layers
    convolution = rounding_convolution() if rounded else layers.Conv2D
    values = image = tf.keras.Input((SIDE, SIDE, 3))
    for number, (channels, stride) in enumerate(detector.LAYERS, start=1):
        values = convolution(channels, 3, strides=stride, padding="same", use_bias=False, dtype=dtype, name=f"convolution{number}")(values)
        values = layers.BatchNormalization(momentum=detector.BATCH_NORM_MOMENTUM, dtype=dtype, name=f"normalisation{number}")(values)
        values = layers.ReLU(dtype=dtype)(values)
    values = convolution(detector.CHANNELS, 1, dtype=dtype, name="head")(values)
    return tf.keras.Model(image, layers.Activation("linear", dtype="float32")(values))


def losses(grid: Any, choices: Any, cells: Any, boxes: Any) -> Tuple[Any, Any]:
    """Of the choice and of the box, each a mean over the batch."""
    import tensorflow as tf

    scores = tf.reshape(grid[..., : len(CLASSES)], (-1, detector.GRID * detector.GRID * len(CLASSES)))
    told = tf.gather(
        tf.reshape(grid[..., len(CLASSES) :], (-1, detector.GRID * detector.GRID, detector.CHANNELS - len(CLASSES))), cells, batch_dims=1
    )
    choice = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=choices, logits=scores)
    return tf.reduce_mean(choice), tf.reduce_mean(tf.abs(told - boxes))


def train(data: Dataset, room: str, options: argparse.Namespace) -> Tuple[Network, Dict[str, Any]]:
    """The trained network, and the document's fields."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(options.seed)
    network = Network(rounded=detector.rounds(options))
    return network, detector.train(network, data, room, options)


def raw_state(model: Network) -> Dict[str, RawTensor]:
    """Weights and running statistics as float32, by layer and name."""
    return {name: RawTensor("F32", tuple(weight.shape), host_bytes(weight)) for name, weight in named(model.model, "weights").items()}


def named(model: Any, which: str) -> Dict[str, Any]:
    """The layers' "weights" or "trainable_weights": Keras 3 names a weight by itself, Keras 2 with its layer and a number."""
    return {
        f"{layer.name}/{weight.name.rpartition('/')[2].partition(':')[0]}": weight
        for layer in model.layers
        for weight in getattr(layer, which)
    }


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
    import tensorflow as tf

    half = "float16" if options.device == "cuda" else "bfloat16"
    model = build(f"mixed_{half}" if amp else "float32", detector.rounds(options))
    wanted = named(model, "weights")
    if set(wanted) != set(weights):
        raise Unable("anchor: its tensors are not this network's")
    for name, weight in wanted.items():
        weight.assign(np.frombuffer(weights[name].data, dtype="<f4").reshape(weights[name].shape))
    scale = detector.FLOAT16_SCALE if amp and half == "float16" else 1.0
    parameters = [parameter for _, parameter in sorted(named(model, "trainable_weights").items())]

    @tf.function  # type: ignore[untyped-decorator]
    def gradients(images: Any, choices: Any, cells: Any, boxes: Any) -> Any:
        with tf.GradientTape() as tape:
            choice, box = losses(model(images, training=True), choices, cells, boxes)
            total = (choice + detector.BOX_WEIGHT * box) * scale
        return tape.gradient(total, parameters)

    found = gradients(*(tf.constant(part) for part in detector.anchor_batch(pictures)))
    return b"".join(host_bytes(gradient / scale) for gradient in found)


def rounding_convolution() -> Any:
    """Keras' convolution with its operands rounded to TF32's precision, forward and backward: the negative control of a CPU."""
    import tensorflow as tf

    def rounded(tensor: Any) -> Any:
        if tensor.dtype != tf.float32:
            return tensor
        bits = tf.bitcast(tensor, tf.int32)
        half, kept = tf.constant(1 << (TF32_DROPPED_BITS - 1)), tf.constant(-(1 << TF32_DROPPED_BITS))
        return tf.bitcast(tf.bitwise.bitwise_and(bits + half, kept), tf.float32)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def round_both_ways(tensor: Any) -> Any:
        return rounded(tensor), rounded

    class Convolution(tf.keras.layers.Conv2D):  # type: ignore[misc]
        def convolution_op(self, inputs: Any, kernel: Any) -> Any:
            return super().convolution_op(round_both_ways(tf.convert_to_tensor(inputs)), round_both_ways(tf.convert_to_tensor(kernel)))

    return Convolution


def key(options: argparse.Namespace) -> Dict[str, str]:
    """What bit-exactness may depend on (parity.md §2, K)."""
    import tensorflow as tf

    found = {
        "device": options.device,
        "tensorflow": tf.__version__,
        "tensorflow_git": tf.version.GIT_VERSION,
        "keras": tf.keras.__version__,
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        **(cuda_key() if options.device == "cuda" else cpu()),
        "flags": " ".join(f"{name}={value}" for name, value in sorted(flags().items())),
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def cuda_key() -> Dict[str, Any]:
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(tf.config.get_visible_devices("GPU")[0])
    build_info = tf.sysconfig.get_build_info()
    name = str(details.get("device_name", ""))
    return {
        "gpu": name,
        "capability": ".".join(map(str, details.get("compute_capability", ()))),
        "mig": first_match(r"\b(MIG \S+)", name),
        "cuda": build_info.get("cuda_version"),
        "cudnn": build_info.get("cudnn_version"),
        "cublas": cublas_version(read_text("/proc/self/maps")),
    }


def flags() -> Dict[str, str]:
    """Switches that decide which kernels run, as they stand: whatever variable or default set them."""
    import tensorflow as tf

    def onednn() -> Any:
        from tensorflow.python.util import _pywrap_util_port as port  # nothing public says it

        return port.IsMklEnabled() and os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0"

    switches = {
        "float_32_matmul_tf32": tf.config.experimental.tensor_float_32_execution_enabled,
        "floatx": tf.keras.backend.floatx,
        "jit": lambda: tf.config.optimizer.get_jit() or False,
        "onednn": onednn,
    }
    found = {}
    for name, read in switches.items():
        with contextlib.suppress(Exception):  # a release that does not have it
            found[name] = str(read())
    return found
