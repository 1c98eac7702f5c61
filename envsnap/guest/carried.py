"""A guest script that arrives with its files on stdin and sends back what it wrote: nothing need be shared with its host.

    python -c "import sys; exec(compile(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())), 'carried', 'exec'))"

stdin: the length of this file and a line feed, this file, a line of JSON and a tar archive of the length that it states:

    {"length": bytes, "mark": line, "script": name, "arguments": [...], "inputs": [NAME, ...], "env": {...}}

The archive has `guest/` and `in/`. In `arguments`, "{out}" and "{NAME}" stand for the directory of the outputs and for `in/NAME`.
stdout: whatever; then the mark on a line of its own, the script's exit code on the next, and a tar archive of the outputs.
stderr: what the script says on both of its streams.

All of it lies in one temporary directory, which is gone afterwards, also when stdin ends before the script does: then nobody
listens any more, and it is ended.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from io import BytesIO
from typing import IO, Any, Dict, List

FLAGS = (("-I", sys.flags.isolated), ("-E", sys.flags.ignore_environment), ("-s", sys.flags.no_user_site))


def command_of(header: Dict[str, Any], room: str) -> List[str]:
    places = {"out": os.path.join(room, "out"), **{name: os.path.join(room, "in", name) for name in header["inputs"]}}
    arguments = [re.sub(r"\{([^{}]+)\}", lambda match: places.get(match[1], match[0]), argument) for argument in header["arguments"]]
    flags = [flag for flag, on in FLAGS if on]
    return [sys.executable, *flags, "-B", os.path.join(room, "guest"), header["script"], *arguments]


def end(child: Any) -> None:
    try:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def serve(stdin: IO[bytes], stdout: IO[bytes]) -> int:
    header = json.loads(stdin.readline().decode("ascii"))
    luggage = stdin.read(header["length"])
    room = tempfile.mkdtemp(prefix="envsnap-")
    try:
        with tarfile.open(fileobj=BytesIO(luggage)) as archive:
            if hasattr(tarfile, "data_filter"):  # newer ones warn without it
                archive.extraction_filter = staticmethod(tarfile.data_filter)
            archive.extractall(room)
        os.makedirs(os.path.join(room, "out"), exist_ok=True)
        environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", **header["env"])
        child = subprocess.Popen(
            command_of(header, room), env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), start_new_session=True
        )

        def watch() -> None:
            stdin.read(1)  # nothing comes but its end
            end(child)

        threading.Thread(target=watch, daemon=True).start()
        returncode = child.wait()
        stdout.write(b"\n" + header["mark"].encode("ascii") + b"\n%d\n" % returncode)
        with tarfile.open(fileobj=stdout, mode="w|") as archive:
            archive.add(os.path.join(room, "out"), arcname="out")
        stdout.flush()
        return 0
    finally:
        shutil.rmtree(room, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    code = serve(sys.stdin.buffer, sys.stdout.buffer)
    sys.stdout.flush()
    os._exit(code)  # the thread that reads stdin would hold the interpreter
