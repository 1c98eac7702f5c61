"""Costs, as ratios to something measured in the same run: `nox -s bench -- PYTHON` (an interpreter of a training environment).

help      `envsnap --help` against `python -c pass`
facts     the collector without torch probe, imports and integrity against `pip freeze` of the same environment
hashing   the collector with integrity against SHA-256 of the same files with all cores

`nox -s bench -- images LOCK …` is about images: see bench_images.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
GUEST = ROOT / "envsnap" / "guest"


ORIGINS = """
import sys
from pathlib import Path
from envsnap.probes import interpreter
from envsnap.probes.local import LocalPython
from envsnap.progress import SILENT
from envsnap.workflows import capture
facts = interpreter.collect(LocalPython(Path(sys.argv[1])), framework=False, imports=False, integrity=False, progress=SILENT)
capture.origins(facts.distributions, facts, offline=False, cache=Path(sys.argv[2]), progress=SILENT)
"""
TORCH = "import torch; torch.nn.functional.conv2d(torch.ones(2, 8, 16, 16), torch.ones(8, 8, 3, 3))"


def seconds(work: Callable[[], object], times: int) -> float:
    """Median of `times` runs after one that does not count."""
    taken = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return median(taken[1:])


def command(*words: str | Path) -> Callable[[], object]:
    argv = [str(word) for word in words]
    return lambda: subprocess.run(argv, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def pair(name: str, work: Callable[[], object], against: str, other: Callable[[], object], *, times: int, limit: float | None) -> None:
    """One row: both medians, their ratio, and the limit that the project sets itself."""
    ours, theirs = seconds(work, times), seconds(other, times)
    bound = f"limit {limit:g}" if limit is not None else ""
    print(f"{name:<22} {ours * 1000:>9.0f} ms   {against:<32} {theirs * 1000:>9.0f} ms   ratio {ours / theirs:>6.2f}   {bound}")


def hash_files(paths: Sequence[Path]) -> None:
    def one(path: Path) -> str:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, paths))


def main() -> None:
    python = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["ENVSNAP_TEST_PYTHON"])
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
        ).stdout.strip()
    )
    files = [path for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    print(
        json.dumps(
            {"python": sys.version.split()[0], "cores": os.cpu_count(), "files": len(files), "bytes": sum(f.stat().st_size for f in files)}
        )
    )
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "facts.json")
        pair(
            "envsnap --help",
            command(sys.executable, "-m", "envsnap.cli.main", "--help"),
            "python -c pass",
            command(sys.executable, "-c", "pass"),
            times=10,
            limit=None,
        )
        pair(
            "facts",
            command(python, "-B", GUEST, "collect", "--out", out),
            "pip freeze",
            command(python, "-m", "pip", "freeze"),
            times=5,
            limit=3,
        )
        pair(
            "facts and origins",  # the first run, which does not count, asks the indexes
            command(sys.executable, "-c", ORIGINS, python, Path(scratch, "cache")),
            "import torch, one convolution",
            command(python, "-c", TORCH),
            times=5,
            limit=1.5,
        )
        pair(
            "facts and integrity",
            command(python, "-B", GUEST, "collect", "--out", out, "--integrity"),
            "SHA-256 of the files, all cores",
            lambda: hash_files(files),
            times=2,
            limit=1.3,
        )


if __name__ == "__main__":
    main()
