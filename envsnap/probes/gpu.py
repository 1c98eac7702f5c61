"""The GPUs of a target, by the guest script `gpu`, which brings NVIDIA's own binding along."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

import msgspec

from envsnap import redaction
from envsnap.errors import TargetError
from envsnap.model.facts import GpuFacts, GpuProbe, Problem
from envsnap.target import Target

_TIMEOUT_S = 60.0  # a driver that hangs must not hang a capture


def read(target: Target, *, salt: str) -> GpuProbe:
    """Everything that is recorded of the GPUs that `target` sees.

    Args:
        salt: mixed into the hash of each UUID; the same salt tells the same card.

    Raises:
        TargetError: nothing can be run there.
    """
    spec = find_spec("pynvml")
    if spec is None or spec.origin is None:
        raise TargetError("nvidia-ml-py is not installed", hint="install envsnap again, with what it needs")
    with tempfile.TemporaryDirectory(prefix="envsnap-gpu-") as outputs:
        result = target.run_guest(
            "gpu",
            ["--out", "{out}/gpu.json", "--salt", salt, "--pynvml", "{pynvml.py}"],
            outputs=Path(outputs),
            inputs={"pynvml.py": Path(spec.origin)},
            timeout_s=_TIMEOUT_S,
        )
        try:
            return msgspec.json.decode(Path(outputs, "gpu.json").read_bytes(), type=GpuProbe)
        except (OSError, ValueError):
            why = f"the driver does not answer within {_TIMEOUT_S:.0f} s" if result.timed_out else _last_line(result.log)
            return GpuProbe(facts=GpuFacts(unavailable=why), readings={}, problems=(Problem(where="nvml", what=why),))


def _last_line(log: str) -> str:
    lines = redaction.text(log).strip().splitlines()
    return f"NVML could not be asked: {lines[-1]}" if lines else "NVML could not be asked"
