"""Trains a small model on generated shapes in the interpreter that runs it, and writes down what happened.

Python 3.8 or newer, nothing but the standard library until the environment's own framework and wandb are imported. Nothing is
downloaded, nothing is written outside `--out` and one temporary directory, and no secret of the caller's environment is seen by
the libraries.

    python -B GUEST smoke --out DIR [--framework torch|tensorflow|paddle] [--seed N] [--device cpu|cuda] [--gpus N] [--threads N]
                    [--kit DIR] [--anchor FILE] [--keep-weights] [--negative-control tf32|labels|wandb]

`DIR/smoke.json` is the document that `envsnap.model.parity.SmokeRun` describes. Beside it, as asked for:

    anchor.safetensors                   the trained weights
    gradient-fp32.f32, gradient-amp.f32  the whole gradient at the anchor: float32, little-endian, parameters in the order of
                                         their sorted names

An environment in which this cannot run (no such framework, no GPU, an import that fails, training that breaks) still yields a
document, with `status` and `reason`, and exit code 0; any other exit code is a crash.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from typing import Any, Dict, List, Mapping, Protocol, Sequence, Tuple

from . import smoke_paddle, smoke_tensorflow, smoke_torch
from .smoke_errors import Absent, Unable, stage
from .smoke_shapes import Dataset, Picture, make_pictures, write_dataset
from .smoke_tensors import MAX_FILE_BYTES, RawTensor, pack_tensors, unpack_tensors
from .smoke_wandb import read_wandb

SCHEMA = 1
ANCHOR_BATCH = 16
WEIGHTS_FILE = "anchor.safetensors"

# Whatever steers these libraries from outside would make two runs differ, or reach a server or another process.
FOREIGN_VARIABLES = re.compile(
    r"(?:WANDB|ULTRALYTICS|YOLO|COMET|CLEARML|MLFLOW|NEPTUNE|PADDLE)_.*|(?:LOCAL_)?RANK|(?:LOCAL_)?WORLD_SIZE|TF_CONFIG|TRAINING_ROLE"
    # Both make ultralytics take itself for its own test suite, which leaves W&B out.
    r"|PYTEST_CURRENT_TEST|GITHUB_ACTIONS"
)


class Framework(Protocol):
    """What a module is that trains with one framework.

    Attributes:
        MODULES: that the environment must have; others may be lent.
    """

    MODULES: Tuple[str, ...]

    def prepare(self, options: argparse.Namespace) -> None:
        """Import it, see that it has the devices that are asked for, and make it deterministic."""

    def train(self, data: Dataset, room: str, options: argparse.Namespace) -> Tuple[Any, Dict[str, Any]]:
        """The trained model, and the document's fields."""

    def key(self, options: argparse.Namespace) -> Dict[str, str]:
        """What bit-exactness may depend on."""

    def raw_state(self, model: Any) -> Dict[str, RawTensor]:
        """The model's whole state."""

    def anchored_gradient(
        self, weights: Mapping[str, RawTensor], pictures: Sequence[Picture], options: argparse.Namespace, amp: bool
    ) -> bytes:
        """The whole gradient of one step from these weights."""


FRAMEWORKS: Dict[str, Framework] = {"torch": smoke_torch, "tensorflow": smoke_tensorflow, "paddle": smoke_paddle}


def isolate(room: str, negative_control: str) -> None:
    """Point every library at the temporary directory `room`, offline, before any of them is imported."""
    for name in list(os.environ):
        if FOREIGN_VARIABLES.fullmatch(name):
            del os.environ[name]
    for name in (
        "HOME",
        "XDG_CONFIG_HOME",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
        "KERAS_HOME",
        "MPLCONFIGDIR",
        "TORCH_HOME",
        "YOLO_CONFIG_DIR",
    ):
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


def smoke(options: argparse.Namespace, room: str) -> Dict[str, Any]:
    """The document's fields; raises Unable."""
    framework = FRAMEWORKS[options.framework]
    for module in framework.MODULES:
        if importlib.util.find_spec(module) is None:
            raise Absent(f"{module} is not installed in this environment")
    if options.kit:
        sys.path.append(options.kit)  # behind everything: its own packages win
    anchor = unpack_tensors(read_bytes(options.anchor)) if options.anchor else None
    framework.prepare(options)
    with stage("the data set could not be written"):
        pictures = make_pictures(options.seed, swap_first_label=options.negative_control == "labels")
        data = write_dataset(os.path.join(room, "data"), pictures)
    with stage("the training failed"):
        model, fields = framework.train(data, room, options)
    fields["labels"] = data.digest
    fields["wandb"] = read_wandb(room, fields["problems"])
    with stage("the environment's key cannot be read"):
        fields["key"] = framework.key(options)
    if options.keep_weights:
        packed = pack_tensors(framework.raw_state(model))
        write_bytes(options.out, WEIGHTS_FILE, packed)
        fields["weights"] = WEIGHTS_FILE
        anchor = anchor or unpack_tensors(packed)
    if anchor is not None:
        fields["gradients"] = write_gradients(framework, anchor, pictures["train"][:ANCHOR_BATCH], options, fields["problems"])
    return fields


def write_gradients(
    framework: Framework,
    anchor: Mapping[str, RawTensor],
    pictures: Sequence[Picture],
    options: argparse.Namespace,
    problems: List[Dict[str, str]],
) -> Dict[str, str]:
    """Fingerprint in both precisions; returns precision -> file name. An AMP that this machine cannot do is a problem, not an end."""
    names = {}
    with stage("the anchored step failed"):
        names["fp32"] = write_bytes(options.out, "gradient-fp32.f32", framework.anchored_gradient(anchor, pictures, options, amp=False))
    try:
        with stage("the anchored step failed under autocast"):
            names["amp"] = write_bytes(options.out, "gradient-amp.f32", framework.anchored_gradient(anchor, pictures, options, amp=True))
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
    parser.add_argument("--framework", choices=sorted(FRAMEWORKS), default="torch")
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
