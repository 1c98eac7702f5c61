"""Running a guest script where nothing is shared but two streams: a container that runs already, another host.

The script and its inputs go in on stdin, what it wrote comes back on stdout (`guest/carried.py`). Who has the streams is told
by the caller; what is on them is here.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from envsnap import archive
from envsnap.errors import TargetError
from envsnap.target import GuestScript, guest_files

PROGRAM = "import sys; exec(compile(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())), 'carried', 'exec'))"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Luggage:
    """Attributes:
    stdin: all that `PROGRAM` must be given. It must not be closed before the script has ended.
    mark: what begins its answer on stdout.
    """

    stdin: bytes
    mark: bytes


class NoAnswer(Exception):
    """The script did not come to its end: stdout has no mark."""


def pack(script: GuestScript, arguments: Sequence[str], inputs: Mapping[str, Path], env: Mapping[str, str]) -> Luggage:
    """What goes in; see `envsnap.target.Target.run_guest` for the arguments."""
    tar = b"".join(archive.pack(_entries(inputs)))
    mark = f"envsnap {secrets.token_hex(16)}"
    header = {"length": len(tar), "mark": mark, "script": script, "arguments": list(arguments), "inputs": sorted(inputs), "env": dict(env)}
    program = guest_files()["carried.py"].read_bytes()
    stdin = b"".join((b"%d\n" % len(program), program, json.dumps(header).encode("ascii"), b"\n", tar))
    return Luggage(stdin=stdin, mark=mark.encode("ascii"))


def _entries(inputs: Mapping[str, Path]) -> Iterator[archive.Entry]:
    for directory in ("guest", "in"):
        yield archive.Entry(directory, None, 0o700)
    yield from (archive.Entry(f"guest/{name}", path, 0o600) for name, path in guest_files().items())
    for name, source in inputs.items():
        yield from archive.entries_of(f"in/{name}", source)


def unpack(stdout: IO[bytes], mark: bytes, outputs: Path) -> int:
    """Write what came out below `outputs`; returns the script's exit code.

    Args:
        stdout: all that was written there, at its beginning. A shell's greeting may precede the mark.

    Raises:
        NoAnswer: the script was ended from outside, or never ran.
        TargetError: its outputs are damaged or refused.
    """
    for line in iter(lambda: stdout.readline(_CHUNK), b""):
        if line == mark + b"\n":
            code = stdout.readline(16)
            if not re.fullmatch(rb"-?\d+\n", code):
                raise TargetError("cannot read what the guest script wrote", why="its answer is damaged")
            archive.unpack(iter(lambda: stdout.read(_CHUNK), b""), outputs)
            return int(code)
    raise NoAnswer
