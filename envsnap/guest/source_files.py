"""The project's files against a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import Any, Mapping

from .text import sha256_of


def is_manifest(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("root"), str)
        and isinstance(value.get("files"), list)
        and all(isinstance(row, list) and len(row) == 3 and all(isinstance(item, str) for item in row) for row in value["files"])
    )


def check_source(manifest: Mapping[str, Any]) -> dict[str, Any]:
    files = manifest["files"]
    canonical = json.dumps(files, separators=(",", ":"), ensure_ascii=True)
    differing = [path for path, mode, digest in files if not is_file_as(os.path.join(manifest["root"], path), mode, digest)]
    return {"digest": "sha256:" + hashlib.sha256(canonical.encode("ascii")).hexdigest(), "differing": sorted(differing)}


def is_file_as(path: str, mode: str, digest: str) -> bool:
    try:
        status = os.lstat(path)
        if mode == "120000":
            target = os.fsencode(os.readlink(path))
            return hashlib.sha256(target).hexdigest() == digest
        executable = bool(status.st_mode & stat.S_IXUSR)
        return stat.S_ISREG(status.st_mode) and executable == (mode == "100755") and sha256_of(path) == digest
    except OSError:
        return False
