"""The W&B run of a smoke-train, read back with W&B's own reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Dict, List, Mapping, Optional, Sequence


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
