"""Where a guest script runs: another interpreter on this host, or an image.

Probes and the smoke-train are given a `Target` and cannot tell which one it is; that is what makes both sides comparable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from envsnap.process import OnLine

GuestScript = Literal["collect", "gpu", "pack", "smoke"]
GUEST_DIRECTORY = Path(__file__).parent / "guest"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestResult:
    """A finished guest script.

    Attributes:
        returncode: its exit code.
        outputs: local directory with what it wrote to `{out}`.
        log: what it printed, both streams, decoded.
    """

    returncode: int
    outputs: Path
    log: str
    timed_out: bool = False


def guest_files() -> dict[str, Path]:
    """What is carried to where a guest script runs: name -> file of the directory that `python -B GUEST SCRIPT` is given."""
    return {path.name: path for path in sorted(GUEST_DIRECTORY.glob("*.py"))}


def fill(argument: str, places: Mapping[str, str | Path]) -> str:
    """`argument` with each `{name}` of `places` replaced by its place; other braces stay."""
    return re.sub(r"\{([^{}]+)\}", lambda match: str(places.get(match[1], match[0])), argument)


class Target(Protocol):
    """A place where guest scripts run."""

    @property
    def description(self) -> str:
        """For people: "python /home/user/yolo/.venv/bin/python", "image yolo-train:2026-q4"."""

    def run_guest(
        self,
        script: GuestScript,
        arguments: Sequence[str],
        *,
        outputs: Path,
        inputs: Mapping[str, Path] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        on_line: OnLine | None = None,
    ) -> GuestResult:
        """Run a guest script to its end.

        Args:
            arguments: may hold `{out}`, the output directory as the script sees it, and `{NAME}` for each of `inputs`.
            outputs: an existing, empty local directory; holds what the script wrote when this returns.
            inputs: local files or directories that the script may read.
            env: variables on top of the target's own.

        Raises:
            TargetError: the target cannot run the script at all (no such interpreter, no such image).
            EngineError: the engine failed.
        """
