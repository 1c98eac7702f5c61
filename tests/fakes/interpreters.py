"""What a base's inventory could keep as its interpreter, and is none."""

from __future__ import annotations

import io
import json
import tarfile


def that_runs(script: str, version: str) -> bytes:
    """An archive as `inventory.interpreter` packs them, whose loader is a shell script."""
    files = {
        "interpreter.json": json.dumps({"version": version, "python": "usr/bin/python3", "loader": "ld.so"}),
        "loader/ld.so": f"#!/bin/sh\n{script}\n",
        "usr/bin/python3": "",
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, text in files.items():
            info = tarfile.TarInfo(f"interpreter/{path}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()
