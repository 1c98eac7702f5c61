"""Record the README's picture from a real session: `nox -s picture` after `python3 bootstrap.py demo`.

Runs the demonstration's commands again, in its project, as on a terminal, and writes docs/session.svg. Progress is left out.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / ".envsnap" / "yolo-train"
WIDTH = 130


def on_terminal(words: list[str]) -> str:
    """What a command answers on a terminal, colours included."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    with subprocess.Popen(words, cwd=PROJECT, env=env, stdout=theirs, stderr=subprocess.DEVNULL) as child:
        os.close(theirs)
        said = bytearray()
        while True:
            try:
                chunk = os.read(ours, 1 << 16)
            except OSError:  # the other side of a terminal has gone
                break
            said += chunk
        os.close(ours)
        if child.wait() != 0:
            sys.exit(f"{' '.join(words)}: exit code {child.returncode}")
    return said.decode("utf-8").replace("\r\n", "\n").replace(str(ROOT), "~/envsnap")


def main() -> None:
    base = os.environ.get("ENVSNAP_DEMO_BASE", "debian:bookworm")
    ca = ["--ca-bundle", os.environ["ENVSNAP_CA_BUNDLE"]] if os.environ.get("ENVSNAP_CA_BUNDLE") else []
    lock = "lockfiles/yolo-train.yaml"
    envsnap = str(ROOT / ".envsnap" / "cli" / "bin" / "envsnap")
    session = (
        (["capture", "--smoke"], ["--python", str(ROOT / ".envsnap" / "training"), "--name", "yolo-train"]),
        (["plan", lock, "--base", base, "--fetch"], ca),
        (["build", lock, "--base", base, "-t", "yolo-train:demo"], ca),
        (["verify", "yolo-train:demo", "--gpus", "none"], []),
    )
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w", encoding="utf-8"), force_terminal=True)  # noqa: SIM115, PTH123
    for shown, given in session:
        console.print(Text(f"$ envsnap {' '.join(shown)}", style="bold"))
        console.print(Text.from_ansi(on_terminal([envsnap, *shown, *given])))
        console.print()
    picture = console.export_svg(title="envsnap", unique_id="envsnap")
    # Fonts of the reader's own: a picture in a README fetches nothing.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    (ROOT / "docs" / "session.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
