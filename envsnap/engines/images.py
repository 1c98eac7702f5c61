"""Reading what the engine tells of images: descriptions, archives, and the progress of transfers."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from envsnap import archive
from envsnap.engines.interface import EngineImage
from envsnap.errors import EngineError
from envsnap.model.base import ImageConfig
from envsnap.progress import Task

_CONFIG_LIMIT_BYTES = 8 << 20
_PUSHED = re.compile(r"\bdigest: (sha256:[0-9a-f]{64}) size: \d+\Z")


def read_image(found: Mapping[str, Any], *, config_digest: str) -> EngineImage:
    """The engine's own description of an image (`GET /images/NAME/json`)."""
    config: Mapping[str, Any] = found.get("Config") or {}
    diff_ids = tuple((found.get("RootFS") or {}).get("Layers") or ())
    return EngineImage(
        image_id=found["Id"],
        config_digest=config_digest,
        repo_digests=tuple(found.get("RepoDigests") or ()),
        tags=tuple(found.get("RepoTags") or ()),
        size_bytes=int(found.get("Size") or 0),
        layers=len(diff_ids),
        diff_ids=diff_ids,
        config=ImageConfig(
            architecture=found.get("Architecture") or "",
            os=found.get("Os") or "linux",
            env=dict(entry.split("=", 1) for entry in config.get("Env") or () if "=" in entry),
            labels=dict(config.get("Labels") or {}),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            cmd=tuple(config.get("Cmd") or ()),
            workdir=config.get("WorkingDir") or "",
            user=config.get("User") or "",
            size_bytes=int(found.get("Size") or 0),
        ),
    )


def config_digest_of(saved: Iterator[bytes]) -> str:
    """The config digest in an image archive (`GET /images/NAME/get`), read as far as its list of manifests.

    Raises:
        EngineError: the archive does not say it.
    """
    with tarfile.open(mode="r|", fileobj=archive.as_file(saved)) as members:
        for member in members:
            if member.name == "manifest.json" and member.size <= _CONFIG_LIMIT_BYTES:
                content = members.extractfile(member)
                assert content is not None
                config = Path(json.loads(content.read())[0]["Config"]).name
                return f"sha256:{config.removesuffix('.json')}"
    raise EngineError("cannot read the image's manifest", why="its archive has no manifest.json")


def pushed_digest(event: Mapping[str, Any]) -> str | None:
    """The manifest's digest in an event of a push: a field of its own, or (containerd store) "TAG: digest: sha256:… size: 529"."""
    if digest := (event.get("aux") or {}).get("Digest"):
        return str(digest)
    match = _PUSHED.search(str(event.get("status", "")))
    return match[1] if match else None


class Layers:
    """Adds up what a pull or push says of each layer."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._seen: dict[str, tuple[int, int]] = {}
        self._pushed: set[str] = set()

    @property
    def uploaded_bytes(self) -> int:
        """Of the layers that a push sent: not those that the registry had, nor those that it took from another repository."""
        return sum(size for layer, (_, size) in self._seen.items() if layer in self._pushed)

    def read(self, event: Mapping[str, Any]) -> None:
        """One event of the stream."""
        status, layer = str(event.get("status", "")), str(event.get("id", ""))
        if status not in ("Downloading", "Pushing", "Pull complete", "Pushed", "Download complete"):
            return
        detail = event.get("progressDetail") or {}
        done, total = self._seen.get(layer, (0, 0))
        now = max(done, int(detail.get("current") or 0))
        size = max(total, int(detail.get("total") or 0), now)
        if status in ("Pull complete", "Pushed", "Download complete"):
            now = size
        if status == "Pushed":
            self._pushed.add(layer)
        self._seen[layer] = (now, size)
        self._task.total(sum(size for _, size in self._seen.values()) or None)
        self._task.advance(now - done)
